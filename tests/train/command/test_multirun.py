"""`python -m brainseg.train -m`: what is refused, what its runs share, what ends it, and what a sweeper gets."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.plugins import Plugins
from mlflow.projects.utils import load_project
from refusal import exit_code, refused
from tiny_run import TINY

from brainseg.config import RunConfig, TrackingConfig
from brainseg.errors import InputError, NonFiniteError
from brainseg.runs.stored_run import read_run
from brainseg.tracking import RunFilter, RunRecord, Tracker, open_store, open_tracker
from brainseg.tracking.mlflow.connection import connect
from brainseg.tracking.paths import resolve_uri
from brainseg.train import __main__ as train
from brainseg.train.experiment import Result

ROOT = Path(__file__).parents[3]
TINY_OVERRIDES = [f"{key}={value}" for key, value in TINY.items()]
Trains = Callable[[RunConfig], int | None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["brainseg"])
    return tmp_path


@pytest.fixture
def store(here: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store of this folder, where a run is opened and closed without any training; `outcome` decides its end."""
    (here / "mlruns").mkdir()
    shutil.copy(empty_store, here / "mlruns" / "mlflow.db")
    monkeypatch.setattr("brainseg.train.experiment.prepare", lambda *_: None)
    train_by(monkeypatch, lambda config: None)
    return open_store(TrackingConfig())


def train_by(monkeypatch: pytest.MonkeyPatch, outcome: Trains) -> None:
    """A run's score is its seed in tenths; `outcome` may raise, or gives the signal that came at the end."""

    def run(config: RunConfig, tracker: Tracker, **_: Any) -> Result:
        with tracker:
            stopped_by = outcome(config)
        return Result(
            run_id=tracker.run_id,
            history=(),
            best_epoch=1,
            best_val_dice_image=0.5,
            final_dice=config.seed / 10,
            dice_by_class={},
            dice_by_type={},
            parameters=10,
            seconds_per_image=0.01,
            further={},
            stopped_by=stopped_by,
        )

    monkeypatch.setattr("brainseg.train.experiment.run", run)


def code_of(*arguments: str) -> int:
    return exit_code(train.main, [*arguments, *TINY_OVERRIDES])


def records(store: Any) -> tuple[list[RunRecord], list[RunRecord]]:
    """The parent runs, and all others by their command."""
    found = []
    for parents in (True, False):
        listed = store.overview(RunFilter(parents=parents), rank_by="none", total_of="none", limit=None)
        ids = [run.run_id for run in (*listed.finished, *listed.others)]
        found.append([store.read(run_id) for run_id in ids])
    return found[0], sorted(found[1], key=lambda record: record.tags["source"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "-m model.dropout=interval(0,0.5)",
            "model.dropout=interval(0,0.5) is an interval, and -m takes values one by one; "
            "write them as model.dropout=0.1,0.2, or let python -m brainseg.sweep draw from it",
        ),
        ("-m seed=glob(*)", "seed=glob(*) is for groups, and seed is a key; list its values"),
        (
            "-m optimizer=glob(x*)",
            "optimizer must be one of adafactor, adam, adamw, lamb, lion, muon, nadam, rmsprop, sgd, got ''",
        ),
        (
            "-m seed=range(0,3,0)",
            "seed=range(0,3,0) gives no value; write range(START,STOP,STEP) with a step towards STOP",
        ),
        (
            "-m model.dropout=range(0,0.5,0.0)",
            "model.dropout=range(0,0.5,0.0) gives no value; write range(START,STOP,STEP) with a step towards STOP",
        ),
        ("-m seed=range(3,0)", "seed=range(3,0) gives no value; write range(START,STOP,STEP) with a step towards STOP"),
        (
            "-m --cfg job seed=1,2",
            "--multirun and --cfg can't be used together; leave one out, and give each key one value",
        ),
        ("-m --info", "--multirun and --info can't be used together; leave one out, and give each key one value"),
        ("--resolve", "--resolve goes with --cfg job; add that, or leave it out"),
        (
            "-m hydra/sweeper=optuna seed=1,2",
            "hydra/sweeper=optuna is not installed; brainseg searches with Optuna by itself: python -m brainseg.sweep",
        ),
    ],
)
def test_what_can_not_be_run_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert refused(train.main, arguments, capsys) == message


