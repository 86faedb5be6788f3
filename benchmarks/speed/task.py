"""The task that every contender trains, and the result of a round."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from brainseg.config import RunConfig
from brainseg.data.cache import SliceSet, load_slices
from brainseg.data.load import source_of


@dataclass(frozen=True, kw_only=True)
class Task:
    """The reference on the first slices of a source. It can be sent to another process."""

    config: RunConfig
    images: int  # slices a round
    threads: int
    cache: Path  # folder of the decoded slices

    def load(self) -> tuple[SliceSet, tuple[str, ...]]:
        """All slices, and the ids of those to train on."""
        slices = load_slices(source_of(self.config), self.config.data, cache_dir=self.cache)
        return slices, tuple(item.id for item in slices.slices[: self.images])


@dataclass(frozen=True, kw_only=True)
class Round:
    """One epoch over the task's slices."""

    images_per_second: float
    waiting: float | None = None  # share of the time in which the step waited for its batch; None: has no pipeline


# Takes a round's figures, and comes back when the next one is to begin; raises where there is none.
EndRound = Callable[[Round], None]


class Contender(Protocol):
    """One way of training the task's network, made and ready to start."""

    parameters: int
    multiply_adds: int  # of one image's forward pass, see benchmarks.speed.arithmetic

    def train(self, end_round: EndRound) -> None:
        """Trains round after round, calling `end_round` after each, until that raises."""
        ...
