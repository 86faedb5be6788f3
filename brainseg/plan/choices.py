"""From what a set holds to the keys of an experiment, each with its reason."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from brainseg.classes import Labels
from brainseg.config import BUILT_IN_NETWORKS, DataConfig, RunConfig
from brainseg.data.overview import Overview

# Multiples of the coarsest network's factor; above the highest, a step takes long without a GPU.
SIZES_STEP, SMALLEST_SIZE, LARGEST_SIZE = 32, 64, 256
STEMS, DEPTHS = (4, 2, 1), (5, 4, 3)  # the first that the objects allow
STEM_SIDE = 64  # pixels a side that the first level has at least
COARSEST_OBJECT = 2  # pixels a side that a small object has at the coarsest level, at least: 4 pixels in all
LARGE_BATCH, SMALL_BATCH = 16, 8
LARGE_BATCH_SIZE = 128  # pixels a side up to which a batch is large
STEPS = 500  # of a training, at least
MIN_EPOCHS, MAX_EPOCHS = 24, 200
MANY_EMPTY = 0.5  # share of slices without foreground, above which they are drawn more seldom
UPRIGHT = 0.5  # see `Overview.upright`
PRIORS = (0.001, 0.5)  # of a class


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A key, its value, and why, in half a sentence."""

    key: str
    value: Any
    why: str


def split_choices(found: Overview) -> Iterator[Choice]:
    """What stays together, and how much is validated on, if a fifth isn't a whole person or slice."""
    by_patient = found.people > 1
    why = f"{found.people} people, each in one part alone"
    if not by_patient:
        unknown = "no patients are known: if several images show one, add metadata.csv with id,patient_id"
        why = "all slices show one person" if found.people else unknown
    yield Choice(key="data.split_by", value="patient" if by_patient else "image", why=why)
    least = 1 / (found.people if by_patient else found.slices)
    if least > DataConfig().val_fraction:
        yield Choice(key="data.val_fraction", value=least, why="no part is smaller than a person or a slice")


def choices_for(found: Overview, config: RunConfig, *, train: int) -> Iterator[Choice]:
    """What the set asks for beside `split_choices`.

    config: with the channels resolved. train: the slices that the split leaves for training.
    """
    size = _image_size(found)
    batch = _batch_size(size, train)
    yield Choice(
        key="data.channels",
        value=config.data.channels,
        why="some images hold colour" if found.channels == 3 else "no image holds colour",
    )
    yield Choice(
        key="data.image_size",
        value=size,
        why=f"images have {found.width}x{found.height} pixels (median){_shrunk(found, size)}",
    )
    yield Choice(key="data.batch_size", value=batch, why=f"{math.ceil(train / batch)} steps an epoch of {train} slices")
    if found.empty > MANY_EMPTY:
        yield Choice(
            key="data.foreground_share", value=0.5, why=f"{found.empty:.0%} of the slices have no foreground at all"
        )
    yield _augment(found)
    if config.model.name == "unet":
        yield from _network(found, size)
    if config.model.name in BUILT_IN_NETWORKS.split():
        yield Choice(
            key="model.standardize",
            value=found.channels != 3,
            why="colours tell what an image shows" if found.channels == 3 else "grey levels differ from image to image",
        )
        yield from _prior(found, config.data.labels)
    yield Choice(
        key="train.epochs",
        value=(epochs := _epochs(train, batch)),
        why=f"{epochs * math.ceil(train / batch):,} steps in all",
    )


def _image_size(found: Overview) -> int:
    near = SIZES_STEP * round(found.side / SIZES_STEP)
    return min(max(near, SMALLEST_SIZE), LARGEST_SIZE)


def _shrunk(found: Overview, size: int) -> str:
    if found.small_object is None:
        return ""
    return f"; a small object is then {found.small_object * size:.0f} pixels wide"


def _batch_size(size: int, train: int) -> int:
    largest = LARGE_BATCH if size <= LARGE_BATCH_SIZE else SMALL_BATCH
    while largest > 2 and largest * 4 > train:
        largest //= 2
    return largest


def _augment(found: Overview) -> Choice:
    if found.channels == 3 and found.upright > UPRIGHT:
        return Choice(key="data.augment", value="light", why="the images have a top and a bottom: nothing upside down")
    return Choice(key="data.augment", value="standard", why="flips, rotation, scale, shift and intensity")


def _network(found: Overview, size: int) -> Iterator[Choice]:
    small = size if found.small_object is None else found.small_object * size
    # A stem that leaves small objects enough pixels below three levels; then as many levels as leave them enough.
    possible = [
        (stem, depth)
        for stem in STEMS
        for depth in DEPTHS
        if size / stem >= STEM_SIDE and small / (stem * 2**depth) >= COARSEST_OBJECT and not size % (stem * 2**depth)
    ]
    stem, depth = possible[0] if possible else (1, DEPTHS[-1])
    coarsest = small / (stem * 2**depth)
    yield Choice(
        key="model.depth",
        value=depth,
        why=f"{'' if coarsest >= COARSEST_OBJECT else 'only '}{coarsest:.1f} pixels of a small object's side are left "
        f"at the coarsest level, of {size // (stem * 2**depth)} in all",
    )
    yield Choice(key="model.stem", value=stem, why=f"the first level works at {size // stem} pixels a side")


def _prior(found: Overview, labels: Labels) -> Iterator[Choice]:
    if labels.exclusive and not labels.has_background:
        return  # every pixel has a class
    share = sum(found.foreground) if labels.exclusive else sum(found.foreground) / len(found.foreground)
    value = min(max(float(f"{share:.2g}"), PRIORS[0]), PRIORS[1])
    what = "the foreground's share" if len(found.foreground) == 1 or labels.exclusive else "a class's mean share"
    yield Choice(key="model.foreground_prior", value=value, why=f"{what} of the pixels, where the network begins")


def _epochs(train: int, batch: int) -> int:
    return min(max(math.ceil(STEPS / math.ceil(train / batch)), MIN_EPOCHS), MAX_EPOCHS)
