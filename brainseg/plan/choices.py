"""From what a set holds to the keys of an experiment, each with its reason."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from brainseg.classes import Labels
from brainseg.config import BUILT_IN_NETWORKS, MASK_FILES, DataConfig, RunConfig
from brainseg.data.overview import Overview

# Multiples of the coarsest network's factor; above the highest, a step takes long without a GPU.
SIZES_STEP, SMALLEST_SIZE, LARGEST_SIZE = 32, 64, 256
OBLONG = 1.25  # from this ratio of the sides on, an image isn't resized to a square
LARGE_SLICE = 1.5  # times the largest size, above which crops may be better than resizing
MAX_PATCHES = 16  # of a slice
STEMS, DEPTHS = (4, 2, 1), (5, 4, 3)  # the first that the objects allow
STEM_SIDE = 64  # pixels a side that the first level has at least
COARSEST_OBJECT = 2  # pixels that a small object is wide at the coarsest level, at least: 4 pixels in all
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


def annotated_choices(given: DataConfig, read: DataConfig) -> Iterator[Choice]:
    """What annotations or nnU-Net's `dataset.json` say of the masks. read: the configuration with what was found."""
    for name in ("annotations", "classes", "ignore"):
        value = getattr(read, name)
        if value not in (getattr(given, name), MASK_FILES):
            yield Choice(key=f"data.{name}", value=value, why="as the folder has it")


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


def choices_for(found: Overview, config: RunConfig, *, train: int, given: Collection[str] = ()) -> Iterator[Choice]:
    """What the set asks for beside `split_choices`; some of it may be given, too.

    config: with the channels resolved. train: the slices that the split leaves for training. given: keys that stay.
    """
    seen = _seen(found, config.data, given)
    samples = train * max(1, seen.patches)
    batch = config.data.batch_size if "data.batch_size" in given else _batch_size(seen, samples)
    steps = math.ceil(samples / batch)
    yield Choice(
        key="data.channels",
        value=config.data.channels,
        why="some images hold colour" if found.channels == 3 else "no image holds colour",
    )
    yield from _input_choices(found, seen)
    yield Choice(key="data.batch_size", value=batch, why=f"{steps} steps an epoch of {train} slices")
    if found.empty > MANY_EMPTY or (seen.patches and sum(found.foreground) < MANY_EMPTY):
        what = "of the slices have no foreground" if found.empty > MANY_EMPTY else "of the pixels are foreground"
        share = found.empty if found.empty > MANY_EMPTY else sum(found.foreground)
        yield Choice(key="data.foreground_share", value=0.5, why=f"{share:.0%} {what}")
    yield _augment(found)
    if config.model.name == "unet":
        yield from _network(seen)
    if config.model.name in BUILT_IN_NETWORKS.split():
        yield Choice(
            key="model.standardize",
            value=found.channels != 3,
            why="colours tell what an image shows" if found.channels == 3 else "grey levels differ from image to image",
        )
        yield from _prior(found, config.data.labels)
    epochs = min(max(math.ceil(STEPS / steps), MIN_EPOCHS), MAX_EPOCHS)
    yield Choice(key="train.epochs", value=epochs, why=f"{epochs * steps:,} steps in all")


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What the network sees of a slice."""

    height: int
    width: int
    patches: int  # crops at the stored size; 0: the whole slice, resized
    small_object: float  # width in pixels; where there is none, as wide as the slice

    @property
    def side(self) -> int:
        return min(self.height, self.width)

    @property
    def image_size(self) -> int | list[int]:
        """As a key's value."""
        return self.height if self.height == self.width else [self.height, self.width]


def _seen(found: Overview, data: DataConfig, given: Collection[str]) -> _Seen:
    if "data.image_size" in given or "data.patches" in given:
        (height, width), patches = data.size, data.patches
    else:
        side = min(max(found.side, SMALLEST_SIZE), LARGEST_SIZE)
        patches = 0 if found.small_object is None else _patches(found)
        stretched = 1.0 if patches or _is_square(found) else (found.height / found.width) ** 0.5
        height, width = (_to_step(side * factor) for factor in (stretched, 1 / stretched))
    stored = found.side if patches else (height * width) ** 0.5
    return _Seen(height=height, width=width, patches=patches, small_object=stored * (found.small_object or 1.0))


def _patches(found: Overview) -> int:
    """How many crops of a slice are about its area; 0 where it can be resized: small objects stay large enough."""
    smallest = COARSEST_OBJECT * 2 ** DEPTHS[-1]
    if found.side <= LARGE_SLICE * LARGEST_SIZE or (found.small_object or 1.0) * LARGEST_SIZE >= smallest:
        return 0
    return min(math.ceil((found.side / LARGEST_SIZE) ** 2), MAX_PATCHES)


def _is_square(found: Overview) -> bool:
    return max(found.height, found.width) < OBLONG * min(found.height, found.width)


def _to_step(pixels: float) -> int:
    return max(SIZES_STEP * round(pixels / SIZES_STEP), SIZES_STEP)


def _input_choices(found: Overview, seen: _Seen) -> Iterator[Choice]:
    small = "" if found.small_object is None else f"; a small object is {seen.small_object:.0f} pixels wide"
    how = "cut out of" if seen.patches else "of"
    yield Choice(
        key="data.image_size",
        value=seen.image_size,
        why=f"{how} images of {found.height}x{found.width} pixels (height and width, median){small}",
    )
    if seen.patches:
        yield Choice(key="data.patches", value=seen.patches, why="crops, since resizing would leave small objects less")


def _batch_size(seen: _Seen, samples: int) -> int:
    largest = LARGE_BATCH if seen.height * seen.width <= LARGE_BATCH_SIZE**2 else SMALL_BATCH
    while largest > 2 and largest * 4 > samples:
        largest //= 2
    return largest


def _augment(found: Overview) -> Choice:
    if found.channels == 3 and found.upright > UPRIGHT:
        return Choice(key="data.augment", value="light", why="the images have a top and a bottom: nothing upside down")
    return Choice(key="data.augment", value="standard", why="flips, rotation, scale, shift and intensity")


def _network(seen: _Seen) -> Iterator[Choice]:
    # A stem that leaves small objects enough pixels below three levels; then as many levels as leave them enough.
    fitting = [
        (stem, depth)
        for stem in STEMS
        for depth in DEPTHS
        if not (seen.height % (stem * 2**depth) or seen.width % (stem * 2**depth)) and seen.side / stem >= STEM_SIDE
    ]
    enough = [(stem, depth) for stem, depth in fitting if seen.small_object / (stem * 2**depth) >= COARSEST_OBJECT]
    stem, depth = enough[0] if enough else (1, DEPTHS[-1])
    coarsest = seen.small_object / (stem * 2**depth)
    yield Choice(
        key="model.depth",
        value=depth,
        why=f"a small object is {'' if enough else 'only '}{coarsest:.1f} pixels wide at the coarsest level",
    )
    yield Choice(key="model.stem", value=stem, why=f"the first level works at {seen.side // stem} pixels a side")


def _prior(found: Overview, labels: Labels) -> Iterator[Choice]:
    if labels.exclusive and not labels.has_background:
        return  # every pixel has a class
    share = sum(found.foreground) if labels.exclusive else sum(found.foreground) / len(found.foreground)
    value = min(max(float(f"{share:.2g}"), PRIORS[0]), PRIORS[1])
    what = "the foreground's share" if len(found.foreground) == 1 or labels.exclusive else "a class's mean share"
    yield Choice(key="model.foreground_prior", value=value, why=f"{what} of the pixels, where the network begins")
