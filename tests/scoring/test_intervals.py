"""Intervals over people: what is drawn, what is paired, and what can be worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from brainseg.scoring.intervals import (
    Estimate,
    mean_interval,
    per_person,
    ratio_interval,
)


def test_people_are_drawn_with_all_of_their_slices():
    # Two people, 50 slices each: the mean of a draw is 0, 0.5 or 1, and a quarter of the draws is at either end.
    values = [0.0] * 50 + [1.0] * 50
    people = ["a"] * 50 + ["b"] * 50
    assert mean_interval(values, people) == Estimate(value=0.5, low=0.0, high=1.0)
    apart = mean_interval(values, range(100))  # as if each slice were a person of its own
    assert (apart.low, apart.high) == pytest.approx((0.4, 0.6), abs=0.02)


def test_a_person_with_more_slices_counts_for_more():
    assert mean_interval([1.0, 0.0, 0.0, 0.0], ["a", "b", "b", "b"]).value == 0.25
    assert list(per_person([1.0, 0.0, 0.0, 0.6], ["b", "a", "b", "a"])) == [0.5, 0.3]


def test_the_interval_is_that_of_a_bootstrap_written_out():
    rng = np.random.default_rng(1)
    people = rng.integers(0, 30, 200)
    values = rng.random(200) + people / 30
    means = []
    for _ in range(4000):
        drawn = np.concatenate([values[people == person] for person in rng.integers(0, 30, 30)])
        means.append(drawn.mean())
    found = mean_interval(values, list(people))
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.015)


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(1).random(40)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, batch=200, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    found = mean_interval(values, range(40))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_same_scores_give_the_same_interval():
    values = np.random.default_rng(0).random(40)
    assert mean_interval(values, range(40)) == mean_interval(values, range(40))


def test_a_ratio_pools_before_it_divides():
    found = ratio_interval([1.0, 8.0], [10.0, 10.0], ["a", "b"])
    assert (found.value, found.low, found.high) == pytest.approx((0.45, 0.1, 0.8))
    # A draw without anything to divide is one of empty masks, which score 1.
    assert ratio_interval([0.0, 0.0], [0.0, 4.0], ["a", "b"]) == Estimate(value=0.0, low=0.0, high=1.0)
    assert ratio_interval([0.0, 0.0], [0.0, 0.0], ["a", "b"]) == Estimate(value=1.0, low=1.0, high=1.0)


def test_one_person_alone_has_no_interval():
    assert mean_interval([0.25, 0.75], ["a", "a"]) == Estimate(value=0.5, low=None, high=None)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="one value a slice is needed, got 2 and 3 for 3 slices"):
        mean_interval([0.5, 0.5], ["a", "b", "c"])
    with pytest.raises(ValueError, match="got 0 and 0 for 0 slices"):
        mean_interval([], [])


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(value=0.7512, low=0.721, high=0.779), "0.7512 (0.7210-0.7790)"),
        (Estimate(value=-0.01, low=-0.02, high=0.03), "-0.0100 (-0.0200 to 0.0300)"),
        (Estimate(value=0.5, low=None, high=None), "0.5000"),
    ],
)
def test_an_estimate_is_written_with_its_interval(estimate, text):
    assert estimate.text == text
