"""Images a second of one training step: a plain Keras script beside brainseg, in turn, in one process.

    python benchmarks/throughput.py                       the reference at 256x256 on the phantom
    python benchmarks/throughput.py --root DIR            on a folder of images and masks
    python benchmarks/throughput.py --size 128 --rounds 7

The plain script is what a notebook does: float32, all slices in two NumPy arrays, `model.compile` and
`model.fit` with the same network in Keras' own layers, the same loss, optimizer and batch size. Each
round trains every contender on the same number of slices; the first round warms up and isn't counted.
Ratios are taken round by round, so that a machine whose speed drifts doesn't decide them.

Last, what tracking costs: the record of an epoch, from the call until SQLite has it, and the
checkpoint, as shares of an epoch on that many slices as `--epoch-slices` says.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from brainseg.compose import freeze
from brainseg.config import RunConfig, TrackingConfig
from brainseg.data.cache import SliceSet, load_slices
from brainseg.data.load import source_of
from brainseg.data.split import Split
from brainseg.model.models import build_model
from brainseg.model.scores import dice_coefficient, dice_loss
from brainseg.model.stock import to_stock
from brainseg.tracking import open_tracker
from brainseg.training import precision
from brainseg.training.checkpoint import Checkpoints
from brainseg.training.loop import Trainer
from brainseg.training.progress import Silent
from brainseg.training.signals import StopRequest

METRICS = ("train_loss", "train_dice", "val_loss", "val_dice", "val_dice_image", "learning_rate", "seconds", "speed")


class _RoundDone(Exception):  # noqa: N818  # no error: it leaves `fit` after an epoch
    pass


class PlainKeras:
    """The notebook: arrays and `model.fit`."""

    def __init__(self, config: RunConfig, slices: SliceSet, ids: tuple[str, ...]) -> None:
        keras.config.set_dtype_policy("float32")
        positions = slices.positions(ids)
        self._images = slices.images[positions].astype(np.float32) / 255.0
        self._masks = slices.masks[positions].astype(np.float32)
        self._batch_size = config.data.batch_size
        self._model = to_stock(build_model(config.model, input_shape=self._images.shape[1:], seed=0))
        optimizer = keras.optimizers.Adam(config.optimizer.learning_rate)
        self._model.compile(optimizer, loss=dice_loss, metrics=[dice_coefficient])

    def round(self) -> float:
        """Images a second from the first step's begin to the last one's end; what `fit` does around them is free."""
        times: list[float] = []
        clock = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: times.append(time.perf_counter()),
            on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()),
        )
        self._model.fit(
            self._images, self._masks, batch_size=self._batch_size, epochs=1, verbose=0, callbacks=[clock], shuffle=True
        )
        return len(self._images) / (times[-1] - times[0])


class Brainseg:
    """The training loop of a run, with its input pipeline."""

    def __init__(self, config: RunConfig, slices: SliceSet, ids: tuple[str, ...], *, policy: str) -> None:
        keras.config.set_dtype_policy(policy)
        self.trainer = Trainer(config, slices, Split(train=ids, val=ids[:1]))

    def round(self) -> float:
        """Images a second of an epoch as the run records them: steps, and waiting for batches."""

        def leave() -> None:
            raise _RoundDone

        with contextlib.suppress(_RoundDone):
            self.trainer.fit(stop=StopRequest(), reporter=Silent(), on_epoch=leave)
        return self.trainer.position.history[-1]["images_per_second"]


def main() -> None:
    """Measures and prints a table."""
    options = _options()
    overrides = ["experiment=reference", f"data.image_size={options.size}", "train.epochs=100000"]
    overrides += [f"data.root={options.root}"] if options.root else ["data=phantom", f"data.image_size={options.size}"]
    config = freeze(overrides)
    threads = precision.resolve_threads(options.threads)
    precision.apply("float32", threads)
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        slices = load_slices(source_of(config), image_size=options.size, cache_dir=Path(folder))
        ids = tuple(item.id for item in slices.slices[: options.images])
        brainseg_bf16 = Brainseg(config, slices, ids, policy="mixed_bfloat16")
        contenders: dict[str, Callable[[], float]] = {
            "plain Keras, float32": PlainKeras(config, slices, ids).round,
            "brainseg, float32": Brainseg(config, slices, ids, policy="float32").round,
            "brainseg, mixed_bfloat16": brainseg_bf16.round,
        }
        speeds = _measure(contenders, rounds=options.rounds)
        _print_speeds(speeds, size=options.size, images=len(ids), threads=threads)
        epoch_s = options.epoch_slices / statistics.median(speeds["brainseg, mixed_bfloat16"])
        _print_tracking(Path(folder), brainseg_bf16.trainer, epoch_s=epoch_s, epoch_slices=options.epoch_slices)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Images a second of brainseg and of a plain Keras script.")
    parser.add_argument("--root", type=Path, help="folder of images and masks; default: the phantom")
    parser.add_argument("--size", type=int, default=256, help="pixels a side (default 256)")
    parser.add_argument("--images", type=int, default=128, help="slices a round (default 128)")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    parser.add_argument("--threads", type=int, help="CPU threads; default: every core")
    parser.add_argument(
        "--epoch-slices", type=int, default=2451, help="slices of the epoch that tracking is a share of"
    )
    return parser.parse_args()


def _measure(contenders: dict[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            speed = contender()
            if number:
                speeds[name].append(speed)
    return speeds


def _print_speeds(speeds: dict[str, list[float]], *, size: int, images: int, threads: int) -> None:
    baseline = speeds["plain Keras, float32"]
    print(f"reference U-Net at {size}x{size}, {images} slices a round, {len(baseline)} rounds, {threads} threads\n")
    print("| | images/s (median, min-max) | beside plain Keras, round by round (median, min-max) |")
    print("| --- | --- | --- |")
    for name, values in speeds.items():
        ratios = [value / base for value, base in zip(values, baseline, strict=True)]
        print(f"| {name} | {_spread(values, 1)} | {_spread(ratios, 2)} |")


def _print_tracking(root: Path, trainer: Trainer, *, epoch_s: float, epoch_slices: int) -> None:
    """What is recorded each epoch: the time until the store has it, and the checkpoint."""
    epochs = 20
    tracker = open_tracker(TrackingConfig(root=str(root / "mlruns")), run_name="benchmark", tags={})
    calls: list[float] = []
    begun = time.perf_counter()
    with tracker:
        for epoch in range(1, epochs + 1):
            call = time.perf_counter()
            tracker.log_metrics(dict.fromkeys(METRICS, 0.5), epoch=epoch)
            calls.append(time.perf_counter() - call)
    delivered = (time.perf_counter() - begun) / epochs
    checkpoints = Checkpoints(root, "benchmark")
    checkpoints.folder.mkdir(parents=True)
    begun = time.perf_counter()
    checkpoints.save(trainer.state())
    saved = time.perf_counter() - begun
    print(f"\nan epoch of {epoch_slices} slices in mixed_bfloat16: {epoch_s:.1f} s of training steps\n")
    for what, seconds in (
        ("the call that records an epoch", statistics.median(calls)),
        ("until SQLite has an epoch's record", delivered),
        ("a checkpoint, flushed to the disk", saved),
    ):
        print(f"{what}: {1000 * seconds:.1f} ms, {100 * seconds / epoch_s:.3f} % of the epoch")


def _spread(values: list[Any], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
