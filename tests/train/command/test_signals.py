"""What SIGINT and SIGTERM do: a checkpoint, a run that is KILLED, and the line that goes on with it."""

import contextlib
import re
import signal
import threading
import time

import pytest

from brainseg.errors import Interrupted
from brainseg.train.signals import StopRequest, stop_on_signals

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([signal.SIGINT], id="once"),
        pytest.param([signal.SIGTERM, signal.SIGINT], id="twice", marks=pytest.mark.slow),
    ],
)
def test_a_signalled_run_keeps_a_checkpoint_and_ends_like_one_that_was_left_alone(
    commands, uninterrupted, tmp_path, numbers
):
    overrides = list(commands.small)
    for number in numbers:
        training = commands.start(*overrides)
        folder = commands.checkpoints(training.run_id).folder
        before = commands.checkpoints(training.run_id).load()
        first = 1 if before is None else before.progress.epoch
        training.wait_for(f"epoch {first + 2:>2}/12")
        assert training.stop(number) == EXIT_CODES[number], training.text

        record = commands.store.read(training.run_id)
        assert (record.status, record.tags["state"]) == ("KILLED", "killed")
        stored = commands.checkpoints(training.run_id).load()
        assert stored.progress.epoch >= first + 2
        assert not list(folder.glob("*.tmp"))
        line = training.text.splitlines()[-1]
        found = re.fullmatch(
            rf"stopped by {number.name}; go on with: python -m brainseg.train (resume=\S+ tracking.root=\S+ .*)", line
        )
        assert found is not None, line
        overrides = found.group(1).split()
    resumed = commands.start(*overrides)
    assert resumed.exit_code() == 0, resumed.text
    commands.assert_same(resumed.run_id, uninterrupted, tmp_path)


@pytest.fixture
def in_a_terminal():
    """Where SIGHUP ends a process: the tests themselves may run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("in_a_terminal")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_first_signal_waits_for_the_end_of_the_step(number):
    with stop_on_signals() as stop:
        with stop.deferred():
            signal.raise_signal(number)
        assert not stop.is_urgent
        with pytest.raises(Interrupted, match=f"stopped by {signal.Signals(number).name}") as stopped:
            stop.check()
    assert stopped.value.exit_code == 128 + number


def test_a_terminal_that_is_closed_ends_nothing_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            stop.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_ends_the_step_at_once():
    with stop_on_signals() as stop, stop.deferred():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted, match="stopped by SIGINT"):
            signal.raise_signal(signal.SIGINT)
        assert stop.is_urgent


def test_of_two_sigterms_the_second_changes_nothing():
    """SLURM sends both at once; a Ctrl-C after them is urgent."""
    with stop_on_signals() as stop:
        with stop.deferred():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert not stop.is_urgent
            with pytest.raises(Interrupted, match="stopped by SIGINT"):
                signal.raise_signal(signal.SIGINT)
            assert stop.is_urgent
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            stop.check()
        signal.raise_signal(signal.SIGTERM)  # nor does it disturb what is written in the end


def test_a_signal_between_two_steps_is_not_kept_waiting():
    with stop_on_signals() as stop:
        with pytest.raises(Interrupted, match="stopped by SIGINT"):
            signal.raise_signal(signal.SIGINT)
        assert not stop.is_urgent


def test_a_signal_is_not_taken_for_an_error_where_errors_are_handled():
    with stop_on_signals(), pytest.raises(Interrupted), contextlib.suppress(Exception):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_is_not_lost_where_python_drops_exceptions():
    class Freed:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    with stop_on_signals():
        Freed()
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            time.sleep(5)


def test_without_a_signal_the_check_passes():
    stop = StopRequest()
    with stop.deferred():
        stop.check()


def test_the_handlers_from_before_are_back_afterwards():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_the_handlers_stay_as_they_are():
    seen = []

    def inside():
        with stop_on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
