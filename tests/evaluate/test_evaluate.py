"""`python -m brainseg.evaluate` from end to end: tiny runs on SQLite, their scores, and what is added to them."""

import csv
import dataclasses
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from brainseg.config import RunConfig, TrackingConfig
from brainseg.data.load import load_data
from brainseg.data.phantom.source import PhantomSource, write_phantom
from brainseg.data.split import Split
from brainseg.evaluate.__main__ import main
from brainseg.inference.resize import resize_probability
from brainseg.scoring.predictions import load_predictions
from brainseg.tracking import RunRecord, RunStore, open_store, open_tracker
from brainseg.tracking.mlflow.store import MlflowStore
from brainseg.train.experiment import run

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

FILES = {"scores.csv", "summary.json", "summary.md", "gallery.png", "dice_by_size.png", "reliability.png"}
PATIENTS = 10
KEYS = {
    "data.phantom_patients": PATIENTS,
    "data.folds": 2,
    "data.val_fraction": 0.4,
    "train.epochs": 8,
    "optimizer.learning_rate": 0.01,
    "optimizer.warmup_epochs": 0.0,
}


@dataclass(frozen=True)
class Folds:
    """A cross-validation in two folds, as a study leaves it."""

    root: str
    parent: str
    runs: tuple[str, str]
    configs: tuple[RunConfig, RunConfig]
    final_dice: tuple[float, float]

    @property
    def store(self) -> MlflowStore:
        return open_store(self.configs[0].tracking)

    def evaluate(self, *arguments: str) -> int:
        return main([*arguments, "--root", self.root])


@pytest.fixture(autouse=True)
def _pictures(request: pytest.FixtureRequest) -> None:
    """One test looks at them."""
    if request.function is not test_the_validation_scores_are_those_of_the_training:
        request.getfixturevalue("unrendered")


@pytest.fixture(scope="module")
def folds(
    tmp_path_factory: pytest.TempPathFactory, tiny_in: Callable[..., RunConfig], empty_store: Path
) -> Iterator[Folds]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        before = keras.config.dtype_policy()
        folder = tmp_path_factory.mktemp("folds")
        (folder / "mlruns").mkdir()
        shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
        configs = tuple(tiny_in(folder, **KEYS, **{"data.fold": fold}) for fold in (0, 1))
        tags = {"sweep": "cv", "sweep_role": "parent"}
        with open_tracker(configs[0].tracking, run_name="cv", tags=tags) as parent:
            pass
        results = [
            run(config, open_tracker(config.tracking, run_name=f"cv {fold}", tags={"sweep": "cv", "trial": str(fold)}))
            for fold, config in enumerate(configs)
        ]
        with open_tracker(configs[0].tracking, run_name="stopped", tags={"sweep": "cv"}) as stopped:
            stopped.set_tags({"state": "pruned"})
        keras.config.set_dtype_policy(before)
        yield Folds(
            root=configs[0].tracking.root,
            parent=parent.run_id,
            runs=tuple(result.run_id for result in results),
            configs=configs,
            final_dice=tuple(result.final_dice for result in results),
        )


def rows_of(store: RunStore, run_id: str, part: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(store.text(run_id, f"evaluation/{part}/scores.csv"))))


def summary_of(store: RunStore, run_id: str, part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.text(run_id, f"evaluation/{part}/summary.json"))
    return found


def without_tags(record: RunRecord) -> RunRecord:
    return dataclasses.replace(record, tags={})


def split_of(store: RunStore, run_id: str) -> Split:
    parts = json.loads(store.text(run_id, "split.json"))
    return Split(**{part: tuple(parts[part]) for part in ("train", "val", "test")})


