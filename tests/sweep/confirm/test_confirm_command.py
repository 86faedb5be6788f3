"""`sweep confirm`, from a finished study to the verdict."""

import csv
import io
import json
from pathlib import Path
from statistics import fmean

import pytest
from processes import Server

from brainseg.tracking import RunRecord
from sweeps import RATE, Sweep

pytestmark = pytest.mark.timeout(900)
OVERRIDES = ["data.phantom_patients=12", "data.test_fraction=0.3"]


@pytest.fixture
def sweep(process_server: Server, empty_store: Path, tmp_path: Path) -> Sweep:
    """A finished study of two trials, with a test part."""
    overrides = [item for item in Sweep.overrides if "patients" not in item]
    made = Sweep(tmp_path, process_server, empty_store, trials=2, workers=1, overrides=[*overrides, *OVERRIDES])
    made.run("run", "tiny")
    return made


def confirming(sweep: Sweep) -> dict[tuple[float, str], RunRecord]:
    """(rate, seed) -> the run."""
    runs = [run for run in sweep.runs() if run.tags.get("sweep") == "tiny.confirm" and "trial" in run.tags]
    return {(float(run.params[RATE]), run.params["seed"]): run for run in runs}


def test_the_best_trial_and_the_baseline_are_trained_again_and_compared_on_the_test_part(sweep: Sweep) -> None:
    best = max((trial.params[RATE] for trial in sweep.trials() if trial.number), default=0.0)
    text = sweep.run("confirm", "tiny", "--top", "1", "--seeds", "2", "--write")

    runs = confirming(sweep)
    assert set(runs) == {(rate, seed) for rate in (1e-2, best) for seed in ("1", "2")}
    dices = {
        key: fmean(
            float(row["dice"])
            for row in csv.DictReader(io.StringIO(sweep.store.text(run.run_id, "evaluation/test/scores.csv")))
        )
        for key, run in runs.items()
    }
    (parent,) = [run for run in sweep.parents() if run.tags["sweep"] == "tiny.confirm"]
    stored = json.loads(sweep.store.text(parent.run_id, "confirm/confirm.json"))
    assert [each["test"] for each in stored["configurations"]] == [
        pytest.approx([dices[rate, seed] for seed in ("1", "2")]) for rate in (1e-2, best)
    ]
    lead = fmean(stored["configurations"][1]["test"]) - fmean(stored["configurations"][0]["test"])
    assert stored["configurations"][1]["lead"]["difference"]["value"] == pytest.approx(lead)
    assert f"and {lead:+.4f} on the test part" in text

    experiment = (sweep.folder / "conf" / "experiment" / "tiny-best.yaml").read_text()
    taken = [rate for rate in (1e-2, best) if f"learning_rate: {rate}" in experiment]
    assert len(taken) == 1

    again = sweep.run("confirm", "tiny", "--top", "1", "--seeds", "2")  # trains nothing
    assert again.splitlines()[-2:] == [
        next(line for line in text.splitlines() if line.startswith("Take ")),
        "Note: 2 configurations have been scored on these test slices here; the best of many is partly luck.",
    ]
    assert set(confirming(sweep)) == set(runs)
    report = sweep.start("from brainseg.report.__main__ import main; raise SystemExit(main(['tiny']))", program="-c")
    assert report.exit_code() == 0, report.text
    page = (sweep.folder / "report.html").read_text()
    assert "Does it hold: tiny, trained again with 2 new seeds" in page

    for arguments, message in (
        (["--seeds", "3"], "tiny.confirm was started with --top 1 --seeds 2"),
        (["--seeds", "2", "--write"], "tiny-best.yaml exists, and is left as it is"),
    ):
        assert message in sweep.run("confirm", "tiny", "--top", "1", *arguments, expected=2)


def test_the_trials_of_a_front_are_trained_again(process_server: Server, empty_store: Path, tmp_path: Path) -> None:
    filters = "model.base_filters"
    overrides = [item for item in Sweep.overrides if "patients" not in item and filters not in item]
    sweep = Sweep(
        tmp_path,
        process_server,
        empty_store,
        trials=2,
        workers=1,
        metric=None,
        direction=None,
        metrics={"parameters": "minimize", "final_dice": "maximize"},
        overrides=[*overrides, *OVERRIDES],
        baseline={filters: 4},
        enqueue=[{filters: 2}],  # the cheapest is on any front
        space={filters: {"type": "int", "low": 2, "high": 4}},
    )
    sweep.run("run", "tiny")
    assert "no best trial therefore; confirm its whole front with --front" in sweep.run("confirm", "tiny", expected=2)
    text = sweep.run("confirm", "tiny", "--front", "--seeds", "2")
    runs = [run for run in sweep.runs() if run.tags.get("sweep") == "tiny.confirm" and "trial" in run.tags]
    assert sorted((run.params[filters], run.params["seed"]) for run in runs) == [
        (count, seed) for count in ("2", "4") for seed in ("1", "2")
    ]
    assert "Take " in text


SLOW_STUDY = {
    "trials": 4,
    "overrides": [
        *("data.phantom_patients=60", "data.image_size=48", "data.test_fraction=0.3", "model.base_filters=8"),
        *("model.depth=3", "train.epochs=10", "tracking.predictions=0"),
    ],
    "sampler": {"name": "random", "seed": 0},
}


@pytest.mark.slow
def test_a_baseline_that_is_plainly_worse_is_beaten(process_server: Server, empty_store: Path, tmp_path: Path) -> None:
    study = {
        "baseline": {RATE: 1e-5},
        "enqueue": [{RATE: 5e-3}, {RATE: 4e-3}, {RATE: 3e-3}],
        "space": {RATE: {"type": "float", "low": 1e-5, "high": 1e-2, "log": True}},
    }
    sweep = Sweep(tmp_path, process_server, empty_store, **SLOW_STUDY, **study)
    sweep.run("run", "tiny")
    text = sweep.run("confirm", "tiny", "--workers", "2")
    assert text.count(" is better than the baseline by ") == 3


@pytest.mark.slow
def test_of_three_equal_configurations_none_is_called_better(
    process_server: Server, empty_store: Path, tmp_path: Path
) -> None:
    patience = "train.patience"  # of more epochs than there are
    study = {
        "baseline": {patience: 50},
        "enqueue": [{patience: 51}, {patience: 52}, {patience: 53}],
        "space": {patience: {"type": "int", "low": 50, "high": 60}},
    }
    sweep = Sweep(tmp_path, process_server, empty_store, **SLOW_STUDY, **study)
    sweep.run("run", "tiny")
    text = sweep.run("confirm", "tiny", "--workers", "2")
    assert "Trial 1, trial 2 and trial 3 are not to be told from the baseline on the test part." in text
