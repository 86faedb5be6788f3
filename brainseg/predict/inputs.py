"""What is predicted: an image for each file, or for the files of its named channels."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.config import DataConfig
from brainseg.data.decode import read_channels
from brainseg.data.image_files import ImageFile
from brainseg.errors import DataError

TIFF = (".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class InputImage:
    """One image to predict."""

    id: str
    paths: tuple[Path, ...]  # one, or one for each named channel in their order
    error: str = ""  # why it can't be read, as far as the names of its files tell; one line

    @property
    def shown(self) -> str:
        """The files, for people."""
        return "; ".join(map(str, self.paths))

    def read(self, data: DataConfig) -> NDArray[np.uint8]:
        """The image, (height, width, channels). Raises DataError."""
        if self.error:
            raise DataError(self.error)
        return read_channels(self.paths, data)


def input_images(files: Sequence[ImageFile], data: DataConfig) -> tuple[InputImage, ...]:
    """The images that these files are, sorted by id. Of named channels `ID_flair.png` and `ID_t1.png` are one image.

    Files of other channels are passed over. Where no file has the name of a channel, each TIFF holds them all; raises
    DataError if there is none.
    """
    if data.channels_are_alike:
        return tuple(InputImage(id=file.id, paths=(file.path,)) for file in files)
    of_images: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        named = _split(file, data.channels)
        if named is not None:
            image_id, channel = named
            of_images[image_id][channel].append(file.path)
    if not of_images and (whole := [file for file in files if file.path.suffix.lower() in TIFF]):
        return tuple(InputImage(id=file.id, paths=(file.path,)) for file in whole)
    if not of_images:
        endings = ", ".join(f"_{name}" for name in data.channels)
        raise DataError(
            f"no image's name ends in {endings}, which are the channels of the model (such as {files[0].path}); "
            f"name files such as ID_{data.channels[0]}.png"
        )
    return tuple(_image(image_id, of_images[image_id], data.channels) for image_id in sorted(of_images))


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
