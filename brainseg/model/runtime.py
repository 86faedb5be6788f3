"""Starts TensorFlow: its import, the CPU threads and the number format that it computes with.

Threads and format change a run's weights in their last bits: a run resolves them once and records what it got.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from brainseg.config import PRECISIONS
from brainseg.cores import usable_cores
from brainseg.errors import ConfigError, InputError
from brainseg.keys import in_range, one_of

# Processors with one of these flags multiply bfloat16 in hardware; the others are slower than in float32.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
# The first generation of NVIDIA GPUs with bfloat16 (Ampere).
BFLOAT16_CAPABILITY = (8, 0)


def import_tensorflow() -> None:
    """Imports TensorFlow without the lines that it prints then: a user can't act on any of them.

    It prints some before it reads its log level, so that the process's stderr is set aside meanwhile. Raises InputError
    where it can't be loaded.
    """
    flags = cpu_flags()
    if flags and "avx" not in flags:  # it would end the process by a signal
        raise InputError("TensorFlow needs a processor with AVX, which this machine doesn't have; take another machine")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with stderr_set_aside():
            import tensorflow
    except Exception as error:  # a library that is missing or too old, or a package that doesn't go with it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"TensorFlow can't be loaded ({reason}); install brainseg again in a new environment, as its README says"
        ) from error
    # Each model has a graph of its own: where a process predicts by several, TensorFlow warns of what is meant to be.
    tensorflow.get_logger().addFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    return "function retracing" not in record.getMessage()


@contextlib.contextmanager
def stderr_set_aside() -> Iterator[None]:
    """Drops what libraries write to the process's stderr meanwhile, past Python's `sys.stderr`."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def peak_memory_mib() -> float:
    """The most that this process has held so far, libraries included."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, where the ru_maxrss of a child can be its parent's
        return int(status.read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def apply(precision: str, threads: int) -> None:
    """Makes Keras build its next layers in `precision`, and TensorFlow compute on `threads` threads.

    precision: float32 or mixed_bfloat16, as `resolve_precision` gives it. threads: at least 1.
    Raises ConfigError if TensorFlow already computes on another number of threads in this process.
    """
    import keras
    import tensorflow as tf

    threading = tf.config.threading
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        # 0 is TensorFlow's default: every core.
        running = threading.get_intra_op_parallelism_threads() or resolve_threads(None)
        if running != threads:
            raise ConfigError(
                "train.threads can't change within one process: TensorFlow computes on "
                f"{running} threads already, got {threads}; train in a process of its own"
            ) from error
    keras.config.set_dtype_policy(precision)


def resolve_threads(threads: int | None) -> int:
    """The number of CPU threads: `threads`, or for None the cores that this process may use.

    Raises ConfigError below 1.
    """
    in_range("train.threads", threads, low=1)
    return usable_cores() if threads is None else threads


def resolve_precision(
    name: str,
    *,
    is_depthwise: bool = False,
    flags: Collection[str] | None = None,
    capabilities: Collection[tuple[int, int]] | None = None,
) -> str:
    """float32 or mixed_bfloat16; `auto` becomes the faster one on the GPUs, or on the processor if there are none.

    is_depthwise: whether the network's convolutions are, which a processor computes no faster in bfloat16.
    flags: the processor's, by default this machine's. capabilities: the compute capability of each GPU, by default
    those that TensorFlow sees. Raises ConfigError for an unknown name.
    """
    one_of("train.precision", name, PRECISIONS)
    if name != "auto":
        return name
    capabilities = gpu_capabilities() if capabilities is None else capabilities
    if capabilities:
        fast = min(capabilities) >= BFLOAT16_CAPABILITY
    else:
        fast = not is_depthwise and not BFLOAT16_FLAGS.isdisjoint(cpu_flags() if flags is None else flags)
    return "mixed_bfloat16" if fast else "float32"


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The instruction sets of the first processor; none where the file doesn't exist (not Linux)."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, values = line.partition(":")
        if key.strip() == "flags":
            return frozenset(values.split())
    return frozenset()


def device() -> str:
    """TensorFlow's name of the device that computes: the first GPU that it sees, else the CPU."""
    import tensorflow as tf

    name: str = (tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU"))[0].name
    return name


def gpu_names() -> tuple[str, ...]:
    """What people call each GPU that TensorFlow sees."""
    import tensorflow as tf

    details = (tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU"))
    return tuple(detail.get("device_name", "a GPU") for detail in details)


def gpu_capabilities() -> tuple[tuple[int, int], ...]:
    """The compute capability of each GPU that TensorFlow sees; (0, 0) where it isn't known."""
    import tensorflow as tf

    details = (tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU"))
    return tuple(detail.get("compute_capability", (0, 0)) for detail in details)
