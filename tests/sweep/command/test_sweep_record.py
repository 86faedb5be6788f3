"""What a sweep leaves: trials in Optuna, a run for each below one parent in MLflow, and nothing else."""

import csv
import io
import re
import shutil
from pathlib import Path

import pytest
from file_modes import modes_in, open_to_others
from optuna.trial import TrialState

from brainseg.sweep.engine import keys
from sweeps import DROPOUT, RATE, Finished, Sweep

pytestmark = pytest.mark.timeout(900)


def test_the_command_ends_with_exactly_the_trials_that_were_asked_for(finished: Finished) -> None:
    states = finished.sweep.states()
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert states.total() == 5
    assert "tiny: 5 of 5 trials finished" in finished.text


def test_the_baseline_is_the_first_trial(finished: Finished) -> None:
    first = finished.sweep.trials()[0]
    assert (first.params, first.state) == ({RATE: 1e-2, DROPOUT: 0.1}, TrialState.COMPLETE)


def test_two_workers_have_trained_as_the_command_line_says(finished: Finished) -> None:
    assert "5 trials, 2 workers with " in finished.text
    assert [path.name for path in finished.sweep.logs()] == ["worker-1.log", "worker-2.log"]
    assert any("trial " in path.read_text() for path in finished.sweep.logs())  # one may be too slow for a trial


def test_every_trial_is_a_finished_run_below_one_parent(finished: Finished) -> None:
    (parent,) = finished.sweep.parents()
    children = finished.sweep.children()
    trials = {trial.number: trial for trial in finished.sweep.trials()}
    assert sorted(children) == sorted(trials)
    assert len(finished.sweep.runs()) == 6
    for number, run in children.items():
        trial = trials[number]
        state = "finished" if trial.state == TrialState.COMPLETE else "pruned"
        assert (run.status, run.tags["state"], run.tags["sweep"]) == ("FINISHED", state, "tiny")
        assert run.tags["parent"] == parent.run_id
        assert run.run_id == trial.user_attrs["run_id"]
        assert {RATE: float(run.params[RATE]), DROPOUT: float(run.params[DROPOUT])} == trial.params


def test_a_run_is_named_by_what_sets_it_apart_from_the_baseline(finished: Finished) -> None:
    baseline = {RATE: 1e-2, DROPOUT: 0.1}
    trials = finished.sweep.trials()
    for number, run in finished.sweep.children().items():
        params = trials[number].params
        changed = [f"{key.split('.')[1]}={params[key]:.4g}" for key in baseline if params[key] != baseline[key]]
        study, shown_number, *what = run.name.split()
        assert (study, shown_number, sorted(what)) == ("tiny", f"{number:03d}", sorted(changed or ["baseline"]))


def test_an_override_of_the_command_line_reaches_every_trial(finished: Finished) -> None:
    assert {run.params["optimizer.weight_decay"] for run in finished.sweep.children().values()} == {"0.001"}


def test_a_trial_that_learns_nothing_is_pruned_and_its_run_says_when_and_why(finished: Finished) -> None:
    children = finished.sweep.children()
    trials = finished.sweep.trials()
    # Two trials have ended before the fourth one begins; before the third one, a slow worker may still be at its first.
    assert trials[3].state == TrialState.PRUNED
    for trial in trials:
        run = children[trial.number]
        assert sorted(run.metrics["val_dice_image"]) == sorted(trial.intermediate_values)
        if trial.state == TrialState.PRUNED:
            epoch = len(trial.intermediate_values)
            assert epoch < 6
            assert run.tags["pruned_epoch"] == str(epoch)
            value = trial.intermediate_values[epoch]
            reason = f"pruned after epoch {epoch} of 6 by MedianPruner, at val_dice_image {value:.4f}"
            assert run.tags["pruned_reason"] == reason
        else:
            assert list(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
            assert run.metrics["best_val_dice_image"] == {6: trial.value}
            assert trial.value == max(trial.intermediate_values.values())


def test_the_parent_knows_what_was_asked_and_what_came_of_it(finished: Finished, tmp_path: Path) -> None:
    sweep = finished.sweep
    (parent,) = sweep.parents()
    assert (parent.status, parent.tags["state"], parent.tags["sweep"]) == ("FINISHED", "finished", "tiny")
    assert sweep.store.text(parent.run_id, "study.yaml") == (sweep.folder / "sweeps" / "tiny.yaml").read_text()
    command = "python -m brainseg.sweep run tiny optimizer.weight_decay=0.001 --workers 2\n"
    assert sweep.store.text(parent.run_id, "command.txt") == command
    assert "optuna==" in sweep.store.text(parent.run_id, "environment/packages.txt")
    assert (parent.params["trials"], parent.params["sampler"], parent.params["pruner"]) == ("5", "tpe", "median")

    best = max(trial.value for trial in sweep.trials() if trial.state == TrialState.COMPLETE)
    assert max(parent.metrics["best_val_dice_image"].items()) == (5, best)
    assert f"Best val_dice_image: {best:.4f}" in parent.tags["description"]
    rows = list(csv.DictReader(io.StringIO(sweep.store.text(parent.run_id, "trials.csv"))))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [float(row[RATE]) for row in rows] == [trial.params[RATE] for trial in sweep.trials()]
    names = {path.name for path in sweep.store.file(parent.run_id, "plots", tmp_path).iterdir()}
    assert "sweep.html" in names
    assert len([name for name in names if name.endswith(".png")]) >= 2


def test_nothing_is_left_that_only_a_sweep_in_progress_needs(finished: Finished) -> None:
    finished.sweep.assert_nothing_is_open()
    assert not list((finished.sweep.mlruns / "studies" / "alive").iterdir())


def test_the_line_of_a_trial_gives_the_same_scores_to_the_last_digit(undisturbed: Sweep, empty_store: Path) -> None:
    trial = undisturbed.trials()[2]
    child = undisturbed.children()[2]
    assert child.tags["overrides"] == trial.user_attrs["line"]
    (undisturbed.folder / "pasted").mkdir()
    shutil.copy(empty_store, undisturbed.folder / "pasted" / "mlflow.db")
    pasted = undisturbed.start(*trial.user_attrs["line"].split(), "tracking.root=pasted", program="brainseg.train")
    assert pasted.exit_code() == 0, pasted.text
    run_id = re.search(r"^run (\w+)$", pasted.text, re.MULTILINE)
    assert run_id is not None, pasted.text
    run = undisturbed.store_in("pasted").read(run_id[1])
    for key in ("best_val_dice_image", "final_dice", "val_loss", "train_loss"):
        assert run.metrics[key] == child.metrics[key]


def test_a_private_study_is_for_its_owner_alone(sweep: Sweep) -> None:
    sweep.mlruns.chmod(0o700)
    (sweep.mlruns / "mlflow.db").chmod(0o600)
    sweep.run("run", "tiny", "--trials", "1", "--workers", "1", "tracking.private=true")
    found = modes_in(sweep.mlruns)
    assert {Path(name).parts[0] for name in found if name != "."} >= {"mlflow.db", "artifacts", "studies", "cache"}
    assert open_to_others(found) == {}

    (parent,) = sweep.parents()
    plots = sweep.mlruns / "artifacts" / parent.run_id / "artifacts" / "plots"
    shutil.rmtree(plots)
    sweep.study().set_user_attr(keys.OUTCOME, 0)  # as a kill may leave it
    sweep.run("status", "tiny")
    assert any(plots.iterdir())
    assert open_to_others(modes_in(sweep.mlruns)) == {}
