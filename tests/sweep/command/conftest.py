"""Sweeps that tests start, and two that several tests look at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Server

from sweeps import DROPOUT, RATE, Finished, MakeSweep, Sweep


@pytest.fixture(scope="session")
def make_sweep(
    tmp_path_factory: pytest.TempPathFactory, process_server: Server, empty_store: Path
) -> Iterator[MakeSweep]:
    """Makes the folder of a sweep, with the tiny study file; whatever still runs there in the end is killed."""
    made: list[Sweep] = []

    def make(name: str, **changes: Any) -> Sweep:
        made.append(Sweep(tmp_path_factory.mktemp(name), process_server, empty_store, **changes))
        return made[-1]

    yield make
    for sweep in made:
        for command in sweep.commands:
            command.kill_all()


@pytest.fixture
def sweep(make_sweep: MakeSweep) -> Sweep:
    """A folder of this test's own, with the tiny study file."""
    return make_sweep("sweep")


@pytest.fixture(scope="session")
def undisturbed(make_sweep: MakeSweep) -> Sweep:
    """The tiny study, run to its end with nothing in its way."""
    sweep = make_sweep("undisturbed")
    sweep.run("run", "tiny")
    return sweep


@pytest.fixture(scope="session")
def finished(make_sweep: MakeSweep) -> Finished:
    """A study with a pruner, run to its end: two good trials, two that learn nothing, one drawn by TPE."""
    bad = {RATE: 1e-7, DROPOUT: 0.0}
    sweep = make_sweep(
        "finished",
        trials=5,
        workers=1,
        baseline={RATE: 1e-2, DROPOUT: 0.1},
        enqueue=[{RATE: 2e-2, DROPOUT: 0.0}, bad, bad | {DROPOUT: 0.1}],
        space={
            RATE: {"type": "float", "low": 1e-7, "high": 1e-1, "log": True},
            DROPOUT: {"type": "float", "low": 0.0, "high": 0.4},
        },
        sampler={"name": "tpe", "seed": 0},
        pruner={"name": "median", "n_startup_trials": 2},
    )
    return Finished(sweep=sweep, text=sweep.run("run", "tiny", "--workers", "2", "optimizer.weight_decay=0.001"))
