"""Which files of a folder are slices, and that nothing else is passed over in silence."""

import os
import socket
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brainseg.config import DataConfig
from brainseg.data.folder import FolderSource, folder_findings, survey
from brainseg.data.layout import Listing, list_pairs
from brainseg.data.load import load_data, source_of_folder
from brainseg.data.split import make_split
from brainseg.data.verify import verify
from brainseg.errors import DataError


def grey(*paths: Path, value: int = 7, size: tuple[int, int] = (4, 3)) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, value).save(path)


def beside(root: Path, *names: str) -> None:
    """Slices with their masks beside them."""
    for number, name in enumerate(names):
        grey(root / f"{name}.png", value=number)
        grey(root / f"{name}_mask.png", value=255)


def listed(root: Path, **data: Any) -> Listing:
    return list_pairs(root, DataConfig(name="folder", root=str(root), **data))


def findings(root: Path, **data: Any) -> dict[str, tuple[str, ...]]:
    """check -> items, of what can be seen without reading pixels."""
    found = folder_findings(*survey(root, DataConfig(name="folder", root=str(root), **data)))
    return {finding.check: finding.items for finding in found}


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        listed(root)
    return str(caught.value).replace(str(root), "ROOT")


def test_every_folder_and_file_that_is_passed_over_is_a_finding(tmp_path: Path) -> None:
    beside(tmp_path, "P1/1", "P2/2", "HGG/P5/5", "6")
    (tmp_path / "P3").mkdir()
    for name in ("3.jp2", "3_mask.jp2"):
        (tmp_path / "P3" / name).touch()
    (tmp_path / "P1" / "1.nii.gz").touch()
    (tmp_path / "P2" / "Thumbs.db").touch()
    (tmp_path / "notes" / "old").mkdir(parents=True)
    (tmp_path / "README.md").touch()
    (tmp_path / ".git").mkdir()
    assert [pair.id for pair in listed(tmp_path).pairs] == ["1", "2"]
    assert findings(tmp_path) == {
        "nested_patients": ("HGG/P5/",),
        "image_outside": ("6.png", "6_mask.png"),
        "unread_format": ("P1/1.nii.gz", "P3/3.jp2", "P3/3_mask.jp2"),
        "ignored_folder": ("notes/",),
        "ignored_file": ("P2/Thumbs.db", "README.md"),
    }


def test_what_lies_beside_images_and_masks_is_a_warning(folder: Any) -> None:
    folder.add("1")
    grey(folder.root / "test" / "2.png", folder.root / "preview.png")
    (folder.root / "images" / "3.jp2").touch()
    assert findings(folder.root) == {
        "unread_format": ("images/3.jp2",),
        "ignored_folder": ("test/",),
        "ignored_file": ("preview.png",),
    }


def test_what_version_01_passed_over_is_no_error_of_its_runs(tmp_path: Path) -> None:
    beside(tmp_path, "train/1", "test/2", "HGG/P5/5", "6")
    grey(tmp_path / "test" / "3.bmp")
    listing = listed(tmp_path, reading=1)
    assert [(pair.id, pair.patient) for pair in listing.pairs] == [("1", "train"), ("2", "test")]
    assert findings(tmp_path, reading=1) == {
        "folder_as_patient": ("test", "train"),
        "ignored_file": ("test/3.bmp", "6.png", "6_mask.png", "HGG/P5/"),
    }


