"""Which images are meant by files and folders, and what each is called."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brainseg.data.image_files import ImageFile, find_images
from brainseg.errors import DataError

ENDINGS = ".png, .jpg, .jpeg, .tif, .tiff, .bmp, .gif, .webp, .nii.gz, .nii"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*named: str) -> list[tuple[str, str]]:
    """(id, path) of each."""
    return [(file.id, str(file.path)) for file in find_images([Path(name) for name in named]).files]


def test_a_data_folder_gives_its_slices_without_masks_and_metadata() -> None:
    touch("set/images/b.png", "set/images/a.JPG", "set/masks/a.png", "set/masks/b.png", "set/metadata.csv")
    assert found("set") == [("a", "set/images/a.JPG"), ("b", "set/images/b.png")]


def test_a_folder_per_patient_gives_its_slices_without_masks() -> None:
    touch("set/P1/7.tif", "set/P1/7_mask.tif", "set/P2/7.tif", "set/P2/7_mask.tif", "set/notes.txt", "set/.hidden.png")
    assert found("set") == [("P1/7", "set/P1/7.tif"), ("P2/7", "set/P2/7.tif")]


def test_masks_in_other_layouts_are_no_images_either() -> None:
    touch("one/Image/1.png", "one/Label/1.png", "two/a/images/a.png", "two/a/masks/1.png", "three/gt/1.png")
    assert found("one") == [("1", "one/Image/1.png")]
    assert found("two") == [("a/images/a", "two/a/images/a.png")]
    assert found("three") == [("gt/1", "three/gt/1.png")]


def test_folders_are_searched_to_the_end_and_names_keep_the_way() -> None:
    touch("in/x.png", "in/a/x.png", "in/a/b/x.tiff", "in/.cache/x.png", "in/site/images/1.png", "in/site/masks/1.png")
    assert [name for name, _ in found("in")] == ["a/b/x", "a/x", "site/images/1", "x"]


def test_several_folders_keep_the_names_that_tell_them_apart() -> None:
    touch("a/t1/x.png", "b/t1/x.png", "b/t1/y.png")
    assert found("a/t1", "b/t1/x.png") == [("a/t1/x", "a/t1/x.png"), ("b/t1/x", "b/t1/x.png")]
    assert found("b/t1/x.png", "b/t1/y.png") == [("x", "b/t1/x.png"), ("y", "b/t1/y.png")]


def test_an_image_that_is_named_twice_is_taken_once() -> None:
    touch("in/x.png")
    assert found("in", "in/x.png", str(Path("in").absolute())) == [("x", "in/x.png")]


def test_files_that_differ_in_their_extension_alone_keep_it() -> None:
    touch("in/x.png", "in/x.jpg", "in/y.png", "in/a/x.png")
    assert [name for name, _ in found("in")] == ["a/x", "x.jpg", "x.png", "y.png"]


def test_what_is_named_itself_is_taken_even_if_it_looks_like_a_mask() -> None:
    touch("set/images/1.png", "set/masks/1.png", "x_mask.png")
    assert found("x_mask.png") == [("x_mask", "x_mask.png")]
    assert found("set/masks") == [("1", "set/masks/1.png")]


def test_a_link_that_leads_back_is_followed_once() -> None:
    touch("in/a/x.png")
    os.symlink(Path("in").absolute(), "in/a/back")
    touch("elsewhere/y.png")
    os.symlink(Path("elsewhere").absolute(), "in/linked")
    assert [name for name, _ in found("in")] == ["a/x", "linked/y"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("nowhere", "nowhere doesn't exist; name images, or folders that hold some"),
        ("nowhere.png", "nowhere.png doesn't exist; name images, or folders that hold some"),
        ("set/metadata.csv", f"set/metadata.csv doesn't end in {ENDINGS}; name images, or folders that hold some"),
        ("empty", f"empty holds no image that ends in {ENDINGS} (masks aside); name another folder"),
        ("masks-only", f"masks-only holds no image that ends in {ENDINGS} (masks aside); name another folder"),
    ],
)
def test_what_gives_no_image_is_named(named: str, message: str) -> None:
    touch("set/metadata.csv", "empty/notes.txt", "masks-only/1_mask.png", "good/1.png")
    with pytest.raises(DataError) as caught:
        find_images([Path("good"), Path(named)])
    assert str(caught.value) == message


def test_the_order_is_that_of_the_ids() -> None:
    touch("in/10.png", "in/9.png", "in/B.png", "in/a.png")
    assert find_images([Path("in")]).files == tuple(
        ImageFile(path=Path("in", f"{name}.png"), id=name) for name in ("10", "9", "B", "a")
    )


def pixels(name: str, values: np.ndarray[Any, Any]) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(name)


PHOTO = np.arange(24 * 20).reshape(24, 20) % 251
MASK = np.where(PHOTO > 200, 255, 0)
LABELS = PHOTO % 3


def test_images_of_other_formats_are_counted_by_their_kind() -> None:
    touch("in/1.png", "in/2.jp2", "in/a/3.JP2", "in/4.mha", "in/4_mask.mha", "in/notes.txt")
    images = find_images([Path("in")])
    assert [file.id for file in images.files] == ["1"]
    assert images.notes == (
        "2 .jp2 files were passed over; convert them to PNG",
        "1 .mha file was passed over; convert them to PNG",
    )


def test_volumes_are_found_without_what_was_made_from_them() -> None:
    touch("in/t2.nii.gz", "in/t2_seg.nii.gz", "in/t2_labels.NII", "in/t1.nii", "in/a/t2_mask.nii.gz", "in/a/9_seg.nii")
    images = find_images([Path("in")])
    assert [(file.id, str(file.path)) for file in images.files] == [
        ("a/9_seg", "in/a/9_seg.nii"),
        ("t1", "in/t1.nii"),
        ("t2", "in/t2.nii.gz"),
    ]
    assert images.notes == (
        "1 .nii file was passed over as masks of those",
        "1 .nii.gz file was passed over as masks of those",
    )
    assert found("in/t2_seg.nii.gz") == [("t2_seg", "in/t2_seg.nii.gz")]


@pytest.mark.parametrize("mask", [MASK, MASK * 0, LABELS])
def test_masks_of_images_that_are_not_read_are_not_predicted(mask: np.ndarray[Any, Any]) -> None:
    touch("in/1.jp2")
    pixels("in/1.png", mask)
    with pytest.raises(DataError) as caught:
        find_images([Path("in")])
    assert str(caught.value) == (
        f"in holds no image that ends in {ENDINGS} (masks aside); 1 .jp2 file was passed over; convert them to PNG; "
        "1 .png file was passed over as masks of those"
    )
    pixels("in/2.png", PHOTO)
    images = find_images([Path("in")])
    assert [file.id for file in images.files] == ["2"]
    assert len(images.notes) == 2


def test_a_converted_copy_of_an_image_that_is_not_read_is_predicted() -> None:
    touch("in/1.jp2")
    pixels("in/1.png", PHOTO)
    assert found("in") == [("1", "in/1.png")]


def test_a_pipe_is_passed_over_and_said() -> None:
    touch("in/1.png")
    os.mkfifo("in/2.png")
    assert find_images([Path("in")]).notes == ("1 were passed over, such as in/2.png: no regular files",)
    with pytest.raises(DataError, match=r"in/2\.png is no regular file; name images"):
        find_images([Path("in/2.png")])


def test_a_name_that_is_not_utf8_is_one_line_that_can_be_printed() -> None:
    touch("in/1.png")
    os.rename("in/1.png", b"in/\xe4.png")
    with pytest.raises(DataError) as caught:
        find_images([Path("in")])
    assert str(caught.value) == r"in/\xe4.png has a name that is not UTF-8; rename it"
