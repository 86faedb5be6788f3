"""Image files in, uint8 arrays out: every rule about bit depths, colours and what a mask is.

The rules are those of `data.reading=2`; where 1, as version 0.1 read, differs, it is said so. What masks hold is
decided for a whole set, by `brainseg.data.set_masks`. Every failure is one line that names the file and the remedy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brainseg.classes import IGNORED, as_colour
from brainseg.config import DataConfig
from brainseg.data.channels import join_channels
from brainseg.data.opening import load_content, load_file, load_pages, mode_of_file
from brainseg.errors import DataError

FIRST_EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")  # of version 0.1
EXTENSIONS = (*FIRST_EXTENSIONS, ".bmp", ".gif", ".webp")

# Raised when the same file would decode to other pixels; part of a folder's stamp.
RULES_VERSION = 1

_GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ALPHA_MODES = ("LA", "La")
_TRANSPARENT_MODES = ("RGBA", "RGBa", *_ALPHA_MODES)
_PERCENTILES = (0.5, 99.5)  # a few hot pixels, or a burnt-in label, don't decide the contrast
_ROWS = 4096  # of a mask that are counted together
_COLOURFUL = 16  # levels of 255: the colours that JPEG makes of grey, and that sensors add, are weaker
LABELS_BELOW = 16  # whole numbers below this, three or more of them, are class labels
_BETWEEN = (1 / 8, 7 / 8)  # of the maximum: neither background nor foreground, and no JPEG ringing either
_MAX_BETWEEN_SHARE = 1 / 8  # soft edges are thin; more grey than this is an image, not a mask

Values = NDArray[Any]  # values as stored: integer or float, (height, width)


class MaskKind(StrEnum):
    """What the values of a mask file amount to."""

    BINARY = "binary"  # zero and at most one other value
    SOFT = "soft"  # a binary mask with soft edges: resized, or saved as JPEG
    OTHER = "other"  # class labels, or not a mask at all


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskFile:
    """A mask file's pixels before any threshold."""

    values: Values  # (height, width); of colours the largest channel, so that a red mask counts as fully as a white one
    colours: NDArray[np.int32] | None  # 0xRRGGBB, (height, width); None for a file in grey, or of class numbers
    is_jpeg: bool

    @property
    def plain_values(self) -> tuple[int, ...]:
        """0 and the largest value of its type, if it holds no others: then no other file has a say in what it means.

        Those of them that it holds; nothing where it holds others.
        """
        top = {"uint8": 255, "uint16": 65535}.get(self.values.dtype.name)
        if self.colours is not None or top is None:
            return ()
        is_zero, is_top = self.values == 0, self.values == top
        if not (is_zero | is_top).all():
            return ()
        return tuple(value for value, found in ((0, is_zero), (top, is_top)) if found.any())


@dataclass(frozen=True, kw_only=True, eq=False)
class Levels:
    """The values of a mask, counted."""

    values: Values  # sorted, each once
    counts: NDArray[np.int64]  # pixels of each
    even: Values  # those that fill an area of at least 3x3 pixels; sorted

    @property
    def top(self) -> float:
        return float(self.values[-1])


def read_image(path: Path, data: DataConfig) -> NDArray[np.uint8]:
    """The image with the channels that `data.channels` names, (height, width, channels): one, or three of colour.

    Of a file that is one of several named channels, it is that one. 8-bit files keep their values, with palettes and
    colours as luma (ITU-R 601, as in PIL) unless colours are asked for; alpha is left out; `grey_range` says how
    deeper ones are scaled. EXIF orientation is applied, unless `data.reading` is 1.
    Raises DataError where the file can't be decoded or holds values that are not finite.
    """
    return _pixels(path, load_file(path, reading=data.reading), data)


def read_with_colour(path: Path, data: DataConfig) -> tuple[NDArray[np.uint8], bool]:
    """The image, and whether a pixel isn't grey: then three channels, unless `data.channels` is grey, and else one.

    Raises DataError like `read_image`.
    """
    image = load_file(path, reading=data.reading)
    if image.mode in _GREY_MODES:
        return _grey(path, image, data), False
    colours = np.asarray(_convert(path, image, "RGB"), dtype=np.uint8)
    if (colours == colours[..., :1]).all():
        return colours[..., :1], False
    return _grey(path, image, data) if data.channels == "grey" else colours, True


