"""The masks of a set: what their pixels mean is decided for the whole set, never by one file alone.

A tile that holds nothing but the noise of JPEG is empty only beside its neighbours, and 1 in one file beside 255 in
another is a class. Sets whose masks hold 0 and 255 need no look at other files, and never pay for one.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import IGNORED, as_colour
from brainseg.config import DataConfig
from brainseg.data.decode import (
    LABELS_BELOW,
    Levels,
    MaskFile,
    MaskKind,
    Values,
    binary_mask,
    check_size,
    labels_of,
    levels_of,
    mask_kind,
    not_a_mask,
    read_label_file,
    read_mask_file,
)
from brainseg.data.spread import Spread, in_threads
from brainseg.data.volumes.volume import read_mask_volume
from brainseg.errors import DataError
from brainseg.keys import as_line

VOID = 255  # what many sets write where nobody labelled
_VOID_FROM = 4  # times the largest label: from there on, 255 is no label itself
_FEW_LEVELS = 12  # of a file; soft edges and JPEG make more
_MAX_LABELS = 64  # of a file; an image has more levels
_LABEL_BELOW = 7 / 8  # of the set's maximum
_NOISE_BELOW = 1 / 8  # likewise
_MAX_NAMED = 12  # classes in one line
_MAX_KEPT = 4096  # levels of a file; an image in the place of a mask has as many as it has pixels
_UNLIKE = 32  # levels of 255: colours that lie nearer in each channel are one


@dataclass(frozen=True, kw_only=True)
class MaskSurvey:
    """What the masks of a set without `data.classes` hold."""

    tops: Mapping[str, float]  # type of values (`uint8`) -> the largest one of the set
    labels: str | None  # where they hold labels: which, and what to do; follows the set's name in one line

    def top(self, values: Values) -> float:
        """The set's largest value of this type."""
        return self.tops[values.dtype.name]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Surveyed:
    """One file's part in a survey."""

    type: str
    levels: Levels
    colours: Levels | None  # 0xRRGGBB; None for a file in grey
    is_jpeg: bool


class NotSurveyedError(Exception):
    """What a mask means can't be told without the others of its set."""


class SetMasks:
    """Reads the masks of one set; safe to call from several threads."""

    def __init__(
        self, root: Path, paths: Sequence[str] | None, data: DataConfig, *, survey: MaskSurvey | None = None
    ) -> None:
        """paths: of every mask of the set, below `root`; None: no other one may be read. Nothing is read yet.

        survey: of the set, if it is known. Without it and without paths, NotSurveyedError is raised where it is needed.
        """
        self._root = root
        self._paths = paths
        self._data = data
        self._lock = threading.Lock()
        self._survey = survey

    def merged(self, paths: Sequence[str]) -> NDArray[np.uint8]:
        """The mask that these files make up, as `read` gives one: where one isn't background, it covers those before.

        Raises DataError like `read`, and where their sizes differ.
        """
        masks = [self.read(path) for path in paths]
        for path, mask in zip(paths, masks, strict=True):
            check_size(self._root / path, mask.shape, paths[0], masks[0].shape)
        return merged(masks)

    def read(self, path: str) -> NDArray[np.uint8]:
        """The mask as `data.labels` describes it, (height, width, mask channels).

        Of two kinds of pixels, soft edges are cut at half of the largest value of the set; with `data.reading` 1, of
        the file. Raises DataError where the file can't be decoded or is no such mask, or where the set holds labels.
        """
        file = read_file(self._root / path, self._data)
        if self._data.classes is not None:
            return labels_of(self._root / path, file, self._data)
        values, ignored = _without_ignored(file.values, self._data.ignore)
        mask = binary_mask(values, 0) if file.plain_values else self._cut(path, values)
        if ignored is not None:
            mask[ignored] = IGNORED
        return mask[..., np.newaxis]

    @property
    def problem(self) -> str | None:
        """That the set holds labels, which ones and what to do, as far as that was needed to read it."""
        return None if self._survey is None else self._survey.labels

    def survey(self, spread: Spread = in_threads) -> MaskSurvey:
        """What the masks of the set hold. They are read when it is asked for, once; what can't be read is left out."""
        with self._lock:
            if self._survey is None:
                if self._paths is None:
                    raise NotSurveyedError
                files = spread(partial(_surveyed, self._root, self._data), self._paths)
                self._survey = survey_of([file for file in files if file is not None])
        return self._survey

    def _cut(self, path: str, values: Values) -> NDArray[np.uint8]:
        levels = levels_of(values)
        top = levels.top
        if self._data.reading > 1:
            survey = self.survey()
            if survey.labels is not None:
                raise DataError(f"{self._root}: {survey.labels}")
            top = survey.top(values)
        if mask_kind(levels, top) is MaskKind.OTHER:
            raise DataError(f"{self._root / path} {not_a_mask(levels)}")
        return binary_mask(values, top)


