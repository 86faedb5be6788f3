"""The benchmark of encoders: which slices it trains on, for how long, and what it prints."""

from pathlib import Path

from benchmarks.encoders import add_result, cells, epochs_for, few, read_results
from brainseg.compose import freeze


def test_slices_are_drawn_from_the_training_part_and_all_trainings_are_tested_on_the_same() -> None:
    config = freeze(["data.phantom_patients=30", "data.folds=5", "data.fold=0"])
    whole, some, other = few(config, None, seed=0), few(config, 20, seed=0), few(config, 20, seed=1)
    assert len(some.train) == len(other.train) == 20
    assert some.train != other.train
    assert {*some.train, *other.train} < {*whole.train}
    assert (some.val, some.test) == (other.val, other.test) == (whole.val, whole.test)
    assert some == few(config, 20, seed=0)


def test_few_slices_are_seen_more_often() -> None:
    assert [epochs_for(slices) for slices in (20, 100, 200, 1940)] == [100, 40, 20, 8]


def test_a_gain_is_that_of_the_same_slices() -> None:
    assert cells([0.5, 0.75, 0.25], [0.75, 0.75, 0.75]) == [
        "0.500 (0.250-0.750)",
        "0.750 (0.750-0.750)",
        "0.250 (0.000-0.500)",
    ]


def test_a_training_is_read_back_from_the_results(tmp_path: Path) -> None:
    file = tmp_path / "encoders.csv"
    assert read_results(file) == {}
    add_result(file, ("Figshare", "20", "from scratch", "0"), 0.25)
    add_result(file, ("Figshare", "20", "from ImageNet", "0"), 0.5)
    assert read_results(file) == {
        ("Figshare", "20", "from scratch", "0"): 0.25,
        ("Figshare", "20", "from ImageNet", "0"): 0.5,
    }