def read_channels(paths: Sequence[Path], data: DataConfig) -> NDArray[np.uint8]:
    """The image that these files make up, (height, width, channels), in their order.

    One file of several named channels has them as its pages, or as the samples of its pixels. Raises DataError.
    """
    if len(paths) == 1 and not data.channels_are_alike and data.channel_count > 1:
        return _channels_in(paths[0], data)
    return join_channels([read_image(path, data) for path in paths], called=[*map(str, paths)])


def _channels_in(path: Path, data: DataConfig) -> NDArray[np.uint8]:
    pages = load_pages(path)
    kind = "pages" if len(pages) > 1 else "samples a pixel"
    channels = pages if len(pages) > 1 else list(pages[0].split())
    if len(channels) != data.channel_count:
        names = ", ".join(data.channels)
        raise DataError(
            f"{path} holds {len(channels)} {kind}, and data.channels names {data.channel_count} ({names}); name each "
            "of them; slices of a volume aren't read, export a file a slice"
        )
    return join_channels(
        [_pixels(path, channel, data) for channel in channels],
        called=[f"{path}, {name}" for name in data.channels],
    )


def decode_image(content: bytes, data: DataConfig, *, called: str) -> NDArray[np.uint8]:
    """As `read_image`, of a file's content; `called` names it in errors."""
    return _pixels(called, load_content(content, called=called, reading=data.reading), data)


def holds_colour(path: Path) -> bool:
    """Whether an image has a pixel whose red, green and blue lie more than 16 of 255 levels apart.

    Grey pictures that were saved as colour JPEG stay below that. The header of a grey file is enough. Raises DataError.
    """
    if mode_of_file(path) in (*_GREY_MODES, *_ALPHA_MODES):
        return False
    pixels = np.asarray(_convert(path, load_file(path, reading=1), "RGB"))
    return bool((pixels.max(axis=-1) - pixels.min(axis=-1) > _COLOURFUL).any())


def read_mask_file(path: Path, *, reading: int) -> MaskFile:
    """A mask file's values and colours. Raises DataError where it can't be decoded.

    The indices of a palette are class numbers, unless its colours are black and white alone. With `reading` 1 the
    colours of a palette count, and of all colours the largest channel.
    """
    image = load_file(path, reading=reading)
    colours = None
    if image.mode in _GREY_MODES:
        values = np.asarray(image)
        check_finite(path, values)
        values = values.astype(np.uint8) * 255 if values.dtype == bool else values
    elif image.mode in _ALPHA_MODES:
        values = np.asarray(image)[..., 0]
    elif image.mode == "P" and reading > 1 and not _is_black_and_white(image):
        values = np.asarray(image)
    else:
        pixels = np.asarray(_convert(path, image, "RGB"))
        values = pixels.max(axis=-1)
        if reading > 1 and (pixels != pixels[..., :1]).any():
            colours = _packed(pixels)
    if reading > 1 and image.mode in _TRANSPARENT_MODES and not values.any():
        _check_transparency(path, image)
    return MaskFile(values=values, colours=colours, is_jpeg=image.format == "JPEG")


def read_label_file(path: Path, data: DataConfig) -> MaskFile:
    """The values of a mask file as `data.classes` names them: numbers, or colours as 0xRRGGBB.

    Numbers are those that the file holds: of a palette, its indices. Raises DataError where the file can't be decoded,
    or holds colours where numbers are due.
    """
    classes = data.mask_classes
    assert classes is not None
    image = load_file(path, reading=data.reading)
    if classes.are_colours:
        values: Values = _packed(np.asarray(_convert(path, image, "RGB")))
    elif image.mode == "P" or image.mode in _GREY_MODES:
        values = np.asarray(image)
        check_finite(path, values)
        values = values.astype(np.uint8) if values.dtype == bool else values
    elif image.mode in _ALPHA_MODES:
        values = np.asarray(image)[..., 0]
    else:
        pixels = np.asarray(_convert(path, image, "RGB"))
        if (pixels != pixels[..., :1]).any():
            raise DataError(f"{path} holds colours, and data.classes names numbers; name colours such as '#ff0000'")
        values = pixels[..., 0]
    return MaskFile(values=values, colours=None, is_jpeg=image.format == "JPEG")