def _surveyed(root: Path, data: DataConfig, path: str) -> _Surveyed | None:
    try:
        file = read_file(root / path, data)
    except DataError:
        return None  # reading that file says so
    values, _ = _without_ignored(file.values, data.ignore)
    return _Surveyed(
        type=values.dtype.name,
        levels=_few(levels_of(values)),
        colours=None if file.colours is None else _few(levels_of(file.colours)),
        is_jpeg=file.is_jpeg,
    )


def read_file(path: Path, data: DataConfig) -> MaskFile:
    """A mask file's values: with classes those that these name. Raises DataError."""
    if data.is_of_volumes:
        return read_mask_volume(path)
    return read_mask_file(path, reading=data.reading) if data.classes is None else read_label_file(path, data)


def merged(masks: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """One mask of several of one shape: where one isn't background, it covers those before."""
    whole = masks[0]
    for mask in masks[1:]:
        whole = np.where(mask != 0, mask, whole)
    return whole


def survey_of(files: Sequence[_Surveyed]) -> MaskSurvey:
    """What the masks of a set hold, from each file's part."""
    tops: dict[str, float] = {}
    for file in files:
        tops[file.type] = max(tops.get(file.type, file.levels.top), file.levels.top)
    return MaskSurvey(tops=tops, labels=_colours_found(files) or _numbers_found(files, tops))


def _numbers_found(files: Sequence[_Surveyed], tops: Mapping[str, float]) -> str | None:
    """What to say of class numbers; None if there are none."""
    with_few = [file for file in files if file.colours is None and file.levels.values.size <= _MAX_LABELS]
    # Without soft edges anywhere there is no noise either: a small value is meant, however thin its areas are.
    all_are_sharp = not any(_has_soft_edges(file.levels, tops[file.type]) for file in files)
    if not any(
        _holds_numbers(file.levels, tops[file.type])
        or (all_are_sharp and _has_between(file.levels.values, 0, tops[file.type]))
        for file in with_few
    ):
        return None
    own = [[value for value in file.levels.values.tolist() if value] for file in with_few]
    count = Counter(value for values in own for value in values)
    values = sorted(count)
    seen = f"values {_listed([f'{value:g} (in {count[value]})' for value in values])} of {len(files)} files"
    if not all(float(value).is_integer() and value > 0 for value in values):
        return f"the masks hold the {seen}; write class numbers from 1, and name them by data.classes"
    named = [f"{value:g}" for value in values]
    if all(len(each) <= 1 for each in own):  # files were exported in two ways, or each has another class
        same = as_line([f"data.classes={{class1: [{', '.join(named)}]}}"])
        return f"the masks hold the {seen}; {_remedy(named, [], files)}, or if they mean the same: {same}"
    void = values[-1] == VOID and len(values) > 1 and values[-2] * _VOID_FROM <= VOID
    remedy = _remedy(named[:-1] if void else named, [f"data.ignore={VOID}"] if void else [], files)
    return f"the masks hold class numbers, the {seen}; {remedy}"


def _holds_numbers(levels: Levels, top: float) -> bool:
    """Whether a file's values are labels.

    An even area of at least 3x3 pixels at a value below 7/8 of the set's maximum is a label, however small the value is
    in a file of at most 12 levels: those are too few for soft edges, and the noise of JPEG has no such area.
    """
    low = 0.0 if levels.values.size <= _FEW_LEVELS else top * _NOISE_BELOW
    if _has_between(levels.even, low, top * _LABEL_BELOW):
        return True
    return (top < LABELS_BELOW or levels.values[0] < 0) and mask_kind(levels, top) is MaskKind.OTHER


def _has_soft_edges(levels: Levels, top: float) -> bool:
    return _has_between(levels.values, top * _NOISE_BELOW, top)


def _has_between(values: Values, low: float, high: float) -> bool:
    """Whether a value lies between these two, themselves excluded."""
    return bool(((values > low) & (values < high)).any())


def _colours_found(files: Sequence[_Surveyed]) -> str | None:
    """What to say of two or more colours beside black; None if there are fewer.

    A colour counts that fills an even area of at least 3x3 pixels; colours that are near each other, or black, are one.
    """
    if all(file.colours is None for file in files):
        return None
    count = Counter(value for file in files for value in _even_colours(file) if _are_unlike(value, 0))
    colours = sorted(count)
    if not any(_are_unlike(one, other) for one in colours for other in colours):
        return None
    seen = _listed([f"{as_colour(value)} (in {count[value]})" for value in colours])
    remedy = _remedy([f'"{as_colour(value)}"' for value in colours], [], files)
    return f"the masks hold several colours, {seen} of {len(files)} files; {remedy}"


def _even_colours(file: _Surveyed) -> list[int]:
    if file.colours is not None:
        return [int(value) for value in file.colours.even]
    return [int(value) * 0x010101 for value in file.levels.even] if file.type == "uint8" else []


def _are_unlike(one: int, other: int) -> bool:
    return any(abs((one >> shift & 255) - (other >> shift & 255)) > _UNLIKE for shift in (0, 8, 16))


def _remedy(values: Sequence[str], also: Sequence[str], files: Sequence[_Surveyed]) -> str:
    """What to do about labels: the text to paste into a POSIX shell, where it is short. values: as Hydra reads them."""
    if len(values) > _MAX_LABELS:
        return "are images and masks exchanged?"
    if any(file.is_jpeg for file in files):
        return "JPEG can't hold labels: export the masks as PNG, and name the classes by data.classes"
    if len(values) > _MAX_NAMED:
        return (
            f"name them in a file conf/data/NAME.yaml, below 'name: folder', as in 'classes: {{class1: {values[0]}}}', "
            "and choose it by data=NAME"
        )
    classes = ", ".join(f"class{number}: {value}" for number, value in enumerate(values, start=1))
    return f"name them: {as_line([f'data.classes={{{classes}}}', *also])}"


def _listed(seen: Sequence[str]) -> str:
    """In one line, cut where it is long."""
    return ", ".join(seen) if len(seen) <= _MAX_NAMED else f"{', '.join(seen[:3])} and {len(seen) - 3} more"


def _without_ignored(values: Values, ignore: int | None) -> tuple[Values, NDArray[np.bool_] | None]:
    """The values with those that are ignored as 0, and where they were."""
    if ignore is None:
        return values, None
    ignored: NDArray[np.bool_] = values == ignore
    kept: Any = np.where(ignored, values.dtype.type(0), values)
    return kept, ignored


def _few(levels: Levels) -> Levels:
    """Enough of the levels to tell what they are: a file of so many is no mask of labels."""
    step = -(-levels.values.size // _MAX_KEPT)
    if step == 1:
        return levels
    kept = np.unique(np.append(np.arange(0, levels.values.size, step), levels.values.size - 1))
    return Levels(values=levels.values[kept], counts=np.add.reduceat(levels.counts, kept), even=levels.even)
