"""Folders on disk as a source: layouts, metadata, errors and the stamp."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brainseg.config import DataConfig
from brainseg.data.folder import FolderSource
from brainseg.data.source import SliceInfo
from brainseg.errors import DataError


def source_in(root: Path) -> FolderSource:
    return FolderSource(DataConfig(name="folder", root=str(root), channels="grey"))


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        source_in(root)
    text = str(caught.value)
    assert "\n" not in text
    assert str(root) in text
    return text


def grey(path: Path, value: int = 7, size: tuple[int, int] = (4, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def test_images_and_masks_pair_by_stem_whatever_their_extensions(tmp_path: Path) -> None:
    grey(tmp_path / "images" / "b.TIF", 9)
    grey(tmp_path / "images" / "a.png", 8)
    grey(tmp_path / "masks" / "a.tiff", 255)
    grey(tmp_path / "masks" / "b.png", 0)
    source = source_in(tmp_path)
    assert source.slices() == (SliceInfo(id="a"), SliceInfo(id="b"))
    image, mask = source.read("a")
    assert image[..., 0].tolist() == [[8] * 4] * 3  # 4 wide, 3 high
    assert mask[..., 0].tolist() == [[1] * 4] * 3
    assert [array.max() for array in source.read("b")] == [9, 0]


def test_a_stem_may_hold_dots(tmp_path: Path) -> None:
    grey(tmp_path / "images" / "scan.1.png")
    grey(tmp_path / "masks" / "scan.1.jpg")
    assert [item.id for item in source_in(tmp_path).slices()] == ["scan.1"]


def test_a_folder_per_patient_pairs_x_with_x_mask(tmp_path: Path) -> None:
    grey(tmp_path / "TCGA_2" / "s2_1.tif", 5)
    grey(tmp_path / "TCGA_2" / "s2_1_mask.tif", 255)
    grey(tmp_path / "TCGA_1" / "s1_1.jpg", 6)
    grey(tmp_path / "TCGA_1" / "s1_1_mask.png", 0)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").touch()
    (tmp_path / "data.csv").touch()
    source = source_in(tmp_path)
    assert source.slices() == (
        SliceInfo(id="s1_1", columns={"patient_id": "TCGA_1"}),
        SliceInfo(id="s2_1", columns={"patient_id": "TCGA_2"}),
    )
    assert [array.max() for array in source.read("s2_1")] == [5, 1]


def test_metadata_in_a_folder_per_patient_goes_before_the_folders_name(tmp_path: Path) -> None:
    for slice_id in ("1", "2"):
        grey(tmp_path / "P1" / f"{slice_id}.png")
        grey(tmp_path / "P1" / f"{slice_id}_mask.png")
    (tmp_path / "metadata.csv").write_text("id,patient_id,grade\n1,P7,3\n2,,4\n")
    assert source_in(tmp_path).slices() == (
        SliceInfo(id="1", columns={"patient_id": "P7", "grade": "3"}),
        SliceInfo(id="2", columns={"patient_id": "P1", "grade": "4"}),
    )


def test_hidden_files_are_passed_over(folder: Any) -> None:
    folder.add("1")
    (folder.root / "images" / ".DS_Store").touch()
    (folder.root / "images" / "._1.png").touch()
    (folder.root / "masks" / ".ipynb_checkpoints").mkdir()
    assert [item.id for item in source_in(folder.root).slices()] == ["1"]


@pytest.mark.parametrize(
    "text",
    [
        b"id,patient_id,tumor_type,age\n2,P2,,61\n1,P1,glioma,\n",
        b"\xef\xbb\xbfid,patient_id,tumor_type,age\r\n1,P1,glioma,\r\n\r\n2,P2,,61\r\n",
        b' id , patient_id,age,tumor_type\n1, P1 ,,"glioma"\n2,P2,61,\n,,,\n',
    ],
)
def test_metadata_columns_are_carried_along_without_empty_values(folder: Any, text: bytes) -> None:
    folder.add("1")
    folder.add("2")
    (folder.root / "metadata.csv").write_bytes(text)
    assert source_in(folder.root).slices() == (
        SliceInfo(id="1", columns={"patient_id": "P1", "tumor_type": "glioma"}),
        SliceInfo(id="2", columns={"patient_id": "P2", "age": "61"}),
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("id,patient_id\n1,P1\n", "1 slice(s) without a metadata row, first: 2; add the row"),
        ("id,patient_id\n1,P1\n2,P2\n3,P3\n4,P4\n", "2 metadata row(s) without a slice, first: 3; remove the row"),
        ("id,patient_id\n1,P1\n2,P2\n1,P3\n", "1 id(s) with several metadata rows, first: 1; keep one row"),
        ("slice,patient_id\n1,P1\n", "metadata.csv: the header has no column 'id', only: slice, patient_id;"),
        (
            "id;patient_id\n1;P1\n",
            "metadata.csv: it is separated by semicolons; export it with commas, and numbers with a decimal point;",
        ),
        ("", "metadata.csv: the header has no column 'id', only: nothing;"),
        ("id,age,age\n1,2,3\n2,2,3\n", "metadata.csv: the header has 'age' more than once;"),
        ("id,patient_id\n1,P1\n2,P2,glioma\n", "metadata.csv: row 3 has 3 cells under 2 columns;"),
        ("id,patient_id\n1,P1\n2,P2\n,P3\n", "metadata.csv: row 4 has no id;"),
        ('id,patient_id\n1,"P1\n2,P2\n', "metadata.csv: it is not comma-separated ("),
        ("id,patient_id\n1,P\udce4\n2,P2\n", "metadata.csv: it is not UTF-8 text;"),
        ("id,patient_id\n1,P\0\n2,P2\n", "metadata.csv: it has the character U+0000, as text of UTF-16 has; "),
        (
            "\0".join("id,patient_id\n1,P1\n2,P2\n"),
            "metadata.csv: it has the character U+0000, as text of UTF-16 has; ",
        ),
    ],
)
def test_metadata_that_do_not_fit_are_refused(folder: Any, text: str, wrong: str) -> None:
    folder.add("1")
    folder.add("2")
    (folder.root / "metadata.csv").write_bytes(text.encode(errors="surrogateescape"))
    assert wrong in refusal(folder.root)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no") == (
        f"{tmp_path / 'no'} doesn't exist; name a folder that holds images/7.png with masks/7.png, "
        "or PATIENT/7.tif with PATIENT/7_mask.tif"
    )


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "set.zip").touch()
    assert f"{tmp_path / 'set.zip'} is a file; name a folder" in refusal(tmp_path / "set.zip")


def test_a_folder_without_a_layout_says_what_was_looked_for(tmp_path: Path) -> None:
    text = refusal(tmp_path)
    assert text.endswith("holds neither images/7.png with masks/7.png, or PATIENT/7.tif with PATIENT/7_mask.tif")


@pytest.mark.parametrize(("present", "absent"), [("images", "masks"), ("masks", "images")])
def test_half_of_a_layout_names_the_missing_half(tmp_path: Path, present: str, absent: str) -> None:
    grey(tmp_path / present / "1.png")
    assert refusal(tmp_path).endswith(f"; it has {present}/ but no {absent}/")


def test_a_root_one_level_too_high_gets_a_hint(folder: Any) -> None:
    folder.add("1")
    assert refusal(folder.root.parent).endswith(f"; did you mean {folder.root}?")


def test_empty_folders_are_refused(folder: Any) -> None:
    endings = ".png, .jpg, .jpeg, .tif, .tiff, .bmp, .gif, .webp"
    assert f"hold no file that ends in {endings}; add slices and masks" in refusal(folder.root)


def test_images_without_a_mask_are_counted_and_the_first_is_named(folder: Any) -> None:
    for slice_id in ("1", "2", "3"):
        folder.add(slice_id)
    for slice_id in ("2", "3"):
        (folder.root / "masks" / f"{slice_id}.png").unlink()
    assert refusal(folder.root) == (
        f"{folder.root}: 2 image(s) without a mask, first: images/2.png; add the mask, or remove the image"
    )


def test_masks_without_an_image_are_counted_and_the_first_is_named(folder: Any) -> None:
    folder.add("1")
    folder.add("2")
    (folder.root / "images" / "1.png").unlink()
    assert "1 mask(s) without an image, first: masks/1.png; add the image" in refusal(folder.root)


def test_two_kinds_of_error_point_to_verify(folder: Any) -> None:
    for slice_id in ("1", "2", "3"):
        folder.add(slice_id)
    (folder.root / "images" / "1.png").unlink()
    (folder.root / "masks" / "2.png").unlink()
    text = refusal(folder.root)
    assert text.endswith(f"(and 1 more kind(s): python -m brainseg.data verify {folder.root})")


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_stem_with_two_extensions_is_refused(folder: Any, kind: str) -> None:
    folder.add("1")
    grey(folder.root / kind / "1.jpg")
    assert f"1 id(s) with several files, first: {kind}/1.jpg and {kind}/1.png; rename" in refusal(folder.root)


def test_one_stem_in_two_patients_folders_is_refused(tmp_path: Path) -> None:
    for patient in ("P1", "P2"):
        grey(tmp_path / patient / "1.png")
        grey(tmp_path / patient / "1_mask.png")
    assert "1 id(s) with several files, first: P1/1.png and P2/1.png;" in refusal(tmp_path)


def test_folders_inside_images_are_refused_and_not_left_out(folder: Any) -> None:
    folder.add("1")
    (folder.root / "images" / "more").mkdir()
    assert "1 folder(s) too deep, first: images/more/; move their files up into the folder that holds them" in refusal(
        folder.root
    )


def test_a_mask_of_another_size_is_refused_when_read(folder: Any) -> None:
    folder.add("1", mask=np.zeros((20, 24), np.uint8))
    with pytest.raises(DataError) as caught:
        source_in(folder.root).read("1")
    assert str(caught.value) == (
        f"{folder.root / 'masks' / '1.png'} must have the size of images/1.png, 20x24, got 24x20; "
        "export both at one size"
    )


def test_a_source_has_a_short_name_and_an_absolute_location(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.add("1")
    monkeypatch.chdir(folder.root)
    source = source_in(Path("."))
    assert (source.name, source.location) == ("set", str(folder.root.resolve()))


def replace_metadata(root: Path) -> None:
    (root / "metadata.csv").write_text("id,patient_id\n1,P1\n2,P3\n")
    os.utime(root / "metadata.csv", ns=(1, 1))


def touch_image(root: Path) -> None:
    os.utime(root / "images" / "1.png", ns=(1, 1))


def lengthen_mask(root: Path) -> None:
    path = root / "masks" / "2.png"
    state = path.stat()
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def rename_pair(root: Path) -> None:
    (root / "metadata.csv").unlink()
    for name in ("images", "masks"):
        (root / name / "1.png").rename(root / name / "7.png")


def remove_metadata(root: Path) -> None:
    (root / "metadata.csv").unlink()


@pytest.mark.parametrize("change", [replace_metadata, touch_image, lengthen_mask, rename_pair, remove_metadata])
def test_the_stamp_changes_with_the_folder_and_only_then(folder: Any, change: Callable[[Path], None]) -> None:
    folder.add("1")
    folder.add("2")
    folder.metadata({"1": "P1", "2": "P2"})
    before = source_in(folder.root).stamp()
    assert source_in(folder.root).stamp() == before
    change(folder.root)
    assert source_in(folder.root).stamp() != before


def test_the_stamp_stays_when_the_folder_moves(folder: Any, tmp_path: Path) -> None:
    folder.add("1")
    before = source_in(folder.root).stamp()
    folder.root.rename(tmp_path / "moved")
    assert source_in(tmp_path / "moved").stamp() == before


def test_a_file_that_vanished_is_named_by_the_stamp(folder: Any) -> None:
    folder.add("1")
    source = source_in(folder.root)
    (folder.root / "masks" / "1.png").unlink()
    with pytest.raises(DataError, match=r"masks/1\.png can't be read \(No such file or directory\)"):
        source.stamp()
