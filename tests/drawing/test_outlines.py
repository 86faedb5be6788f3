"""The outlines of masks made by hand, corner by corner, and of random ones, filled again by another implementation."""

import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from brainseg.drawing.outlines import outline_path


def mask_of(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def square():
    mask = np.zeros((40, 30), np.bool_)
    mask[10:20, 8:18] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "path"),
    [
        (square(), "M8 10H18V20H8Z"),
        (mask_of("....", "...."), ""),
        (mask_of("####", "####"), "M0 0H4V2H0Z"),
        (mask_of("#...", "##.."), "M0 0H1V1H2V2H0Z"),
        (mask_of(".#..", "##.."), "M1 0H2V2H0V1H1Z"),
        (mask_of("#..#"), "M0 0H1V1H0ZM3 0H4V1H3Z"),
        # A hole, the other way round.
        (mask_of("###", "#.#", "###"), "M0 0H3V3H0ZM2 1H1V2H2Z"),
        # Pixels that touch at a corner.
        (mask_of("#.", ".#"), "M0 0H1V1H0ZM1 1H2V2H1Z"),
        (mask_of(".#", "#."), "M1 0H2V1H1ZM0 1H1V2H0Z"),
    ],
)
def test_an_outline_has_a_corner_where_the_mask_has_one(mask, path):
    assert outline_path(mask) == path


def corners_of(path):
    """The corners of each outline, in order."""
    outlines = []
    for loop in path.split("Z")[:-1]:
        corners = []
        for letter, first, second in re.findall(r"([MHV])(\d+)(?: (\d+))?", loop):
            x, y = corners[-1] if corners else (0, 0)
            corners.append({"M": (int(first), int(second or 0)), "H": (int(first), y), "V": (x, int(first))}[letter])
        outlines.append(corners)
    return outlines


@pytest.mark.parametrize("seed", range(20))
def test_what_an_outline_encloses_is_the_mask(seed):
    mask = np.random.default_rng(seed).random((9, 12)) < 0.5
    # A pixel is inside where an odd number of outlines encloses its middle: each is filled by PIL, enlarged.
    inside = np.zeros((9, 12), int)
    for corners in corners_of(outline_path(mask)):
        picture = Image.new("1", (12 * 10, 9 * 10))
        ImageDraw.Draw(picture).polygon([(x * 10, y * 10) for x, y in corners], fill=1)
        inside += np.asarray(picture)[5::10, 5::10]
    np.testing.assert_array_equal(inside % 2 == 1, mask)
