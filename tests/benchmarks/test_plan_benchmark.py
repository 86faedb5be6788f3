"""The benchmark of plans: what a row of its table says."""

from benchmarks.plan import cells


def test_a_gain_is_that_of_each_seed() -> None:
    assert cells([0.25, 0.5, 0.375], [0.5, 0.5, 0.0]) == [
        "0.375 (0.250-0.500)",
        "0.500 (0.000-0.500)",
        "0.000 (-0.375-0.250)",
    ]
