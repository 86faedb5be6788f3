"""What is seen while a sweep runs."""

import io

from made_studies import BASELINE, held, made_trial, params, study_config
from rich.console import Console

from brainseg.sweep.engine.live import LiveTable


def lines_of(updates, **changes):
    """What stands on a console that is no terminal after each update, a list of trials at a time."""
    output = io.StringIO()
    written = []
    with LiveTable(study_config(**changes), Console(file=output, width=60)) as table:
        for now, trials in enumerate(updates):
            table.update(trials, float(now))
            written.append(output.getvalue().splitlines())
            output.seek(0)
            output.truncate()
    return written


def picture_of(rows, now, *, width=120, height=25, **changes):
    """The table as it stands on a terminal, without its colours."""
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None, _environ={}
    )
    table = LiveTable(study_config(**changes), console)
    with table:
        table.update(rows, now)
        shown = console.file.getvalue()
    # Between the sequences that hide the cursor and that come with the end.
    return [line.rstrip() for line in shown.removeprefix("\x1b[?25l").removeprefix("\r\x1b[2K").splitlines()]


def running(number, curve=(), *, at=0.0, epochs_at_claim=0, given=None, **attrs):
    lease = held(at=at, epochs=epochs_at_claim)
    return made_trial(number, "RUNNING", given or params(1e-3), curve=curve, lease=lease, **attrs)


def interrupted(number, curve=(), **attrs):
    return made_trial(number, "RUNNING", params(1e-3), curve=curve, **attrs)


def complete(number, value, given=None, **attrs):
    return made_trial(number, "COMPLETE", given or params(1e-3), values=[value], curve=(0.1, value, 0.1, 0.1), **attrs)


def pruned(number, epoch=1, **attrs):
    because = {"epoch": epoch, "reason": "below the median 0.3000"}
    return made_trial(number, "PRUNED", params(1e-3), curve=(0.1,) * epoch, pruned=because, **attrs)


def failed(number, **attrs):
    return made_trial(number, "FAIL", params(1e-3), curve=(0.1,), failure="train_loss became NaN in epoch 2", **attrs)


STARTED = "learning_rate=0.001 dropout=0.1 norm=none"


def test_elsewhere_than_on_a_terminal_each_change_is_one_line():
    assert lines_of(
        [
            [],
            [running(0, given=BASELINE), made_trial(1, "WAITING")],
            [running(0, (0.1,), given=BASELINE), running(1, at=5.0)],
            [interrupted(0, (0.1, 0.2)), running(1, (0.1,), at=5.0)],
            [running(0, (0.1, 0.2), at=9.0, epochs_at_claim=2), pruned(1)],
            [complete(0, 0.5), pruned(1), running(2, at=20.0)],
            [complete(0, 0.5), pruned(1), failed(2), running(3)],
            [complete(0, 0.5), pruned(1), failed(2), complete(3, 0.25)],
            [
                complete(0, 0.5),
                pruned(1),
                failed(2),
                complete(3, 0.25),
                complete(4, 0.75, excesses={"parameters <= 9": 2.0}),
            ],
        ]
    ) == [
        ["quick: 0 of 12 trials finished"],
        ["trial 0 started: learning_rate=0.0001 dropout=0.1 norm=none"],
        [f"trial 1 started: {STARTED}"],
        ["trial 0 interrupted after epoch 2"],
        [
            "trial 0 goes on after epoch 2",
            "trial 1 pruned after epoch 1/4: below the median 0.3000 (1 of 12 finished)",
        ],
        [
            "trial 0 complete: val_dice_image 0.5000, the best so far (2 of 12 finished)",
            f"trial 2 started: {STARTED}",
        ],
        ["trial 2 failed after epoch 1/4: train_loss became NaN in epoch 2", f"trial 3 started: {STARTED}"],
        ["trial 3 complete: val_dice_image 0.2500 (3 of 12 finished)"],
        [
            f"trial 4 started: {STARTED}",
            "trial 4 infeasible: val_dice_image 0.7500; parameters <= 9 is missed by 2.0000 (4 of 12 finished)",
        ],
    ]


def test_what_stood_before_the_first_update_is_told_in_one_line():
    before = [complete(0, 0.5, seconds=90.0), pruned(1, seconds=30.0), failed(2), interrupted(3), running(4)]
    # 10 trials to come by 2 workers, a minute each.
    assert lines_of([before, before], trials=12) == [
        [
            "quick: 2 of 12 trials finished, about 5:00 left, 1 failed, best val_dice_image 0.5000 (trial 0),"
            " 1 running, 1 interrupted"
        ],
        [],
    ]