@pytest.mark.parametrize("kind", ["pipe", "socket", "broken link"])
def test_what_is_no_regular_file_is_found_and_never_opened(
    folder: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.add("1")
    path = folder.root / "images" / "2.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "broken link":
        path.symlink_to("nowhere")
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            monkeypatch.chdir(path.parent)  # a socket's path must be short
            bound.bind(path.name)
    report = verify(folder.root)
    assert report.findings[0].check == "not_a_file"
    assert report.findings[0].items == ("images/2.png",)


def test_metadata_that_are_a_pipe_are_not_opened(folder: Any) -> None:
    folder.add("1")
    os.mkfifo(folder.root / "metadata.csv")
    assert findings(folder.root)["metadata_unreadable"] == ("metadata.csv: it is no regular file",)


def test_a_name_that_is_not_utf8_is_an_error_of_one_line_that_can_be_printed(folder: Any) -> None:
    folder.add("1")
    os.rename(folder.root / "images" / "1.png", os.fsencode(folder.root / "images") + b"/\xe4.png")
    with pytest.raises(DataError) as caught:
        source_of_folder(folder.root)
    text = str(caught.value)
    assert r"1 name(s) that are not UTF-8, first: images/\xe4.png; rename them" in text
    assert "\n" not in text
    text.encode()


def test_a_line_break_in_a_name_does_not_break_the_line(folder: Any) -> None:
    (folder.root / "images" / "a\nb.txt").touch()
    folder.add("1")
    assert findings(folder.root) == {"ignored_file": (r"images/a\nb.txt",)}


def test_parts_of_a_split_are_no_patients_and_test_is_left_out(tmp_path: Path) -> None:
    beside(tmp_path, "train/1", "train/2", "Validation/3", "test_set/4", "test_set/5")
    (tmp_path / "metadata.csv").write_text("id,age\n1,50\n2,51\n3,52\n4,53\n")  # one of the test part has a row
    source = source_of_folder(tmp_path)
    assert [(item.id, dict(item.columns)) for item in source.slices()] == [
        ("1", {"age": "50"}),
        ("2", {"age": "51"}),
        ("3", {"age": "52"}),
    ]
    assert findings(tmp_path) == {"split_folder": ("Validation/", "train/"), "test_left_out": ("test_set/: 2 slices",)}
    assert source.notes == (
        f"{tmp_path}: a folder per part of a split, as by 'data.images={{patient}}/{{id}}.*' "
        "'data.masks={patient}/{id}_mask.*'",
        f"{tmp_path}: 2 folder(s) named like a part of a split, and taken for no patient, first: Validation/; "
        "add metadata.csv with id,patient_id, or use data.split_by=folder or data.split_by=image",
        f"{tmp_path}: 1 folder(s) left out of training, since they are named like a test part, first: "
        "test_set/: 2 slices; data.split_by=folder makes them the test part; data.root, or --data of "
        "brainseg.evaluate, may name that folder",
    )
    with pytest.raises(DataError, match=r"slice 1 has none; add it to metadata\.csv, or use data\.split_by=image"):
        make_split(source.slices(), DataConfig(split_by="patient"))


def test_the_test_part_can_be_named_itself(tmp_path: Path) -> None:
    beside(tmp_path, "train/1", "test/4", "test/5")
    listing = listed(tmp_path / "test")
    assert [(pair.image, pair.mask, pair.patient) for pair in listing.pairs] == [
        ("4.png", "4_mask.png", None),
        ("5.png", "5_mask.png", None),
    ]
    assert listing.kind == "masks beside the images"


def test_a_root_with_nothing_but_a_test_part_says_so(tmp_path: Path) -> None:
    beside(tmp_path, "test/4", "test/5")
    assert refusal(tmp_path) == (
        "ROOT holds only slices that are left out of training (test/: 2 slices); name that folder itself to use them"
    )


def test_a_training_says_what_is_left_out(tmp_path: Path, tiny: Any) -> None:
    beside(tmp_path / "set", "train/1", "train/2", "train/3", "test/4")
    changes = {"data.name": "folder", "data.root": str(tmp_path / "set"), "data.split_by": "image"}
    data = load_data(tiny(**changes, **{"data.val_fraction": 0.4}))
    assert [item.id for item in data.slices.slices] == ["1", "2", "3"]
    assert "test/: 1 slices" in data.notes[2]


@pytest.mark.parametrize(
    ("folders", "doubtful"),
    [
        (("P1", "P2"), ()),
        (("TCGA_CS_4941_19960909",), ()),
        (("benign", "malignant", "normal"), ("benign", "malignant", "normal")),
        (("class1", "Site 2", "P1"), ("Site 2", "class1")),
        (("anna", "bert", "carl", "dora", "emil", "fred"), ("anna", "bert", "carl", "dora", "emil", "fred")),
    ],
)
def test_folders_are_patients_and_doubtful_without_a_number(
    tmp_path: Path, folders: tuple[str, ...], doubtful: tuple[str, ...]
) -> None:
    beside(tmp_path, *(f"{folder}/{number}" for number, folder in enumerate(folders)))
    assert sorted(pair.patient or "" for pair in listed(tmp_path).pairs) == sorted(folders)
    assert findings(tmp_path).get("folder_as_patient", ()) == doubtful


def test_names_of_folders_are_of_no_account_where_the_metadata_have_all_patients(tmp_path: Path) -> None:
    beside(tmp_path, "benign/1", "train/2")
    (tmp_path / "metadata.csv").write_text("id,patient_id\n1,P1\n2,P2\n")
    assert findings(tmp_path) == {}


def test_the_hint_names_all_candidates_and_training_first(tmp_path: Path) -> None:
    for folder in ("test", "train"):
        grey(tmp_path / folder / "a" / "images" / "a.png", tmp_path / folder / "a" / "masks" / "1.png")
    assert refusal(tmp_path).endswith("; did you mean ROOT/train or ROOT/test?")
    for number in range(4):
        grey(tmp_path / f"site{number}" / "images" / "a.png", tmp_path / f"site{number}" / "masks" / "a.png")
    assert refusal(tmp_path).endswith("did you mean ROOT/train or ROOT/site0 or ROOT/site1 (or one of 3 more)?")


def test_the_hint_on_matlab_comes_where_a_mat_file_lies(tmp_path: Path) -> None:
    assert "MATLAB" not in refusal(tmp_path)
    (tmp_path / "1.mat").touch()
    assert refusal(tmp_path).endswith(
        "; MATLAB files are turned into pairs by `python -m brainseg.data import figshare SRC OUT`"
    )


def test_the_hint_names_formats_that_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "t1").mkdir()
    (tmp_path / "t1" / "t1.dcm").touch()
    assert refusal(tmp_path).endswith("; .dcm files aren't read, convert them to PNG, a file a slice")
    (tmp_path / "t1" / "t1.nii.gz").touch()
    assert refusal(tmp_path).endswith("; data=nifti reads volumes of NIfTI")


