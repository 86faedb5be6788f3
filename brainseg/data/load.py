"""The data of a run: which source, its decoded slices, its split."""

from dataclasses import dataclass, replace
from pathlib import Path

from brainseg.config import DataConfig, RunConfig
from brainseg.data.cache import SliceSet, load_slices
from brainseg.data.folder import FolderSource
from brainseg.data.phantom.source import PhantomSource
from brainseg.data.source import Source
from brainseg.data.split import Split, make_split, patients_on_both_sides


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What a run trains and validates on."""

    config: RunConfig  # resolved: no `auto` that the data decides is left
    slices: SliceSet
    split: Split
    patients_on_both_sides: int | None  # None where patient ids are unknown
    notes: tuple[str, ...] = ()  # what the user should know of the folder, a line each


def source_of(config: RunConfig) -> Source:
    """The source that `data.name` names. Raises DataError where the folder can't be used."""
    if config.data.root is not None:
        return FolderSource(config.data)
    return PhantomSource(patients=config.data.phantom_patients, seed=config.data.phantom_seed)


def source_of_folder(folder: Path, data: DataConfig | None = None) -> FolderSource:
    """A folder as a source. data: how a run reads its files; without one, as a new run would. Raises DataError."""
    data = replace(data or DataConfig(), name="folder", root=str(folder))
    if data.channels == "auto":
        data = replace(data, channels="rgb" if FolderSource(data).holds_colour() else "grey")
    return FolderSource(data)


def load_data(config: RunConfig, *, split: Split | None = None) -> RunData:
    """The decoded slices and their split, made anew unless it is given.

    Raises DataError, with nothing written, where either is impossible.
    """
    config = resolved(config)
    source = source_of(config)
    # The split first: it needs no pixels, and its errors come before minutes of decoding.
    split = split or make_split(source.slices(), config.data)
    slices = load_slices(source, config.data, cache_dir=cache_dir_of(config))
    both_sides = patients_on_both_sides(split, slices.slices)
    notes = source.notes if isinstance(source, FolderSource) else ()
    return RunData(config=config, slices=slices, split=split, patients_on_both_sides=both_sides, notes=notes)


def resolved(config: RunConfig) -> RunConfig:
    """The configuration with what `auto` stands for, as the data decides it."""
    data = config.data
    if data.channels == "auto":
        holds_colour = data.root is not None and FolderSource(data).holds_colour()
        data = replace(data, channels="rgb" if holds_colour else "grey")
    if data.score_by == "auto":
        data = replace(data, score_by="case" if data.labels.are_named else "slice")
    return replace(config, data=data)


def cache_dir_of(config: RunConfig) -> Path:
    """Where decoded slices are kept."""
    return Path(config.data.cache_dir or Path(config.tracking.root) / "cache")
