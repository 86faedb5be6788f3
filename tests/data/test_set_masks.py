"""What the pixels of masks mean is decided for the whole set."""

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from brainseg.compose import freeze
from brainseg.config import DataConfig
from brainseg.data.set_masks import SetMasks
from brainseg.errors import DataError

RED, GREEN = (255, 0, 0), (0, 255, 0)


class MaskMaker:
    """Writes mask files, and reads them as one set."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, name: str, values: Any, dtype: Any = np.uint8, **options: Any) -> None:
        Image.fromarray(np.asarray(values, dtype)).save(self.root / name, **options)

    def read(self, **keys: Any) -> dict[str, NDArray[np.uint8]]:
        """File -> mask, (height, width)."""
        names = sorted(path.name for path in self.root.iterdir())
        masks = SetMasks(self.root, names, DataConfig(channels="grey", **keys))
        return {name: masks.read(name)[..., 0] for name in names}

    def refusal(self, **keys: Any) -> str:
        """Why the set can't be read, without its name."""
        with pytest.raises(DataError) as caught:
            self.read(**keys)
        text = str(caught.value)
        assert "\n" not in text
        assert text.startswith(f"{self.root}: ")
        return text.removeprefix(f"{self.root}: ")


@pytest.fixture
def masks(tmp_path: Path) -> MaskMaker:
    return MaskMaker(tmp_path)


def areas(*values: Any, channels: int = 1) -> NDArray[np.uint8]:
    """Areas of 4x4 pixels with these values on 12x40 zeros."""
    mask = np.zeros((12, 40, channels), np.uint8)
    for place, value in enumerate(values):
        mask[4:8, 2 + 5 * place : 6 + 5 * place] = value
    return mask[..., 0] if channels == 1 else mask


