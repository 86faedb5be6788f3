"""The benchmark of the time to a Dice, on a run of four epochs."""

import pytest

from benchmarks.time_to_dice import first_epoch, seconds_until
from brainseg.tracking import MemoryTracker


@pytest.fixture
def record():
    with MemoryTracker() as tracker:
        for epoch, dice in enumerate((0.3, 0.6, 0.5, 0.7), start=1):
            tracker.log_metrics({"val_dice": dice, "seconds": 10.0 * epoch}, epoch=epoch)
    return tracker.record()


@pytest.mark.parametrize(("dice", "epoch"), [(0.3, 1), (0.55, 2), (0.6, 2), (0.61, 4), (0.71, None)])
def test_the_first_epoch_with_at_least_this_score_counts(record, dice, epoch):
    assert first_epoch(record, dice) == epoch


def test_the_seconds_are_those_of_the_epochs_until_then(record):
    assert seconds_until(record, 2) == 30.0
    assert seconds_until(record, 2, seconds_an_epoch=100.0) == 200.0
