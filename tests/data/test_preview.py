"""The contact sheet: which slices it shows, and how."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brainseg.classes import BINARY, Labels
from brainseg.config import DataConfig
from brainseg.data.load import source_of_folder
from brainseg.data.people import person_of
from brainseg.data.preview import choose_slices, contact_sheet, outlined, write_preview
from brainseg.data.source import SliceInfo
from brainseg.errors import DataError, InputError


def slices(counts: dict[str, dict[str, int]]) -> list[SliceInfo]:
    """Tumour type -> patient -> number of slices."""
    return [
        SliceInfo(id=f"{patient}-{number}", columns={"patient_id": patient, "tumor_type": kind})
        for kind, patients in counts.items()
        for patient, count in patients.items()
        for number in range(count)
    ]


def test_types_and_people_get_equal_shares() -> None:
    glioma = {f"G{number}": 9 for number in range(10)}
    chosen = choose_slices(slices({"glioma": glioma, "pituitary": {"P1": 3, "P1B": 3, "P2": 3}}), 8)
    assert Counter(item.columns["tumor_type"] for item in chosen) == {"glioma": 4, "pituitary": 4}
    gliomas = [item.columns["patient_id"] for item in chosen if item.columns["tumor_type"] == "glioma"]
    assert gliomas == ["G0", "G3", "G6", "G9"]  # at even distances
    pituitary = Counter(
        person_of(item.columns["patient_id"]) for item in chosen if item.columns["tumor_type"] == "pituitary"
    )
    assert pituitary == {person_of("P1"): 2, person_of("P2"): 2}


def test_a_rare_type_leaves_its_share_to_the_others() -> None:
    chosen = choose_slices(slices({"a": {"A1": 1}, "b": {"B1": 9}, "c": {"C1": 9}}), 9)
    assert Counter(item.columns["tumor_type"] for item in chosen) == {"a": 1, "b": 4, "c": 4}


@pytest.mark.parametrize("count", [1, 2, 5, 7, 100])
def test_no_more_than_asked_for_are_shown_and_none_twice(count: int) -> None:
    every = slices({"a": {"A1": 2, "A2": 1}, "b": {"B1": 3}, "c": {"C1": 1}})
    chosen = choose_slices(every, count)
    assert len({item.id for item in chosen}) == len(chosen) == min(count, 7)


def test_a_person_is_shown_by_the_middle_slice() -> None:
    assert [item.id for item in choose_slices(slices({"a": {"A1": 5}}), 1)] == ["A1-2"]


def test_slices_without_metadata_are_chosen_at_even_distances() -> None:
    every = [SliceInfo(id=str(number)) for number in range(9)]
    assert [item.id for item in choose_slices(every, 3)] == ["0", "4", "8"]


def test_the_outline_is_the_inner_border_of_the_mask() -> None:
    mask = np.zeros((192, 192, 1), np.uint8)
    mask[40:44, 50:60] = 1
    pixels = np.asarray(outlined(np.full((192, 192, 1), 90, np.uint8), mask, BINARY))
    border = np.zeros((192, 192), bool)
    border[40:44, 50:60] = True
    border[41:43, 51:59] = False
    np.testing.assert_array_equal((pixels == [255, 160, 0]).all(axis=-1), border)
    assert (pixels[~border] == 90).all()


def test_a_slice_keeps_its_proportions() -> None:
    assert outlined(np.zeros((50, 100, 1), np.uint8), np.zeros((50, 100, 1), np.uint8), BINARY).size == (192, 96)


def test_the_sheet_has_a_tile_for_every_slice(folder: Any) -> None:
    for slice_id in ("1", "2", "a-very-long-name-that-can-not-fit-under-its-tile-ß"):
        folder.add(slice_id, image=np.full((24, 24), 200, np.uint8), mask=np.eye(24, dtype=np.uint8))
    sheet = np.asarray(contact_sheet(source_of_folder(folder.root), count=10))
    height, width = 192 + 18 + 4, 192 + 4
    assert sheet.shape == (2 * height + 4, 2 * width + 4, 3)
    tiles = [(0, 0), (0, 1), (1, 0)]
    assert all((sheet[4 + row * height + 20, 4 + column * width + 100] == 200).all() for row, column in tiles)
    assert (sheet[4 + height : 4 + height + 192, 4 + width :] == 16).all()  # the fourth is empty


def test_a_slice_in_colour_has_the_borders_of_its_classes() -> None:
    image = np.full((192, 192, 3), (20, 90, 160), np.uint8)
    mask = np.zeros((192, 192, 1), np.uint8)
    mask[10:12, 20:22], mask[50:52, 60:62], mask[0, 0] = 1, 2, 255
    labels = Labels(names=("car", "road"), exclusive=True, has_ignored=True)
    pixels = np.asarray(outlined(image, mask, labels))
    assert (pixels[mask[..., 0] == 1] == (230, 159, 0)).all()
    assert (pixels[mask[..., 0] == 2] == (86, 180, 233)).all()
    assert (pixels[np.isin(mask[..., 0], (0, 255))] == (20, 90, 160)).all()


def test_below_the_sheet_stand_the_classes_in_their_colours(folder: Any) -> None:
    folder.add("1", mask=np.eye(24, 20, dtype=np.uint8))
    data = DataConfig(channels="grey", classes={"car": 1, "road": 2})
    sheet = np.asarray(contact_sheet(source_of_folder(folder.root, data), count=1))
    assert sheet.shape == (192 + 18 + 4 + 4 + 2 * 18, 192 + 4 + 4, 3)
    for line, colour in ((0, (230, 159, 0)), (1, (86, 180, 233))):
        first = 192 + 18 + 4 + 4 + line * 18
        assert (sheet[first : first + 18] == colour).all(axis=-1).any()


def test_a_file_is_overwritten_by_force_only(folder: Any, tmp_path: Path) -> None:
    folder.add("1")
    source = source_of_folder(folder.root)
    file = tmp_path / "sheet.png"
    file.write_text("mine")
    with pytest.raises(InputError, match="exists; name another file with -o FILE, or replace it with --force"):
        write_preview(source, file, count=1, force=False)
    assert file.read_text() == "mine"
    write_preview(source, file, count=1, force=True)
    with Image.open(file) as sheet:
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "sheet.png"]


def test_a_slice_that_cannot_be_read_is_named_and_nothing_is_written(folder: Any, tmp_path: Path) -> None:
    folder.add("1")
    (folder.root / "images" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"images/1\.png is empty"):
        write_preview(source_of_folder(folder.root), tmp_path / "sheet.png", count=1, force=False)
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(("name", "wrong"), [("set", "is a folder"), ("no/sheet.png", "create it first")])
def test_a_place_that_takes_no_file_is_named(folder: Any, tmp_path: Path, name: str, wrong: str) -> None:
    folder.add("1")
    with pytest.raises(InputError, match=wrong):
        write_preview(source_of_folder(folder.root), tmp_path / name, count=1, force=False)
