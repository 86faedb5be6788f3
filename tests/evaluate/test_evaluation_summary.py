"""The tables of an evaluation: means, groups, people, false alarms; by hand on a few slices."""

import math

import pytest
from made_slices import made

from brainseg.evaluate.summary import NO_FOREGROUND, SIZES, group_scores, size_of, summarize

SLICES = [
    made("a", area=100, predicted=100, shared=100, patient="P1"),  # Dice 1
    made("b", area=100, predicted=100, shared=0, patient="P1"),  # Dice 0
    made("c", area=300, predicted=100, shared=100, patient="P2", kind="meningioma"),  # Dice 0.5
]


def test_each_average_is_named_and_its_own():
    dice = group_scores("all", SLICES).measures["dice"]
    assert dice.mean.value == pytest.approx((1 + 0 + 0.5) / 3)
    assert dice.median == 0.5
    assert dice.standard_deviation == pytest.approx(math.sqrt((0.25 + 0.25 + 0) / 3))
    assert dice.per_person.value == pytest.approx((0.5 + 0.5) / 2)
    assert dice.pooled.value == pytest.approx(2 * 200 / (500 + 300))


def test_pooled_scores_are_those_of_all_pixels():
    measures = group_scores("all", SLICES).measures
    assert measures["iou"].pooled.value == pytest.approx(200 / 600)
    assert measures["precision"].pooled.value == pytest.approx(200 / 300)
    assert measures["recall"].pooled.value == pytest.approx(200 / 500)
    assert measures["surface_dice"].pooled is None
    assert measures["hd95_px"].pooled is None
    assert measures["hd95_px"].mean.value == 3.0


def test_a_repeat_scan_is_the_same_person():
    scans = [made("a", patient="MR040240"), made("b", patient="MR040240B"), made("c", patient="MR1")]
    assert group_scores("all", scans).people == 2


def test_groups_are_by_type_and_by_size():
    summary = summarize(SLICES, score_by="slice")
    assert summary.overall.slices == 3
    assert [(group.name, group.slices, group.people) for group in summary.by_type] == [
        ("glioma", 2, 1),
        ("meningioma", 1, 1),
    ]
    assert [(group.name, group.slices) for group in summary.by_size] == [("0.5-1.5 %", 2), (">=3 %", 1)]
    assert summary.by_type[0].measures["dice"].mean.value == 0.5
    assert summary.overall.at_zero.value == pytest.approx(1 / 3)
    assert summary.false_alarms is None
    assert summary.drawn == "people"


@pytest.mark.parametrize(
    ("area", "name"),
    [(0, NO_FOREGROUND), (1, "<0.5 %"), (49, "<0.5 %"), (50, "0.5-1.5 %"), (149, "0.5-1.5 %"), (150, "1.5-3 %"),
     (299, "1.5-3 %"), (300, ">=3 %"), (10000, ">=3 %")],
)  # fmt: skip
def test_a_bound_belongs_to_the_larger_class(area, name):
    assert size_of(made("a", area=area, predicted=1, shared=0)) == name
    assert [NO_FOREGROUND, *SIZES] == [NO_FOREGROUND, "<0.5 %", "0.5-1.5 %", "1.5-3 %", ">=3 %"]


def test_false_alarms_are_counted_on_slices_without_a_tumour():
    healthy = [
        made("d", area=0, predicted=0, shared=0),
        made("e", area=0, predicted=30, shared=0),
        made("f", area=0, predicted=10, shared=0),
        made("g", area=0, predicted=0, shared=0, patient="P2"),
    ]
    summary = summarize([*SLICES, *healthy], score_by="slice")
    alarms = summary.false_alarms
    assert (alarms.slices, alarms.share.value, alarms.mean_area_px) == (4, 0.5, 20.0)
    assert (summary.by_size[0].name, summary.by_size[0].slices) == (NO_FOREGROUND, 4)
    assert summarize([healthy[0]], score_by="slice").false_alarms.mean_area_px is None


def test_without_patient_ids_slices_are_drawn_and_it_says_so():
    unknown = [made("a", patient="", shared=100), made("b", patient="", shared=0)]
    summary = summarize(unknown, score_by="slice")
    assert summary.drawn == "slices, since no patient ids are known"
    assert summary.overall.people is None
    assert (summary.overall.measures["dice"].mean.low, summary.overall.measures["dice"].mean.high) == (0.0, 1.0)
    assert (
        summarize([*unknown, made("c")], score_by="slice").drawn
        == "people, and the 2 slices without a patient id one by one"
    )


def test_slices_of_unknown_type_are_in_no_row_by_type():
    assert [group.name for group in summarize([*SLICES, made("d", kind="")], score_by="slice").by_type] == [
        "glioma",
        "meningioma",
    ]
    assert summarize([made("d", kind="")], score_by="slice").by_type == ()
