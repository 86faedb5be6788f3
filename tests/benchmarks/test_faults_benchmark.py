"""The benchmark of faults: what is drawn, and its short form."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.faults.broken_machine import FAULTS, Case, Fault
from benchmarks.faults.campaign import Results, run
from benchmarks.faults.faults import KINDS, draw
from benchmarks.faults.machine import Machine


def test_the_faults_are_those_of_the_seed_and_each_kind_comes_in_turn() -> None:
    faults = draw(100, seed=7)
    assert faults == draw(100, seed=7) != draw(100, seed=8)
    assert {count for kind, count in Counter(fault.kind for fault in faults[:96]).items()} == {16}
    assert [fault.due for fault in faults] == sorted(fault.due for fault in faults)
    assert faults[-1].due < 0.9
    assert set(KINDS) == {fault.kind for fault in faults[:6]}


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make the namespaces that stand for hosts")
def test_a_study_on_four_hosts_survives_a_fault_of_each_kind() -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--hosts", "--faults", "6", "--trials", "8"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Idle(Machine):
    """Nothing runs here: what it leaves is told."""

    left = "as ever"

    def finish(self) -> None:
        pass

    def outcome(self) -> dict[str, str]:
        return {"run": self.left}


def test_a_campaign_goes_on_where_it_was_stopped_and_says_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def strike(machine: Machine, case: Case) -> None:
        number = int(machine.root.parent.name.rpartition("-")[2])
        case.struck.append(f"at {case.source.random():.6f}")
        assert isinstance(machine, Idle)
        machine.left = "otherwise" if number == 1 else machine.left
        if number == 2:
            raise RuntimeError("it never ends")

    monkeypatch.setitem(FAULTS, "kill", Fault(what="something is broken", do=strike, cases=100, machine=Idle))
    path = tmp_path / "faults.jsonl"
    for cases, expected in ((1, [0]), (3, [0, 1, 2]), (3, [0, 1, 2])):
        list(run(Results(path), tmp_path, kinds=["kill"], cases=cases, seed=0))
        assert [result.case for result in Results(path).cases] == expected
    list(run(Results(path), tmp_path, kinds=["kill"], cases=1, seed=1))
    results = Results(path)
    assert [(result.seed, result.case) for result in results.cases] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert len({tuple(result.struck) for result in results.cases}) == 4
    results.print()
    assert capsys.readouterr().out.splitlines() == [
        "|  | cases | struck while it ran | as undisturbed | not |",
        "| --- | --- | --- | --- | --- |",
        "| something is broken | 4 | 4 | 2 | 2 |",
        "",
        "kill, seed 0, case 1: unlike the undisturbed one in: run",
        f"kill, seed 0, case 1: see {tmp_path / 'kill-0-1'}",
        "kill, seed 0, case 2: RuntimeError('it never ends')",
        f"kill, seed 0, case 2: see {tmp_path / 'kill-0-2'}",
    ]
    assert sorted(each.name for each in tmp_path.glob("kill-*")) == ["kill-0-1", "kill-0-2"]


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_a_training_and_a_sweep_that_are_killed_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    arguments = ["--only", "kill", "sweep", "--cases", "1", "--results", str(tmp_path / "faults.jsonl")]
    command = [sys.executable, "-m", "benchmarks.faults", "--machine", *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(Results(tmp_path / "faults.jsonl").cases) == 2