def test_the_validation_scores_are_those_of_the_training(
    folds: Folds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = folds.runs[0]
    before = folds.store.read(run_id)
    assert folds.evaluate(run_id, "-o", str(tmp_path / "out" / "deep")) == 0
    printed = capsys.readouterr()

    summary = summary_of(folds.store, run_id, "val")
    assert summary["overall"]["measures"]["dice"]["mean"]["value"] == folds.final_dice[0] > 0
    rows = rows_of(folds.store, run_id, "val")
    recorded = list(csv.DictReader(io.StringIO(folds.store.text(run_id, "val_scores.csv"))))
    assert [{key: row[key] for key in recorded[0]} for row in rows] == recorded
    predictions = load_predictions(folds.store.file(run_id, "val_predictions.npz", tmp_path / "recorded"))
    assert {row["id"]: int(row["predicted_area_px"]) for row in rows} == {
        name: int(mask.sum()) for name, mask in predictions.items()
    }

    after = folds.store.read(run_id)
    assert without_tags(after) == without_tags(before)
    assert (after.status, after.tags["state"]) == ("FINISHED", "finished")
    added = {key: value for key, value in after.tags.items() if key not in before.tags}
    assert set(added) == {"evaluation_val", "evaluation_val_masks"}
    assert added["evaluation_val"].startswith(f"{folds.final_dice[0]:.4f} (")
    assert added["evaluation_val_masks"] == "no flips, threshold 0.5, nothing removed"

    out = tmp_path / "out" / "deep"
    assert {path.name for path in out.iterdir()} == FILES
    for name in FILES:
        stored = folds.store.file(run_id, f"evaluation/val/{name}", tmp_path / "stored")
        assert stored.read_bytes() == (out / name).read_bytes()
    for name in ("gallery.png", "dice_by_size.png", "reliability.png"):
        with Image.open(out / name) as picture:
            assert picture.format == "PNG"
    assert added["evaluation_val"] in printed.out
    assert f"files       {out}" in printed.out
    assert "\x1b" not in printed.out
    assert printed.err == ""


def test_the_summary_says_by_which_rules_it_was_made(folds: Folds, tmp_path: Path) -> None:
    assert (
        folds.evaluate(
            folds.runs[0],
            "--split",
            "test",
            "--threshold",
            "0.4",
            "--min-area",
            "9",
            "--flip",
            "all",
            "--shift",
            "diagonal",
        )
        == 0
    )
    summary = summary_of(folds.store, folds.runs[0], "test")
    split = split_of(folds.store, folds.runs[0])
    assert (summary["schema_version"], summary["part"]) == (2, "test")
    assert summary["runs"] == [
        {
            "run_id": folds.runs[0],
            "averaged_with": [],
            "name": "cv 0",
            "folds": 2,
            "fold": 0,
            "slices": len(split.test),
            "settings": {"flip": "all", "shift": "diagonal", "threshold": 0.4, "min_area_px": 9},
            "tuned": False,
        }
    ]
    assert summary["data"]["fingerprint"] == folds.store.read(folds.runs[0]).tags["data_fingerprint"]
    assert summary["rules"]["surface_tolerance_px"] == 2.0
    assert summary["intervals"] == {"confidence": 0.95, "resamples": 2000, "seed": 0, "drawn": "people"}
    assert [row["id"] for row in rows_of(folds.store, folds.runs[0], "test")] == list(split.test)
    assert sum(group["slices"] for group in summary["by_type"]) == len(split.test)
    assert sum(group["slices"] for group in summary["by_size"]) == len(split.test)
    assert summary["by_run"] == []
    pixels = sum(summary["calibration"]["all_pixels"]["pixels"])
    shapes = [PhantomSource(patients=PATIENTS, seed=0).read(name)[1].size for name in split.test]
    assert pixels == sum(shapes)
    text = folds.store.text(folds.runs[0], "evaluation/test/summary.md")
    assert "Two empty masks score 1 and one empty mask scores 0" in text
    assert "masks: mean over all flips and diagonal shifts, threshold 0.4, parts below 9 px removed" in text


def test_evaluating_again_takes_the_place_of_what_was_there(
    folds: Folds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = folds.runs[1]
    assert folds.evaluate(run_id, "--tune") == 0
    assert "chosen on the slices that are scored here, so that these scores are too good" in capsys.readouterr().out
    first = folds.store.file(run_id, "evaluation/val", tmp_path / "first")
    assert {path.name for path in first.iterdir()} == FILES | {"choice.json"}
    assert folds.evaluate(run_id, "--threshold", "0.45") == 0
    second = folds.store.file(run_id, "evaluation/val", tmp_path / "second")
    assert {path.name for path in second.iterdir()} == FILES
    assert folds.store.read(run_id).tags["evaluation_val_masks"] == "no flips, threshold 0.45, nothing removed"


def test_settings_are_chosen_on_validation_and_applied_to_the_part_asked_for(
    folds: Folds, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = folds.runs[0]
    assert folds.evaluate(run_id, "--tune", "--split", "test") == 0
    printed = capsys.readouterr().out
    choice = json.loads(folds.store.text(run_id, "evaluation/test/choice.json"))
    assert choice["schema_version"] == 3
    chosen = choice["runs"][run_id]
    split = split_of(folds.store, run_id)
    assert chosen["slices"] == len(split.val) != len(split.test)
    assert chosen["candidates"][0]["against"] == {"flip": "none", "shift": "none", "threshold": 0.5, "min_area_px": 0}
    # The candidate's mean against the run's own score is the difference that is told.
    first = chosen["candidates"][0]
    assert first["dice"] - folds.final_dice[0] == pytest.approx(first["difference"]["value"])
    steps = [candidate for candidate in chosen["candidates"] if candidate["is_chosen"]]
    assert all(candidate["difference"]["value"] > 0 for candidate in steps)
    assert steps[-1]["settings"] == chosen["settings"]
    summary = summary_of(folds.store, run_id, "test")
    assert summary["runs"][0]["settings"] == chosen["settings"]
    assert summary["runs"][0]["tuned"] is True
    assert f"Choice on the validation split, fold 0, run {run_id}" in printed
    assert all(f"mean over {flips} flips, threshold 0.5, nothing removed" in printed for flips in ("left-right", "all"))
    # Asked for by hand, the same settings give the same scores.
    rows = rows_of(folds.store, run_id, "test")
    settings = chosen["settings"]
    options = {"--flip": "flip", "--shift": "shift", "--threshold": "threshold", "--min-area": "min_area_px"}
    by_hand = [text for option, field in options.items() for text in (option, str(settings[field]))]
    assert folds.evaluate(run_id, "--split", "test", *by_hand) == 0
    assert rows_of(folds.store, run_id, "test") == rows


def test_two_folds_are_pooled_over_all_slices(folds: Folds, capsys: pytest.CaptureFixture[str]) -> None:
    before = folds.store.read(folds.parent)
    assert folds.evaluate("--study", "cv") == 0
    printed = capsys.readouterr().out
    rows = rows_of(folds.store, folds.parent, "test")
    slices = load_data(folds.configs[0]).slices.slices
    assert sorted(row["id"] for row in rows) == [item.id for item in slices]  # each once
    alone = [rows_of(folds.store, run_id, "test") for run_id in folds.runs]
    assert [{key: value for key, value in row.items() if key != "run_id"} for row in rows] == [*alone[0], *alone[1]]
    assert [row["run_id"] for row in rows] == [folds.runs[0]] * len(alone[0]) + [folds.runs[1]] * len(alone[1])

    summary = summary_of(folds.store, folds.parent, "test")
    dices = [float(row["dice"]) for row in rows]
    pooled = summary["overall"]["measures"]["dice"]["mean"]
    assert pooled["value"] == pytest.approx(np.mean(dices))
    assert pooled["low"] < pooled["value"] < pooled["high"]
    assert summary["overall"]["people"] == PATIENTS
    assert [(row["name"], row["slices"]) for row in summary["by_run"]] == [
        (f"fold 0, run {folds.runs[0]}", len(alone[0])),
        (f"fold 1, run {folds.runs[1]}", len(alone[1])),
        ("without fold 0", len(alone[1])),
    ]
    second = [float(row["dice"]) for row in alone[1]]
    assert summary["by_run"][2]["measures"]["dice"]["mean"]["value"] == pytest.approx(np.mean(second))

    after = folds.store.read(folds.parent)
    assert without_tags(after) == without_tags(before)
    assert after.tags["evaluation_test"].startswith(f"{np.mean(dices):.4f} (")
    assert folds.store.read(folds.runs[1]).tags["evaluation_test"].startswith(f"{np.mean(second):.4f} (")
    assert "2 runs, pooled over their test splits" in printed
    assert f"pooled      evaluation/test of the parent run {folds.parent}" in printed


def test_several_runs_without_a_study_are_pooled_in_the_output_folder(
    folds: Folds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folds.evaluate(*folds.runs, "--tune", "-o", str(tmp_path / "out")) == 0
    choice = json.loads((tmp_path / "out" / "choice.json").read_text())
    assert list(choice["runs"]) == list(folds.runs)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [each["settings"] for each in summary["runs"]] == [
        choice["runs"][run_id]["settings"] for run_id in folds.runs
    ]
    printed = capsys.readouterr().out
    assert "parent run" not in printed
    assert f"files       {tmp_path / 'out'}" in printed


@pytest.fixture(scope="module")
def twin(folds: Folds) -> str:
    """Another run of the second fold, with other weights."""
    first = folds.configs[1]
    config = dataclasses.replace(first, seed=1, train=dataclasses.replace(first.train, epochs=2))
    return run(config, open_tracker(config.tracking, run_name="twin", tags={"sweep": "twins"})).run_id


def test_runs_of_one_part_are_averaged_before_their_masks_are_made(
    folds: Folds, twin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = folds.runs
    before = [folds.store.read(run_id) for run_id in (second, twin)]
    assert folds.evaluate(first, second, twin, "--average", "-o", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert [folds.store.read(run_id) for run_id in (second, twin)] == before  # a mean is the score of neither
    assert "3 runs, pooled over their test splits" in printed
    assert "probabilities: of each slice the mean over 1 to 2 runs" in printed
    assert f"fold 1, ensemble of 2 runs: {second}, {twin}" in printed

    # Another way: Keras predicts, and the mean is NumPy's.
    data = load_data(folds.configs[1])
    positions = data.slices.positions(data.split.test)
    images = data.slices.images[positions].astype(np.float32) / 255
    predicted = []
    for run_id in (second, twin):
        model = keras.saving.load_model(folds.store.file(run_id, "model/data/model.keras", tmp_path / run_id))
        predicted.append(model.predict(images, verbose=0)[..., 0])
    expected = {}
    for slice_id, probability in zip(data.split.test, np.mean(predicted, axis=0), strict=True):
        true = data.slices.source.read(slice_id)[1][..., 0] > 0
        mask = resize_probability(probability, true.shape) >= 0.5
        both = mask.sum() + true.sum()
        expected[slice_id] = 2 * (mask & true).sum() / both if both else 1.0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "scores.csv").read_text(encoding="utf-8"))))
    found = {row["id"]: float(row["dice"]) for row in rows if row["run_id"] == f"{second}+{twin}"}
    assert found == pytest.approx(expected, abs=1e-3)
    assert len(rows) == len(found) + len(rows_of(folds.store, first, "test"))

    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [(each["run_id"], each["averaged_with"]) for each in summary["runs"]] == [
        (first, []),
        (second, [twin]),
        (twin, [second]),
    ]


def test_two_studies_are_averaged_fold_by_fold(
    folds: Folds, twin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = folds.store.read(folds.parent)
    arguments = ["--study", "cv", "--study", "twins", "--average", "-o", str(tmp_path / "out")]
    assert folds.evaluate(*arguments) == 0
    assert folds.store.read(folds.parent) == before
    assert "of the parent run" not in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [each["run_id"] for each in summary["runs"]] == [*folds.runs, twin]


def test_a_study_of_several_runs_a_fold_keeps_its_mean_beside_its_other_scores(
    folds: Folds, twin: str, tmp_path: Path
) -> None:
    assert folds.evaluate("--study", "cv") == 0
    alone = folds.store.text(folds.parent, "evaluation/test/scores.csv")
    folds.store.add(twin, tmp_path, to="nothing", tags={"sweep": "cv"})
    try:
        assert folds.evaluate("--study", "cv", "--average", "--tune") == 0
    finally:
        folds.store.add(twin, tmp_path, to="nothing", tags={"sweep": "twins"})
    assert folds.store.text(folds.parent, "evaluation/test/scores.csv") == alone
    rows = rows_of(folds.store, folds.parent, "test-averaged")
    assert [row["id"] for row in rows] == [row["id"] for row in csv.DictReader(io.StringIO(alone))]
    tags = folds.store.read(folds.parent).tags
    mean = np.mean([float(row["dice"]) for row in rows])
    assert tags["evaluation_test-averaged"].startswith(f"{mean:.4f} (")
    choice = json.loads(folds.store.text(folds.parent, "evaluation/test-averaged/choice.json"))
    assert list(choice["runs"]) == [folds.runs[0], f"{folds.runs[1]}+{twin}"]


def test_the_same_data_in_another_place_is_known_by_its_pixels(folds: Folds, tmp_path: Path) -> None:
    write_phantom(PhantomSource(patients=PATIENTS, seed=0), tmp_path / "moved")
    assert folds.evaluate(folds.runs[0], "--data", str(tmp_path / "moved")) == 0
    summary = summary_of(folds.store, folds.runs[0], "val")
    assert summary["data"]["name"] == "moved"
    assert summary["overall"]["measures"]["dice"]["mean"]["value"] == folds.final_dice[0]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another data set: three people, without metadata, two slices without a tumour."""
    folder = tmp_path_factory.mktemp("data") / "other set"
    write_phantom(PhantomSource(patients=3, seed=5), folder)
    (folder / "metadata.csv").unlink()
    for path in sorted((folder / "masks").iterdir())[:2]:
        with Image.open(path) as mask:
            empty = Image.new("L", mask.size)
        empty.save(path)
    return folder


def test_another_data_set_is_scored_as_a_whole(folds: Folds, others: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert folds.evaluate(folds.runs[0], "--data", str(others), "--tune") == 0
    printed = capsys.readouterr().out
    rows = rows_of(folds.store, folds.runs[0], "data-other_set")
    assert [row["id"] for row in rows] == sorted(path.stem for path in (others / "images").iterdir())
    summary = summary_of(folds.store, folds.runs[0], "data-other_set")
    assert summary["intervals"]["drawn"] == "slices, since no patient ids are known"
    assert summary["overall"]["people"] is None
    assert summary["by_type"] == []
    assert summary["by_size"][0]["name"] == "no foreground"
    alarms = [row for row in rows if row["area_px"] == "0" and row["predicted_area_px"] != "0"]
    assert summary["false_alarms"]["slices"] == 2
    assert summary["false_alarms"]["share"]["value"] == len(alarms) / 2
    assert "2 slices, a false alarm on " in printed
    assert "bootstrap over slices, since no patient ids are known" in printed
    assert "evaluation_data-other_set" in folds.store.read(folds.runs[0]).tags


def test_a_part_of_other_data_can_not_be_asked_for(
    folds: Folds, others: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folds.evaluate(folds.runs[0], "--data", str(others), "--split", "test") == 2
    assert capsys.readouterr().err == (
        f"error: --split test has no meaning for {others}, which is not the data that run {folds.runs[0]} was trained "
        "on; leave --split out to score all of its slices\n"
    )


def test_a_model_that_can_not_be_loaded_is_named_and_nothing_is_added(
    folds: Folds, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = MlflowStore.file

    def damaged(self: MlflowStore, run_id: str, name: str, folder: Path) -> Path:
        path = fetch(self, run_id, name, folder)
        if path.suffix == ".keras":
            path.write_bytes(b"not a model")
        return path

    monkeypatch.setattr(MlflowStore, "file", damaged)
    before = folds.store.read(folds.runs[0])
    assert folds.evaluate(folds.runs[0], "-o", str(tmp_path / "out"), "--threshold", "0.6") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: run {folds.runs[0]}: its model can't be loaded (")
    assert line.endswith("); restore the artifact model/data/model.keras, or train again")
    assert folds.store.read(folds.runs[0]) == before
    assert not (tmp_path / "out").exists()


def test_data_that_has_changed_since_the_training_is_refused_until_it_is_named(
    sqlite_config: TrackingConfig,
    tmp_path: Path,
    tiny_in: Callable[..., RunConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "slices"
    write_phantom(PhantomSource(patients=8, seed=0), data)
    keys = {"data.name": "folder", "data.root": str(data), "train.epochs": 1, "model.depth": 1, "model.base_filters": 2}
    config = tiny_in(tmp_path, **keys, **{"tracking.root": sqlite_config.root})
    result = run(config, open_tracker(config.tracking, run_name="one", tags={}))
    arguments = [result.run_id, "--root", config.tracking.root]

    shutil.move(data, tmp_path / "moved")
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        f"error: run {result.run_id}: its data {data} isn't there; name where it lies now with --data DIR\n"
    )
    assert main([*arguments, "--data", str(tmp_path / "moved")]) == 0
    assert f"Dice             {result.final_dice:.4f}" in capsys.readouterr().out

    shutil.move(tmp_path / "moved", data)
    path = sorted((data / "images").iterdir())[0]
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        f"error: run {result.run_id}: the data in {data} has changed since the run was trained; "
        "restore it, or score the run on it as another data set with --data DIR\n"
    )
    assert main([*arguments, "--data", str(data)]) == 0
    store = open_store(config.tracking)
    assert summary_of(store, result.run_id, "data-slices")["overall"]["slices"] == len(
        list((data / "images").iterdir())
    )


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from brainseg.evaluate.__main__ import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--study NAME" in done.stdout
    assert not {"tensorflow", "mlflow", "scipy", "numpy"} & set(done.stdout.splitlines()[-1].split())


@pytest.mark.slow
@pytest.mark.figshare
def test_every_real_slice_is_scored_with_intervals_over_people(folds: Folds, figshare: Path, tmp_path: Path) -> None:
    assert folds.evaluate(folds.runs[0], "--data", str(figshare), "-o", str(tmp_path / "out")) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["overall"]["slices"], summary["overall"]["people"]) == (3064, 209)
    assert [(group["name"], group["slices"]) for group in summary["by_type"]] == [
        ("glioma", 1426),
        ("meningioma", 708),
        ("pituitary", 930),
    ]
    assert summary["false_alarms"] is None
    assert summary["intervals"]["drawn"] == "people"
