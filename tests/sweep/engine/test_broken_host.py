"""A host on which every trial raises at once, while others train: none of its failures counts, and its worker ends."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from queue_processes import claimed, finish, queue_on, started, trials_of
from study_files import made_study

from brainseg.errors import SweepError
from brainseg.sweep.engine import broken_host, leases, trial_queue
from brainseg.sweep.engine.keys import ATTEMPTS, FAILURE, LEASE
from brainseg.sweep.engine.trial_queue import NoTrial, TrialQueue


class Hosts:
    """Two workers of one study, each on a host of its own."""

    def __init__(self, good: TrialQueue, bad: TrialQueue, monkeypatch: pytest.MonkeyPatch) -> None:
        self._queues = {"good": good, "bad": bad}
        self._monkeypatch = monkeypatch

    def on(self, host: str) -> TrialQueue:
        """The queue as it is on this host, where this process is from now on."""
        for module in (broken_host, leases, trial_queue):
            self._monkeypatch.setattr(module, "this_host", lambda: f"{host}/boot")
        return self._queues[host]


@pytest.fixture
def hosts(empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    monkeypatch.chdir(tmp_path)
    started(empty_database, made_study(tmp_path, trials=10, retries=1))
    with queue_on(empty_database) as good, queue_on(empty_database) as bad:
        yield Hosts(good, bad, monkeypatch)


def begin(queue: TrialQueue) -> None:
    queue.report(claimed(queue), 1, 0.5)


def test_two_trials_that_raise_at_once_while_another_host_trains_end_the_worker_and_count_nothing(
    hosts: Hosts, empty_database: str
) -> None:
    begin(hosts.on("good"))
    bad = hosts.on("bad")
    assert not bad.fail(first := claimed(bad), "no CUDA device", may_retry=True)
    second = claimed(bad)
    assert (first.trial.number, second.trial.number) == (1, 2)  # the first one is left to the other host
    told = (
        "2 trials raised on host bad before their first epoch, while other hosts train: no CUDA device; "
        "repair it, or keep workers off it; no trial counts this"
    )
    with pytest.raises(SweepError, match=f"^{re.escape(told)}$"):
        bad.fail(second, "no CUDA device", may_retry=True)
    kept = [(trial.user_attrs[ATTEMPTS], trial.user_attrs[LEASE]) for trial in trials_of(empty_database)[1:]]
    assert kept == [(0, None), (0, None)]
    good = hosts.on("good")
    assert [claimed(good).trial.number for _ in range(3)] == [1, 2, 3]


def test_a_host_that_was_repaired_begins_anew(hosts: Hosts) -> None:
    begin(hosts.on("good"))
    bad = hosts.on("bad")
    bad.fail(claimed(bad), "no CUDA device", may_retry=True)
    with pytest.raises(SweepError):
        bad.fail(claimed(bad), "no CUDA device", may_retry=True)
    assert claimed(bad).trial.number == 1


def test_where_no_other_host_trains_the_trials_fail_as_ever(hosts: Hosts, empty_database: str) -> None:
    claimed(hosts.on("good"))  # which may be as broken
    bad = hosts.on("bad")
    for _ in range(2):
        for _ in range(2):
            bad.fail(claimed(bad), "a bug", may_retry=True)
    failed = [trial for trial in trials_of(empty_database) if trial.state.name == "FAIL"]
    assert [(trial.number, trial.user_attrs[FAILURE]) for trial in failed] == [(1, "a bug"), (2, "a bug")]


def test_a_host_that_trains_in_between_is_not_broken(hosts: Hosts, empty_database: str) -> None:
    begin(hosts.on("good"))
    bad = hosts.on("bad")
    bad.fail(claimed(bad), "out of memory", may_retry=True)
    finish(bad, claimed(bad))
    assert not bad.fail(claimed(bad), "out of memory", may_retry=True)
    assert [trial.user_attrs.get(ATTEMPTS) for trial in trials_of(empty_database)] == [None, 1, None, 1]


def test_a_trial_that_raises_after_an_epoch_says_nothing_about_the_host(hosts: Hosts) -> None:
    begin(hosts.on("good"))
    bad = hosts.on("bad")
    for number in (1, 1):
        claim = claimed(bad)
        assert claim.trial.number == number
        bad.report(claim, len(bad.reported(claim)) + 1, 0.5)
        bad.fail(claim, "the disk is full", may_retry=True)


def test_a_trial_is_tried_again_where_it_raised_once_no_other_host_trains(
    hosts: Hosts, empty_database: str, tmp_path: Path
) -> None:
    started(empty_database, made_study(tmp_path, trials=2, retries=1))
    good = hosts.on("good")
    good.report(mine := claimed(good), 1, 0.5)
    bad = hosts.on("bad")
    bad.fail(claimed(bad), "out of memory", may_retry=True)
    assert bad.claim() == NoTrial(is_over=False, reason="2 trials are still running")
    finish(good, mine)
    assert claimed(bad).trial.number == 1
