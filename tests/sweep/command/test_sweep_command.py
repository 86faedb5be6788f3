"""What the commands of a study do: go on, refuse, tell, join."""

import re
from pathlib import Path

import pytest

from brainseg.tracking import RunFilter
from sweeps import DROPOUT, RATE, Sweep

pytestmark = pytest.mark.timeout(900)


def test_what_is_finished_or_refused_changes_nothing(undisturbed: Sweep) -> None:
    before = {run.run_id: run for run in undisturbed.runs()}

    text = undisturbed.run("run", "tiny")
    assert text.splitlines()[-1] == "tiny is finished; --trials N goes on with it"

    text = undisturbed.run("status", "tiny")
    assert "tiny: 3 of 3 trials finished: 3 complete" in text
    best = max(undisturbed.trials(), key=lambda trial: trial.value or 0.0)
    assert f"Best val_dice_image: {best.value:.4f}" in text
    assert f"python -m brainseg.train {best.user_attrs['line']}" in text

    assert undisturbed.run("worker", "tiny") == "3 of 3 trials are finished\n"

    wider = {**undisturbed.space, DROPOUT: {"type": "float", "low": 0.0, "high": 0.5}}
    undisturbed.write("wider", name="tiny", space=wider)
    text = undisturbed.run("run", "wider", "--trials", "4", expected=2)
    assert text == (
        "error: the study 'tiny' was started differently: space.model.dropout.high: 0.4 -> 0.5; "
        "undo that, or start another study with --new NAME\n"
    )

    assert {run.run_id: run for run in undisturbed.runs()} == before
    assert undisturbed.states() == {"COMPLETE": 3}


def test_another_study_of_the_same_file_starts_and_goes_on_with_more_trials(sweep: Sweep) -> None:
    sweep.write(workers=1, trials=1)
    sweep.run("run", "tiny", "--new", "other")
    assert sweep.states("other") == {"COMPLETE": 1}
    assert sweep.trials() == []
    text = sweep.run("run", "tiny", "--new", "other", "--trials", "2")
    assert "other: 2 of 2 trials finished" in text
    assert sweep.states("other") == {"COMPLETE": 2}
    (parent,) = sweep.parents()
    assert (parent.status, parent.tags["state"], parent.tags["sweep"]) == ("FINISHED", "finished", "other")
    assert {run.tags["sweep"] for run in sweep.children().values()} == {"other"}
    sweep.assert_nothing_is_open()


@pytest.mark.slow  # tests/sweep/study/test_recipe.py has the rules
def test_a_changed_recipe_doesnt_mix_into_a_study(sweep: Sweep) -> None:
    experiment = sweep.folder / "conf" / "experiment" / "mine.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text("# @package _global_\nseed: 5\n")
    sweep.write(workers=1, trials=1, overrides=[*sweep.overrides, "experiment=mine"])
    sweep.run("run", "tiny")
    experiment.write_text("# @package _global_\nseed: 6\n")
    text = sweep.run("run", "tiny", "--trials", "2")
    assert text.splitlines()[0] == (
        "note: tiny goes on as it was started; its file or conf/ has changed since: seed: 5 -> 6; "
        "--new NAME starts another study"
    )
    experiment.unlink()
    assert "error: experiment must be one of" in sweep.run("run", "tiny", "--trials", "3", expected=2)
    experiment.write_text("# @package _global_\nseed: 7\n")
    sweep.run("run", "tiny", "--trials", "3")
    assert [run.params["seed"] for run in sweep.children().values()] == ["5", "5", "5"]
    first, second, _ = sweep.trials()
    assert "seed" not in first.user_attrs["line"]
    assert "seed=5" in second.user_attrs["line"].split()


@pytest.mark.slow  # tests/sweep/study/test_plan.py has the rule
def test_threads_that_the_user_fixes_are_those_of_each_worker(sweep: Sweep) -> None:
    sweep.write(workers=1)
    commands = [sweep.start("run", "tiny", "train.threads=3")]
    commands[0].wait_until(lambda: sweep.states().total() > 0)
    commands.append(sweep.start("worker", "tiny", "--threads", "1"))  # by hand, and it knows nothing of them
    told = [sweep.told(command) for command in commands if command.exit_code() == 0]
    assert len(told) == 2
    assert "tiny: 3 trials, 1 worker with 3 threads each" in told[0]
    assert [run.params["train.threads"] for run in sweep.children().values()] == ["3", "3", "3"]
    assert [trial.user_attrs["threads"] for trial in sweep.trials()] == [3, 3, 3]


def test_two_supervisors_and_a_worker_by_hand_share_one_total_and_one_parent(sweep: Sweep) -> None:
    sweep.write(workers=1)
    commands = [sweep.start("run", "tiny"), sweep.start("run", "tiny")]
    commands[0].wait_until(lambda: sweep.states().total() > 0)
    commands.append(sweep.start("worker", "tiny", "--threads", "1"))
    assert [command.exit_code() for command in commands] == [0, 0, 0], "\n".join(map(sweep.told, commands))

    assert sweep.states() == {"COMPLETE": 3}
    assert sorted(sweep.children()) == [0, 1, 2]
    (parent,) = sweep.parents()
    assert (parent.status, parent.tags["state"]) == ("FINISHED", "finished")
    assert sweep.store.text(parent.run_id, "trials.csv").count("complete") == 3
    sweep.assert_nothing_is_open()


