"""Masks, outlines and probabilities as PNG files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainseg.classes import BINARY, Labels
from brainseg.data.encode import (
    OUTLINE,
    class_colour,
    colours_of,
    inner_border,
    label_image,
    write_label_image,
    write_mask,
    write_outlined,
    write_probability,
)

MASK = np.zeros((6, 8), np.bool_)
MASK[1:5, 2:8] = True  # 4x6 pixels, up to the right edge
BORDER = MASK.copy()
BORDER[2:4, 3:7] = False


def stored(path: Path) -> tuple[str, np.ndarray]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.mode, np.asarray(image)


def test_a_mask_is_0_and_255(tmp_path: Path) -> None:
    write_mask(tmp_path / "deep" / "mask.png", MASK)
    mode, pixels = stored(tmp_path / "deep" / "mask.png")
    assert mode == "L"
    np.testing.assert_array_equal(pixels, MASK * 255)


def test_the_border_lies_inside_and_runs_along_the_edge() -> None:
    np.testing.assert_array_equal(inner_border(MASK), BORDER)
    assert not inner_border(np.zeros((3, 3), np.bool_)).any()


def test_the_outline_is_drawn_on_the_image(tmp_path: Path) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(6, 8, 1)
    write_outlined(tmp_path / "overlay.png", image, MASK[..., np.newaxis], [OUTLINE])
    mode, pixels = stored(tmp_path / "overlay.png")
    assert mode == "RGB"
    assert (pixels[BORDER] == OUTLINE).all()
    np.testing.assert_array_equal(pixels[~BORDER], np.repeat(image[~BORDER], 3, axis=1))


def test_each_class_is_outlined_in_its_colour_on_a_picture_in_colour(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    left = np.zeros((6, 8), np.bool_)
    left[3:5, 0:2] = True
    labels = Labels(names=("car", "road"), exclusive=True)
    write_outlined(tmp_path / "overlay.png", image, np.stack([MASK, left], axis=-1), colours_of(labels))
    _, pixels = stored(tmp_path / "overlay.png")
    assert (pixels[BORDER] == (230, 159, 0)).all()
    assert (pixels[left] == (86, 180, 233)).all()
    np.testing.assert_array_equal(pixels[~BORDER & ~left], image[~BORDER & ~left])


def test_of_channels_that_are_no_colours_the_first_is_drawn_on(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 2), dtype=np.uint8)
    write_outlined(tmp_path / "overlay.png", image, np.zeros((6, 8, 1), np.bool_), [OUTLINE])
    _, pixels = stored(tmp_path / "overlay.png")
    np.testing.assert_array_equal(pixels, np.repeat(image[..., :1], 3, axis=-1))


def test_a_label_image_has_the_values_of_its_classes_and_their_colours(tmp_path: Path) -> None:
    masks = np.zeros((3, 4, 2), np.bool_)
    masks[0, :2, 0] = masks[1, 1:, 1] = True
    image = label_image(masks, (7, 200), background=3)
    assert image.tolist() == [[7, 7, 3, 3], [3, 200, 200, 200], [3, 3, 3, 3]]
    write_label_image(tmp_path / "labels.png", image, (7, 200))
    mode, pixels = stored(tmp_path / "labels.png")
    assert mode == "P"
    np.testing.assert_array_equal(pixels, image)
    with Image.open(tmp_path / "labels.png") as picture:
        seen = np.asarray(picture.convert("RGB"))
    assert seen[:2, 1].tolist() == [[230, 159, 0], [86, 180, 233]]
    assert not seen[2].any()
    assert (tmp_path / "labels.png").read_bytes()[24] == 8  # the bit depth in the header


def test_twenty_one_classes_have_colours_of_their_own() -> None:
    colours = [class_colour(place) for place in range(22)]
    assert len(set(colours)) == 21
    assert (0, 0, 0) not in colours
    assert (colours[7], colours[14], colours[21]) == ((242, 207, 127), (115, 79, 0), colours[0])
    assert colours_of(BINARY) == (OUTLINE,)


@pytest.mark.parametrize(("bits", "mode", "levels"), [(8, "L", [0, 1, 128, 255]), (16, "I;16", [0, 328, 32768, 65535])])
def test_probabilities_are_grey_levels(tmp_path: Path, bits: int, mode: str, levels: list[int]) -> None:
    write_probability(tmp_path / "p.png", np.array([[0, 0.005, 0.5, 1]], np.float32), bits=bits)
    found, pixels = stored(tmp_path / "p.png")
    assert found == mode
    assert pixels.tolist() == [levels]


def test_a_picture_that_can_not_be_written_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        write_mask(tmp_path / "mask.png", MASK)
    assert list(tmp_path.iterdir()) == []