def test_ids_match_in_whatever_form_of_unicode_they_are(folder: Any) -> None:
    composed, decomposed = "\u00e4", "a\u0308"
    assert unicodedata.normalize("NFC", decomposed) == composed
    folder.add("x")
    (folder.root / "images" / "x.png").rename(folder.root / "images" / f"{decomposed}.png")
    (folder.root / "masks" / "x.png").rename(folder.root / "masks" / f"{composed}.png")
    (folder.root / "metadata.csv").write_text(f"id,patient_id\n{decomposed},P1\n", encoding="utf-8")
    (pair,) = listed(folder.root).pairs
    assert (pair.id, pair.image, pair.mask) == (composed, f"images/{decomposed}.png", f"masks/{composed}.png")
    source = source_of_folder(folder.root)
    assert [(item.id, dict(item.columns)) for item in source.slices()] == [(composed, {"patient_id": "P1"})]
    source.read(composed)


def channels(root: Path, **values: int) -> None:
    """images/7_NAME.png of one value each."""
    for name, value in values.items():
        grey(root / "images" / f"7_{name}.png", value=value)


@pytest.mark.parametrize("mask", ["7", "7_mask", "7_seg"])
def test_named_channels_are_files_of_one_image_in_their_order(tmp_path: Path, mask: str) -> None:
    channels(tmp_path, flair=10, t1=20, t1ce=30, t2=40)
    grey(tmp_path / "masks" / f"{mask}.png", value=255)
    data = DataConfig(name="folder", root=str(tmp_path), channels=["t1ce", "flair", "t1"])
    (pair,) = list_pairs(tmp_path, data).pairs
    assert (pair.id, pair.images) == ("7", ("images/7_t1ce.png", "images/7_flair.png", "images/7_t1.png"))
    image, _ = FolderSource(data).read("7")
    assert (image.shape, image[0, 0].tolist()) == ((3, 4, 3), [30, 10, 20])
    assert findings(tmp_path, channels=["t1ce", "flair", "t1"]) == {"other_channel": ("images/7_t2.png",)}
    assert verify(tmp_path, data).channels == ("t1ce", "flair", "t1")


def test_named_channels_lie_in_a_patients_folder_as_well(tmp_path: Path) -> None:
    grey(*(tmp_path / "BraTS_001" / f"BraTS_001_{name}.png" for name in ("flair", "t1", "seg")))
    (pair,) = listed(tmp_path, channels=["flair", "t1"]).pairs
    assert pair.images == ("BraTS_001/BraTS_001_flair.png", "BraTS_001/BraTS_001_t1.png")
    assert (pair.id, pair.mask, pair.patient) == ("BraTS_001", "BraTS_001/BraTS_001_seg.png", "BraTS_001")


def test_a_slice_that_lacks_a_channel_is_an_error_that_names_it(tmp_path: Path) -> None:
    channels(tmp_path, flair=10)
    grey(tmp_path / "images" / "8_flair.png", tmp_path / "images" / "8_t1.png")
    grey(tmp_path / "masks" / "7.png", tmp_path / "masks" / "8.png")
    assert findings(tmp_path, channels=["flair", "t1"]) == {"missing_channel": ("masks/7.png: no 7_t1",)}


def test_the_longest_name_of_a_channel_counts(tmp_path: Path) -> None:
    channels(tmp_path, ce=1, t1_ce=2)
    grey(tmp_path / "masks" / "7.png")
    (pair,) = listed(tmp_path, channels=["ce", "t1_ce"]).pairs
    assert pair.images == ("images/7_ce.png", "images/7_t1_ce.png")


