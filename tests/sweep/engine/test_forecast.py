"""How long a study will take, by hand: trials of 60 or 100 seconds, by one worker or several."""

from datetime import timedelta

import pytest
from made_studies import START, held, made_trial, params

from brainseg.sweep.engine.forecast import accuracy, sweep_seconds_left, trial_seconds_left, whole_s
from brainseg.sweep.engine.trial_row import trial_row


def running(number=0, curve=(), *, epochs_at_claim=0, at=0.0, **attrs):
    lease = held(at=at, epochs=epochs_at_claim)
    return made_trial(number, "RUNNING", params(1e-3), curve=curve, lease=lease, **attrs)


def interrupted(number, curve):
    return made_trial(number, "RUNNING", params(1e-3), curve=curve)


def complete(number, **attrs):
    return made_trial(number, "COMPLETE", params(1e-3), values=[0.5], curve=(0.1, 0.5, 0.1, 0.1), **attrs)


def pruned(number, **attrs):
    because = {"epoch": 1, "reason": "below the median 0.3000"}
    return made_trial(number, "PRUNED", params(1e-3), curve=(0.1,), pruned=because, **attrs)


def rows(trials):
    return [trial_row(trial) for trial in trials]


def test_a_trials_time_left_is_at_the_speed_of_its_present_worker():
    row = trial_row(running(0, (0.1,) * 6, at=100.0, epochs_at_claim=2, epochs=10))
    assert trial_seconds_left(row, 140.0) == 40.0


@pytest.mark.parametrize(
    "trial",
    [running(), running(0, (0.1, 0.2), epochs_at_claim=2), interrupted(0, (0.1,)), complete(0)],
    ids=["no epoch", "none of this worker's", "interrupted", "complete"],
)
def test_a_trials_time_left_is_unknown_before_an_epoch_of_its_present_worker(trial):
    assert trial_seconds_left(trial_row(trial), 100.0) is None


@pytest.mark.parametrize(
    ("trials", "workers", "left"),
    [
        pytest.param([running()], 2, None, id="no epoch of any trial"),
        pytest.param([running(0, (0.1,))], 1, 1500.0, id="at the pace of the first trial: 3 epochs, and 3 trials of 4"),
        pytest.param([complete(0, seconds=60.0)], 1, 180.0, id="three to come"),
        pytest.param([complete(0, seconds=60.0)], 2, 120.0, id="one worker has two of them"),
        pytest.param([complete(0, seconds=60.0)], 8, 60.0, id="not faster than one trial takes"),
        pytest.param([complete(0, seconds=60.0), made_trial(1, "FAIL")], 1, 180.0, id="a failed one is replaced"),
        pytest.param([complete(0, seconds=90.0), pruned(1, seconds=30.0)], 1, 120.0, id="others will be pruned, too"),
        pytest.param([complete(0, seconds=60.0), interrupted(1, (0.1,))], 1, 165.0, id="a quarter of one is done"),
        pytest.param(
            [complete(n, seconds=60.0) for n in range(3)] + [running(3, (0.1,))], 1, 300.0, id="a slow one's own pace"
        ),
        pytest.param([complete(0, seconds=60.0), running(1), running(2)], 1, 120.0, id="a worker by hand helps"),
        pytest.param([complete(n, seconds=60.0) for n in range(4)], 1, 0.0, id="all are finished"),
    ],
)
def test_the_sweeps_time_left_ends_with_its_last_trial(trials, workers, left):
    assert sweep_seconds_left(rows(trials), trials=4, workers=workers, now=100.0) == left


def test_a_trial_took_what_its_worker_needed_or_the_training_alone_if_it_was_interrupted():
    whole = complete(0, ended=75, claims=1, seconds=60.0)
    resumed = complete(1, ended=9000, claims=2, seconds=60.0)
    assert [row.took_s for row in rows([whole, resumed, running()])] == [75.0, 60.0, None]
    assert whole_s(rows([whole, resumed, pruned(2, seconds=1.0)])) == 67.5


def test_a_trial_that_was_taken_from_the_queue_took_what_came_after_that():
    trial = complete(0, ended=75, claims=1)
    trial.datetime_start = START + timedelta(seconds=70)
    assert trial_row(trial).took_s == 5.0


def test_the_forecast_is_compared_with_what_ten_trials_took():
    # Each trial's forecast is the mean of those that ended before it: 60 nine times, as the last one is the slow one.
    nine = [complete(n, ended=n, seconds=60.0) for n in range(9)]
    assert accuracy(rows(nine)) is None
    found = accuracy(rows([complete(9, ended=9, seconds=120.0), *nine]))
    assert (found.trials, found.forecast_s, found.took_s) == (9, 540.0, 600.0)
    assert found.error == pytest.approx(-0.1)
    assert str(found) == (
        "Forecast: 9 trials were to take 9:00, each by the mean of those before it, and took 10:00: 10% too short."
    )
    # In the order in which they ended: the slow one first, so that its weight falls with each.
    early = accuracy(rows([complete(9, ended=-1, seconds=120.0), *nine]))
    assert early.forecast_s == pytest.approx(sum(60 + 60 / place for place in range(1, 10)))
    assert early.took_s == 540.0
    assert str(early).endswith("31% too long.")
