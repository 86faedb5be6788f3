"""Image files in, uint8 arrays out: every rule about bit depths, colours and what a mask is.

Images: PNG, JPEG or TIFF, recognised by content. Palettes and colours become luma (ITU-R 601, as in
PIL), alpha is left out, and anything deeper than 8 bits is scaled by its own smallest and largest value.
Masks: see `mask_kind`. Every failure is one line that names the file and the remedy.
"""

import io
import threading
import warnings
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from brainseg.classes import IGNORED, Classes, as_colour
from brainseg.config import DataConfig
from brainseg.errors import DataError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
LFS_POINTER = b"version https://git-lfs"  # what a repository holds in a file's place
MAX_PIXELS = 8192 * 8192  # far above any slice, far below what a decompression bomb asks for

# Raised when the same file would decode to other pixels; part of a folder's stamp.
RULES_VERSION = 1

_FORMATS = ("PNG", "JPEG", "TIFF")
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*")  # what a file of these formats begins with
_GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ALPHA_MODES = ("LA", "La")
_LABELS_BELOW = 16  # whole numbers below this, three or more of them, are class labels
_BETWEEN = (1 / 8, 7 / 8)  # of the maximum: neither background nor tumour, and no JPEG ringing either
_MAX_BETWEEN_SHARE = 1 / 8  # soft edges are thin; more grey than this is an image, not a mask

# `warnings.catch_warnings` swaps process-wide state, so that only one thread may be inside.
_warnings_lock = threading.Lock()

Values = NDArray[Any]  # grey values as stored: bool, integer or float, (height, width)


class MaskKind(StrEnum):
    """What the values of a mask file amount to."""

    BINARY = "binary"  # zero and at most one other value
    SOFT = "soft"  # a binary mask with soft edges: resized, or saved as JPEG
    OTHER = "other"  # class labels, or not a mask at all


def read_image(path: Path, data: DataConfig) -> NDArray[np.uint8]:
    """The image with the channels that `data.channels` names, (height, width, channels): one, or three of colour.

    8-bit files keep their values; see `scale_to_uint8` for deeper ones.
    Raises DataError where the file can't be decoded or holds values that are not finite.
    """
    return _pixels(path, _load(path), data)


