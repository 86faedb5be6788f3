"""Shows a training: a live bar on a terminal, plain lines elsewhere, nothing in a library call."""

from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter(Protocol):
    """Shows how a training goes."""

    def say(self, text: str) -> None:
        """One line for the user."""
        ...

    def begin(self, *, epoch: int, epochs: int, steps: int) -> None:
        """Training starts with this epoch (from 1) of `epochs`, each of `steps` steps."""
        ...

    def step(self, *, epoch: int, step: int, dice: float, images_per_second: float) -> None:
        """A step is done; `dice` is the mean so far in this epoch."""
        ...

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch is done."""
        ...

    def end(self) -> None:
        """Training is over, in whatever way."""
        ...


class Silent:
    """A reporter that shows nothing."""

    def say(self, text: str) -> None:
        pass

    def begin(self, *, epoch: int, epochs: int, steps: int) -> None:
        pass

    def step(self, *, epoch: int, step: int, dice: float, images_per_second: float) -> None:
        pass

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        pass

    def end(self) -> None:
        pass


class Terminal:
    """A bar with Dice, images a second and time left; a line an epoch, on a terminal or not."""

    def __init__(self, console: Console | None = None) -> None:
        # Neither markup nor highlighting: file names may hold brackets.
        self._console = console or Console(markup=False, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._epochs = 0
        self._steps = 0

    def say(self, text: str) -> None:
        self._console.print(text)

    def begin(self, *, epoch: int, epochs: int, steps: int) -> None:
        self._epochs, self._steps = epochs, steps
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("Dice {task.fields[dice]:.3f}  {task.fields[speed]:.0f} images/s"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.add_task(
                "train",
                total=epochs * steps,
                completed=(epoch - 1) * steps,
                epoch=epoch,
                epochs=epochs,
                dice=0.0,
                speed=0.0,
            )
            self._bar.start()

    def step(self, *, epoch: int, step: int, dice: float, images_per_second: float) -> None:
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                completed=(epoch - 1) * self._steps + step,
                epoch=epoch,
                dice=dice,
                speed=images_per_second,
            )

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        left = (self._epochs - epoch) * metrics["seconds"]
        self.say(
            f"epoch {epoch:>{len(str(self._epochs))}}/{self._epochs}"
            f"  loss {metrics['train_loss']:.4f}  Dice {metrics['train_dice']:.4f}"
            f"  val loss {metrics['val_loss']:.4f}  val Dice {metrics['val_dice']:.4f}"
            f"  per image {metrics['val_dice_image']:.4f}"
            f"  {metrics['images_per_second']:.0f} images/s  {duration(left)} left"
        )

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def duration(seconds: float) -> str:
    """`0:42`, `12:30` or `1:15:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def time_text(seconds: float) -> str:
    """`40 seconds`, `12 minutes`, `3.5 hours`."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
