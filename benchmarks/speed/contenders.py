"""The contenders by name; each has a process of its own, which trains a round on request.

So contenders share neither memory nor threads, and a process imports only what its contender needs.
"""

import importlib.util
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

from benchmarks.figures import peak_mib
from benchmarks.speed.task import Contender, Round, Task
from brainseg.model.runtime import import_tensorflow

PLAIN_KERAS = "plain Keras, float32"
PYTORCH = "PyTorch eager, channels_last, bfloat16"
FLOAT32 = "brainseg, float32"
REFERENCE = "brainseg, mixed_bfloat16"
NORMALISED = "brainseg, mixed_bfloat16, norm=batch, augment=standard"

_P = ParamSpec("_P")
_T = TypeVar("_T")

Build = Callable[[Task], Contender]
SPAWN = multiprocessing.get_context("spawn")


def _plain_keras() -> Build:
    import_tensorflow()
    from benchmarks.speed.plain_keras import PlainKeras

    return PlainKeras


def _pytorch() -> Build:
    from benchmarks.speed.pytorch import PyTorch

    return PyTorch


def _brainseg(policy: str, *, is_normalised: bool = False) -> Build:
    import_tensorflow()
    from benchmarks.speed.own_loop import Brainseg, normalised

    return lambda task: Brainseg(normalised(task) if is_normalised else task, policy=policy)


# Each imports what the contender needs, and gives what makes it.
CONTENDERS: dict[str, Callable[[], Build]] = {
    PLAIN_KERAS: _plain_keras,
    PYTORCH: _pytorch,
    FLOAT32: partial(_brainseg, "float32"),
    REFERENCE: partial(_brainseg, "mixed_bfloat16"),
    NORMALISED: partial(_brainseg, "mixed_bfloat16", is_normalised=True),
}


def available() -> list[str]:
    """The contenders whose packages are installed."""
    return [name for name in CONTENDERS if name != PYTORCH or importlib.util.find_spec("torch")]


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a contender's process reports before the first round."""

    parameters: int
    multiply_adds: int  # of one image's forward pass
    imported_mib: float  # the most memory that it held when its packages were imported


class ContenderProcess:
    """A contender in a process of its own, which sleeps between two rounds."""

    def __init__(self, name: str, task: Task) -> None:
        self._name = name
        self._connection, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(name, task, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is seen here
        made = self._receive()
        assert isinstance(made, Made)
        self.made = made

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    def round(self) -> Round:
        """Trains one round."""
        self._connection.send(True)
        result = self._receive()
        assert isinstance(result, Round)
        return result

    def finish(self) -> float:
        """Ends the process and gives the most memory that it has held, in MiB."""
        self._connection.send(False)
        peak = self._receive()
        assert isinstance(peak, float)
        self._process.join()
        return peak

    def _receive(self) -> object:
        try:
            return self._connection.recv()
        except EOFError:
            raise RuntimeError(f"the process of {self._name} has failed; its own error is above") from None


class _Finished(Exception):  # noqa: N818  # no error: it leaves the training
    pass


def _serve(name: str, task: Task, connection: Connection) -> None:
    """Runs in the contender's process: trains a round for each True that it receives, until it receives False."""
    build = CONTENDERS[name]()
    imported_mib = peak_mib()
    contender = build(task)

    def wait_for_turn() -> None:
        try:
            is_wanted = connection.recv()
        except EOFError:  # the benchmark itself has failed, and says why
            raise SystemExit(1) from None
        if not is_wanted:
            raise _Finished

    def end_round(result: Round) -> None:
        connection.send(result)
        wait_for_turn()

    connection.send(
        Made(parameters=contender.parameters, multiply_adds=contender.multiply_adds, imported_mib=imported_mib)
    )
    try:
        wait_for_turn()
        contender.train(end_round)
    except _Finished:
        connection.send(peak_mib())


def in_own_process(function: Callable[_P, _T], /, *args: _P.args, **options: _P.kwargs) -> _T:
    """Calls the function in a fresh process and gives its result."""
    with ProcessPoolExecutor(1, mp_context=SPAWN, initializer=import_tensorflow) as pool:
        return pool.submit(function, *args, **options).result()