def levels_of(values: Values) -> Levels:
    """The values of a mask, counted. values: (height, width)."""
    if values.dtype == np.uint8:  # many times as fast as sorting; rows together, since counting takes 8 bytes a value
        every = np.zeros(256, np.int64)
        for first in range(0, len(values), _ROWS):
            every += np.bincount(values[first : first + _ROWS].ravel(), minlength=256)
        found = np.flatnonzero(every)
        return Levels(values=found.astype(np.uint8), counts=every[found], even=_even_values(values))
    levels, counts = np.unique(values, return_counts=True)
    return Levels(values=levels, counts=counts, even=_even_values(values))


def mask_kind(levels: Levels, top: float) -> MaskKind:
    """What these mask values are. top: the largest value of the set, or of the file where it stands alone.

    BINARY: zero and at most one other value, or one value alone: {0, 1}, {0, 255}, {0}, {255}.
    OTHER: a negative value; three or more whole numbers where `top` is below 16 (labels such as 0, 1, 2, 4); an even
    area of at least 3x3 pixels between 1/8 and 7/8 of `top` (labels such as 0, 128, 255); or more than 1/8 of all
    pixels in that range (an image).
    SOFT: everything else.
    """
    values = levels.values
    if values[0] < 0:
        return MaskKind.OTHER
    if values.size == 1 or (values.size == 2 and values[0] == 0):
        return MaskKind.BINARY
    if top < LABELS_BELOW and bool((values == np.floor(values)).all()):
        return MaskKind.OTHER
    low, high = (top * share for share in _BETWEEN)
    between = (values > low) & (values < high)
    is_image = levels.counts[between].sum() / levels.counts.sum() > _MAX_BETWEEN_SHARE
    if is_image or bool(((levels.even > low) & (levels.even < high)).any()):
        return MaskKind.OTHER
    return MaskKind.SOFT


def binary_mask(values: Values, top: float) -> NDArray[np.uint8]:
    """1 where a value is above zero and at least half of `top`, else 0."""
    mask: NDArray[np.bool_] = (values > 0) & (values >= top / 2)
    return mask.astype(np.uint8)


def not_a_mask(levels: Levels) -> str:
    """What is wrong with mask values of the kind OTHER, with the remedy; follows the file's name."""
    values = levels.values
    if values.size > 8:
        seen = f"{values.size} values from {values[0]} to {values[-1]}; are image and mask exchanged?"
    else:
        seen = f"the values {', '.join(str(level) for level in values)};"
    return f"is not a mask of two classes, it holds {seen} write 0 for background and 255 for tumour"


def size_text(shape: tuple[int, ...]) -> str:
    """(height, width) as people write it: width x height."""
    return f"{shape[1]}x{shape[0]}"


def check_size(path: Path, shape: tuple[int, ...], other: str, others: tuple[int, ...]) -> None:
    """Raises DataError where the mask at `path` has another size than the file `other`."""
    if shape[:2] != others[:2]:
        raise DataError(
            f"{path} must have the size of {other}, {size_text(others)}, got {size_text(shape)}; "
            "export both at one size"
        )


