"""Measures images a second from files to masks, by a loop over `model.predict` and by `brainseg.predict`.

    python -m benchmarks.predict                                the default model at 96x96 on the phantom
    python -m benchmarks.predict experiment=best                the model of any configuration, at its size
    python -m benchmarks.predict data.image_size=256 train.precision=float32
    python -m benchmarks.predict --root DIR                     on the images of a folder

The loop is what a script does: read a file, resize it, `model.predict` of one slice, resize the probabilities,
write the mask. brainseg writes an overlay and a row of the table besides. Both use the same untrained model and the
same functions for reading and resizing, and give the same masks. The first round warms up and isn't counted; ratios
are taken round by round, so that a machine whose speed drifts doesn't decide them. Last, the load average.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import load, print_table, ratios, spread
from brainseg.compose import freeze
from brainseg.config import DataConfig
from brainseg.data.cache import resize_image
from brainseg.data.decode import read_image
from brainseg.data.encode import write_mask
from brainseg.data.image_files import ImageFile, find_images
from brainseg.data.phantom.source import PhantomSource, write_phantom
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.resize import resize_probability
from brainseg.model import runtime as precision
from brainseg.model.models import build_model
from brainseg.model.stock import to_stock
from brainseg.predict.images import Failed, Outcome, predict_images
from brainseg.predict.inputs import input_images
from brainseg.predict.pictures import Pictures
from brainseg.predict.table import PredictionTable

GREY = DataConfig(channels="grey")


def main() -> None:
    """Measures and prints a table."""
    options = _options()
    config = freeze([*options.overrides, "data=phantom"])  # of the model: the images are read from a folder
    size = config.data.size[0]
    threads = precision.resolve_threads(config.train.threads)
    number_format = precision.resolve_precision(config.train.precision)
    precision.apply(number_format, threads)
    model = to_stock(build_model(config.model, input_shape=(size, size, 1), seed=config.seed))
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        root = options.root
        if root is None:
            root = Path(folder) / "phantom"
            write_phantom(PhantomSource(patients=20, seed=0), root)
        files = find_images([root]).files[: options.images]
        contenders: dict[str, Callable[[Path], None]] = {
            "a loop over model.predict": lambda out: _loop(files, model, size, out),
            "brainseg.predict": lambda out: _brainseg(files, model, replace(GREY, image_size=size), out),
        }
        speeds = _measure(contenders, len(files), rounds=options.rounds, folder=Path(folder))
    print(f"{len(files)} images, {size}x{size}, {number_format}, {threads} threads")
    print(f"{load()}\n")
    _print_speeds(speeds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Images a second of brainseg.predict and of a loop.")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the model's configuration")
    parser.add_argument("--root", type=Path, help="folder of images; default: the phantom")
    parser.add_argument("--images", type=int, default=128, help="at most so many (default 128)")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    return parser.parse_args()


def _loop(files: tuple[ImageFile, ...], model: Any, size: int, out: Path) -> None:
    for file in files:
        image = read_image(file.path, GREY)
        batch = resize_image(image, (size, size))[np.newaxis].astype(np.float32) / 255
        probability = model.predict(batch, verbose=0)[0, ..., 0]
        write_mask(out / "masks" / f"{file.id}.png", resize_probability(probability, image.shape[:2]) >= 0.5)


def _brainseg(files: tuple[ImageFile, ...], model: Any, data: DataConfig, out: Path) -> None:
    with PredictionTable(out, data.labels) as table:

        def on_outcome(outcome: Outcome) -> None:
            if isinstance(outcome, Failed):
                raise SystemExit(f"error: {outcome.error}")
            table.add(outcome)

        predict_images(
            input_images(files, data),
            model=model,
            settings=MaskSettings(),
            statistics=None,
            pictures=Pictures(folder=out, data=data, probability_bits=None),
            on_outcome=on_outcome,
        )


def _measure(
    contenders: dict[str, Callable[[Path], None]], images: int, *, rounds: int, folder: Path
) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        outs = []
        for position, (name, contender) in enumerate(contenders.items()):
            out = folder / f"{number}-{position}"
            begun = time.perf_counter()
            contender(out)
            if number:
                speeds[name].append(images / (time.perf_counter() - begun))
            outs.append(out / "masks")
        _check_same_masks(*outs)
    return speeds


def _check_same_masks(one: Path, other: Path) -> None:
    """Ends the benchmark if masks differ in over one pixel of 10,000; a batch uses other kernels than a slice."""
    for path in one.rglob("*.png"):
        mine, theirs = (read_image(folder / path.relative_to(one), GREY) for folder in (one, other))
        difference = mine != theirs
        if difference.mean() > 1e-4:
            raise SystemExit(f"error: the contenders differ in {difference.sum()} pixels of {path.name}")


def _print_speeds(speeds: dict[str, list[float]]) -> None:
    baseline = next(iter(speeds.values()))
    rows = [[name, spread(own), spread(ratios(own, baseline), digits=2)] for name, own in speeds.items()]
    print_table(["", "images/s (median, min-max)", "beside the loop, round by round (median, min-max)"], rows)


if __name__ == "__main__":
    main()
