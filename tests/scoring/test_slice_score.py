"""The scores of one slice: by hand on tiny masks, and beside scikit-learn."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from brainseg.data.source import SliceInfo
from brainseg.scoring.measure import measure
from brainseg.scoring.slice_score import EVALUATION_COLUMNS, TRAINING_COLUMNS, SliceScore, from_csv, to_csv

INFO = SliceInfo(id="7", columns={"patient_id": "P1", "tumor_type": "glioma"})


def masks(mask, predicted):
    return np.array(mask, np.bool_), np.array(predicted, np.bool_)


def test_a_slice_by_hand():
    # 4 tumour pixels, 2 predicted, 1 shared.
    mask, predicted = masks([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    assert measure(INFO, mask, predicted) == SliceScore(
        id="7",
        patient_id="P1",
        tumor_type="glioma",
        height_px=3,
        width_px=4,
        area_px=4,
        predicted_area_px=2,
        shared_px=1,
        dice=2 / 6,
        iou=pytest.approx(1 / 5),
        precision=1 / 2,
        recall=1 / 4,
        surface_dice=1.0,  # every border pixel has one of the other within 2
        hd95_px=pytest.approx(np.percentile([0, 1, 1, np.sqrt(2), 0, 1], 95)),
    )
    assert measure(INFO, mask, predicted).tumor_share == 4 / 12


@pytest.mark.parametrize(
    ("mask", "predicted", "share", "distance"),
    [
        ([[0, 0, 0, 0]] * 3, [[0, 0, 0, 0]] * 3, 1.0, 0.0),
        ([[0, 0, 0, 0]] * 3, [[0, 1, 0, 0]] * 3, 0.0, 5.0),
        ([[0, 1, 0, 0]] * 3, [[0, 0, 0, 0]] * 3, 0.0, 5.0),
    ],
    ids=["both empty", "false alarm", "missed"],
)
def test_empty_masks_score_by_the_rule(mask, predicted, share, distance):
    found = measure(INFO, *masks(mask, predicted))
    assert {found.dice, found.iou, found.precision, found.recall, found.surface_dice} == {share}
    assert found.hd95_px == distance  # the diagonal of 3 by 4


@pytest.mark.parametrize("seed", range(20))
def test_overlaps_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    mask, predicted = rng.random((9, 11)) < 0.4, rng.random((9, 11)) < rng.random()
    found = measure(INFO, mask, predicted)
    for ours, theirs in (
        (found.dice, f1_score),
        (found.iou, jaccard_score),
        (found.precision, precision_score),
        (found.recall, recall_score),
    ):
        assert ours == pytest.approx(theirs(mask.ravel(), predicted.ravel(), zero_division=0), abs=1e-12)


def test_unknown_patient_and_type_are_empty():
    found = measure(SliceInfo(id="7"), *masks([[1]], [[1]]))
    assert (found.patient_id, found.tumor_type) == ("", "")


def test_the_borders_of_a_slice_are_measured_only_when_asked():
    found = measure(INFO, *masks([[1]], [[1]]), borders=False)
    assert (found.dice, found.recall, found.surface_dice, found.hd95_px) == (1.0, 1.0, None, None)


def test_the_table_reads_back_exactly():
    rng = np.random.default_rng(0)
    scores = [measure(INFO, rng.random((9, 9)) < 0.3, rng.random((9, 9)) < 0.3) for _ in range(3)]
    text = to_csv(scores, EVALUATION_COLUMNS, further={"run_id": ["a", "b", "b"]})
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == [*EVALUATION_COLUMNS, "run_id"]
    assert [row["run_id"] for row in rows] == ["a", "b", "b"]
    for row, item in zip(rows, scores, strict=True):
        assert [float(row[key]) for key in EVALUATION_COLUMNS[3:]] == [
            getattr(item, key) for key in EVALUATION_COLUMNS[3:]
        ]
    assert next(csv.reader(io.StringIO(to_csv(scores, EVALUATION_COLUMNS)))) == list(EVALUATION_COLUMNS)
    unwritten = {"height_px": None, "width_px": None, "shared_px": None}
    assert from_csv(text) == [dataclasses.replace(item, **unwritten) for item in scores]


def test_the_columns_are_those_of_earlier_runs():
    assert ",".join(TRAINING_COLUMNS) == "id,patient_id,tumor_type,area_px,dice,iou"
    assert ",".join(EVALUATION_COLUMNS) == (
        "id,patient_id,tumor_type,area_px,predicted_area_px,dice,iou,precision,recall,surface_dice,hd95_px"
    )
    assert from_csv("id,patient_id,tumor_type,dice\n7,,glioma,0.25\n") == [
        SliceScore(id="7", patient_id="", tumor_type="glioma", dice=0.25)
    ]


@pytest.mark.parametrize("odd", ["a\nb", "a\rb", "a\r\nb", "\r", "a\x85b", "a\u2028b", "a\x0bb", 'a,"b'])
def test_ids_may_hold_any_line_break(odd):
    score = SliceScore(id=odd, patient_id=odd, tumor_type="", area_px=3, dice=0.5, iou=1 / 3)
    assert from_csv(to_csv([score, score], TRAINING_COLUMNS)) == [score, score]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id,patient_id,tumor_type,dice\n",
        "id,dice\n7,0.5\n",
        "id,patient_id,tumor_type,dice\n7,P1,x,much\n",
        "id,dice\n7\n",
    ],
)
def test_another_table_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  # which of Python's own
        from_csv(text)
