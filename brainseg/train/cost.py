"""What a training costs on this machine: time, memory and disk, from a few steps on made-up slices."""

import dataclasses
import time
from dataclasses import dataclass

import numpy as np

from brainseg.config import RunConfig
from brainseg.data.batches import EVALUATION_BATCH, steps_per_epoch
from brainseg.data.cache import SliceSet
from brainseg.data.load import RunData
from brainseg.data.source import SliceInfo, Source
from brainseg.data.split import Split
from brainseg.model import runtime as hardware
from brainseg.train.checkpoint import BYTES_A_WEIGHT, COPIES
from brainseg.train.loop import Trainer
from brainseg.train.progress import Silent, time_text
from brainseg.train.signals import StopRequest

TIMED_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training costs on this machine; `lines` says it to people."""

    config: RunConfig
    slices: int  # all of the set: the cache holds them
    side_px: tuple[int, int]  # height and width of a slice in the cache
    split: Split
    parameters: int
    seconds_per_step: float
    seconds_per_val_slice: float
    memory_mib: float  # the most that this process has held, libraries included

    @property
    def seconds_per_epoch(self) -> float:
        """Of training and validation."""
        samples = len(self.split.train) * max(1, self.config.data.patches)
        steps = steps_per_epoch(samples, batch_size=self.config.data.batch_size)
        return steps * self.seconds_per_step + len(self.split.val) * self.seconds_per_val_slice

    @property
    def seconds(self) -> float:
        """Of all epochs."""
        return self.config.train.epochs * self.seconds_per_epoch

    @property
    def cache_mib(self) -> float:
        """Of the decoded slices."""
        data, (height, width) = self.config.data, self.side_px
        return self.slices * height * width * (data.channel_count + data.labels.mask_channels) / 2**20

    @property
    def checkpoint_mib(self) -> float:
        """Of the checkpoint, which is there while the training lasts."""
        return COPIES * self.model_mib

    @property
    def model_mib(self) -> float:
        """Of the model in the run's record."""
        return BYTES_A_WEIGHT * self.parameters / 2**20

    def lines(self) -> tuple[str, ...]:
        """Time, memory and disk, a line each."""
        epochs = self.config.train.epochs
        return (
            f"time    {time_text(self.seconds_per_epoch)} an epoch, {time_text(self.seconds)} for {epochs}; "
            f"a step takes {self.seconds_per_step:.3f} s",
            f"memory  {self.memory_mib:,.0f} MiB; {self.parameters:,} weights",
            f"disk    {self.cache_mib:,.0f} MiB of decoded slices; {self.checkpoint_mib:,.0f} MiB for a checkpoint "
            "while it trains",
        )


def measure(config: RunConfig, source: Source, split: Split, *, stored_px: tuple[int, int]) -> Cost:
    """Builds the network, trains it for a few steps here, and forgets it. TensorFlow is imported, nothing is written.

    config: resolved, as `load_data` gives it. split: how many slices there are to train and to validate on. stored_px:
    height and width of a usual slice. Sets precision and threads, and raises ConfigError, as `experiment.prepare`.
    """
    hardware.apply(
        hardware.resolve_precision(config.train.precision, is_depthwise=config.model.is_depthwise),
        hardware.resolve_threads(config.train.threads),
    )
    batch = min(config.data.batch_size, len(split.train))
    side_px = stored_px if config.data.patches else config.data.size
    slices = _made_up(config, source, side_px, count=TIMED_STEPS * batch + EVALUATION_BATCH)
    ids = tuple(item.id for item in slices.slices)
    parts = Split(train=ids[: TIMED_STEPS * batch], val=ids[TIMED_STEPS * batch :])
    # Two epochs: the first one builds the graphs.
    short = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, patches=min(1, config.data.patches)),
        train=dataclasses.replace(config.train, epochs=2, patience=None),
        optimizer=dataclasses.replace(config.optimizer, warmup_epochs=0.0),
    )
    trainer = Trainer(short, slices, parts)
    ends: list[float] = []
    trainer.fit(stop=StopRequest(), reporter=Silent(), on_epoch=lambda: ends.append(time.perf_counter()))
    training = trainer.progress.history[-1]["seconds"]
    return Cost(
        config=config,
        slices=len(source.slices()),
        side_px=side_px,
        split=split,
        parameters=trainer.model.count_params(),
        seconds_per_step=training / TIMED_STEPS,
        seconds_per_val_slice=max(0.0, ends[1] - ends[0] - training) / EVALUATION_BATCH,
        memory_mib=hardware.peak_memory_mib(),
    )


def of_run(data: RunData) -> Cost:
    """As `measure`, of what a run trains on."""
    height, width = np.median(data.slices.sizes, axis=0)
    return measure(data.config, data.slices.source, data.split, stored_px=(int(height), int(width)))


def _made_up(config: RunConfig, source: Source, side_px: tuple[int, int], *, count: int) -> SliceSet:
    """Slices of noise, half of each with the first class."""
    data = config.data
    random = np.random.default_rng(0)
    masks = np.zeros((count, *side_px, data.labels.mask_channels), np.uint8)
    masks[:, : side_px[0] // 2, :, 0] = 1
    return SliceSet(
        slices=tuple(SliceInfo(id=f"{number:04d}") for number in range(count)),
        images=random.integers(0, 256, (count, *side_px, data.channel_count), dtype=np.uint8),
        masks=masks,
        labels=data.labels,
        channels_are_alike=data.channels_are_alike,
        sizes=np.tile(np.array(side_px, np.int32), (count, 1)),
        fingerprint="",
        source=source,
    )
