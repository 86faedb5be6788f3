"""Forks trainings from a process that has imported TensorFlow and MLflow, and used neither.

Most of a start of `python -m brainseg.train` is imports. A fork is spared them, and is a process of its own
all the same: it dies alone, and shares nothing with the next one but the disk.

Reads a JSON list a line, [file for its output, argument, ...]; answers each with the pid and, when the
training has ended, its exit code (minus the signal's number, where a signal killed it), a line each.
"""

import json
import os
import sys
import traceback

import matplotlib.figure  # noqa: F401
import mlflow  # noqa: F401
import tensorflow  # noqa: F401

import brainseg.train.experiment  # noqa: F401
from brainseg.train import __main__ as train


def main():
    for line in sys.stdin:
        output, *arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(_train(output, arguments))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _train(output, arguments):
    """The exit code of `python -m brainseg.train` with these arguments; what it prints goes to the file."""
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        train.main(arguments)
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    main()