def scale_to_uint8(values: Values, ends: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Values mapped linearly from `ends` to 0 and 255, clipped and rounded; without ends, from their own min and max.

    A constant becomes 0.
    """
    low, high = ends or (float(values.min()), float(values.max()))
    if low == high:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = (values.astype(np.float64) - low) * (255.0 / (high - low))
    levels: NDArray[np.uint8] = np.rint(scaled.clip(0.0, 255.0)).astype(np.uint8)
    return levels


def grey_range(values: Values, data: DataConfig) -> tuple[float, float]:
    """What becomes black and white of values of more than 8 bits: `data.window`, or the 0.5th and 99.5th percentile.

    Where these percentiles are equal, or `data.reading` is 1: the smallest and the largest value.
    """
    if data.window is not None:
        ends: tuple[float, float] = data.window
        return ends
    if data.reading > 1:
        low, high = (float(end) for end in np.percentile(values, _PERCENTILES))
        if low < high:
            return low, high
    return float(values.min()), float(values.max())


def check_finite(name: Path | str, values: Values) -> None:
    """Raises DataError, which calls the file `name`, for values that are NaN or infinite."""
    if not np.isfinite(values).all():
        raise DataError(f"{name} holds NaN or infinite values; export it again with finite ones")


def _even_values(values: Values) -> Values:
    """The values that fill an area of at least 3x3 pixels, sorted."""
    rows = (values[:, :-2] == values[:, 1:-1]) & (values[:, 1:-1] == values[:, 2:])
    columns = (values[:-2] == values[1:-1]) & (values[1:-1] == values[2:])
    even = rows[:-2] & rows[1:-1] & rows[2:] & columns[:, 1:-1]
    inside = values[1:-1, 1:-1][even]
    found: Values = (
        np.flatnonzero(np.bincount(inside)).astype(np.uint8) if values.dtype == np.uint8 else np.unique(inside)
    )
    return found


def _pixels(name: Path | str, image: Image.Image, data: DataConfig) -> NDArray[np.uint8]:
    if data.channels != "rgb":
        return _grey(name, image, data)
    if image.mode in _GREY_MODES:
        return np.repeat(_grey(name, image, data), 3, axis=-1)
    return np.asarray(_convert(name, image, "RGB"), dtype=np.uint8)


def _grey(name: Path | str, image: Image.Image, data: DataConfig) -> NDArray[np.uint8]:
    """(height, width, 1)."""
    if image.mode in ("1", "L") or image.mode not in _GREY_MODES:
        return np.asarray(_luma(name, image), dtype=np.uint8)[..., np.newaxis]
    values = np.asarray(image)
    check_finite(name, values)
    return scale_to_uint8(values, grey_range(values, data))[..., np.newaxis]


def labels_of(name: Path, file: MaskFile, data: DataConfig) -> NDArray[np.uint8]:
    """The values that `read_label_file` gives as a mask in memory (see `Labels`), (height, width, mask channels).

    Raises DataError, which calls the file `name`, for a value that nobody named.
    """
    values, classes, ignore = file.values, data.mask_classes, data.ignore
    assert classes is not None
    known = {*classes.background, *(value for of_class in classes.values.values() for value in of_class)}
    unknown = [value for value in np.unique(values).tolist() if value not in known and value != ignore]
    if unknown:
        shown = [as_colour(value) if classes.are_colours else f"{value:g}" for value in unknown[:8]]
        remedy = "name what it is, or leave it out of loss and scores by data.ignore"
        if file.is_jpeg:
            remedy = "JPEG changes values and can't hold labels: export the masks as PNG"
        raise DataError(f"{name} holds {', '.join(shown)}, which data.classes doesn't name; {remedy}")
    own = [np.isin(values, of_class) for of_class in classes.values.values()]
    if classes.exclusive:
        mask = np.zeros((*values.shape, 1), np.uint8)
        for number, pixels in enumerate(own, start=1):
            mask[pixels, 0] = number
    else:
        mask = np.stack(own, axis=-1).astype(np.uint8)
    if ignore is not None:
        mask[values == ignore] = IGNORED
    return mask


def _packed(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """RGB, (height, width, 3), as 0xRRGGBB."""
    colours = pixels.astype(np.int32)
    packed: NDArray[np.int32] = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
    return packed


def _is_black_and_white(image: Image.Image) -> bool:
    """Whether a palette names no other colour."""
    palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return bool(np.isin(palette, (0, 255)).all() and (palette == palette[:, :1]).all())


def _check_transparency(path: Path, image: Image.Image) -> None:
    """Raises DataError for a mask that is black all over and drawn by its transparency."""
    low, high = np.asarray(image.getchannel(image.mode[-1])).min(), np.asarray(image.getchannel(image.mode[-1])).max()
    if low != high:
        raise DataError(f"{path} is a mask in the alpha channel alone, and all black; write it as 255 on 0, in grey")


def _luma(name: Path | str, image: Image.Image) -> Image.Image:
    if image.mode in _ALPHA_MODES:
        return image.getchannel(0)
    if image.mode == "L":
        return image
    if image.mode in ("P", "PA"):
        image = _convert(name, image, "RGB")
    return _convert(name, image, "L")


def _convert(name: Path | str, image: Image.Image, mode: str) -> Image.Image:
    try:
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA")  # the step by which PIL takes any kind of transparency
        return image.convert(mode)
    except ValueError:
        raise DataError(f"{name} has colours of the kind {image.mode}; export it in grey or RGB") from None
