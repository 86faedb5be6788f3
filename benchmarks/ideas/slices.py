"""All slices of a set on one device, and which of them train, validate and test."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.labels import neighbours
from brainseg.config import DataConfig
from brainseg.data.cache import SliceSet, load_slices
from brainseg.data.folder import FolderSource
from brainseg.data.people import person_of
from brainseg.data.source import PATIENT, TUMOR_TYPE
from brainseg.data.split import make_split

SIZE = 256
FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Part:
    """Positions of the slices that train, validate and test; the last are empty in a split by image."""

    train: NDArray[np.intp]
    val: NDArray[np.intp]
    test: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Slices:
    """A set on a device, in the order of ids."""

    images: torch.Tensor  # uint8, (slices, SIZE, SIZE)
    masks: torch.Tensor  # uint8 {0, 1}, the same
    types: tuple[str, ...]  # names, in the order of `type_of`
    type_of: torch.Tensor  # int64, (slices,)
    person_of: NDArray[np.str_]  # (slices,)
    neighbour_of: torch.Tensor  # int64, (slices,): the same person's slice that looks most like it, or itself
    folds: tuple[Part, ...]  # as `experiment=best` has them
    by_image: Part  # the same with data.split_by=image data.folds=null data.fold=null

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.images.device


def load(root: Path, *, cache_dir: Path, device: str) -> Slices:
    """The set of a folder at SIZE pixels a side. Raises DataError where it can't be read or split by patient."""
    source = FolderSource(root)
    found = load_slices(source, image_size=SIZE, cache_dir=cache_dir)
    kinds = [item.columns[TUMOR_TYPE] for item in found.slices]
    types = tuple(sorted(set(kinds)))
    by_patient = DataConfig(name="folder", root=str(root), image_size=SIZE, folds=FOLDS, fold=0)
    return Slices(
        images=torch.from_numpy(np.array(found.images[..., 0])).to(device),
        masks=torch.from_numpy(np.array(found.masks[..., 0])).to(device),
        types=types,
        type_of=torch.tensor([types.index(kind) for kind in kinds], device=device),
        person_of=np.array([person_of(item.columns[PATIENT]) for item in found.slices]),
        neighbour_of=torch.from_numpy(_neighbours(source, found)).to(device),
        folds=tuple(_part(found, replace(by_patient, fold=fold)) for fold in range(FOLDS)),
        by_image=_part(found, replace(by_patient, split_by="image", folds=None, fold=None)),
    )


def _part(found: SliceSet, config: DataConfig) -> Part:
    split = make_split(found.slices, config)
    train, val, test = (found.positions(ids) for ids in (split.train, split.val, split.test))
    return Part(train=train, val=val, test=test)


def _neighbours(source: FolderSource, found: SliceSet) -> NDArray[np.intp]:
    nearest = np.arange(len(found.slices))
    pairs = neighbours(source)
    nearest[found.positions([item.id for item in pairs])] = found.positions([item.other for item in pairs])
    return nearest