def read_channels(paths: Sequence[Path], data: DataConfig) -> NDArray[np.uint8]:
    """The image that these files make up, (height, width, channels), in their order. Raises DataError."""
    images = [read_image(path, data) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            raise DataError(
                f"{path} must have the size of {paths[0].name}, {size_text(images[0].shape)}, "
                f"got {size_text(image.shape)}; export all channels at one size"
            )
    return np.concatenate(images, axis=-1)


def decode_image(content: bytes, data: DataConfig, *, called: str) -> NDArray[np.uint8]:
    """As `read_image`, of a file's content; `called` names it in errors."""
    return _pixels(called, _decoded(called, io.BytesIO(content)), data)


def holds_colour(path: Path) -> bool:
    """Whether an image has a pixel that isn't grey. Raises DataError like `read_image`."""
    image = _load(path)
    if image.mode in (*_GREY_MODES, *_ALPHA_MODES):
        return False
    pixels = np.asarray(_convert(path, image, "RGB"))
    return bool((pixels != pixels[..., :1]).any())


def read_mask(path: Path, data: DataConfig) -> NDArray[np.uint8]:
    """The mask as `data.labels` describes it, (height, width, mask channels).

    Of two kinds of pixels, soft edges are cut at half of the largest value. Raises DataError where the file can't be
    decoded or is no such mask.
    """
    classes = data.mask_classes
    if classes is not None:
        return _labels(path, read_label_values(path, are_colours=classes.are_colours), classes, ignore=data.ignore)
    values = read_mask_values(path)
    ignored = None if data.ignore is None else values == data.ignore
    if ignored is not None:
        values = np.where(ignored, 0, values)
    if mask_kind(values) is MaskKind.OTHER:
        raise DataError(f"{path} {not_a_mask(values)}")
    mask = binary_mask(values)
    if ignored is not None:
        mask[ignored] = IGNORED
    return mask[..., np.newaxis]


def read_label_values(path: Path, *, are_colours: bool) -> Values:
    """A mask file's values as `data.classes` names them, (height, width): numbers, or colours as 0xRRGGBB.

    Numbers are those that the file holds: of a palette, its indices. Raises DataError where the file can't be decoded,
    or holds colours where numbers are due.
    """
    image = _load(path)
    if are_colours:
        colours = np.asarray(_convert(path, image, "RGB")).astype(np.int32)
        packed: NDArray[np.int32] = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
        return packed
    if image.mode == "P" or image.mode in _GREY_MODES:
        values = np.asarray(image)
        _check_finite(path, values)
        return values.astype(np.uint8) if values.dtype == bool else values
    if image.mode in _ALPHA_MODES:
        return np.asarray(image)[..., 0]
    colours = np.asarray(_convert(path, image, "RGB"))
    if (colours != colours[..., :1]).any():
        raise DataError(f"{path} holds colours, and data.classes names numbers; name colours such as '#ff0000'")
    return np.asarray(colours[..., 0])


def read_mask_values(path: Path) -> Values:
    """A mask file's values before any threshold, (height, width).

    Colours give the largest of their channels, so that a red mask counts as fully as a white one.
    """
    image = _load(path)
    if image.mode in _GREY_MODES:
        values = np.asarray(image)
        _check_finite(path, values)
        return values.astype(np.uint8) if values.dtype == bool else values
    if image.mode in _ALPHA_MODES:
        return np.asarray(image)[..., 0]
    colours: NDArray[np.uint8] = np.asarray(_convert(path, image, "RGB")).max(axis=-1)
    return colours


def mask_kind(values: Values) -> MaskKind:
    """What these mask values are; `values` is of shape (height, width).

    BINARY: zero and at most one other value, or one value alone: {0, 1}, {0, 255}, {0}, {255}.
    OTHER: a negative value; three or more whole numbers below 16 (labels such as 0, 1, 2, 4); an even
    area of at least 3x3 pixels between 1/8 and 7/8 of the maximum (labels such as 0, 128, 255); or more
    than 1/8 of all pixels in that range (an image).
    SOFT: everything else.
    """
    if values.min() < 0:
        return MaskKind.OTHER
    levels = np.unique(values)
    if levels.size == 1 or (levels.size == 2 and levels[0] == 0):
        return MaskKind.BINARY
    top = float(levels[-1])
    if top < _LABELS_BELOW and bool((levels == np.floor(levels)).all()):
        return MaskKind.OTHER
    between = (values > top * _BETWEEN[0]) & (values < top * _BETWEEN[1])
    if between.mean() > _MAX_BETWEEN_SHARE or _has_even_area(values, between):
        return MaskKind.OTHER
    return MaskKind.SOFT


def binary_mask(values: Values) -> NDArray[np.uint8]:
    """1 where a value is above zero and at least half of the largest one, else 0."""
    mask: NDArray[np.bool_] = (values > 0) & (values >= values.max() / 2)
    return mask.astype(np.uint8)


def not_a_mask(values: Values) -> str:
    """What is wrong with mask values of the kind OTHER, with the remedy; follows the file's name."""
    levels = np.unique(values)
    if levels.size > 8:
        seen = f"{levels.size} values from {levels[0]} to {levels[-1]}; are image and mask exchanged?"
    else:
        seen = f"the values {', '.join(str(level) for level in levels)};"
    return f"is not a mask of two classes, it holds {seen} write 0 for background and 255 for tumour"


def size_text(shape: tuple[int, ...]) -> str:
    """(height, width) as people write it: width x height."""
    return f"{shape[1]}x{shape[0]}"


def scale_to_uint8(values: Values) -> NDArray[np.uint8]:
    """Values mapped linearly from their own min..max to 0..255 and rounded; a constant becomes 0."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = (values.astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(scaled).astype(np.uint8)


def _has_even_area(values: Values, between: NDArray[np.bool_]) -> bool:
    """Whether 3x3 equal pixels, all of them `between`, lie together."""
    height, width = values.shape
    centre = values[1:-1, 1:-1]
    even = between[1:-1, 1:-1].copy()
    for row in range(3):
        for column in range(3):
            even &= values[row : height - 2 + row, column : width - 2 + column] == centre
    return bool(even.any())


def _pixels(name: Path | str, image: Image.Image, data: DataConfig) -> NDArray[np.uint8]:
    if image.mode in _GREY_MODES and image.mode not in ("1", "L"):
        values = np.asarray(image)
        _check_finite(name, values)
        grey = scale_to_uint8(values)[..., np.newaxis]
    elif data.channels == "rgb":
        return np.asarray(_convert(name, image, "RGB"), dtype=np.uint8)
    else:
        grey = np.asarray(_luma(name, image), dtype=np.uint8)[..., np.newaxis]
    return np.repeat(grey, 3, axis=-1) if data.channels == "rgb" else grey


def _labels(name: Path | str, values: Values, classes: Classes, *, ignore: int | None) -> NDArray[np.uint8]:
    """Values of a file as a mask in memory (see `Labels`). Raises DataError for a value that nobody named."""
    known = {*classes.background, *(value for of_class in classes.values.values() for value in of_class)}
    unknown = [value for value in np.unique(values).tolist() if value not in known and value != ignore]
    if unknown:
        shown = [as_colour(value) if classes.are_colours else f"{value:g}" for value in unknown[:8]]
        raise DataError(
            f"{name} holds {', '.join(shown)}, which data.classes doesn't name; name what it is, "
            "or leave it out of loss and scores by data.ignore"
        )
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


def _load(path: Path) -> Image.Image:
    """The one frame of an image file, its pixels in memory."""
    try:
        with path.open("rb") as file:
            return _decoded(path, file)
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not an image; move it out of the data folder") from None
    except FileNotFoundError:
        raise DataError(f"{path} doesn't exist; restore it, or remove its partner") from None
    except PermissionError:
        raise DataError(f"{path} can't be opened (permission denied); make it readable") from None
    except OSError as error:
        raise _damaged(path, error) from error


def _decoded(name: Path | str, file: IO[bytes]) -> Image.Image:
    try:
        image = _open(name, file)
        image.load()
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{name} {_unidentified(file)}") from None
    except Exception as error:  # a damaged file can raise nearly anything inside a decoder
        raise _damaged(name, error) from error
    return image


def _damaged(name: Path | str, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{name} is damaged or cut off ({reason}); copy or export it again")


def _open(name: Path | str, file: IO[bytes]) -> Image.Image:
    """Checks the header before any pixel is decoded."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the size is checked here, and odd tags don't matter
        try:
            image = Image.open(file, formats=_FORMATS)
        except Image.DecompressionBombError:
            raise DataError(_too_large(name)) from None
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(_too_large(name))
        if not width or not height:
            raise DataError(f"{name} has no pixels ({width}x{height}); export it again")
        frames = getattr(image, "n_frames", 1)  # only the formats that can hold several have it
        if frames > 1:
            raise DataError(f"{name} holds {frames} frames; export each slice to a file of its own")
        if image.format == "TIFF":
            image.load()  # TIFF tags can warn as late as here; PNG and JPEG only warn on opening
    return image


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


def _check_finite(name: Path | str, values: Values) -> None:
    if not np.isfinite(values).all():
        raise DataError(f"{name} holds NaN or infinite values; export it again with finite ones")


def _too_large(name: Path | str) -> str:
    return f"{name} has more than {MAX_PIXELS} pixels; if it is a slice, export it at 8192x8192 or less"


def _unidentified(file: IO[bytes]) -> str:
    file.seek(0)
    begins = file.read(len(LFS_POINTER))
    if begins == LFS_POINTER:
        return "is a pointer of Git LFS, not the file; fetch it by `git lfs pull`"
    if not begins:
        return "is empty (0 bytes); copy or export it again"
    if begins.startswith(_SIGNATURES):  # a TIFF's directory may lie at its end
        return "is damaged or cut off (no readable header); copy or export it again"
    return "is not a PNG, JPEG or TIFF image; export it as PNG"
