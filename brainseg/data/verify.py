"""Checks a data folder, file by file, and doesn't stop at the first problem."""

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import IGNORED, Labels, as_colour
from brainseg.config import DataConfig
from brainseg.data.annotations.drawn import DrawnMasks
from brainseg.data.decode import (
    Levels,
    MaskFile,
    MaskKind,
    binary_mask,
    labels_of,
    levels_of,
    mask_kind,
    not_a_mask,
    read_channels,
    read_label_file,
    read_mask_file,
    read_with_colour,
    size_text,
)
from brainseg.data.findings import Finding, Severity, collect
from brainseg.data.folder import folder_findings, masks_of, open_folder, slice_infos
from brainseg.data.layout import Listing, Pair
from brainseg.data.masks import foreground_pixels
from brainseg.data.near_duplicates import COARSE_PX, FINE_PX, equal_groups, near_duplicates, shrunk
from brainseg.data.opening import moves
from brainseg.data.patterns import Layout
from brainseg.data.people import people_with_several_ids, person_of
from brainseg.data.set_masks import MaskSurvey, NotSurveyedError, SetMasks, merged
from brainseg.data.source import PATIENT, TUMOR_TYPE, SliceInfo
from brainseg.data.spread import in_processes, in_threads
from brainseg.errors import DataError

REPORT_SCHEMA = 2  # 1 had tumor_fraction for foreground_fraction, and neither channels nor classes nor values
MOVING = (".gif", ".webp")
FOREGROUND = "foreground"  # what the one class of a binary mask is called


@dataclass(frozen=True, kw_only=True)
class ForegroundFraction:
    """Share of a slice's pixels that are foreground (have any class), in [0, 1], over the readable masks."""

    min: float
    median: float
    max: float