def test_a_trial_that_starts_and_ends_between_two_updates_is_told_of_in_full():
    assert lines_of([[], [failed(0)], [failed(0), interrupted(1, (0.1,), failure="no memory")]])[1:] == [
        [f"trial 0 started: {STARTED}", "trial 0 failed after epoch 1/4: train_loss became NaN in epoch 2"],
        [f"trial 1 started: {STARTED}", "trial 1 interrupted after epoch 1: no memory"],
    ]


def test_a_trial_that_changes_hands_between_two_updates_was_interrupted():
    first, second = running(0, (0.1, 0.2), at=1.0), running(0, (0.1, 0.2, 0.3), at=2.0, epochs_at_claim=2)
    assert lines_of([[first], [second], [second]])[1:] == [
        ["trial 0 interrupted after epoch 2", "trial 0 goes on after epoch 2"],
        [],
    ]


def test_with_several_metrics_all_are_named_and_none_is_the_best():
    metrics = {"val_dice_image": "maximize", "parameters": "minimize"}
    first = made_trial(0, "COMPLETE", params(1e-3), values=[0.5, 1000.0])
    second = made_trial(1, "COMPLETE", params(1e-3), values=[0.75, 2000.0])
    assert lines_of([[first], [first, second]], metrics=metrics) == [
        ["quick: 1 of 12 trials finished, best val_dice_image 0.5000 (trial 0), best parameters 1000 (trial 0)"],
        [
            f"trial 1 started: {STARTED}",
            "trial 1 complete: val_dice_image 0.7500, parameters 2000 (2 of 12 finished)",
        ],
    ]


def test_a_terminal_shows_unfinished_trials_then_the_latest_finished_ones():
    trials = [
        complete(0, 0.5, BASELINE, ended=100, seconds=100.0),
        interrupted(1, (0.2,)),
        pruned(2, ended=300, seconds=20.0),
        failed(3, ended=200),
        running(4, (0.2, 0.4, 0.3), at=1000.0, epochs_at_claim=1, given=params(2e-3, 0.2, "batch", 16), epochs=10),
        running(5),
        made_trial(6, "WAITING"),
    ]
    # Trial 4: 2 epochs in 30 s, 7 to come: it ends after 105 s, trial 5 after 60 s. Then trial 1, for another 45 s, and
    # seven of 60 s: four of them by the worker that ends last.
    assert picture_of(trials, 1030.0) == [
        "quick: 2 of 12 trials finished, about 5:45 left, 1 failed, best val_dice_image 0.5000 (trial 0), 2 running, "
        "1 interrupt…",
        "trial  state        epoch  val_dice_image  left  parameters",
        f"    1  interrupted    1/4          0.2000        {STARTED}",
        "    4  running       3/10          0.4000  1:45  learning_rate=0.002 dropout=0.2 norm=batch base_filters=16",
        f"    5  running        0/4                        {STARTED}",
        f"    2  pruned         1/4          0.1000        {STARTED}",
        f"    3  failed         1/4          0.1000        {STARTED}",
        "    0  complete       4/4          0.5000        learning_rate=0.0001 dropout=0.1 norm=none",
    ]


def test_the_table_fits_the_terminal():
    trials = [complete(n, 0.5, ended=n) for n in range(20)] + [running(n) for n in range(20, 23)]
    picture = picture_of(trials, 0.0, width=60, height=9, trials=30)
    assert len(picture) == 8
    assert max(len(line) for line in picture) == 60
    assert [line.split()[0] for line in picture[2:]] == ["20", "21", "22", "19", "18", "17"]
    assert picture[2].endswith("  learning_rate…")


def test_other_metrics_than_the_reported_one_have_a_column():
    trial = made_trial(0, "COMPLETE", params(1e-3), values=[0.625], curve=(0.25, 0.5), epochs=2)
    assert picture_of([trial], 0.0, metrics={"final_dice": "maximize"})[1:] == [
        "trial  state     epoch  val_dice_image  final_dice  left  parameters",
        f"    0  complete    2/2          0.5000      0.6250        {STARTED}",
    ]


def test_the_table_is_taken_away_and_lines_stay():
    output = io.StringIO()
    console = Console(file=output, width=100, height=25, force_terminal=True, color_system=None, _environ={})
    with LiveTable(study_config(), console) as table:
        table.update([running(0)], 0.0)
        table.say("a [line] that says something")
    shown = output.getvalue()
    # It erases the table's three lines, says its line, and draws the table again.
    assert "\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2Ka [line] that says something\nquick:" in shown.replace("\r", "")
    assert shown.endswith("\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2K")


def test_a_time_limit_stands_beside_the_time_left():
    output = io.StringIO()
    with LiveTable(study_config(trials=3, workers=1), Console(file=output, width=100)) as table:
        table.update([complete(0, 0.5, seconds=60.0)], 0.0, limit_s=95.4)
    assert output.getvalue() == (
        "quick: 1 of 3 trials finished, about 2:00 left, time limit in 1:35, best val_dice_image 0.5000 (trial 0)\n"
    )
