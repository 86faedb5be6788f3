"""Final scores of slices whose sizes differ from each other and from the model's, and their packed predictions."""

import csv
import io
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from brainseg.classes import BINARY, Labels
from brainseg.config import DataConfig
from brainseg.data.cache import load_slices
from brainseg.data.masks import class_masks
from brainseg.data.source import SliceInfo
from brainseg.inference.prediction import Prediction, Predictor
from brainseg.scoring.calibration import Calibration
from brainseg.scoring.evaluation import Evaluation, evaluate
from brainseg.scoring.predictions import PackedMask, load_predictions, save_predictions
from brainseg.scoring.slice_score import TRAINING_COLUMNS, SliceScore, from_csv, to_csv

SIZES = {"a": (7, 5), "b": (8, 8), "c": (13, 16), "d": (3, 3)}


class Made:
    """Slices of odd sizes; each image is 255 where its mask is, on the left half."""

    name, location, labels = "made", "nowhere", BINARY

    def slices(self):
        return tuple(
            SliceInfo(id=slice_id, columns={"patient_id": f"P{slice_id}", "tumor_type": kind} if kind else {})
            for slice_id, kind in zip("abcd", ("glioma", "glioma", "meningioma", ""), strict=True)
        )

    def read(self, slice_id):
        height, width = SIZES[slice_id]
        mask = np.zeros((height, width, 1), np.uint8)
        if slice_id != "d":
            mask[:, : width // 2] = 1
        return mask * np.uint8(255), mask

    def stamp(self):
        return "made"


@pytest.fixture
def slices(tmp_path):
    return load_slices(Made(), DataConfig(image_size=8, channels="grey"), cache_dir=tmp_path)


def echo(images, training):
    """A model whose probability is the image."""
    assert training is False
    return images


def inverted(images, training):
    return 1.0 - images


def test_every_slice_is_scored_at_its_stored_size(slices):
    evaluation = evaluate(Predictor(echo), slices, ["c", "a", "d", "b"], score_by="slice")
    assert [score.id for score in evaluation.scores] == ["a", "b", "c", "d"]
    assert {slice_id: mask.shape for slice_id, mask in evaluation.predictions.items()} == SIZES
    # b has the model's size, and the image is its mask; d is empty, and so is what is predicted.
    assert [(score.dice, score.iou) for score in evaluation.scores if score.id in "bd"] == [(1.0, 1.0), (1.0, 1.0)]
    assert [score.area_px for score in evaluation.scores] == [7 * 2, 8 * 4, 13 * 8, 0]


def test_a_prediction_beside_the_tumour_scores_zero(slices):
    evaluation = evaluate(Predictor(inverted), slices, ["b", "d"], score_by="slice")
    assert [(score.dice, score.iou) for score in evaluation.scores] == [(0.0, 0.0), (0.0, 0.0)]


class Classes:
    """Two slices of 2x4 pixels with two exclusive classes and an ignored pixel; the image says what is predicted."""

    name, location = "classes", "nowhere"
    labels = Labels(names=("car", "road"), exclusive=True, has_ignored=True)
    masks: ClassVar = {"a": [[1, 1, 0, 255], [2, 0, 0, 0]], "b": [[0, 0, 0, 0], [0, 0, 0, 0]]}
    predicted: ClassVar = {"a": [[1, 0, 0, 1], [2, 2, 0, 0]], "b": [[0, 0, 0, 1], [0, 0, 0, 0]]}

    def slices(self):
        return (SliceInfo(id="a"), SliceInfo(id="b"))

    def read(self, slice_id):
        image, mask = (np.array(each[slice_id], np.uint8)[..., np.newaxis] for each in (self.predicted, self.masks))
        return image, mask

    def stamp(self):
        return "classes"


def evaluated(tmp_path, *, score_by):
    data = DataConfig(image_size=8, channels="grey", classes={"car": 1, "road": 2}, ignore=255)
    slices = load_slices(Classes(), data, cache_dir=tmp_path)
    found = []
    for slice_id in ("a", "b"):
        mask = Classes.masks[slice_id]
        hot = np.eye(3, dtype=np.float32)[np.array(Classes.predicted[slice_id])]
        found.append(
            Prediction(
                id=slice_id,
                masks=class_masks(np.array(mask, np.uint8)[..., np.newaxis], slices.labels),
                ignored=np.array(mask) == 255,
                views=hot[np.newaxis, np.newaxis],
            )
        )
    predictor = SimpleNamespace(predict=lambda *_, **__: iter(found), seconds_per_image=0.0)
    return evaluate(predictor, slices, ["a", "b"], score_by=score_by, in_full=True)


def test_each_class_is_scored_as_a_mask_of_its_own(tmp_path):
    evaluation = evaluated(tmp_path, score_by="slice")
    assert [(score.id, score.class_name, score.dice) for score in evaluation.scores] == [
        ("a", "car", pytest.approx(2 / 3)),  # 2 true pixels, 1 predicted beside the ignored one
        ("a", "road", pytest.approx(2 / 3)),  # 1 true pixel, 2 predicted
        ("b", "car", 0.0),  # a false alarm
        ("b", "road", 1.0),  # nothing to find, nothing found
    ]
    assert evaluation.dice_by_class() == {"car": pytest.approx(1 / 3), "road": pytest.approx(5 / 6)}
    assert evaluation.dice == pytest.approx((1 / 3 + 5 / 6) / 2)


def test_by_case_what_has_no_class_is_left_out_and_a_false_alarm_is_not(tmp_path):
    evaluation = evaluated(tmp_path, score_by="case")
    assert evaluation.dice_by_class() == {"car": pytest.approx(1 / 3), "road": pytest.approx(2 / 3)}
    assert evaluation.dice == pytest.approx(0.5)


def test_confusion_counts_what_the_pixels_of_a_class_are_taken_for(tmp_path):
    confusion = evaluated(tmp_path, score_by="case").confusion
    assert confusion.names == ("background", "car", "road")
    # background: 4 pixels of a (one taken for road) and 8 of b (one taken for car).
    assert confusion.pixels.tolist() == [[10, 1, 1], [1, 1, 0], [0, 0, 1]]
    assert confusion.shares()[1].tolist() == [0.5, 0.5, 0.0]


def test_the_table_of_several_classes_names_them(tmp_path):
    scores = evaluated(tmp_path, score_by="case").scores
    text = to_csv(scores, TRAINING_COLUMNS)
    assert text.splitlines()[0] == "id,patient_id,tumor_type,area_px,dice,iou,class"
    assert [(score.id, score.class_name, score.dice) for score in from_csv(text)] == [
        (score.id, score.class_name, score.dice) for score in scores
    ]


def made_evaluation(*, dices=(0.5, 1.0, 0.25), kinds=("glioma", "", "glioma"), shapes=((3, 3), (1, 17), (8, 2))):
    rng = np.random.default_rng(0)
    scores = tuple(
        SliceScore(id=f"s{n}", patient_id="P, 1", tumor_type=kind, area_px=n, dice=dice, iou=dice / (2 - dice))
        for n, (dice, kind) in enumerate(zip(dices, kinds, strict=True))
    )
    masks = {
        score.id: PackedMask.of(rng.random((*shape, 1)) < 0.5) for score, shape in zip(scores, shapes, strict=True)
    }
    return Evaluation(
        scores=scores,
        score_by="slice",
        predictions=masks,
        calibrations={"": Calibration()},
        confusion=None,
        seconds_per_image=0.01,
    )


def test_the_mean_is_over_slices_and_by_type_where_it_is_known():
    evaluation = made_evaluation()
    assert evaluation.dice == pytest.approx((0.5 + 1.0 + 0.25) / 3)
    assert evaluation.dice_by_type() == {"glioma": 0.375}
    assert made_evaluation(kinds=("", "", "")).dice_by_type() == {}


def test_the_table_reads_back_exactly():
    evaluation = made_evaluation(dices=(1 / 3, 2 / 7, 0.1))
    rows = list(csv.DictReader(io.StringIO(to_csv(evaluation.scores, TRAINING_COLUMNS))))
    assert [row["patient_id"] for row in rows] == ["P, 1"] * 3
    assert [(row["id"], float(row["dice"]), float(row["iou"]), int(row["area_px"])) for row in rows] == [
        (score.id, score.dice, score.iou, score.area_px) for score in evaluation.scores
    ]


@pytest.mark.parametrize("classes", [1, 3])
def test_packed_predictions_of_any_size_come_back_as_they_were(tmp_path, classes):
    rng = np.random.default_rng(0)
    masks = {f"s{n}": rng.random(shape) < 0.5 for n, shape in enumerate(((3, 3, classes), (1, 17, classes)))}
    save_predictions(tmp_path / "p.npz", {slice_id: PackedMask.of(mask) for slice_id, mask in masks.items()})
    found = load_predictions(tmp_path / "p.npz")
    assert list(found) == ["s0", "s1"]
    for mask, expected in zip(found.values(), masks.values(), strict=True):
        np.testing.assert_array_equal(mask, expected, strict=True)


def test_predictions_of_another_schema_are_refused(tmp_path):
    save_predictions(tmp_path / "p.npz", made_evaluation().predictions)
    with np.load(tmp_path / "p.npz") as stored:
        arrays = dict(stored) | {"schema_version": np.array(2)}
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(ValueError, match="has schema_version 2, not 1"):
        load_predictions(tmp_path / "p.npz")
