"""Runs commands of brainseg one after the other in one process, since each would import TensorFlow for seconds.

    python kept_commands.py STEPS.json RESULTS.json

STEPS.json is a list of [folder, module or script, argument, ...]; RESULTS.json has for each [exit code, output].
"""

import contextlib
import io
import json
import os
import runpy
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf


def main(steps: Path, results: Path) -> None:
    """Runs every step, whatever becomes of those before it."""
    # As every run of the set: it can't change in a process, and the first command would take all cores.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    done = []
    for folder, program, *arguments in json.loads(steps.read_text()):
        os.chdir(folder)
        environment = dict(os.environ)
        begun = time.monotonic()
        code, output = run(program, arguments)
        os.environ.clear()  # MLflow names its store there, and brainseg takes what is named there
        os.environ.update(environment)
        done.append([code, output])
        print(f"{time.monotonic() - begun:5.1f} s  {program} {' '.join(arguments)}: {code}", flush=True)
        results.write_text(json.dumps(done))


def run(program: str, arguments: Sequence[str]) -> tuple[int, str]:
    """The exit code of `python -m program arguments`, and what it prints."""
    sys.argv = [program, *arguments]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            if program.endswith(".py"):
                runpy.run_path(program, run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__", alter_sys=True)
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
    return (code if isinstance(code, int) else 1), output.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