def test_channels_of_two_sizes_are_refused_when_read(tmp_path: Path) -> None:
    channels(tmp_path, flair=1)
    grey(tmp_path / "images" / "7_t1.png", size=(5, 3))
    grey(tmp_path / "masks" / "7.png")
    source = source_of_folder(tmp_path, DataConfig(channels=["flair", "t1"]))
    with pytest.raises(DataError, match=r"7_t1\.png must have the size of .*7_flair\.png, 4x3, got 5x3; export all"):
        source.read("7")


def test_the_stamp_changes_with_every_channel(tmp_path: Path) -> None:
    channels(tmp_path, flair=1, t1=2)
    grey(tmp_path / "masks" / "7.png")
    data = DataConfig(name="folder", root=str(tmp_path), channels=["flair", "t1"])
    before = FolderSource(data).stamp()
    os.utime(tmp_path / "images" / "7_t1.png", ns=(1, 1))
    assert FolderSource(data).stamp() != before


@pytest.mark.parametrize(
    ("table", "check", "item"),
    [
        ("id,age\n1,5\n002,5\n", "metadata_other_spelling", "1, for the slice 001"),
        ("id,age\n001.png,5\n002,5\n", "metadata_other_spelling", "001.png, for the slice 001"),
        ("id,age\n1.0,5\n002,5\n", "metadata_other_spelling", "1.0, for the slice 001"),
        ("id,PatientID\n001,P1\n002,P2\n", "metadata_column", "PatientID: is it patient_id?"),
        ("id,patient\n001,P1\n002,P2\n", "metadata_column", "patient: is it patient_id?"),
        ("id,tumour_type\n001,g\n002,g\n", "metadata_column", "tumour_type: is it tumor_type?"),
        (
            "id;age\n001;1,5\n",
            "metadata_unreadable",
            "metadata.csv: it is separated by semicolons; export it with commas, and numbers with a decimal point",
        ),
        (
            "id,age\n001,1,5\n002,3\n",
            "metadata_unreadable",
            "metadata.csv: row 2 has 3 cells under 2 columns; put quotes around a value that has a comma",
        ),
        (
            "ID,age\n001,1\n",
            "metadata_unreadable",
            "metadata.csv: the header has no column 'id', only: ID, age; rename 'ID' to 'id'",
        ),
        (
            "version https://git-lfs.github.com/spec/v1\n",
            "metadata_unreadable",
            "metadata.csv: it is a pointer of Git LFS, not the file; fetch it by `git lfs pull`",
        ),
    ],
)
def test_metadata_get_the_right_remedy(folder: Any, table: str, check: str, item: str) -> None:
    folder.add("001")
    folder.add("002")
    (folder.root / "metadata.csv").write_text(table)
    assert findings(folder.root) == {check: (item,)}


def test_a_column_of_another_name_beside_the_right_one_is_none_to_rename(folder: Any) -> None:
    folder.add("1")
    (folder.root / "metadata.csv").write_text("id,patient_id,patient\n1,P1,P1\n")
    assert findings(folder.root) == {}


def test_a_pointer_of_git_lfs_is_named(folder: Any) -> None:
    folder.add("1")
    (folder.root / "images" / "1.png").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"
    )
    found = {finding.check: finding.items for finding in verify(folder.root).findings}
    assert found["unreadable_file"] == (
        "images/1.png is a pointer of Git LFS, not the file; fetch it by `git lfs pull`",
    )


def test_colour_is_reported_and_so_is_colour_that_is_not_read(tmp_path: Path) -> None:
    for name, colour in (("1", (200, 30, 40)), ("2", (9, 9, 9))):
        pixels = np.zeros((6, 5, 3), np.uint8)
        pixels[1:3, 2:4] = colour
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
        grey(tmp_path / "masks" / f"{name}.png", value=255, size=(5, 6))
    report = verify(tmp_path)
    assert (report.channels, report.colour_images) == (("red", "green", "blue"), 1)
    report = verify(tmp_path, DataConfig(channels="grey"))
    assert (report.channels, report.colour_images) == (("grey",), 1)
    assert {finding.check: finding.items for finding in report.findings}["colour_not_read"] == ("images/1.png",)


def test_a_set_without_any_foreground_is_an_error(folder: Any) -> None:
    for slice_id in ("1", "2"):
        folder.add(slice_id, mask=np.zeros((24, 20), np.uint8))
    report = verify(folder.root)
    found = {finding.check: finding.items for finding in report.findings}
    assert found["no_foreground"] == ("masks/1.png", "masks/2.png")
    assert "empty_mask" not in found
    assert report.errors == 1
