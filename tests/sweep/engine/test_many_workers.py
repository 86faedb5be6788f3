"""Many processes on one study: none gets a trial twice, none is lost, whoever is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from postgres import sql
from queue_processes import (
    CONTEXT,
    PATIENCE_S,
    all_together,
    claim_and_die,
    claimed,
    ended,
    finish,
    in_process,
    opened,
    queue_on,
    started,
    trials_of,
    work,
)
from study_files import made_study

from brainseg.sweep.engine.keys import DEATHS, LEASE

pytestmark = pytest.mark.heavy

BASELINE = {"model.dropout": 0.1, "model.depth": 4}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_eight_processes_that_start_at_once_make_one_storage_and_one_study(nowhere: str, tmp_path: Path) -> None:
    config = made_study(tmp_path)
    assert all_together(started, nowhere, config) == [0] * 8
    (baseline,) = trials_of(nowhere)
    assert (baseline.state, baseline.system_attrs["fixed_params"]) == (TrialState.WAITING, BASELINE)


def test_eight_workers_train_exactly_the_total(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path, trials=16))
    # Each has a trial before any has finished one: else the first to start might train them all.
    assert all_together(work, where, CONTEXT.Barrier(8)) == [0] * 8
    trials = trials_of(where)
    assert [trial.number for trial in trials] == list(range(16))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert [trial.params for trial in trials].count(BASELINE) >= 1
    assert [trial.number for trial in trials if "fixed_params" in trial.system_attrs] == [0]
    # Each was held by one worker only: nobody's report was repeated by another.
    assert {len(trial.intermediate_values) for trial in trials} == {3}
    assert len({trial.user_attrs[LEASE]["worker"] for trial in trials}) > 1


def test_workers_that_are_killed_at_any_moment_cost_no_trial(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path, trials=8))
    for delay_s in (0.02, 0.1, 0.3):
        workers = [in_process(work, where) for _ in range(3)]
        workers[0].join(delay_s)
        for worker in workers:
            worker.kill()
        ended(*workers)
    assert ended(in_process(work, where)) == [0]
    trials = trials_of(where)
    assert [trial.number for trial in trials] == list(range(8))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_the_trial_of_a_killed_worker_goes_on_with_the_next_one(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path))
    assert ended(in_process(claim_and_die, where, 2)) == [-signal.SIGKILL]
    with queue_on(where) as queue:
        claim = claimed(queue)
        assert (claim.trial.number, claim.params, claim.is_new) == (0, BASELINE, False)
        assert claim.attributes[DEATHS] == [2]
        assert sorted(queue.reported(claim)) == [1, 2]
        finish(queue, claim)
        assert claimed(queue).trial.number == 1


def test_three_deaths_in_one_epoch_condemn_a_trial(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path))
    with queue_on(where) as queue:
        for epochs, deaths in ((0, [0]), (0, [0, 0]), (1, [0, 0, 1]), (0, [0, 0, 1, 1]), (0, [0, 0, 1, 1, 1])):
            assert ended(in_process(claim_and_die, where, epochs)) == [-signal.SIGKILL]
            claim = claimed(queue)
            assert (claim.trial.number, claim.attributes[DEATHS]) == (0, deaths)
            assert claim.is_condemned == (deaths == [0, 0, 1, 1, 1])
            queue.give_back(claim)
        assert queue.fail(claimed(queue), "killed 3 times", may_retry=False)
        assert claimed(queue).trial.number == 1


def hold_the_lock(where: str, connection: Any) -> None:
    with opened(where).lock():
        connection.send("held")
        connection.recv()


def test_the_turn_of_a_killed_process_is_over(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path))
    here, there = CONTEXT.Pipe()
    process = in_process(hold_the_lock, where, there)
    assert here.poll(PATIENCE_S)
    process.kill()
    assert ended(process) == [-signal.SIGKILL]
    with queue_on(where) as queue:
        assert claimed(queue).trial.number == 0


def half_a_line_and_die(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"x","trial_id":0,"user_at')
    os.kill(os.getpid(), signal.SIGKILL)


def test_half_a_line_of_a_killed_writer_disturbs_nobody(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    study = started(str(journal), made_study(tmp_path))
    whole = journal.read_bytes()
    assert ended(in_process(half_a_line_and_die, journal)) == [-signal.SIGKILL]
    assert len(study.get_trials()) == 1  # who has it open reads on
    assert len(trials_of(str(journal))) == 1
    assert journal.read_bytes() == whole
    assert ended(in_process(half_a_line_and_die, journal)) == [-signal.SIGKILL]
    study.set_user_attr("written", "after")
    assert started(str(journal), made_study(tmp_path)).user_attrs["written"] == "after"
    assert all(line.endswith(b"}") for line in journal.read_bytes().splitlines())


CLAIM_AND_WAIT = """
import sys
from queue_processes import claimed, queue_on
with queue_on(sys.argv[1]) as queue:
    print(claimed(queue).trial.number, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount another file system over a folder")
def test_a_container_with_this_hosts_name_and_paths_keeps_its_trial(
    postgres_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a file system of its own at the same path, so that neither sees the other one's process lock."""
    where, root = str(postgres_server.get_uri()), tmp_path / "mlruns"
    sql(where, "TRUNCATE studies RESTART IDENTITY CASCADE")
    root.mkdir()
    monkeypatch.chdir(root)
    started(where, made_study(tmp_path))
    inside = 'mount -t tmpfs tmpfs "$ROOT" && cd "$ROOT" && exec "$0" -c "$CODE" "$WHERE"'
    settings = {"ROOT": str(root), "CODE": CLAIM_AND_WAIT, "WHERE": where, "PYTHONPATH": os.pathsep.join(sys.path)}
    container = subprocess.Popen(
        ["unshare", "-mu", "sh", "-c", inside, sys.executable],
        env=os.environ | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert container.stdout is not None
        number = container.stdout.readline()
        if not number:
            pytest.skip("no namespaces here")
        assert int(number) == 0
        with queue_on(where) as queue:
            claim = claimed(queue)
            assert claim.trial.number == 1
            assert DEATHS not in trials_of(where)[0].user_attrs
    finally:
        container.communicate()
