"""Outlines and run lengths become the pixels that pycocotools 2.0.11 gives; the expected ones were made by it."""

import hashlib
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from brainseg.data.annotations.regions import Region, ShapeError, circle, decompress, polygon, run_lengths

COMPRESSED = "n?b1b1" + 48 * "0" + "hNRO:n0FRO:n0FRO:n0n" + 73 * "0" + "nn0"


def whole(region: Region, height: int, width: int) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    rows, columns = region.pixels.shape
    mask[region.top : region.top + rows, region.left : region.left + columns] = region.pixels
    return mask


def shown(region: Region, height: int = 5, width: int = 6) -> list[str]:
    return ["".join(".#"[value] for value in row) for row in whole(region, height, width)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ("1 1 4 1 4 3 1 3", "...... .###.. .###.. ...... ......"),
        ("1.5 1.5 4.5 1.5 4.5 3.5 1.5 3.5", "...... ...... ..###. ..###. ......"),
        ("0 0 6 0 0 5", "#####. ####.. ###... ##.... #....."),
        ("-2 -2 3 -2 3 2 -2 2", "###... ###... ...... ...... ......"),  # cut at the border
        ("0 0 6 0 6 5 0 5 0 0 2 1 2 3 4 3 4 1 2 1", "###### ##..## ##..## ###### ######"),  # a hole
        ("0 0 6 5 6 0 0 5", "#....# ##..## ###### ##..## #....#"),  # it crosses itself
        ("2 2 2 2 2 2", "...... ...... ...... ...... ......"),
    ],
)
def test_an_outline_is_filled_as_by_pycocotools(points: str, expected: str) -> None:
    outline = np.array(points.split(), np.float64).reshape(-1, 2)
    assert shown(polygon(outline, 5, 6)) == expected.split()


def test_a_thousand_outlines_are_those_of_pycocotools() -> None:
    draw = random.Random(0)  # noqa: S311  # its numbers are the same in every version
    digest = hashlib.sha256()
    for _ in range(1000):
        height, width = draw.randint(1, 40), draw.randint(1, 40)
        points = [
            round(draw.uniform(-0.2, 1.2) * side, draw.choice((0, 1, 6)))
            for _ in range(draw.randint(3, 9))
            for side in (width, height)
        ]
        digest.update(whole(polygon(np.reshape(points, (-1, 2)), height, width), height, width).tobytes())
    assert digest.hexdigest() == "e8c06ba5dc05b92c8a2d0fe461817843961f39da92d31dda7f9547eb1a6870ec"


def test_a_long_outline_is_drawn_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    spikes = np.array([[x, 60 * (x % 2)] for x in range(60)] + [[60, 61], [0, 61]], np.float64)
    at_once = whole(polygon(spikes, 61, 60), 61, 60)
    monkeypatch.setattr("brainseg.data.annotations.regions._STEPS_AT_ONCE", 7)
    assert (whole(polygon(spikes, 61, 60), 61, 60) == at_once).all()


def test_an_outline_that_would_take_for_ever_is_refused() -> None:
    zigzag = np.array([[0, 0], [30_000, 30_000]] * 400, np.float64)
    with pytest.raises(ShapeError, match="has an outline of over 20000000 pixels"):
        polygon(zigzag, 32_768, 32_768)


def test_a_circle_holds_the_pixels_whose_centres_it_holds() -> None:
    assert shown(circle(np.array([3.0, 2.0]), 1.6, 5, 6)) == ["..##..", ".####.", ".####.", "..##..", "......"]
    assert shown(circle(np.array([0.0, 0.0]), 2.0, 5, 6)) == ["##....", "#.....", "......", "......", "......"]


def test_runs_go_down_the_columns() -> None:
    assert shown(run_lengths(np.array([4, 2, 3, 21]), 5, 6)) == [".#####", "..####", "..####", "..####", "######"]
    assert shown(run_lengths(np.array([0, 30]), 5, 6)) == ["######"] * 5


def test_compressed_runs_are_those_of_pycocotools() -> None:
    assert shown(run_lengths(decompress("4112109NI"), 5, 6)) == [".....#", ".##...", ".##...", ".##...", "#....."]
    expected = np.zeros((100, 80), np.uint8)
    expected[10:60, 5:70] = 1
    expected[20:40, 30:33] = 0
    assert (whole(run_lengths(decompress(COMPRESSED), 100, 80), 100, 80) == expected).all()


@pytest.mark.parametrize("counts", [[], [29], [31], [-1, 31], [2**62, 2**62, 2**62, 2**62, 30]])
def test_runs_of_another_length_are_refused(counts: list[int]) -> None:
    with pytest.raises(ShapeError, match="has run lengths that don't add up to 6x5 pixels"):
        run_lengths(np.array(counts, np.int64), 5, 6)


@pytest.mark.parametrize("text", ["", "é", "a b", "~", "oooooo", "oooooooooooooooooooooooo0"])
def test_what_is_no_compressed_text_is_refused(text: str) -> None:
    with pytest.raises(ShapeError, match="has run lengths that aren't COCO's text"):
        decompress(text)
