"""Predictions out: masks, outlines and probabilities as PNG files, and slices as small pictures for a page."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

OUTLINE = (255, 160, 0)  # orange shows on grey and to colour-blind readers
LONGEST_PX = 512
WEBP_QUALITY = 85
# zlib's fastest: a file is a little larger, and written several times as fast.
_COMPRESS_LEVEL = 1


def shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (height, width, channels) as a picture: (height, width) in grey, or (height, width, 3).

    Of channels that are no colours, the first is shown.
    """
    return image if image.shape[-1] == 3 else image[..., 0]


def mask_png(mask: NDArray[np.bool_]) -> bytes:
    """The mask (height, width) as a PNG of 0 and 255."""
    return _png(_mask_picture(mask))


def write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    """The mask (height, width) as 0 and 255."""
    _write(path, _mask_picture(mask))


def image_png(image: NDArray[np.uint8]) -> bytes:
    """An image (height, width, channels) as a PNG, in grey or RGB."""
    return _png(Image.fromarray(shown(image)))


def write_outlined(path: Path, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """The image (height, width, channels) with the inner border of the mask (height, width) in colour, RGB."""
    picture = shown(image)
    pixels = picture.copy() if picture.ndim == 3 else np.repeat(picture[..., np.newaxis], 3, axis=-1)
    pixels[inner_border(mask)] = OUTLINE
    _write(path, Image.fromarray(pixels))


def write_probability(path: Path, probability: NDArray[np.float32], *, bits: int) -> None:
    """Probabilities (height, width) in [0, 1] as grey levels, rounded; 1 becomes 255 or 65535. bits: 8 or 16."""
    levels = np.rint(probability * np.float32(2**bits - 1))
    _write(path, Image.fromarray(levels.astype({8: np.uint8, 16: np.uint16}[bits])))


def as_webp(image: NDArray[np.uint8]) -> bytes:
    """A slice (height, width, channels) as a small picture: WebP with losses, its longer side at most LONGEST_PX."""
    picture = Image.fromarray(shown(image))
    picture.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.BOX)
    content = io.BytesIO()
    picture.save(content, format="WEBP", quality=WEBP_QUALITY, method=4)
    return content.getvalue()


def inner_border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask's pixels that have a direct neighbour outside of it; outside is also what lies beyond the image."""
    padded = np.pad(mask, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~core


def _mask_picture(mask: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * np.uint8(255))


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, format="PNG", compress_level=_COMPRESS_LEVEL)
    return content.getvalue()


def _write(path: Path, picture: Image.Image) -> None:
    """Raises OSError, and leaves no half of a file, where it can't be written."""
    content = _png(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_bytes(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise
