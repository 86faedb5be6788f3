"""Draws phantom.png: six slices of each type of tumour from the phantom, with the masks' outlines in red.

python docs/images/make_phantom_picture.py [FILE]
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from brainseg.data.phantom.source import TYPE_COUNTS, PhantomSource
from brainseg.data.source import TUMOR_TYPE

COLUMNS = 6
PANEL_PX = 160
GAP_PX = 2
# A palette keeps the file small: 64 grey levels, then the colour of the outlines.
GREY_LEVELS = 64
OUTLINE = GREY_LEVELS
PALETTE = [level * 255 // (GREY_LEVELS - 1) for level in range(GREY_LEVELS) for _ in "rgb"] + [235, 50, 40]


def panel(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Image.Image:
    """A slice at `PANEL_PX`, as indices into `PALETTE`, with the line just outside its mask."""
    size = (PANEL_PX, PANEL_PX)
    grey = Image.fromarray(image[..., 0]).resize(size, Image.Resampling.BICUBIC)
    inside = np.asarray(Image.fromarray(mask[..., 0] * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)) > 127
    pixels = np.asarray(grey) // (256 // GREY_LEVELS)
    pixels[ndimage.binary_dilation(inside) & ~inside] = OUTLINE
    return Image.fromarray(pixels)


def contact_sheet(source: PhantomSource) -> Image.Image:
    """A row for each type, each slice from another patient where there are enough, in mixed orientations."""
    pitch = PANEL_PX + GAP_PX
    size = (COLUMNS * pitch - GAP_PX, len(TYPE_COUNTS) * pitch - GAP_PX)
    sheet = Image.new("P", size, GREY_LEVELS - 1)
    sheet.putpalette(PALETTE)
    for row, kind in enumerate(TYPE_COUNTS):
        ids = [item.id for item in source.slices() if item.columns[TUMOR_TYPE] == kind]
        # Sorted ids run through the orientations; even steps take two or so of each.
        for column, place in enumerate(np.linspace(0, len(ids) - 1, COLUMNS).astype(int)):
            sheet.paste(panel(*source.read(ids[place])), (column * pitch, row * pitch))
    return sheet


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("phantom.png")
    contact_sheet(PhantomSource()).save(target, optimize=True)
