"""The data of a run: which source, its decoded slices, its split."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from brainseg.classes import Labels
from brainseg.config import CHANNEL_COUNTS, MASK_FILES, DataConfig, RunConfig
from brainseg.data.annotations.find import has_annotations
from brainseg.data.cache import SliceSet, link, load_slices, stored_channels
from brainseg.data.folder import FolderSource
from brainseg.data.phantom.source import PhantomSource
from brainseg.data.source import Source
from brainseg.data.split import Split, make_split, patients_on_both_sides
from brainseg.errors import DataError
from brainseg.plugins import is_built_in, made, part

SOURCE = ("name", "location", "labels", "slices", "read", "holds_colour", "stamp")  # what a Source has


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What a run trains and validates on."""

    config: RunConfig  # resolved: no `auto` that the data decides is left
    slices: SliceSet
    split: Split
    patients_on_both_sides: int | None  # None where patient ids are unknown
    notes: tuple[str, ...] = ()  # what the user should know of the data, a line each


def source_of(config: RunConfig) -> Source:
    """The source that `data.name` names, a plugin's reader among them. Raises DataError where it can't be used."""
    data = config.data
    if is_built_in("readers", data.name):
        source: Source = part("readers", data.name)(data)
        return source
    return _checked(data, made("readers", data.name, data.options).open(data))


def _checked(data: DataConfig, source: Any) -> Source:
    """What a plugin's reader has opened. Raises DataError where it is no `Source`, by its first slice."""
    what = f"data.name={data.name}"
    if missing := [name for name in SOURCE if not hasattr(source, name)]:
        raise DataError(f"{what} must open a Source, and {', '.join(missing)} is missing; add it")
    ids = [item.id for item in source.slices()]
    if not ids or ids != sorted(set(ids)):
        raise DataError(f"{what} must have slices, each id once and sorted, got {', '.join(ids[:3]) or 'none'}")
    image, mask = source.read(ids[0])
    rule = f"uint8 of (height, width, channels) and (height, width, {data.labels.mask_channels})"
    if (image.dtype, mask.dtype) != (np.uint8, np.uint8) or (image.ndim, mask.ndim) != (3, 3):
        raise DataError(f"{what} must read {rule}, got {image.dtype} of {image.shape} and {mask.dtype} of {mask.shape}")
    if mask.shape != (*image.shape[:2], data.labels.mask_channels):
        raise DataError(f"{what} must read {rule} of one size, got {image.shape} and {mask.shape}")
    checked: Source = source
    return checked


def folder(data: DataConfig) -> FolderSource:
    """`data.root`."""
    return FolderSource(data)


def phantom(data: DataConfig) -> PhantomSource:
    """Slices made from a seed."""
    return PhantomSource(
        patients=data.phantom_patients, seed=data.phantom_seed, kind=data.phantom_kind, channels=data.channels
    )


def source_of_folder(
    folder: Path, data: DataConfig | None = None, *, named: Mapping[str, Any] = MappingProxyType({})
) -> FolderSource:
    """A folder as a source. data: how a run reads its files; without one, as a new run would.

    named: keys of `data` with the values that they have for this folder. Raises DataError. The set may have pixels to
    ignore where the run has none.
    """
    known = data
    data = data or DataConfig()
    name = data.name if data.is_of_volumes else "folder"
    data = replace(data, **{"name": name, "options": {}, "root": str(folder), **named})
    if known is not None and "annotations" not in named and not has_annotations(folder, known.annotations):
        data = replace(data, annotations=MASK_FILES)  # mask files before annotations, and nothing is taken
    source = FolderSource(data)
    if known is not None and replace(source.labels, has_ignored=known.labels.has_ignored) != known.labels:
        raise DataError(
            f"{folder}: {source.data.annotations} has {_about(source.labels)}, and the run {_about(known.labels)}; "
            "name a folder that is annotated as the run's"
        )
    return source if data.channels != "auto" else source.read_by(_with_channels(source.data, source, None))


def load_data(config: RunConfig, *, split: Split | None = None) -> RunData:
    """The decoded slices and their split, made anew unless it is given.

    Raises DataError, with nothing written, where either is impossible.
    """
    given, cache_dir = source_of(config), cache_dir_of(config)
    # The split first: it needs no pixels, and its errors come before minutes of decoding.
    split = split or make_split(given.slices(), config.data)
    source, config = _resolved(config, given, cache_dir)
    slices = load_slices(source, config.data, cache_dir=cache_dir, needs_foreground=True)
    if source is not given:
        link(given, config.data, cache_dir=cache_dir, to=source)
    return RunData(
        config=config,
        slices=slices,
        split=split,
        patients_on_both_sides=patients_on_both_sides(split, slices.slices),
        notes=(*(given.notes if isinstance(given, FolderSource) else ()), *slices.notes),
    )


def resolved_source(config: RunConfig) -> tuple[Source, RunConfig]:
    """The source, and the configuration with what `auto` stands for. Raises DataError where the set can't be used."""
    return _resolved(config, source_of(config), cache_dir_of(config))


def _resolved(config: RunConfig, source: Source, cache_dir: Path) -> tuple[Source, RunConfig]:
    """The configuration with what `auto` stands for, as the data decides it, and the source that is read so."""
    data = source.data if isinstance(source, FolderSource) else config.data
    if data.score_by == "auto":
        data = replace(data, score_by="case" if data.labels.are_named else "slice")
    if data.channels == "auto":
        if isinstance(source, FolderSource):
            data = _with_channels(data, source, cache_dir)
            source = source.read_by(data)
        else:
            data = replace(data, channels="rgb" if source.holds_colour() else "grey")
            source = source_of(replace(config, data=data))
    return source, replace(config, data=data)


def _with_channels(data: DataConfig, source: FolderSource, cache_dir: Path | None) -> DataConfig:
    """The channels that `auto` stands for: rgb where any image holds colour, else grey.

    With `data.reading` 1 it is grey. cache_dir: where the answer may be known already, so that no image is read.
    """
    if data.reading == 1:
        return replace(data, channels="grey")
    known = None if cache_dir is None else stored_channels(source, data, cache_dir=cache_dir)
    in_colour = source.holds_colour() if known is None else known == CHANNEL_COUNTS["rgb"]
    return replace(data, channels="rgb" if in_colour else "grey")


def _about(labels: Labels) -> str:
    """The classes, for an error."""
    return f"the classes {', '.join(labels.names)}" if labels.are_named else "no classes"


def cache_dir_of(config: RunConfig) -> Path:
    """Where decoded slices are kept."""
    return Path(config.data.cache_dir or Path(config.tracking.root) / "cache")
