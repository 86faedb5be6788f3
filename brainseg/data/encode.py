"""Predictions out: masks, outlines and probabilities as PNG files, and slices as small pictures for a page.

Every picture has the colours of its classes from here.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brainseg.classes import Labels

Colour = tuple[int, int, int]  # red, green and blue in 0..255

OUTLINE: Colour = (255, 160, 0)  # of binary masks: orange shows on grey and to colour-blind readers
# Colours that colour-blind people tell apart: Okabe and Ito 2008, "Color Universal Design", without their black, which
# is the background's.
_CLASS_COLOURS: Sequence[Colour] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermilion
    (204, 121, 167),  # reddish purple
)
# Further classes have them again, lighter and then darker: what they are mixed with by half; None: as they are.
_MIXED_WITH: Sequence[int | None] = (None, 255, 0)
LONGEST_PX = 512
WEBP_QUALITY = 85
# zlib's fastest: a file is a little larger, and written several times as fast.
_COMPRESS_LEVEL = 1


def shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (height, width, channels) as a picture: (height, width) in grey, or (height, width, 3).

    Of channels that are no colours, the first is shown.
    """
    return image if image.shape[-1] == 3 else image[..., 0]


def class_colour(place: int) -> Colour:
    """The colour of the class at this place, from 0; after 21 classes they begin anew."""
    colour, mixed = _CLASS_COLOURS[place % len(_CLASS_COLOURS)], place // len(_CLASS_COLOURS) % len(_MIXED_WITH)
    with_level = _MIXED_WITH[mixed]
    if with_level is None:
        return colour
    red, green, blue = ((level + with_level) // 2 for level in colour)
    return red, green, blue


def colours_of(labels: Labels) -> tuple[Colour, ...]:
    """The colours of all classes, in their order; that of binary masks is `OUTLINE`."""
    return tuple(map(class_colour, range(len(labels.names)))) if labels.are_named else (OUTLINE,)


def as_css(colour: Colour) -> str:
    """`#e69f00`, as pages and matplotlib take it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def label_image(masks: NDArray[np.bool_], values: Sequence[int], *, background: int) -> NDArray[np.uint8]:
    """The value of the class that each pixel has, (height, width); `background` where it has none.

    masks: of exclusive classes, (height, width, classes). values: of the classes, in 0..255.
    """
    image = np.full(masks.shape[:2], background, np.uint8)
    for place, value in enumerate(values):
        image[masks[..., place]] = value
    return image


def label_png(image: NDArray[np.uint8], values: Sequence[int]) -> bytes:
    """A label image (height, width) as an 8-bit PNG with a palette: its indices are the values of the classes.

    values: of the classes, in their order; every other value is shown in black.
    """
    return _png(_label_picture(image, values))


def write_label_image(path: Path, image: NDArray[np.uint8], values: Sequence[int]) -> None:
    """As `label_png`, to a file."""
    _write(path, _label_picture(image, values))


def mask_png(mask: NDArray[np.bool_]) -> bytes:
    """The mask (height, width) as a PNG of 0 and 255."""
    return _png(_mask_picture(mask))


def write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    """The mask (height, width) as 0 and 255."""
    _write(path, _mask_picture(mask))


def image_png(image: NDArray[np.uint8]) -> bytes:
    """An image (height, width, channels) as a PNG, in grey or RGB."""
    return _png(Image.fromarray(shown(image)))


def write_outlined(path: Path, image: NDArray[np.uint8], masks: NDArray[np.bool_], colours: Sequence[Colour]) -> None:
    """The image (height, width, channels) with the borders of its masks (height, width, classes) in colour, RGB."""
    _write(path, Image.fromarray(with_borders(shown(image), masks, colours)))


def with_borders(picture: NDArray[np.uint8], masks: NDArray[np.bool_], colours: Sequence[Colour]) -> NDArray[np.uint8]:
    """A picture as `shown` gives it with the inner border of each mask, RGB: (height, width, 3).

    masks: (height, width, classes). colours: of the classes. A class covers those before it.
    """
    pixels = picture.copy() if picture.ndim == 3 else np.repeat(picture[..., np.newaxis], 3, axis=-1)
    for place, colour in enumerate(colours):
        pixels[inner_border(masks[..., place])] = colour
    return pixels


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


def _label_picture(image: NDArray[np.uint8], values: Sequence[int]) -> Image.Image:
    palette = np.zeros((256, 3), np.uint8)
    palette[list(values)] = [class_colour(place) for place in range(len(values))]
    picture = Image.fromarray(image)
    picture.putpalette(palette.tobytes())  # makes it one of indices
    return picture


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
