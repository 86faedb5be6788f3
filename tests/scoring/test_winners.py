"""Whether configurations that were trained with several seeds can be told from a baseline."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.winners import BETTER_BY, share_with_winner, table
from brainseg.scoring.winners import holm, leads

SHORT, LONG = 200, pytest.param(2000, marks=pytest.mark.slow)


@pytest.mark.parametrize("studies", [SHORT, LONG])
@pytest.mark.parametrize("seeds_sd", [0.005, 0.01, 0.02])
def test_among_equal_configurations_at_most_one_study_in_twenty_has_a_winner(seeds_sd: float, studies: int) -> None:
    assert share_with_winner(studies, better_by=0.0, seeds_sd=seeds_sd) <= 0.05


@pytest.mark.parametrize("studies", [SHORT, LONG])
def test_configurations_that_are_better_by_three_points_are_found_in_most_studies(studies: int) -> None:
    assert share_with_winner(studies, better_by=BETTER_BY, seeds_sd=0.01) >= 0.6


def test_without_people_who_suit_a_run_it_is_welchs_test_of_the_seeds() -> None:
    """On everyone alike, a run's score is that of its seed: people add nothing."""
    first, second = [0.70, 0.72, 0.71], [0.78, 0.74, 0.76]
    hardness = np.linspace(-0.2, 0.2, 5)
    (lead,) = leads([table(hardness + each) for each in first], [[table(hardness + each) for each in second]])
    expected = stats.ttest_ind(second, first, equal_var=False)
    assert lead.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (lead.difference.low, lead.difference.high) == pytest.approx((interval.low, interval.high))
    assert lead.difference.value == pytest.approx(0.05)
    assert lead.spread == pytest.approx(0.02)


def test_without_seeds_that_differ_it_is_the_paired_test_of_people() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.7, 0.1, (2, 12))
    (lead,) = leads([table(first)] * 2, [[table(second)] * 2])
    expected = stats.ttest_rel(second, first)
    assert lead.p == pytest.approx(expected.pvalue)


def test_holm_adjusts_each_chance_by_how_many_are_still_in_question() -> None:
    adjusted, levels = holm([0.04, 0.01, 0.02])
    assert adjusted == pytest.approx([0.04, 0.03, 0.04])
    assert levels == pytest.approx([0.05, 0.05 / 3, 0.05 / 2])
    adjusted, levels = holm([0.04, 0.5, 0.001])
    assert adjusted == pytest.approx([0.08, 0.5, 0.003])
    assert levels == pytest.approx([0.025, 0.025, 0.05 / 3])  # the first that isn't told apart ends it


def test_slices_of_one_person_and_a_single_seed_are_refused() -> None:
    several = [table(np.array([0.5, 0.6]))] * 2
    with pytest.raises(ValueError, match="needs 2 seeds or more, got 1"):
        leads(several, [several[:1]])
    alone = [table(np.array([0.5]))] * 2
    with pytest.raises(ValueError, match="one person"):
        leads(alone, [alone])
    with pytest.raises(ValueError, match="the same slices"):
        leads(several, [alone])
