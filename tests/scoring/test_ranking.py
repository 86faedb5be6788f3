"""What ranks runs: means over slices and classes, what counts, and paired differences; by hand on a few slices."""

import numpy as np
import pytest

from brainseg.scoring.intervals import mean_interval
from brainseg.scoring.ranking import DiceTable, SliceDices, difference, difference_by_group

NONE = np.zeros((8, 8), np.bool_)
HALF = np.arange(64).reshape(8, 8) < 32
QUARTER = np.arange(64).reshape(8, 8) < 16
# Nine of ten slices have nothing to find.
TRUTHS = [HALF, *[NONE] * 9]
MODELS = {
    "finds most of it": [QUARTER, *[NONE] * 9],
    "one false alarm": [HALF, QUARTER, *[NONE] * 8],
    "finds it everywhere": [HALF] * 10,
    "says nothing": [NONE] * 10,
}


def ranked(score_by):
    """Models from the best to the worst, with their scores."""
    found = {}
    for name, predictions in MODELS.items():
        dices = SliceDices(score_by=score_by)
        for truth, predicted in zip(TRUTHS, predictions, strict=True):
            dices.add(truth[np.newaxis, ..., np.newaxis], predicted[np.newaxis, ..., np.newaxis])
        found[name] = dices.mean()
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def test_by_case_the_model_that_says_nothing_comes_last():
    found = ranked("case")
    assert list(found)[-1] == "says nothing"
    # 2 * 16 / (32 + 16); one right and one false alarm; one right and nine false alarms; nothing.
    assert list(found.values()) == pytest.approx([2 / 3, 0.5, 0.1, 0.0])


def test_by_slice_two_empty_masks_score_one():
    found = ranked("slice")
    assert found["says nothing"] == pytest.approx(0.9)
    assert found["finds it everywhere"] == pytest.approx(0.1)


def table(dices, counted=None, *, people=None, groups=None):
    dices = np.array(dices, np.float64).reshape(len(dices), -1 if len(dices) else 1)
    return DiceTable(
        dices=dices,
        counted=np.ones(dices.shape, np.bool_) if counted is None else np.array(counted, np.bool_).reshape(dices.shape),
        people=tuple(people or range(len(dices))),
        groups=tuple(groups or [""] * len(dices)),
    )


def test_the_score_is_the_mean_over_slices_and_then_over_classes():
    # The first class counts in two slices, the second in one, the third in none.
    found = table([[0.2, 0.9, 1.0], [0.4, 1.0, 1.0]], [[1, 1, 0], [1, 0, 0]])
    assert found.score == pytest.approx(((0.2 + 0.4) / 2 + 0.9) / 2)
    assert found.of_class(2).score == 0.0


def test_the_interval_of_one_class_is_that_of_a_mean():
    values = np.random.default_rng(0).random(30)
    people = list(np.repeat(range(10), 3))
    assert table(values, people=people).interval() == mean_interval(values, people)


def test_the_interval_over_classes_is_that_of_a_bootstrap_written_out():
    rng = np.random.default_rng(1)
    dices, counted = rng.random((40, 3)), rng.random((40, 3)) < 0.6
    scores = []
    for _ in range(4000):
        drawn = rng.integers(40, size=40)
        own = [dices[drawn, k][counted[drawn, k]].mean() for k in range(3)]
        scores.append(np.mean(own))
    found = table(dices, counted).interval()
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])), abs=0.01)


def test_a_difference_is_paired():
    first = np.random.default_rng(0).random(60)
    people = list(np.repeat(range(20), 3))
    found = difference(table(first, people=people), table(first + 0.125, people=people))
    assert (found.value, found.low, found.high) == pytest.approx((0.125, 0.125, 0.125))
    # Not paired, the interval of either mean is far wider.
    alone = mean_interval(first, people)
    assert alone.high - alone.low > 0.05


def test_a_false_alarm_that_only_the_second_has_counts_against_it():
    # The second slice is empty: the first model leaves it so, and the second predicts something there.
    first, second = table([0.8, 1.0], [1, 0]), table([0.8, 0.0], [1, 1])
    assert difference(first, second).value == pytest.approx(0.4 - 0.8)
    assert difference(second, first).value == pytest.approx(0.8 - 0.4)


def test_a_difference_by_group_is_that_of_its_slices():
    groups = ["glioma", "glioma", "meningioma", "meningioma", ""]
    people = ["a", "b", "a", "b", "c"]
    first = table([0.1, 0.2, 0.3, 0.4, 0.5], people=people, groups=groups)
    second = table([0.2, 0.4, 0.3, 0.2, 0.9], people=people, groups=groups)
    found = difference_by_group(first, second)
    assert list(found) == ["glioma", "meningioma"]
    assert found["glioma"] == mean_interval([0.1, 0.2], ["a", "b"])
    assert found["meningioma"].value == pytest.approx(-0.1)


def test_tables_of_other_slices_are_refused():
    with pytest.raises(ValueError, match="paired tables must have the same slices, got 1 and 3"):
        difference(table([0.5]), table([0.5, 0.5, 0.5]))
    with pytest.raises(ValueError, match="without slices"):
        table([]).interval()
