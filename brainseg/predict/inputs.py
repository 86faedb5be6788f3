"""What is predicted: an image for each file, or for the files of its named channels; of volumes one for each slice."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.config import DataConfig
from brainseg.data.decode import read_channels
from brainseg.data.image_files import ImageFile
from brainseg.data.names import is_volume
from brainseg.data.volumes.volume import Recent, Volume, open_volume
from brainseg.errors import DataError

TIFF = (".tif", ".tiff")


@dataclass(frozen=True, kw_only=True, eq=False)
class VolumeSlice:
    """Which slice of which volume an image is."""

    volume: Volume
    number: int
    pixels: Recent[Volume, NDArray[np.uint8]]  # of all slices


@dataclass(frozen=True, kw_only=True)
class InputImage:
    """One image to predict."""

    id: str
    paths: tuple[Path, ...]  # one, or one for each named channel in their order
    error: str = ""  # why it can't be read, as far as the names and headers of its files tell; one line
    part: VolumeSlice | None = None  # of a volume

    @property
    def files(self) -> str:
        """The paths."""
        return "; ".join(map(str, self.paths))

    @property
    def shown(self) -> str:
        """The files, for people; of a volume with the slice."""
        return self.files if self.part is None else f"{self.files}, slice {self.part.number}"

    def read(self, data: DataConfig) -> NDArray[np.uint8]:
        """The image, (height, width, channels). Raises DataError."""
        if self.error:
            raise DataError(self.error)
        if self.part is not None:
            image: NDArray[np.uint8] = self.part.pixels(self.part.volume)[self.part.number]
            return image
        return read_channels(self.paths, data)


def input_images(files: Sequence[ImageFile], data: DataConfig) -> tuple[InputImage, ...]:
    """The images that these files are, sorted by id. Of named channels `ID_flair.png` and `ID_t1.png` are one image.

    Files of other channels are passed over. Where no file has the name of a channel, each TIFF or volume holds them
    all; raises DataError if there is none. A volume is as many images as it has slices, one after the other.
    """
    return tuple(_cut(_whole_images(files, data), data))


def _cut(images: Iterable[InputImage], data: DataConfig) -> Iterator[InputImage]:
    """The images, and in the place of each volume its slices."""
    pixels: Recent[Volume, NDArray[np.uint8]] = Recent(lambda volume: volume.read(data))
    for image in images:
        if image.error or not is_volume(image.paths[0].name):
            yield image
            continue
        try:
            volume = open_volume(image.id, image.paths, data)
        except DataError as error:
            yield replace(image, error=str(error))
            continue
        for number, slice_id in enumerate(volume.slice_ids):
            yield replace(image, id=slice_id, part=VolumeSlice(volume=volume, number=number, pixels=pixels))


def _whole_images(files: Sequence[ImageFile], data: DataConfig) -> tuple[InputImage, ...]:
    if data.channels_are_alike:
        return tuple(InputImage(id=file.id, paths=(file.path,)) for file in files)
    of_images: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        named = _split(file, data.channels)
        if named is not None:
            image_id, channel = named
            of_images[image_id][channel].append(file.path)
    if not of_images and (whole := [file for file in files if _may_hold_channels(file.path)]):
        return tuple(InputImage(id=file.id, paths=(file.path,)) for file in whole)
    if not of_images:
        endings = ", ".join(f"_{name}" for name in data.channels)
        raise DataError(
            f"no image's name ends in {endings}, which are the channels of the model (such as {files[0].path}); "
            f"name files such as ID_{data.channels[0]}.png"
        )
    return tuple(_image(image_id, of_images[image_id], data.channels) for image_id in sorted(of_images))


def _may_hold_channels(path: Path) -> bool:
    return path.suffix.lower() in TIFF or is_volume(path.name)


def _split(file: ImageFile, channels: Sequence[str]) -> tuple[str, str] | None:
    """The image's id and the channel of a file; None if it has none of them."""
    name = file.id.removesuffix(file.path.suffix)
    # The longest name first: 7_t1_ce is of the channel t1_ce, if there is one, and not of ce.
    for channel in sorted(channels, key=len, reverse=True):
        if name.endswith(f"_{channel}") and file.path.stem != f"_{channel}":
            return name.removesuffix(f"_{channel}"), channel
    return None


def _image(image_id: str, found: Mapping[str, list[Path]], channels: Sequence[str]) -> InputImage:
    paths = tuple(path for channel in channels for path in found.get(channel, ()))
    missing = [channel for channel in channels if channel not in found]
    twice = [channel for channel in channels if len(found.get(channel, ())) > 1]
    error = ""
    if missing:
        names = " and ".join(f"{Path(image_id).name}_{channel}" for channel in missing)
        error = f"{paths[0]} lacks {names} beside it, and the model takes {', '.join(channels)}; add the missing files"
    elif twice:
        both = " and ".join(map(str, found[twice[0]]))
        error = f"{both} are both the channel {twice[0]} of one image; leave one out"
    return InputImage(id=image_id, paths=paths, error=error)
