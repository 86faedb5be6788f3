"""The benchmark of the leak: splits that differ in who was seen, and the comparison of what comes of it."""

import dataclasses
from collections import Counter

import pytest

from benchmarks.leak.comparison import ScoredRun, paired, rows_of
from benchmarks.leak.splits import crossover
from brainseg.data.source import SliceInfo
from brainseg.runs.select import find_run
from brainseg.runs.slice_scores import read_scores
from brainseg.tracking import MemoryStore

PATIENTS = 60


def made_slices():
    """Sixty people of two types with 1 to 12 slices; the last three have a repeat scan."""
    slices = []
    for patient in range(PATIENTS):
        for number in range(1 + patient % 12):
            scan = "B" if patient >= PATIENTS - 3 and number % 2 else ""
            columns = {"patient_id": f"P{patient:02d}{scan}", "tumor_type": ("glioma", "pituitary")[patient % 2]}
            slices.append(SliceInfo(id=f"{patient:02d}-{number:02d}", columns=columns))
    return slices


@pytest.fixture(params=range(3))
def splits(request):
    return crossover(made_slices(), seed=request.param)


def people(ids):
    return {slice_id.partition("-")[0] for slice_id in ids}


def test_both_trainings_have_as_many_slices_and_the_same_test_and_validation(splits):
    assert len(splits["a"].train) == len(splits["b"].train) > 100
    assert splits["a"].test == splits["b"].test
    assert splits["a"].val == splits["b"].val
    for split in splits.values():
        counts = Counter([*split.train, *split.val, *split.test])
        assert set(counts.values()) == {1}


def test_exactly_one_training_has_seen_each_person_who_is_tested(splits):
    seen_by = Counter(person for split in splits.values() for person in people(split.train) & people(split.test))
    assert seen_by == Counter(people(splits["a"].test))


def test_nobody_who_validates_is_trained_or_tested_on(splits):
    for split in splits.values():
        assert not people(split.val) & (people(split.train) | people(split.test))


def test_the_two_trainings_have_the_same_types_within_a_few_slices(splits):
    types = {item.id: item.columns["tumor_type"] for item in made_slices()}
    gliomas = [sum(types[item] == "glioma" for item in split.train) for split in splits.values()]
    assert abs(gliomas[0] - gliomas[1]) <= 0.1 * len(splits["a"].train)


def test_a_seed_gives_the_same_splits_in_whatever_order_the_slices_come():
    assert crossover(made_slices(), seed=1) == crossover(made_slices()[::-1], seed=1)
    assert crossover(made_slices(), seed=1) != crossover(made_slices(), seed=2)


def test_a_slice_without_a_patient_is_refused():
    with pytest.raises(ValueError, match="slice x has no patient_id: whether its patient was seen can't be told"):
        crossover([SliceInfo(id="x")], seed=0)


SCORES = """id,patient_id,tumor_type,area_px,dice
1,MR1,glioma,10,0.5
2,MR1B,glioma,10,0.7
3,MR2,pituitary,10,0.9
4,MR3,pituitary,10,0.1
"""


@pytest.fixture
def slices():
    """Those of `SCORES`, as the benchmark reads them from a run."""
    store = MemoryStore()
    with store.open_tracker(run_name="made") as tracker:
        tracker.log_text(SCORES, "evaluation/test/scores.csv")
    return read_scores(store, find_run(store, tracker.run_id), split="test")


def scored(run_id, trained_on, slices, dices):
    own = {item.id: dataclasses.replace(item, dice=dice) for item, dice in zip(slices, dices, strict=True)}
    return ScoredRun(run_id=run_id, trained_on=frozenset(trained_on), slices=own)


def test_each_slice_is_compared_between_the_model_that_saw_its_person_and_the_one_that_did_not(slices):
    dice = {item.id: item.dice for item in slices}
    assert dice == {"1": 0.5, "2": 0.7, "3": 0.9, "4": 0.1}
    first = scored("x", {"mr1"}, slices, dice.values())
    second = scored("y", {"mr2", "mr9"}, slices, (0.4, 0.4, 1.0, 0.2))
    compared = paired("0", first, second)
    # Nobody has seen MR3, whose slice says nothing.
    assert [(item.person, item.seen, item.unseen) for item in compared] == [
        ("mr1", 0.5, 0.4),
        ("mr1", 0.7, 0.4),
        ("mr2", 1.0, 0.9),
    ]
    rows = {row.name: row for row in rows_of(compared)}
    assert list(rows) == ["all", "glioma", "pituitary", "pair 0"]
    assert (rows["all"].slices, rows["all"].people) == (3, 2)
    assert rows["all"].difference.value == pytest.approx(0.5 / 3)
    assert rows["glioma"].difference.value == pytest.approx(0.2)
    # Two people: a resample has one of them twice or both, so that the interval is from 0.1 to 0.2.
    assert (rows["all"].difference.low, rows["all"].difference.high) == pytest.approx((0.1, 0.2))


def test_runs_that_were_tested_on_other_slices_are_refused(slices):
    with pytest.raises(ValueError, match="runs x and y weren't tested on the same slices"):
        paired("0", scored("x", (), slices, [0.1] * 4), scored("y", (), slices[:1], [0.5]))
