"""The volumes of a set, with what their headers tell of them, and their slices."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.config import DataConfig
from brainseg.data.layout import Pair
from brainseg.data.set_masks import SetMasks
from brainseg.data.source import PATIENT, SliceInfo
from brainseg.data.volumes.nifti_file import read_grid
from brainseg.data.volumes.volume import Recent, Volume, open_volume, shape_text
from brainseg.errors import DataError

# Half a voxel: from there on a voxel of the image lies nearer to another one of the mask.
MAX_DISTANCE = 0.5
MAX_RATIO = 1.5  # of voxel sides of two volumes


@dataclass(frozen=True, kw_only=True)
class Volumes:
    """The volumes whose headers fit, by id; and what is wrong, by key of findings.CHECKS."""

    of_id: Mapping[str, Volume]
    problems: Mapping[str, list[str]] = field(default_factory=dict)

    def cut(self, infos: Iterable[SliceInfo]) -> tuple[SliceInfo, ...]:
        """The slices, sorted by id, with what is known of their volumes. One without a patient id is a patient."""
        return tuple(
            sorted(
                (
                    replace(info, id=slice_id, columns={PATIENT: info.id, **info.columns})
                    for info in infos
                    if info.id in self.of_id
                    for slice_id in self.of_id[info.id].slice_ids
                ),
                key=lambda info: info.id,
            )
        )


class VolumeSlices:
    """Reads the slices of volumes; each volume is read once while they are asked for in the order of ids."""

    def __init__(self, volumes: Volumes, pairs: Iterable[Pair], masks: SetMasks, data: DataConfig) -> None:
        self._places = {
            slice_id: (volume.id, number)
            for volume in volumes.of_id.values()
            for number, slice_id in enumerate(volume.slice_ids)
        }
        files = {pair.id: pair.masks for pair in pairs}

        def read_mask(volume_id: str) -> NDArray[np.uint8]:
            volume = volumes.of_id[volume_id]
            mask = masks.merged(files[volume_id])
            return volume.cut(mask.reshape(*volume.grid.shape, -1))

        self.image: Recent[str, NDArray[np.uint8]] = Recent(lambda volume_id: volumes.of_id[volume_id].read(data))
        self.mask: Recent[str, NDArray[np.uint8]] = Recent(read_mask)

    def read(self, slice_id: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """As `Source.read`."""
        volume_id, number = self._places[slice_id]
        return self.image(volume_id)[number], self.mask(volume_id)[number]


def open_volumes(root: Path, pairs: Sequence[Pair], data: DataConfig) -> Volumes:
    """Reads every header; what is wrong with one volume doesn't hide the others."""
    volumes: dict[str, Volume] = {}
    problems: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        try:
            volume = open_volume(pair.id, [root / path for path in pair.images], data)
            wrong = [found for path in pair.masks if (found := _wrong_with_mask(root, path, pair, volume)) is not None]
        except DataError as error:
            wrong = [("unreadable_file", str(error).removeprefix(f"{root}/"))]
        for check, item in wrong:
            problems[check].append(item)
        if not wrong:
            volumes[pair.id] = volume
    problems["voxel_sizes"] = _unlike_sizes([*volumes.values()])
    problems["orientation"] = _unlike_orientations([*volumes.values()])
    return Volumes(of_id=volumes, problems=problems)


def _wrong_with_mask(root: Path, path: str, pair: Pair, volume: Volume) -> tuple[str, str] | None:
    """The check and the item; None if the mask lies on its image."""
    grid = read_grid(root / path)
    if grid.channels > 1:
        raise DataError(f"{root / path} must be a mask of three axes, got {grid.channels} volumes; export one of them")
    if grid.shape != volume.grid.shape:
        return "size_mismatch", f"{path}: {shape_text(grid)}, image {shape_text(volume.grid)}"
    distance = volume.grid.distance_from(grid)
    return ("mask_elsewhere", f"{path}: {distance:.1f} voxels from {pair.image}") if distance > MAX_DISTANCE else None


def _unlike_sizes(volumes: Sequence[Volume]) -> list[str]:
    """An item between slices and one within them, where the voxel sides of two volumes differ too much."""
    found = []
    for where, place in (("between slices", slice(0, 1)), ("within slices", slice(1, 3))):
        sides = sorted((side, volume.id) for volume in volumes for side in volume.spacing_mm[place])
        if sides and sides[-1][0] > MAX_RATIO * sides[0][0]:
            (least, first), (most, last) = sides[0], sides[-1]
            found.append(f"{where} {least:.3g} mm ({first}) to {most:.3g} mm ({last})")
    return found


def _unlike_orientations(volumes: Sequence[Volume]) -> list[str]:
    stored = {volume.id: f"{volume.grid.orientation}, cut along axis {volume.axis}" for volume in volumes}
    usual = Counter(stored.values()).most_common(1)
    return [f"{name}: {how} (most: {usual[0][0]})" for name, how in stored.items() if how != usual[0][0]]