def test_the_time_limit_ends_a_start_of_the_sweep_and_not_the_study(sweep: Sweep) -> None:
    sweep.write(trials=8, time_limit_min=0.03)
    text = sweep.run("run", "tiny")
    done = sweep.states()["COMPLETE"]
    assert done < 8
    assert text.splitlines()[-1] == (
        f"{done} trial{'' if done == 1 else 's'} ended within the time limit, {8 - done} are to come; "
        "not finished yet; go on with: python -m brainseg.sweep run tiny"
    )
    (parent,) = sweep.parents()
    assert (parent.status, parent.tags["state"]) == ("FINISHED", "unfinished")
    assert {run.status for run in sweep.children().values()} <= {"FINISHED", "KILLED"}


def test_a_time_limit_is_obeyed_by_every_worker_and_the_study_goes_on_later(sweep: Sweep) -> None:
    sweep.write(trials=200, workers=1)
    first = sweep.start("run", "tiny")
    first.wait_until(lambda: sweep.states()["COMPLETE"] >= 1)
    before = sweep.states()["COMPLETE"]
    second = sweep.start("run", "tiny", "--hours", "0.0001")
    assert [first.exit_code(), second.exit_code()] == [0, 0], sweep.told(first)
    states = sweep.states()
    assert before <= states["COMPLETE"] < 200
    assert [trial.user_attrs["lease"] for trial in sweep.trials() if trial.state.name == "RUNNING"] in ([], [None])
    done = states["COMPLETE"]
    end = f"ended within the time limit, {200 - done} are to come; not finished yet; go on with: "
    assert end in first.text.splitlines()[-1]
    assert first.text.splitlines()[-1].startswith(f"{done} trial")
    assert second.text.splitlines()[-1].endswith(f"{end}python -m brainseg.sweep run tiny --hours 0.0001")
    (parent,) = sweep.parents()
    assert (parent.status, parent.tags["state"]) == ("FINISHED", "unfinished")

    sweep.run("run", "tiny", "--trials", str(done + 1))
    assert sweep.states() == {"COMPLETE": done + 1}
    # What was stopped went on from its checkpoint: no epoch was trained twice.
    trained = sweep.trained()
    assert all(len(set(epochs)) == len(epochs) and max(epochs) == 6 for epochs in trained.values()), trained
    sweep.assert_nothing_is_open()


def test_several_objectives_give_a_pareto_front(sweep: Sweep, tmp_path: Path) -> None:
    smallest, largest = {"model.base_filters": 2}, {"model.base_filters": 8}
    sweep.write(
        metric=None,
        direction=None,
        metrics={"val_dice_image": "maximize", "parameters": "minimize"},
        workers=1,
        trials=2,
        overrides=[item for item in sweep.overrides if "base_filters" not in item],
        baseline={RATE: 1e-2, DROPOUT: 0.1, **largest},
        enqueue=[{RATE: 1e-2, DROPOUT: 0.1, **smallest}],
        space={**sweep.space, "model.base_filters": {"type": "int", "low": 2, "high": 8}},
    )
    text = sweep.run("run", "tiny")
    assert sweep.states() == {"COMPLETE": 2}
    assert "\nPareto front\n" in text
    runs = sweep.children()
    for trial in sweep.trials():
        run = runs[trial.number]
        assert trial.values == [run.metrics["best_val_dice_image"][6], run.metrics["parameters"][6]]
        assert trial.intermediate_values == run.metrics["val_dice_image"]
    assert sweep.trials()[1].values[1] < sweep.trials()[0].values[1]
    listed = text.partition("Pareto front\n")[2].partition("\n\n")[0]
    shown = {int(number) for number in re.findall(r"^(?:trial |baseline )?(\d+)", listed, re.MULTILINE)}
    values = {trial.number: trial.values for trial in sweep.trials()}
    front = {
        number
        for number, (dice, size) in values.items()
        if not any(
            other_dice >= dice and other_size <= size and (other_dice, other_size) != (dice, size)
            for other_dice, other_size in values.values()
        )
    }
    assert shown == front
    (parent,) = sweep.parents()
    assert (sweep.store.file(parent.run_id, "plots", tmp_path) / "pareto.png").exists()
    sweep.assert_nothing_is_open()


def test_a_trial_that_breaks_a_constraint_counts_and_is_ranked_nowhere(sweep: Sweep) -> None:
    sweep.write(
        trials=2,
        workers=1,
        overrides=[item for item in sweep.overrides if "base_filters" not in item] + ["train.epochs=1"],
        baseline={"model.base_filters": 4},
        enqueue=[{"model.base_filters": 2}],
        space={"model.base_filters": {"type": "int", "low": 2, "high": 4}},
        constraints=["parameters <= 600"],
    )
    text = sweep.run("run", "tiny")
    assert sweep.states() == {"COMPLETE": 2}
    large, small = (sweep.children()[number] for number in (0, 1))
    sizes = [int(run.metrics["parameters"][1]) for run in (large, small)]
    assert sizes[1] <= 600 < sizes[0]
    reason = f"parameters <= 600 is missed by {sizes[0] - 600}"
    assert "tiny: 2 of 2 trials finished: 1 complete, 1 infeasible" in text
    assert reason in text
    assert f"Best val_dice_image: {sweep.trials()[1].value:.4f}, trial 1" in text
    assert (large.tags["state"], small.tags["state"]) == ("infeasible", "finished")
    assert large.tags["infeasible_reason"].startswith("parameters <= 600 is missed by ")
    listed = sweep.store.overview(
        RunFilter(tags={"sweep": "tiny"}), rank_by="final_dice", total_of="seconds", limit=None
    )
    assert [run.run_id for run in listed.finished] == [small.run_id]
    sweep.assert_nothing_is_open()
