"""Other programs on a study's storage: what they hold, tell and enqueue through Optuna, and what comes of it."""

import io
from pathlib import Path
from typing import Any

import optuna
import pytest
from made_studies import BASELINE, made_trial, params, study_config
from made_studies import made_study as study_in_memory
from optuna.search_space import intersection_search_space
from optuna.trial import Trial, TrialState
from queue_processes import claimed, finish, opened, queue_on, started, trials_of
from rich.console import Console
from study_files import SMALL, made_study

from brainseg.sweep.engine import trial_queue
from brainseg.sweep.engine.foreign import OwnStudy, left_out
from brainseg.sweep.engine.keys import CLAIMS, LEASE
from brainseg.sweep.engine.live import LiveTable
from brainseg.sweep.engine.trial_queue import NoTrial
from brainseg.sweep.launchers.view import View
from brainseg.sweep.outcome.summary import headline, print_status, summarize, trials_csv
from brainseg.sweep.studies import row_of

HELD = "is held by another program (optuna ask)"
TOLD = "was told by another program (optuna tell), with no run behind it"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "study.journal")


def others(where: str) -> optuna.Study:
    """The study as another program has it."""
    return optuna.load_study(study_name="study", storage=opened(where).optuna)


def ask(where: str) -> Trial:
    """What `optuna ask` does."""
    return others(where).ask()


def finished_by(where: str) -> list[int]:
    """One worker trains until nothing is left; the numbers of its trials."""
    numbers: list[int] = []
    with queue_on(where) as queue:
        while not isinstance(claim := queue.claim(), NoTrial):
            finish(queue, claim)
            numbers.append(claim.trial.number)
        assert claim.is_over, claim
    return numbers


def test_a_trial_that_another_program_holds_is_left_alone_and_holds_up_nothing(where: str, tmp_path: Path) -> None:
    started(where, made_study(tmp_path, trials=3))
    with queue_on(where) as queue:
        first = claimed(queue)
        held = ask(where)
        assert held.number == 1
        finish(queue, first)
    assert finished_by(where) == [2, 3]  # the total is that of brainseg's own trials
    assert [trial.state.name for trial in trials_of(where)] == ["COMPLETE", "RUNNING", "COMPLETE", "COMPLETE"]
    assert trials_of(where)[1].user_attrs == {}
    assert left_out(others(where)) == {1: HELD}


def test_the_baseline_may_be_taken_by_another_program(journal: str, tmp_path: Path) -> None:
    started(journal, made_study(tmp_path, trials=2))
    assert ask(journal).number == 0
    assert finished_by(journal) == [1, 2]


