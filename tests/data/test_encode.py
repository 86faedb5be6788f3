"""Masks, outlines and probabilities as PNG files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainseg.data.encode import OUTLINE, inner_border, write_mask, write_outlined, write_probability

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
    write_outlined(tmp_path / "overlay.png", image, MASK)
    mode, pixels = stored(tmp_path / "overlay.png")
    assert mode == "RGB"
    assert (pixels[BORDER] == OUTLINE).all()
    np.testing.assert_array_equal(pixels[~BORDER], np.repeat(image[~BORDER], 3, axis=1))


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
