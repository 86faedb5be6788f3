"""Volumes are scored as a whole, in millimetres."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_volumes import write_volume
from numpy.typing import NDArray

from brainseg.config import DataConfig, RunConfig
from brainseg.data.cache import SliceSet, load_slices
from brainseg.data.folder import FolderSource
from brainseg.evaluate.__main__ import main
from brainseg.evaluate.volume_scores import VolumeScore, volume_means, volume_scores
from brainseg.inference.prediction import Predictor
from brainseg.scoring.evaluation import Evaluation, evaluate
from brainseg.tracking import MemoryStore

SHAPE = (16, 24, 8)


class Brightness:
    """A model that takes the grey level of each channel for the probability of a class."""

    def __call__(self, images: Any, training: bool) -> Any:
        return images


def block(first: int, last: int, value: int = 1) -> NDArray[np.uint8]:
    """4x4 voxels in each of the slices `first` to `last` - 1."""
    values = np.zeros(SHAPE, np.uint8)
    values[4:8, 4:8, first:last] = value
    return values


def add(root: Path, mask: NDArray[np.uint8], *, axes: str = "RAS", **seen: NDArray[np.uint8]) -> None:
    """A volume in whose bright voxels the model sees a class: `t2`, or the channels `t2_x` and `t2_y`."""
    for name, values in ({name: 255 * each for name, each in seen.items()} | {"t2_mask": mask}).items():
        write_volume(root / f"{name}.nii.gz", values, spacing=(1, 1, 3), axes=axes)


def evaluated(root: Path, *, without: str = "", **keys: Any) -> tuple[SliceSet, Evaluation]:
    data = DataConfig(name="nifti", root=str(root), image_size=(16, 24), **({"channels": "grey"} | keys))
    slices = load_slices(FolderSource(data), data, cache_dir=root.parent / "cache")
    ids = [info.id for info in slices.slices if info.id != without]
    return slices, evaluate(Predictor(Brightness()), slices, ids, score_by="slice", in_full=True)


@pytest.mark.parametrize("axes", ["RAS", "PSR", "LIA"])
def test_voxels_of_all_slices_count_and_distances_are_in_mm(axes: str, tmp_path: Path) -> None:
    add(tmp_path / "set" / "p1", block(2, 4), axes=axes, t2=block(3, 5))  # one slice shared, and one 3 mm away
    add(tmp_path / "set" / "p2", block(0, 0), axes=axes, t2=block(0, 0))
    add(tmp_path / "set" / "p3", block(0, 0), axes=axes, t2=block(0, 1))
    scores = volume_scores(*evaluated(tmp_path / "set"))
    diagonal = pytest.approx(np.sqrt(16**2 + 24**2 + 24**2))
    assert [(item.id, item.patient_id, item.slices) for item in scores] == [(f"p{n}_t2", f"p{n}", 8) for n in (1, 2, 3)]
    assert [(item.dice, item.surface_dice, item.hd95_mm) for item in scores] == [
        (0.5, 0.5, 3.0),
        (1.0, 1.0, 0.0),
        (0.0, 0.0, diagonal),
    ]


def test_a_volume_without_all_of_its_slices_has_no_score(tmp_path: Path) -> None:
    for case in ("p1", "p2"):
        add(tmp_path / "set" / case, block(1, 3), t2=block(1, 3))
    slices, evaluation = evaluated(tmp_path / "set", without="p1_t2_slice003")
    assert [item.id for item in volume_scores(slices, evaluation)] == ["p2_t2"]


def test_ignored_voxels_count_in_no_class(tmp_path: Path) -> None:
    add(tmp_path / "set" / "p1", block(1, 3) + block(3, 4, 9), t2_x=block(1, 5), t2_y=block(0, 0))
    keys = {"classes": {"a": [1, 2], "b": [2]}, "ignore": 9, "channels": ["x", "y"]}
    first, second = volume_scores(*evaluated(tmp_path / "set", **keys))
    assert (first.class_name, first.dice) == ("a", pytest.approx(2 * 32 / (32 + 48)))
    assert (second.class_name, second.dice) == ("b", 1.0)


def test_the_mean_is_over_volumes_and_its_interval_over_people() -> None:
    scores = [
        VolumeScore(id=f"v{n}", class_name="", patient_id=person, slices=8, dice=dice, surface_dice=dice, hd95_mm=n)
        for n, (person, dice) in enumerate([("P1", 0.5), ("P1", 1.0), ("P1", 0.6)])
    ]
    means = volume_means(scores)[""]
    assert means["dice"].value == pytest.approx(0.7)
    assert means["dice"].low is None  # one person
    assert means["hd95_mm"].value == 1


@pytest.mark.heavy
@pytest.mark.usefixtures("unrendered")
def test_the_command_adds_the_scores_of_volumes(
    tmp_path: Path,
    tiny: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from brainseg.train.experiment import run  # TensorFlow

    for number in range(4):
        add(tmp_path / "set" / f"p{number}", block(number, number + 3), t2=block(number, number + 3))
    keys = {"data.name": "nifti", "data.root": str(tmp_path / "set"), "train.epochs": 1, "data.val_fraction": 0.5}
    store = MemoryStore()
    result = run(tiny(**keys, **{"data.cache_dir": None}), store.open_tracker(run_name="one"))
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: store)
    assert main([result.run_id, "-o", str(tmp_path / "out")]) == 0
    assert "mean over 2 volumes, each of all its slices; surface Dice within 2 mm" in capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "volumes.csv").read_text())))
    assert list(rows[0]) == ["id", "patient_id", "slices", "dice", "surface_dice", "hd95_mm"]
    assert len(rows) == 2
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())["volumes"]
    assert (summary["count"], summary["surface_tolerance_mm"]) == (2, 2.0)
    assert summary["dice"]["value"] == pytest.approx(np.mean([float(row["dice"]) for row in rows]))