def soft_disc() -> NDArray[np.uint8]:
    """A mask as JPEG has it, 64x64."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    content = io.BytesIO()
    Image.fromarray(np.where(np.hypot(rows, columns) < 20, 255, 0).astype(np.uint8)).save(content, "JPEG", quality=60)
    return np.asarray(Image.open(content))


def test_a_tile_that_holds_only_the_noise_of_jpeg_is_empty(masks: MaskMaker) -> None:
    noise = np.random.default_rng(0).integers(0, 4, (64, 64))
    masks.add("disc.png", soft_disc())
    masks.add("noise.png", noise)
    read = masks.read()
    assert read["noise.png"].sum() == 0
    assert abs(int(read["disc.png"].sum()) - np.pi * 20**2) < 20


def test_a_set_of_0_and_100_is_cut_at_50(masks: MaskMaker) -> None:
    edges = np.zeros((8, 8))
    edges[4, 2:6] = [49, 50, 60, 48]
    masks.add("a.png", areas(100))
    masks.add("b.png", edges)
    read = masks.read()
    assert read["a.png"].sum() == 16
    assert read["b.png"][4].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


def test_masks_of_several_depths_each_have_their_own_maximum(masks: MaskMaker) -> None:
    masks.add("a.png", areas(255))
    masks.add("b.png", areas(1).astype(np.uint16) * 65_535, np.uint16)
    masks.add("c.tif", areas(1), bool)
    assert [mask.sum() for mask in masks.read().values()] == [16, 16, 16]


@pytest.mark.parametrize("mask", [areas(255), areas(RED, channels=3)])
def test_masks_of_one_value_or_colour_are_a_set(masks: MaskMaker, mask: NDArray[np.uint8]) -> None:
    masks.add("a.png", mask)
    masks.add("b.png", mask * 0)
    assert [mask.sum() for mask in masks.read().values()] == [16, 0]


def test_masks_of_0_and_255_are_read_without_a_look_at_the_others(masks: MaskMaker) -> None:
    masks.add("a.png", areas(255))
    (masks.root / "b.png").write_bytes(b"never opened")
    assert SetMasks(masks.root, ["a.png", "b.png"], DataConfig()).read("a.png").sum() == 16


def test_class_numbers_are_refused_with_all_that_the_set_holds(masks: MaskMaker) -> None:
    masks.add("a.png", areas(1, 3))
    masks.add("b.png", areas(1))
    masks.add("c.png", areas(2))
    assert masks.refusal() == (
        "the masks hold class numbers, the values 1 (in 2), 2 (in 1), 3 (in 1) of 3 files; "
        "name them: 'data.classes={class1: 1, class2: 2, class3: 3}'"
    )


def test_255_beside_small_labels_is_offered_as_what_is_ignored(masks: MaskMaker) -> None:
    masks.add("a.png", areas(1, 255))
    assert masks.refusal() == (
        "the masks hold class numbers, the values 1 (in 1), 255 (in 1) of 1 files; "
        "name them: 'data.classes={class1: 1}' data.ignore=255"
    )
    read = masks.read(classes={"class1": 1}, ignore=255)["a.png"]
    assert [(read == value).sum() for value in (0, 1, 255)] == [12 * 40 - 32, 16, 16]


def test_128_and_255_are_two_classes(masks: MaskMaker) -> None:
    masks.add("a.png", areas(128, 255))
    assert masks.refusal().endswith("name them: 'data.classes={class1: 128, class2: 255}'")


def test_thin_areas_of_1_beside_255_are_no_noise_where_nothing_is_soft(masks: MaskMaker) -> None:
    masks.add("a.png", np.eye(20))
    masks.add("b.png", np.eye(20) * 255)
    assert masks.refusal() == (
        "the masks hold the values 1 (in 1), 255 (in 1) of 2 files; name them: "
        "'data.classes={class1: 1, class2: 255}', or if they mean the same: 'data.classes={class1: [1, 255]}'"
    )
    assert [mask.sum() for mask in masks.read(classes={"class1": [1, 255]}).values()] == [20, 20]


def test_two_colours_are_refused_with_the_colours(masks: MaskMaker) -> None:
    masks.add("a.png", areas(RED, GREEN, channels=3))
    masks.add("b.png", areas(GREEN, channels=3))
    masks.add("c.png", areas(255))  # white is a colour, too
    assert masks.refusal() == (
        "the masks hold several colours, #00ff00 (in 2), #ff0000 (in 1), #ffffff (in 1) of 3 files; "
        """name them: 'data.classes={class1: "#00ff00", class2: "#ff0000", class3: "#ffffff"}'"""
    )
    read = masks.read(classes={"class1": "#00ff00", "class2": "#ff0000", "class3": "#ffffff"})
    assert [np.unique(mask).tolist() for mask in read.values()] == [[0, 1, 2], [0, 1], [0, 3]]


def test_one_colour_with_soft_edges_is_a_mask(masks: MaskMaker) -> None:
    soft = np.zeros((64, 64, 3), np.uint8)
    soft[..., 0] = soft_disc()
    masks.add("a.png", soft)
    masks.add("b.jpg", soft, quality=75)
    assert all(abs(int(mask.sum()) - np.pi * 20**2) < 30 for mask in masks.read().values())


def test_labels_in_jpeg_are_sent_back_to_be_exported(masks: MaskMaker) -> None:
    masks.add("a.jpg", np.repeat(np.repeat([[0, 100], [200, 0]], 32, axis=0), 32, axis=1), quality=95)
    assert masks.refusal().endswith(
        "JPEG can't hold labels: export the masks as PNG, and name the classes by data.classes"
    )
    with pytest.raises(DataError, match="JPEG changes values and can't hold labels: export the masks as PNG"):
        masks.read(classes={"a": 101, "b": 200})


def test_thin_structures_that_were_shrunk_are_not_taken_for_labels(masks: MaskMaker) -> None:
    lines = np.zeros((256, 256), np.uint8)
    lines[::19], lines[:, ::23] = 255, 255
    masks.add("a.png", lines)
    shrunk = Image.fromarray(lines).resize((64, 64), Image.Resampling.BOX)
    assert np.unique(np.asarray(shrunk)).size <= 12
    shrunk.save(masks.root / "b.png")
    masks.add("c.png", areas(255))
    with pytest.raises(DataError, match=r"b\.png is not a mask of two classes"):  # too grey for one
        masks.read()
    (masks.root / "b.png").unlink()
    assert masks.read()["a.png"].any()


def test_more_classes_than_fit_into_a_line_go_into_a_file(masks: MaskMaker) -> None:
    masks.add("a.png", areas(*range(1, 8)))
    masks.add("b.png", areas(*range(8, 14)))
    assert masks.refusal() == (
        "the masks hold class numbers, the values 1 (in 1), 2 (in 1), 3 (in 1) and 10 more of 2 files; name them in a "
        "file conf/data/NAME.yaml, below 'name: folder', as in 'classes: {class1: 1}', and choose it by data=NAME"
    )


def palette(values: NDArray[np.uint8], *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette([level for colour in colours for level in colour])
    return image


def test_a_palette_counts_by_its_indices(masks: MaskMaker) -> None:
    palette(areas(1, 2), (0, 0, 0), RED, GREEN).save(masks.root / "a.png")
    assert masks.refusal().endswith("name them: 'data.classes={class1: 1, class2: 2}'")
    assert np.unique(masks.read(classes={"class1": 1, "class2": 2})["a.png"]).tolist() == [0, 1, 2]
    by_colour = masks.read(classes={"class1": "#ff0000", "class2": "#00ff00"})
    assert np.unique(by_colour["a.png"]).tolist() == [0, 1, 2]


def test_a_palette_of_black_and_white_counts_by_its_colours(masks: MaskMaker) -> None:
    palette(1 - areas(1), (255, 255, 255), (0, 0, 0)).save(masks.root / "a.png")
    assert masks.read()["a.png"].sum() == 16


def test_a_value_that_nobody_named_is_an_error_with_the_file(masks: MaskMaker) -> None:
    masks.add("a.png", areas(1, 7))
    with pytest.raises(DataError) as caught:
        masks.read(classes={"tumour": 1})
    assert str(caught.value) == (
        f"{masks.root / 'a.png'} holds 7, which data.classes doesn't name; "
        "name what it is, or leave it out of loss and scores by data.ignore"
    )


def test_version_0_1_let_each_file_have_its_own_threshold(masks: MaskMaker) -> None:
    masks.add("a.png", np.eye(20))
    masks.add("b.png", areas(255))
    assert [mask.sum() for mask in masks.read(reading=1).values()] == [20, 16]


@pytest.mark.parametrize("mask", [areas(1, 255), areas(1, 2), areas(RED, GREEN, channels=3)])
@pytest.mark.heavy
def test_the_line_that_a_refusal_names_can_be_pasted_into_a_shell(masks: MaskMaker, mask: NDArray[np.uint8]) -> None:
    masks.add("a.png", mask)
    offered = masks.refusal().partition("name them: ")[2]
    show = "import sys; print('\\n'.join(sys.argv[1:]))"
    line = f"{shlex.join([sys.executable, '-c', show])} {offered}"
    pasted = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout.splitlines()
    config = freeze(["data=folder", f"data.root={masks.root}", *pasted])
    read = masks.read(classes=config.data.classes, ignore=config.data.ignore)["a.png"]
    assert np.unique(read).tolist() == ([0, 1, 255] if config.data.ignore else [0, 1, 2])


def real(name: str) -> Path:
    if "BRAINSEG_SAMPLES" not in os.environ:
        pytest.skip("BRAINSEG_SAMPLES names no folder of samples")
    return Path(os.environ["BRAINSEG_SAMPLES"]) / name


def test_real_masks_that_were_saved_as_jpeg_pass() -> None:
    root = real("kvasir") / "masks"
    masks = SetMasks(root, sorted(os.listdir(root)), DataConfig())
    assert all(0.01 < masks.read(name).mean() < 0.5 for name in sorted(os.listdir(root)))


def test_real_class_numbers_are_refused_with_a_line_that_reads_them() -> None:
    root = real("camvid")
    paths = sorted(str(path.relative_to(root)) for path in root.glob("annotations_*/*.png"))
    with pytest.raises(DataError) as caught:
        SetMasks(root, paths, DataConfig()).read(paths[0])
    offered = shlex.split(str(caught.value).partition("name them: ")[2])
    data = freeze(["data=folder", f"data.root={root}", *offered]).data
    assert data.classes == {f"class{number}": number for number in range(1, 12)}
    found = [np.unique(SetMasks(root, paths, data).read(path)) for path in paths]
    assert np.unique(np.concatenate(found)).tolist() == list(range(12))
