"""Work that is spread over threads or processes: its order, its errors, and its end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from brainseg.data.spread import in_processes, in_threads
from brainseg.errors import DataError


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, for however few items."""
    monkeypatch.setattr("brainseg.data.spread.FEW", 0)
    monkeypatch.setattr("brainseg.data.spread.usable_cores", lambda: 2)


def test_few_items_start_no_process() -> None:
    assert set(in_processes(lambda item: os.getpid(), range(999))) == {os.getpid()}


@pytest.mark.heavy
@pytest.mark.usefixtures("processes")
def test_processes_give_results_in_the_order_of_the_items() -> None:
    assert list(in_processes(abs, range(-300, 0))) == [*range(300, 0, -1)]


def verifying_needs(library: str) -> bool:
    import brainseg.data.verify  # noqa: F401

    return library in sys.modules


@pytest.mark.heavy
@pytest.mark.usefixtures("processes")
def test_a_process_that_verifies_starts_no_tensorflow() -> None:
    assert list(in_processes(verifying_needs, ["tensorflow", "PIL"])) == [False, True]


@pytest.mark.heavy
@pytest.mark.usefixtures("processes")
def test_an_error_comes_after_the_results_before_it() -> None:
    results = in_processes(partial(divmod, 1), [1] * 64 + [0] * 64)
    assert [next(results) for _ in range(64)] == [(1, 0)] * 64
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.heavy
@pytest.mark.usefixtures("processes")
def test_a_process_that_is_killed_is_an_error_of_one_line() -> None:
    with pytest.raises(DataError, match="a process that reads files was killed; if memory ran out, name fewer cores"):
        list(in_processes(os._exit, [1] * 100))


def test_an_error_in_a_thread_ends_the_work() -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.001)  # else two threads may be through before the error is seen
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # it has no text
        list(in_threads(work, range(10_000)))
    assert len(begun) < 10_000


WORK = """
import signal
import time
from brainseg.data import spread
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell runs in the background
    spread.FEW, spread.usable_cores = 0, lambda: 2
    try:
        print("started", flush=True)
        list(spread.in_processes(time.sleep, [0.01] * 100_000))
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.fixture
def working(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that works in two others, in a session of its own."""
    script = tmp_path / "work.py"
    script.write_text(WORK)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        yield child
        child.kill()


def others_of_session(leader: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and int(name) != leader and fields[0] != "Z":
            found.append(int(name))
    return found


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_the_processes_end_with_one_that_is_killed(working: subprocess.Popen[str]) -> None:
    wait_for(lambda: len(others_of_session(working.pid)) == 4)  # a tracker, a server, two workers
    working.kill()
    wait_for(lambda: not others_of_session(working.pid))


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("others", [0, 2, 4])
def test_ctrl_c_ends_all_of_them_without_a_word(working: subprocess.Popen[str], others: int) -> None:
    assert working.stdout is not None
    assert working.stdout.readline() == "started\n"
    wait_for(lambda: len(others_of_session(working.pid)) >= others)
    os.killpg(working.pid, signal.SIGINT)
    assert working.communicate(timeout=60) == ("stopped\n", "")
    wait_for(lambda: not others_of_session(working.pid))