@pytest.mark.heavy
def test_the_runs_share_a_parent_and_a_tag(here: Path, store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("-m", "seed=1,2") == 0
    (parent,), runs = records(store)
    tag = parent.tags["multirun"]
    assert [(run.tags["multirun"], run.tags["parent"]) for run in runs] == [(tag, parent.run_id)] * 2
    assert (parent.status, parent.tags["state"], parent.name[:16]) == ("FINISHED", "finished", "phantom seed=1,2")
    assert capsys.readouterr().out.splitlines()[-1] == f"all of them  python -m brainseg.compare multirun={tag}"
    assert "BRAINSEG_MULTIRUN" not in os.environ
    with pytest.raises(InputError, match=r"is the parent run of others and has no model; name one of those$"):
        read_run(store, parent.run_id, root="mlruns", folder=here)
    assert code_of("seed=3") == 0
    assert [run.tags.get("parent") for run in records(store)[1]] == [parent.run_id, parent.run_id, None]


@pytest.mark.heavy
def test_the_options_of_a_group_may_be_named_by_a_pattern(here: Path, store: Any) -> None:
    assert code_of("-m", "optimizer=glob(adam*)") == 0
    lines = [run.tags["overrides"].split()[0] for run in records(store)[1]]
    assert lines == ["optimizer=adam", "optimizer=adamw"]


@pytest.mark.heavy
def test_a_run_that_fails_ends_the_others_and_fails_their_parent(
    here: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(config: RunConfig) -> None:
        if config.seed == 2:
            raise NonFiniteError("loss became NaN in epoch 1")

    train_by(monkeypatch, outcome)
    assert code_of("-m", "seed=1,2,3") == 1
    (parent,), runs = records(store)
    assert [run.status for run in runs] == ["FINISHED", "FAILED"]
    assert (parent.status, parent.tags["state"]) == ("FAILED", "failed")


@pytest.mark.parametrize(("arguments", "code", "trained"), [(["-m", "seed=1,2"], 130, 1), (["seed=1"], 0, 1)])
def test_a_signal_while_a_run_is_recorded_ends_the_others_once_it_is(
    here: Path, store: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, trained: int
) -> None:
    train_by(monkeypatch, lambda config: signal.SIGINT)
    assert code_of(*arguments) == code
    parents, runs = records(store)
    assert [run.status for run in runs] == ["FINISHED"] * trained
    assert [parent.status for parent in parents] == ["KILLED"] * (code == 130)


@pytest.mark.heavy
def test_a_signal_between_two_runs_ends_the_rest(here: Path, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = train.resolved

    def resolve(config: RunConfig, overrides: Any) -> RunConfig:
        if os.environ.get("BRAINSEG_MULTIRUN") and config.seed == 2:
            signal.raise_signal(signal.SIGTERM)
        return original(config, overrides)

    monkeypatch.setattr(train, "resolved", resolve)
    assert code_of("-m", "seed=1,2") == 143
    (parent,), runs = records(store)
    assert (parent.status, [run.status for run in runs]) == ("KILLED", ["FINISHED"])


@pytest.mark.heavy
def test_a_sweeper_that_is_installed_chooses_the_values_and_gets_the_scores(
    here: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of Hydra's own form, found in ./conf: it starts two runs."""
    folder = here / "conf" / "hydra" / "sweeper"
    folder.mkdir(parents=True)
    (folder / "two.yaml").write_text("_target_: hydra_plugins.two_sweeper.TwoSweeper\n")
    (here / "hydra_plugins").mkdir()
    (here / "hydra_plugins" / "two_sweeper.py").write_text(
        """
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

SCORES = []

class TwoSweeper(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        fixed = [each for each in arguments if not each.startswith("seed=")]
        jobs = [[*fixed, "seed=4"], [*fixed, "seed=7"]]
        SCORES.extend(job.return_value for job in self.launcher.launch(jobs, initial_job_idx=0))
"""
    )
    monkeypatch.syspath_prepend(here)
    two_sweeper = importlib.import_module("hydra_plugins.two_sweeper")
    Plugins.instance().register(two_sweeper.TwoSweeper)
    assert code_of("-m", "hydra/sweeper=two", "seed=interval(1,9)", f"hydra.sweep.dir={here / 'hydra'}") == 0
    assert two_sweeper.SCORES == [0.4, 0.7]
    assert len(records(store)[1]) == 2


@pytest.mark.heavy
def test_paths_count_from_where_the_command_was_typed(here: Path, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainseg.train.experiment.prepare", lambda *_: places.append(Path.cwd()))
    places: list[Path] = []
    assert code_of("-m", "seed=1", "hydra.job.chdir=true") == 0
    assert places == [here]
    assert sorted(path.name for path in here.iterdir()) == ["mlruns"]


@pytest.mark.heavy
def test_a_run_of_mlflows_is_the_parent_in_place_of_a_new_one(
    here: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_tracker(TrackingConfig(experiment="theirs"), run_name="theirs", tags={}) as theirs:
        pass
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs.run_id)
    assert code_of("-m", "seed=1,2") == 0
    parents, runs = records(store)
    assert parents == []
    children = [run for run in runs if run.run_id != theirs.run_id]
    assert [run.tags["parent"] for run in children] == [theirs.run_id] * 2
    in_theirs = store.overview(RunFilter(experiment="theirs"), rank_by="none", total_of="none", limit=None)
    assert len(in_theirs.finished) == 3


@pytest.mark.heavy
def test_a_single_training_is_the_run_that_mlflow_has_made(
    here: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(resolve_uri(TrackingConfig()))
    made = client.create_run("0", run_name="clumsy-fox")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    assert code_of("seed=1", "tracking.tags.purpose=a try") == 0
    (run,) = records(store)[1]
    assert (run.run_id, run.name, run.tags["purpose"]) == (made.info.run_id, "clumsy-fox", "a try")
    assert run.tags["overrides"].startswith("seed=1 '++tracking.tags.purpose=a try' ")


@pytest.mark.heavy
def test_the_project_of_mlflow_hands_its_parameter_on_as_words(tmp_path: Path) -> None:
    entry = load_project(str(ROOT)).get_entry_point("main")
    (tmp_path / "python").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "python").chmod(0o755)

    def words(**parameters: str) -> list[str]:
        command = ["bash", "-c", entry.compute_command(parameters, None)]
        done = subprocess.run(command, env={"PATH": f"{tmp_path}:/bin"}, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert words() == ["-m", "brainseg.train"]
    assert words(overrides="seed=1 run_name='a name'") == ["-m", "brainseg.train", "seed=1", "run_name=a name"]
