"""The data of a run: which source, its decoded slices, its split."""

from dataclasses import dataclass
from pathlib import Path

from brainseg.config import RunConfig
from brainseg.data.cache import SliceSet, load_slices
from brainseg.data.folder import FolderSource
from brainseg.data.phantom.source import PhantomSource
from brainseg.data.source import Source
from brainseg.data.split import Split, make_split, patients_on_both_sides


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What a run trains and validates on."""

    slices: SliceSet
    split: Split
    patients_on_both_sides: int | None  # None where patient ids are unknown


def source_of(config: RunConfig) -> Source:
    """The source that `data.name` names. Raises DataError where the folder can't be used."""
    if config.data.root is not None:
        return FolderSource(Path(config.data.root))
    return PhantomSource(patients=config.data.phantom_patients, seed=config.data.phantom_seed)


def load_data(config: RunConfig, *, split: Split | None = None) -> RunData:
    """The decoded slices and their split, made anew unless it is given.

    Raises DataError, with nothing written, where either is impossible.
    """
    source = source_of(config)
    # The split first: it needs no pixels, and its errors come before minutes of decoding.
    split = split or make_split(source.slices(), config.data)
    cache_dir = Path(config.data.cache_dir or Path(config.tracking.root) / "cache")
    slices = load_slices(source, image_size=config.data.image_size, cache_dir=cache_dir)
    return RunData(slices=slices, split=split, patients_on_both_sides=patients_on_both_sides(split, slices.slices))
