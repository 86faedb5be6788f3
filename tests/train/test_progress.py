"""What a person sees of a training."""

import io

import pytest
from rich.console import Console

from brainseg.train.progress import Silent, Terminal, duration

METRICS = {
    "train_loss": 1.23456,
    "train_dice": 0.25,
    "val_loss": 1.5,
    "val_dice": 0.125,
    "val_dice_image": 0.0625,
    "learning_rate": 0.001,
    "seconds": 30.0,
    "images_per_second": 12.4,
}


def reporting_to(*, terminal):
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=120, markup=False, highlight=False, soft_wrap=True
    )
    return Terminal(console), console.file


def test_elsewhere_than_on_a_terminal_an_epoch_is_one_plain_line():
    reporter, output = reporting_to(terminal=False)
    reporter.begin(epoch=1, epochs=10, steps=4)
    reporter.step(epoch=1, step=1, dice=0.1, images_per_second=10.0)
    reporter.epoch(1, METRICS)
    reporter.end()
    assert output.getvalue() == (
        "epoch  1/10  loss 1.2346  Dice 0.2500  val loss 1.5000  val Dice 0.1250"
        "  per image 0.0625  12 images/s  4:30 left\n"
    )


@pytest.mark.parametrize(
    ("seconds", "left"), [(0.4, "0:04"), (6.0, "0:54"), (60.0, "9:00"), (500.0, "1:15:00"), (6.666, "1:00")]
)
def test_the_time_left_is_of_the_epochs_to_come(seconds, left):
    reporter, output = reporting_to(terminal=False)
    reporter.begin(epoch=1, epochs=10, steps=4)
    reporter.epoch(1, METRICS | {"seconds": seconds})
    assert output.getvalue().endswith(f"  {left} left\n")


def test_names_in_brackets_are_shown_as_they_are():
    reporter, output = reporting_to(terminal=False)
    reporter.say("/data/[red]set[1] " + "x" * 200)
    assert output.getvalue() == "/data/[red]set[1] " + "x" * 200 + "\n"


def test_a_terminal_shows_a_bar_with_epoch_dice_and_speed_and_takes_it_away():
    reporter, output = reporting_to(terminal=True)
    reporter.begin(epoch=2, epochs=3, steps=4)
    reporter.step(epoch=2, step=3, dice=0.4567, images_per_second=21.0)
    reporter.end()
    shown = output.getvalue()
    assert "epoch 2/3" in shown
    assert "7/12" in shown
    assert "Dice 0.457  21 images/s" in shown
    assert shown.endswith("\x1b[2K")  # the line is erased


def test_a_bar_that_never_began_can_end():
    reporter, output = reporting_to(terminal=True)
    reporter.end()
    assert output.getvalue() == ""


def test_a_silent_reporter_shows_nothing(capsys):
    reporter = Silent()
    reporter.say("x")
    reporter.begin(epoch=1, epochs=1, steps=1)
    reporter.step(epoch=1, step=1, dice=0.0, images_per_second=1.0)
    reporter.epoch(1, METRICS)
    reporter.end()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00"), (42.0, "0:42"), (59.6, "1:00"), (750.0, "12:30"), (4500.0, "1:15:00")]
)
def test_a_duration_has_hours_only_if_it_lasts_any(seconds, shown):
    assert duration(seconds) == shown