def test_a_trial_that_another_program_takes_at_the_same_moment_is_its_own(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(where, made_study(tmp_path))

    def asked_meanwhile(*_: object) -> str:
        assert ask(where).number == 0
        return ""

    monkeypatch.setattr(trial_queue, "refusal", asked_meanwhile)
    with queue_on(where) as queue:
        assert claimed(queue).trial.number == 1
    assert left_out(others(where)) == {0: HELD}


def test_a_trial_that_version_0_1_has_left_is_gone_on_with(where: str, tmp_path: Path) -> None:
    """It has a lease, and no number of claims."""
    started(where, made_study(tmp_path))
    with queue_on(where, is_killed=True) as queue:
        lease = claimed(queue).trial.user_attrs[LEASE]
    old = ask(where)
    old.set_user_attr(LEASE, lease)
    assert CLAIMS not in trials_of(where)[1].user_attrs
    with queue_on(where) as queue:
        assert [claimed(queue).trial.number for _ in range(2)] == [0, 1]


def test_values_that_are_told_count_only_with_a_run_behind_them(where: str, tmp_path: Path) -> None:
    config = made_study(tmp_path, trials=2)
    started(where, config)
    study = others(where)
    study.tell(study.ask(), 0.99)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.add_trial(optuna.create_trial(value=0.98))
    assert finished_by(where) == [3, 4]
    summary = summarize(OwnStudy(study_name="study", storage=opened(where).optuna), config)
    assert headline(summary) == "study: 2 of 2 trials finished: 2 complete"
    assert {row.number for row in summary.best} == {3, 4}
    assert summary.left_out == {0: TOLD, 1: "was ended as failed by another program (optuna tell)", 2: TOLD}
    row = row_of(opened(where), "study")
    assert (row.state, row.finished, row.failed, row.best) == ("finished", 2, 0, summary.metrics[0].best_value)


def test_a_front_has_no_trial_that_was_told() -> None:
    config = study_config(metrics={"val_dice_image": "maximize", "parameters": "minimize"})
    told = made_trial(1, "COMPLETE", params(1e-3), values=[0.9, 1.0])
    del told.user_attrs["run_id"]
    study = study_in_memory(config, [made_trial(0, "COMPLETE", BASELINE, values=[0.5, 2.0]), told])
    own = OwnStudy(study_name=study.study_name, storage=study._storage)
    assert [row.number for row in summarize(own, config).best] == [0]
    assert [line.split(",")[0] for line in trials_csv(own.get_trials(), config).splitlines()] == ["trial", "0"]


def test_samplers_learn_from_the_studys_own_trials(journal: str, tmp_path: Path) -> None:
    """Else a trial without parameters would leave cmaes nothing that all trials have in common."""
    started(journal, made_study(tmp_path, trials=2))
    finished_by(journal)
    study = others(journal)
    study.tell(study.ask(), 0.99)
    with queue_on(journal) as queue:
        assert intersection_search_space(queue.study.get_trials()).keys() == SMALL["space"].keys()
    assert intersection_search_space(study.get_trials()) == {}


DROPOUT_RULE = "model.dropout must be between 0.0 and 0.5 in steps of 0.05, got "


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        ({"model.dropout": 0.33}, f"{DROPOUT_RULE}0.33"),
        ({"model.dropout": 0.95, "model.depth": 4}, f"{DROPOUT_RULE}0.95"),
        ({"model.dropout": "much"}, f"{DROPOUT_RULE}'much'"),
        ({"model.dropout": None}, f"{DROPOUT_RULE}None"),
        ({"model.dropout": [0.1]}, f"{DROPOUT_RULE}[0.1]"),
        ({"model.depth": 3.5}, "model.depth must be a whole number between 3 and 5, got 3.5"),
        ({"model.dropuot": 0.1}, "model.dropuot is not in the space; did you mean 'model.dropout'?"),
    ],
)
def test_a_point_outside_of_the_space_is_refused_by_name_and_the_sweep_goes_on(
    journal: str, tmp_path: Path, point: dict[str, Any], reason: str
) -> None:
    config = made_study(tmp_path, trials=2, failures=0)
    started(journal, config)
    others(journal).enqueue_trial(point)
    others(journal).enqueue_trial({"model.dropout": 0.25})
    assert finished_by(journal) == [0, 2]
    refused, asked = trials_of(journal)[1:]
    assert (refused.state, asked.params["model.dropout"]) == (TrialState.FAIL, 0.25)
    assert left_out(others(journal)) == {1: f"was refused: {reason}"}


def test_a_point_that_was_drawn_from_another_space_is_refused_by_name(journal: str, tmp_path: Path) -> None:
    started(journal, made_study(tmp_path, trials=1))
    from_another = {"model.depth": optuna.distributions.IntDistribution(1, 9)}
    with_values = optuna.create_trial(
        state=TrialState.WAITING, params={"model.depth": 4}, distributions=from_another, system_attrs={}
    )
    others(journal).add_trial(with_values)
    others(journal).add_trial(optuna.create_trial(state=TrialState.WAITING))  # anything: the sampler draws it
    started(journal, made_study(tmp_path, trials=2))
    assert finished_by(journal) == [0, 2]
    assert left_out(others(journal))[1].startswith("was refused: model.depth was drawn from IntDistribution(high=9")


def test_what_is_left_out_is_said_once_while_a_sweep_runs_and_in_its_status(journal: str, tmp_path: Path) -> None:
    config = made_study(tmp_path)
    study = started(journal, config)
    ask(journal)
    running, after = io.StringIO(), io.StringIO()
    table = LiveTable(config, Console(file=running, width=200))
    view = View(opened(journal), study, table, lambda trials: None, supervisor="s")
    view.look()
    view.look()
    assert running.getvalue().splitlines() == [f"trial 0 {HELD}; it is left out", "study: 0 of 6 trials finished"]
    print_status(summarize(study, config), config, Console(file=after, width=200))
    assert after.getvalue().splitlines()[-1] == f"trial 0 {HELD}; it is left out"
