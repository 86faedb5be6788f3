"""What `auto` becomes on which machine, and what a process can't change."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Command, Server

from brainseg.cli.command import exit_code_of
from brainseg.errors import ConfigError
from brainseg.model import runtime
from brainseg.model.runtime import cpu_flags, import_tensorflow, peak_memory_mib, resolve_precision, resolve_threads

AMPERE, TURING = (8, 0), (7, 5)


@pytest.mark.parametrize(
    ("flags", "capabilities", "expected"),
    [
        ({"avx2", "avx512_bf16"}, [], "mixed_bfloat16"),
        ({"avx2", "amx_bf16"}, [], "mixed_bfloat16"),
        ({"avx2", "avx512f"}, [], "float32"),
        (set(), [], "float32"),
        (set(), [AMPERE], "mixed_bfloat16"),
        ({"avx512_bf16"}, [TURING], "float32"),  # the GPU trains, whatever the processor could
        (set(), [AMPERE, TURING], "float32"),  # the slower of two sets the pace
    ],
)
def test_auto_is_bfloat16_where_the_hardware_that_trains_has_it(flags, capabilities, expected):
    assert resolve_precision("auto", flags=flags, capabilities=capabilities) == expected


@pytest.mark.parametrize("name", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("flags", [{"avx512_bf16"}, set()])
def test_a_named_precision_is_kept_on_every_machine(name, flags):
    assert resolve_precision(name, flags=flags, capabilities=[]) == name


def test_an_unknown_precision_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"train.precision must be one of auto, float32, mixed_bfloat16, got 'half'"):
        resolve_precision("half")


def test_flags_are_read_from_the_first_processor(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nvmx flags\t: vnmi\nflags\t\t: fpu avx2 avx512_bf16\n\nflags\t: other\n")
    assert cpu_flags(cpuinfo) == {"fpu", "avx2", "avx512_bf16"}


def test_a_machine_without_cpuinfo_has_no_flags(tmp_path):
    assert cpu_flags(tmp_path / "missing") == frozenset()


def test_threads_default_to_the_cores_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    assert resolve_threads(None) == 3


def test_a_given_number_of_threads_is_kept():
    assert resolve_threads(7) == 7


def test_no_threads_at_all_are_refused():
    with pytest.raises(ConfigError, match=r"train.threads must be at least 1, got 0"):
        resolve_threads(0)


@pytest.fixture
def run_python(process_server: Server, tmp_path: Path) -> Callable[[str], Command]:
    """Runs code in a process of its own, to its end: threads and precision belong to the process."""

    def run(code: str) -> Command:
        code = f"import warnings\nwarnings.simplefilter('error')\n{code}"
        pid = process_server.start("-c", code, folder=tmp_path, output=tmp_path / "output.txt")
        command = Command(pid, tmp_path / "output.txt", process_server)
        command.exit_code()
        return command

    return run


def test_apply_sets_precision_and_threads_and_may_be_repeated(run_python):
    done = run_python(
        "import keras, tensorflow as tf\n"
        "from brainseg.model.runtime import apply\n"
        "apply('mixed_bfloat16', 3)\n"
        "tf.constant(1.0)\n"
        "apply('float32', 3)\n"
        "print(keras.config.dtype_policy().name, tf.config.threading.get_intra_op_parallelism_threads(),"
        " tf.config.threading.get_inter_op_parallelism_threads())\n"
    )
    assert done.text.splitlines() == ["float32 3 3"], done.text


def test_every_core_may_be_asked_for_after_tensorflow_has_started_by_itself(run_python):
    done = run_python(
        "import tensorflow as tf\n"
        "from brainseg.model.runtime import apply, resolve_threads\n"
        "tf.constant(1.0)\n"
        "apply('float32', resolve_threads(None))\n"
    )
    assert done.exit_code() == 0, done.text


def test_another_number_of_threads_is_refused_and_changes_nothing(run_python):
    done = run_python(
        "import keras, tensorflow as tf\n"
        "from brainseg.errors import ConfigError\n"
        "from brainseg.model.runtime import apply\n"
        "apply('float32', 3)\n"
        "tf.constant(1.0)\n"
        "try:\n"
        "    apply('mixed_bfloat16', 4)\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
        "print(keras.config.dtype_policy().name)\n"
    )
    assert done.text.splitlines() == [
        "train.threads can't change within one process: TensorFlow computes on 3 threads already, got 4; "
        "train in a process of its own",
        "float32",
    ], done.text


class Broken:
    """Finds TensorFlow, and fails to load it."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "tensorflow":
            raise self._error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModuleNotFoundError("No module named 'tensorflow'"), "No module named 'tensorflow'"),
        (
            ImportError("libstdc++.so.6: version not found\n\nFailed to load the native runtime"),
            "libstdc++.so.6: version ",
        ),
        (
            OSError("/lib/libc.so.6: cannot allocate memory in static TLS block"),
            "/lib/libc.so.6: cannot allocate memory",
        ),
        (AttributeError("_ARRAY_API not found"), "_ARRAY_API not found"),
        (ImportError(), "ImportError"),
    ],
    ids=["not installed", "an old library", "no memory", "another NumPy", "no reason"],
)
def test_a_tensorflow_that_can_not_be_loaded_is_one_line(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(error), *sys.meta_path])
    assert exit_code_of(lambda: import_tensorflow() or 0) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: TensorFlow can't be loaded ({told}")
    assert line.endswith("); install brainseg again in a new environment, as its README says")


def test_a_processor_that_tensorflow_can_not_use_is_named_before_it_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset({"sse4_2"}))
    assert exit_code_of(lambda: import_tensorflow() or 0) == 2
    said = "error: TensorFlow needs a processor with AVX, which this machine doesn't have; take another machine\n"
    assert capsys.readouterr().err == said


@pytest.mark.heavy
def test_the_memory_of_a_process_is_not_that_of_the_one_that_started_it() -> None:
    held = b"\1" * (400 * 2**20)
    asked = "from brainseg.model.runtime import peak_memory_mib; print(peak_memory_mib())"
    child = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert 1 < float(child.stdout) < 200
    assert peak_memory_mib() > len(held) / 2**20