@dataclass(frozen=True, kw_only=True)
class FolderReport:
    """What `verify` found; counts are of slices that have an image and a mask."""

    root: str
    layout: str
    patterns: Layout | None  # what data.images and data.masks would say; None if annotations draw the masks
    slices: int
    patient_ids: int
    people: int  # patient ids that look like one person counted once
    tumor_types: Mapping[str, int]  # type -> slices
    sizes: Mapping[str, int]  # width x height -> readable images
    channels: tuple[str, ...]  # what a network would see: grey, or red, green, blue, or the named ones
    colour_images: int  # readable images with a pixel that isn't grey
    classes: Mapping[str, float]  # class -> its share of the pixels of all readable masks, in [0, 1]
    values: Mapping[str, int]  # value in the mask files, as data.classes names them -> masks that hold it
    foreground_fraction: ForegroundFraction | None  # None where no mask is readable
    findings: tuple[Finding, ...]  # errors first

    @property
    def errors(self) -> int:
        """How many checks found errors."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many checks found something to warn of."""
        return len(self.findings) - self.errors

    def as_json(self) -> dict[str, Any]:
        """The report in types that JSON has."""
        return {
            "schema_version": REPORT_SCHEMA,
            **asdict(self),
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [
                {
                    "check": finding.check,
                    "severity": str(finding.severity),
                    "count": len(finding.items),
                    "title": finding.title,
                    "remedy": finding.remedy,
                    "items": list(finding.items),
                }
                for finding in self.findings
            ],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inspection:
    """What reading one slice gave."""

    problems: tuple[tuple[str, str], ...] = ()  # (check, item)
    size: str | None = None
    in_colour: bool = False
    class_pixels: tuple[int, ...] = ()  # of each class; empty where the mask can't be read
    pixels: int = 0  # of the mask
    foreground_pixels: int = 0
    values: tuple[str, ...] = ()  # what the mask's file holds
    digest: bytes | None = None  # of the image's size and pixels; None for constant images as well
    shrunk: bytes | None = None  # to COARSE_PX


class _Inspections:
    """What reading the slices gave, added up: a set may have a million files."""

    def __init__(self, slices: int, labels: Labels) -> None:
        self.done = 0  # slices, in the order of the set
        self.problems: dict[str, list[str]] = defaultdict(list)
        self.sizes: Counter[str] = Counter()
        self.values: Counter[str] = Counter()
        self.colour_images = 0
        self.class_pixels = np.zeros(len(labels.names), np.int64)
        self.pixels = 0
        self.foreground_fractions = array("d")  # of the readable masks
        self.digests: list[bytes | None] = []
        self.shrunk = np.zeros((slices, COARSE_PX**2), np.uint8)  # 0 where an image can't be read

    def add(self, each: _Inspection) -> None:
        for check, item in each.problems:
            self.problems[check].append(item)
        self.sizes.update([] if each.size is None else [each.size])
        self.values.update(each.values)
        self.colour_images += each.in_colour
        if each.class_pixels:
            self.class_pixels += each.class_pixels
            self.pixels += each.pixels
            self.foreground_fractions.append(each.foreground_pixels / each.pixels)
        self.digests.append(each.digest)
        if each.shrunk is not None:
            self.shrunk[self.done] = np.frombuffer(each.shrunk, np.uint8)
        self.done += 1


def verify(root: Path, data: DataConfig | None = None) -> FolderReport:
    """Every finding in the folder. Raises DataError where it can't be checked at all.

    data: how a run would read the files; without it, as a run without further keys would.
    """
    data = replace(data or DataConfig(), name="folder", root=str(root))
    opened = open_folder(root, data)
    listing, metadata, data = opened.listing, opened.metadata, opened.data
    infos = slice_infos(listing, metadata)
    seen = _inspected(root, listing, data)
    problems, fractions = seen.problems, seen.foreground_fractions
    if fractions and not any(fractions):
        problems["no_foreground"] = problems.pop("empty_mask", [])
    classes = _shares(seen, data.labels)
    problems["absent_class"] = [name for name, share in classes.items() if not share and data.labels.are_named]
    problems["no_patient_id"] = [info.id for info in infos if PATIENT not in info.columns]
    patient_ids = {info.columns[PATIENT] for info in infos if PATIENT in info.columns}
    problems["several_ids"] = [
        f"{person}: {', '.join(ids)}" for person, ids in people_with_several_ids(patient_ids).items()
    ]
    problems.update(_copies(root, listing.pairs, infos, seen, data))
    findings = (*folder_findings(listing, metadata), *collect(problems))
    return FolderReport(
        root=str(root),
        layout=listing.kind if listing.annotations or not opened.taken else f"{listing.kind}, with {opened.taken}",
        patterns=listing.layout,
        slices=len(listing.pairs),
        patient_ids=len(patient_ids),
        people=len({person_of(patient_id) for patient_id in patient_ids}),
        tumor_types=_sorted(Counter(info.columns[TUMOR_TYPE] for info in infos if TUMOR_TYPE in info.columns)),
        sizes=_sorted(seen.sizes),
        channels=_channels(data, any_colour=seen.colour_images > 0),
        colour_images=seen.colour_images,
        classes=classes,
        values=_sorted(seen.values),
        foreground_fraction=_fractions(fractions),
        findings=tuple(sorted(findings, key=lambda finding: finding.severity is Severity.WARNING)),
    )


def _inspected(root: Path, listing: Listing, data: DataConfig) -> _Inspections:
    """Reads every slice."""
    pairs, masks = listing.pairs, masks_of(root, listing.pairs, listing.annotations, data)
    seen = _Inspections(len(pairs), data.labels)
    if isinstance(masks, DrawnMasks):  # from one file, of which no process needs another copy
        for each in in_threads(lambda pair: _inspect(root, pair, data, masks), pairs):
            seen.add(each)
        return seen
    with suppress(NotSurveyedError):
        for each in in_processes(partial(_inspect_files, root, data, None), pairs):
            seen.add(each)
    if seen.done < len(pairs):
        survey = masks.survey(in_processes)
        if survey.labels is not None:  # then none of the masks counts
            seen = _Inspections(len(pairs), data.labels)
        for each in in_processes(partial(_inspect_files, root, data, survey), pairs[seen.done :]):
            seen.add(each)
        seen.problems["mask_not_binary"] += [] if survey.labels is None else [survey.labels]
    return seen


def _inspect_files(root: Path, data: DataConfig, survey: MaskSurvey | None, pair: Pair) -> _Inspection:
    """As `_inspect`; raises NotSurveyedError where a survey is needed, and DataError for what nobody expected."""
    try:
        return _inspect(root, pair, data, SetMasks(root, None, data, survey=survey))
    except (NotSurveyedError, DataError):
        raise
    except Exception as error:
        raise DataError(
            f"{root / pair.image} and {pair.mask} can't be checked ({error!r}); take them out to check the others"
        ) from error


def _inspect(root: Path, pair: Pair, data: DataConfig, masks: SetMasks | DrawnMasks) -> _Inspection:
    """Reads one slice; what is wrong with one of its files doesn't hide the other."""
    problems: list[tuple[str, str]] = []
    image = mask = None
    in_colour = False
    try:
        image, in_colour = _read_image(root, pair, data)
    except DataError as error:
        problems.append(("unreadable_file", _relative(root, error)))
    values: tuple[str, ...] = ()
    if isinstance(masks, SetMasks):
        mask, values = _read_masks(root, pair, data, masks, problems)
    elif image is not None:  # whose size the mask has
        try:
            mask, values = _drawn_mask(pair, masks, image.shape[:2], problems)
        except DataError as error:
            problems.append(("unreadable_file", _relative(root, error)))
    files = (*pair.images, *(pair.masks if isinstance(masks, SetMasks) else ()))
    problems += [("several_frames", path) for path in files if _moves(root / path)]
    if in_colour and data.channels == "grey":
        problems.append(("colour_not_read", pair.image))
    if mask is not None and image is not None and mask.shape[:2] != image.shape[:2]:
        problems.append(("size_mismatch", f"{pair.mask}: {size_text(mask.shape)}, image {size_text(image.shape)}"))
    of_image = {} if image is None else _seen(image)
    if image is not None and of_image["digest"] is None:
        problems.append(("constant_image", pair.image))
    return _Inspection(
        problems=tuple(problems),
        in_colour=in_colour,
        values=values,
        **({} if mask is None else _counted(mask, data.labels)),
        **of_image,
    )


def _read_image(root: Path, pair: Pair, data: DataConfig) -> tuple[NDArray[np.uint8], bool]:
    """The image, and whether a pixel isn't grey; of an image without colour, one channel."""
    if not data.channels_are_alike:
        return read_channels([root / path for path in pair.images], data), False
    return read_with_colour(root / pair.image, data)


def _seen(image: NDArray[np.uint8]) -> dict[str, Any]:
    """What is kept of an image."""
    is_constant = bool((image == image[:1, :1]).all())  # each channel
    return {
        "size": size_text(image.shape),
        "digest": None if is_constant else hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest(),
        "shrunk": shrunk(image, COARSE_PX).tobytes(),
    }


def _counted(mask: NDArray[np.uint8], labels: Labels) -> dict[str, Any]:
    """How many pixels of a mask have each class; those that are ignored have none."""
    shown = np.where(mask == IGNORED, 0, mask) if labels.has_ignored else mask
    if labels.exclusive:
        of_class = [int(np.count_nonzero(shown == number)) for number in range(1, len(labels.names) + 1)]
    else:
        of_class = [int(each) for each in np.count_nonzero(shown, axis=(0, 1))]
    return {
        "class_pixels": tuple(of_class),
        "pixels": mask.shape[0] * mask.shape[1],
        "foreground_pixels": int(np.count_nonzero(shown.any(axis=-1))),
    }


def _read_masks(
    root: Path, pair: Pair, data: DataConfig, masks: SetMasks, problems: list[tuple[str, str]]
) -> tuple[NDArray[np.uint8] | None, tuple[str, ...]]:
    """What the masks of a slice make up, or None where one isn't a mask; and the values of their files."""
    values: list[str] = []
    of_objects: list[NDArray[np.uint8]] = []
    for path in pair.masks:
        try:
            one, found = _read_mask(root, path, data, masks, problems)
        except DataError as error:
            problems.append(("unreadable_file", _relative(root, error)))
            continue
        values += found
        of_objects += [] if one is None else [one]
    mask = _merged(pair, of_objects, data, problems) if len(of_objects) == len(pair.masks) else None
    return mask, tuple(dict.fromkeys(values))


def _merged(
    pair: Pair, masks: Sequence[NDArray[np.uint8]], data: DataConfig, problems: list[tuple[str, str]]
) -> NDArray[np.uint8] | None:
    """The mask that those of one slice make up; None where they differ in size."""
    for path, mask in zip(pair.masks, masks, strict=True):
        if mask.shape != masks[0].shape:
            sizes = f"{size_text(mask.shape)}, {pair.mask} {size_text(masks[0].shape)}"
            problems.append(("size_mismatch", f"{path}: {sizes}"))
            return None
    mask = merged(masks)
    if len(masks) > 1 and any(((each != 0) & (each != mask)).any() for each in masks):
        problems.append(("overlapping_masks", pair.image))
    foreground = foreground_pixels(mask)
    if not foreground.any():
        problems.append(("empty_mask", pair.mask))
    elif data.classes is None and foreground.all():
        problems.append(("full_mask", pair.mask))
    return mask


def _moves(path: Path) -> bool:
    try:
        return path.suffix.lower() in MOVING and moves(path)
    except DataError:  # reading it says so
        return False


def _read_mask(
    root: Path, name: str, data: DataConfig, masks: SetMasks, problems: list[tuple[str, str]]
) -> tuple[NDArray[np.uint8] | None, tuple[str, ...]]:
    """The mask as `data.labels` says, or None where it isn't one; and the values of its file.

    masks: of the set, which decides what values without names mean. Raises DataError where the file can't be read.
    """
    path = root / name
    if data.classes is not None:
        file = read_label_file(path, data)
        values = levels_of(file.values).values
        shown = tuple(as_colour(int(value)) if _are_colours(data) else f"{value:g}" for value in values)
        try:
            mask: NDArray[np.uint8] | None = labels_of(path, file, data)
        except DataError as error:
            problems.append(("mask_not_of_classes", _relative(root, error)))
            return None, shown
    else:
        file = read_mask_file(path, reading=data.reading)
        plain = file.plain_values
        levels = None if plain else levels_of(file.values)
        shown = tuple(f"{value:g}" for value in (plain if levels is None else levels.values))
        mask = _without_names(name, file, levels, data, masks, problems)
    return mask, shown


def _drawn_mask(
    pair: Pair, masks: DrawnMasks, size: tuple[int, ...], problems: list[tuple[str, str]]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The mask that annotations have of an image of this height and width, and the categories in it."""
    drawn = masks.draw(pair.annotated or "", *size)
    problems += [(check, item) for check, items in drawn.problems.items() for item in items]
    if not foreground_pixels(drawn.mask).any():
        problems.append(("empty_mask", pair.image))
    return drawn.mask, drawn.categories


def _without_names(
    name: str, file: MaskFile, levels: Levels | None, data: DataConfig, masks: SetMasks, problems: list[tuple[str, str]]
) -> NDArray[np.uint8] | None:
    """Foreground and background of a mask; None where it has more than these two, or where the set holds labels.

    levels: None for plain values.
    """
    top = 0.0 if levels is None else levels.top if data.reading == 1 else masks.survey().top(file.values)
    if masks.problem is not None:
        return None
    if data.ignore is not None:
        return masks.read(name)
    if levels is None:
        return binary_mask(file.values, top)[..., np.newaxis]
    kind = mask_kind(levels, top)
    if kind is MaskKind.OTHER:
        problems.append(("mask_not_binary", f"{name} {not_a_mask(levels)}"))
        return None
    if kind is MaskKind.SOFT:
        problems.append(("soft_mask", name))
    return binary_mask(file.values, top)[..., np.newaxis]


def _are_colours(data: DataConfig) -> bool:
    classes = data.mask_classes
    return classes is not None and classes.are_colours


def _copies(
    root: Path, pairs: Sequence[Pair], infos: Sequence[SliceInfo], seen: _Inspections, data: DataConfig
) -> dict[str, list[str]]:
    """Equal slices and near duplicates, without constant images, which have a check of their own."""
    patient_of = {info.id: info.columns[PATIENT] for info in infos if PATIENT in info.columns}
    pair_of = {pair.id: pair for pair in pairs}
    digests = {pair.id: digest for pair, digest in zip(pairs, seen.digests, strict=True) if digest is not None}

    def label(slice_id: str) -> str:
        return f"{slice_id} (patient {patient_of[slice_id]})" if slice_id in patient_of else slice_id

    def fine(slice_id: str) -> NDArray[np.uint8]:
        return shrunk(_read_image(root, pair_of[slice_id], data)[0], FINE_PX)

    person = {patient_id: person_of(patient_id) for patient_id in set(patient_of.values())}
    people = {slice_id: person[patient_id] for slice_id, patient_id in patient_of.items()}
    near = near_duplicates([*pair_of], seen.shrunk, people, fine)
    return {
        "equal_slices": [" = ".join(label(item) for item in group) for group in equal_groups(digests)],
        "near_copies": [
            f"{label(first)} and {label(second)}: correlation {correlation:.3f}"
            for first, second, correlation in near
            if digests[first] != digests[second]
        ],
    }


def _relative(root: Path, error: DataError) -> str:
    return str(error).removeprefix(str(root / "_").removesuffix("_"))


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _fractions(values: Sequence[float]) -> ForegroundFraction | None:
    if not values:
        return None
    return ForegroundFraction(min=min(values), median=float(np.median(values)), max=max(values))


def _shares(seen: _Inspections, labels: Labels) -> dict[str, float]:
    """Class -> its share of all pixels; empty where no mask can be read."""
    if not seen.pixels:
        return {}
    names = labels.names if labels.are_named else (FOREGROUND,)
    return {name: float(count / seen.pixels) for name, count in zip(names, seen.class_pixels, strict=True)}


def _channels(data: DataConfig, *, any_colour: bool) -> tuple[str, ...]:
    """What `data.channels` stands for in this folder."""
    if isinstance(data.channels, tuple):
        return data.channels
    in_colour = data.channels == "rgb" or (data.channels == "auto" and any_colour)
    return ("red", "green", "blue") if in_colour else ("grey",)
