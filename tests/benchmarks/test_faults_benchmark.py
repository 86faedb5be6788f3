"""The benchmark of faults: what is drawn, and its short form."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.faults.faults import KINDS, draw


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
