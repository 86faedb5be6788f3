"""What `sweep plan` says a study costs: by hand, from finished trials; and what a pruner can save, by Optuna's own."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from queue_processes import claimed, finish, queue_on, started
from study_files import made_study, write_study

from brainseg.sweep.__main__ import main as sweep
from brainseg.sweep.engine.keys import CLAIMS, MEMORY, SECONDS, WEIGHTS
from brainseg.sweep.study.plan import quiet
from brainseg.sweep.study.pruners import build_pruner, never_stopped

MIB_OF_WEIGHTS = 2**18  # of 4 bytes each


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A journal of the test's own, beside the study file."""
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "study.journal")


def planned(where: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """What is told of the cost, after the first trials."""
    assert sweep(["plan", "study.yaml", "--storage", where, *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return lines[next(place for place, line in enumerate(lines) if "epochs in all" in line) :]


def test_a_study_that_has_not_begun_says_what_the_pruner_can_save(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(tmp_path, overrides=["train.epochs=10"], pruner={"name": "median", "n_warmup_steps": 3})
    # Five of six trials are never stopped, and the last one not before its third epoch.
    assert planned(where, capsys) == [
        "60 epochs in all; the pruner median saves none to 12% of them",
        "time, memory and disk: add --time, or plan the study again once a trial has finished",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_the_runs_of_repeat_are_counted(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(
        tmp_path,
        overrides=["train.epochs=10"],
        repeat={"seed": [0, 1, 2, 3, 4]},
        pruner={"name": "wilcoxon"},
    )
    # Of six trials of five runs, the first one is compared with nothing, and the others have four runs or five.
    assert planned(where, capsys)[0] == ("300 epochs in all in 30 runs; the pruner wilcoxon saves none to 17% of them")


def test_where_an_engine_runs_the_workers_nothing_is_measured_here(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(tmp_path)
    lines = planned(where, capsys, "--time", "launcher=slurm", "tracking.uri=http://host:5000")
    assert lines[1] == (
        "time, memory and disk can't be measured here: the workers run on the hosts of SLURM; plan the study again "
        "once a trial has finished"
    )


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_the_studys_own_trials_tell_what_it_costs(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], launcher: str
) -> None:
    started(where, made_study(tmp_path))
    with queue_on(where) as queue:
        for seconds, state in ((600.0, TrialState.COMPLETE), (120.0, TrialState.PRUNED)):
            claim = claimed(queue)
            queue.remember(claim, {SECONDS: seconds, CLAIMS: 2, MEMORY: 800, WEIGHTS: 5 * MIB_OF_WEIGHTS})
            finish(queue, claim, state)
    given = [f"launcher={launcher}", "tracking.uri=http://host:5000", "--workers", "2", "--hours", "0.5"]
    # Four to come, two for each worker: of (600 + 120) / 2 s, or of 600 s.
    assert planned(where, capsys, *given)[1:6] == [
        "a trial that isn't pruned takes 10 minutes, the mean of 1 of this study",
        "4 trials to come by 2 workers: 12 minutes if the pruner stops as many as so far, 20 minutes if it stops none",
        "within the time limit of 30 minutes: 6 trials without pruning",
        "memory of 2 workers: 1,600 MiB",
        "disk: 40 MiB of checkpoints while 2 trials train, 30 MiB of models in the records of 6",
    ]


def test_trials_of_another_study_of_this_name_tell_nothing(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started(where, made_study(tmp_path, overrides=["train.epochs=99"]))
    with queue_on(where) as queue:
        finish(queue, claimed(queue))
    write_study(tmp_path)
    assert planned(where, capsys)[1].startswith("time, memory and disk: add --time")


@pytest.mark.parametrize("hours", ["0", "-1", "many"])
def test_hours_are_a_number_above_0(where: str, capsys: pytest.CaptureFixture[str], hours: str) -> None:
    with pytest.raises(SystemExit) as ended:
        sweep(["plan", "quick", "--storage", where, f"--hours={hours}"])
    assert ended.value.code == 2
    assert f"argument --hours: must be a number of hours above 0, got {hours}; try 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pruner", "expected"),
    [
        pytest.param({"name": "median"}, (5, 1), id="median"),
        pytest.param({"name": "median", "n_startup_trials": 0, "n_warmup_steps": 3}, (1, 3), id="median, warm-up"),
        pytest.param({"name": "percentile", "percentile": 50.0, "n_startup_trials": 2}, (2, 1), id="percentile"),
        pytest.param({"name": "hyperband", "min_resource": 2}, (0, 2), id="hyperband"),
        pytest.param({"name": "successive_halving", "min_resource": 2}, (0, 2), id="ASHA"),
        pytest.param({"name": "successive_halving", "min_early_stopping_rate": 1}, (0, 4), id="ASHA, later"),
        pytest.param({"name": "patient", "patience": 4}, (0, 5), id="patient"),
        pytest.param({"name": "patient", "patience": 1, "pruner": {"name": "median"}}, (5, 2), id="patient median"),
        pytest.param({"name": "none"}, (0, 9), id="none"),
    ],
)
def test_a_pruner_stops_nothing_earlier_than_the_plan_says(
    tmp_path: Path, pruner: dict[str, object], expected: tuple[int, int]
) -> None:
    config = made_study(tmp_path, trials=12, pruner=pruner)
    whole, least = never_stopped(config, epochs=9)
    assert (whole, least) == expected
    with quiet():
        study = optuna.create_study(study_name="s", direction="maximize", pruner=build_pruner(config, epochs=9))
    for number in range(12):  # each one worse than those before it, and worse with each epoch
        trial, epochs = study.ask(), 9
        for epoch in range(1, 10):
            trial.report(-number - epoch / 100, epoch)
            if trial.should_prune() and epoch < 9:
                epochs = epoch
                break
        assert epochs >= (9 if number < whole else least)
        study.tell(trial, state=TrialState.PRUNED) if epochs < 9 else study.tell(trial, -number)
