"""`verify` finds everything that is wrong with a folder, and nothing where nothing is."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageChops
from scipy import ndimage

from brainseg.data.near_duplicates import COARSE_PX, near_duplicates, shrunk, thumbnail
from brainseg.data.patterns import Layout
from brainseg.data.verify import FolderReport, ForegroundFraction, verify
from brainseg.errors import DataError


def found(report: FolderReport) -> dict[str, tuple[str, ...]]:
    return {finding.check: finding.items for finding in report.findings}


def picture(seed: int, side: int = 128) -> NDArray[np.uint8]:
    """Smooth structure of its own for every seed."""
    noise = np.random.default_rng(seed).standard_normal((side, side))
    smooth = ndimage.gaussian_filter(noise, side / 32)
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def test_a_clean_folder_has_no_findings_and_a_right_summary(folder: Any) -> None:
    folder.add("1")  # 12 of 480 pixels
    folder.add("2", mask=np.eye(24, 20, dtype=np.uint8) * np.uint8(255))  # 20 of 480
    wide = np.zeros((10, 20), np.uint8)
    wide[0] = 255  # 20 of 200
    folder.add("3", image=picture(1)[:10, :20], mask=wide)
    (folder.root / "metadata.csv").write_text("id,patient_id,tumor_type\n1,P1,glioma\n2,P1,glioma\n3,P2,pituitary\n")
    assert verify(folder.root) == FolderReport(
        root=str(folder.root),
        layout="images/ and masks/",
        patterns=Layout(images="images/{id}.*", masks="masks/{id}.*"),
        slices=3,
        patient_ids=2,
        people=2,
        tumor_types={"glioma": 2, "pituitary": 1},
        sizes={"20x24": 2, "20x10": 1},
        channels=("grey",),
        colour_images=0,
        classes={"foreground": 52 / 1160},
        values={"0": 3, "255": 3},
        foreground_fraction=ForegroundFraction(min=12 / 480, median=20 / 480, max=20 / 200),
        findings=(),
    )


def test_every_problem_is_found_in_one_pass(folder: Any) -> None:
    for slice_id in (
        "ok",
        "no-mask",
        "no-image",
        "cut",
        "cut-mask",
        "size",
        "swapped",
        "soft",
        "empty",
        "full",
        "flat",
    ):
        folder.add(slice_id)
    root = folder.root
    (root / "masks" / "no-mask.png").unlink()
    (root / "images" / "no-image.png").unlink()
    for path in (root / "images" / "cut.png", root / "masks" / "cut-mask.png"):
        path.write_bytes(path.read_bytes()[:60])
    mask = np.zeros((24, 20), np.uint8)
    Image.fromarray(mask[:5, :5]).save(root / "masks" / "size.png")
    Image.fromarray(np.arange(480).reshape(24, 20).astype(np.uint8)).save(root / "masks" / "swapped.png")
    mask[2, 2:5] = [100, 255, 100]
    Image.fromarray(mask).save(root / "masks" / "soft.png")
    Image.fromarray(mask * 0).save(root / "masks" / "empty.png")
    Image.fromarray(mask * 0 + 255).save(root / "masks" / "full.png")
    Image.fromarray(mask * 0 + 9).save(root / "images" / "flat.png")
    (root / "images" / "notes.txt").touch()
    (root / "masks" / "old").mkdir()
    (root / "metadata.csv").write_text("id,patient_id\nok,P1\nok,P1\nno-mask,P2\nwho,P3\ncut,\n")
    report = verify(root)
    items = found(report)
    assert items == {
        "nested_folder": ("masks/old/",),
        "image_without_mask": ("images/no-mask.png",),
        "mask_without_image": ("masks/no-image.png",),
        "metadata_duplicate_id": ("ok",),
        "metadata_unknown_id": ("who",),
        "metadata_missing_row": (
            "cut-mask",
            "empty",
            "flat",
            "full",
            "no-image",
            "size",
            "soft",
            "swapped",
        ),
        "unreadable_file": items["unreadable_file"],
        "size_mismatch": ("masks/size.png: 5x5, image 20x24",),
        "mask_not_binary": items["mask_not_binary"],
        "soft_mask": ("masks/soft.png",),
        "empty_mask": ("masks/empty.png", "masks/size.png"),
        "full_mask": ("masks/full.png",),
        "constant_image": ("images/flat.png",),
        "no_patient_id": ("cut", "cut-mask", "empty", "flat", "full", "size", "soft", "swapped"),
        "ignored_file": ("images/notes.txt",),
    }
    cut, cut_mask = items["unreadable_file"]
    assert cut.startswith("images/cut.png is damaged or cut off")
    assert cut_mask.startswith("masks/cut-mask.png is damaged or cut off")
    assert items["mask_not_binary"][0].startswith("masks/swapped.png is not a mask of two classes")
    assert (report.errors, report.warnings) == (9, 6)
    assert [finding.severity for finding in report.findings] == ["error"] * 9 + ["warning"] * 6


def test_labels_are_one_problem_of_the_set_with_the_remedy(folder: Any) -> None:
    for slice_id in ("1", "2"):
        mask = np.zeros((24, 20), np.uint8)
        mask[2:6, 2:6], mask[10:14, 2:6] = 1, 2
        folder.add(slice_id, mask=mask)
    folder.metadata({"1": "P1", "2": "P2"})
    assert found(verify(folder.root)) == {
        "mask_not_binary": (
            "the masks hold class numbers, the values 1 (in 2), 2 (in 2) of 2 files; "
            "name them: 'data.classes={class1: 1, class2: 2}'",
        )
    }


def test_no_mask_of_labels_counts_however_late_they_come(folder: Any) -> None:
    for slice_id in ("1", "2", "3"):
        folder.add(slice_id, mask=np.zeros((24, 20), np.uint8))
    labels = np.zeros((24, 20), np.uint8)
    labels[2:6, 2:6], labels[10:14, 2:6] = 1, 2
    folder.add("4", mask=labels)
    folder.metadata(dict.fromkeys("1234", "P1"))
    report = verify(folder.root)
    assert [*found(report)] == ["mask_not_binary"]
    assert (report.classes, report.foreground_fraction) == ({}, None)
    assert report.values == {"0": 4, "1": 1, "2": 1}


def test_what_nobody_expected_names_the_files(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no more handles")

    folder.add("1")
    monkeypatch.setattr("brainseg.data.verify.read_mask_file", fail)
    expected = rf"{folder.root}/images/1.png and masks/1.png can't be checked \(RuntimeError\('no more handles'\)\)"
    with pytest.raises(DataError, match=expected):
        verify(folder.root)


@pytest.mark.heavy
def test_processes_find_what_threads_find(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(150):
        folder.add(f"{number:03}")
    soft = np.zeros((24, 20), np.uint8)
    soft[2, 2:5] = [100, 255, 100]
    Image.fromarray(soft).save(folder.root / "masks" / "100.png")
    (folder.root / "images" / "007.png").write_bytes(b"")
    folder.metadata({f"{number:03}": f"P{number}" for number in range(150)})
    in_threads = verify(folder.root)
    assert [*found(in_threads)] == ["unreadable_file", "soft_mask"]
    monkeypatch.setattr("brainseg.data.spread.FEW", 0)
    monkeypatch.setattr("brainseg.data.spread.usable_cores", lambda: 2)
    assert verify(folder.root) == in_threads


def test_metadata_that_cannot_be_read_do_not_stop_the_check(folder: Any) -> None:
    folder.add("1", mask=np.zeros((24, 20), np.uint8))
    (folder.root / "metadata.csv").write_text("name\n1\n")
    assert found(verify(folder.root)) == {
        "metadata_unreadable": ("metadata.csv: the header has no column 'id', only: name; rename 'name' to 'id'",),
        "no_patient_id": ("1",),
        "no_foreground": ("masks/1.png",),
    }


def test_line_breaks_and_control_characters_in_names_are_named(folder: Any) -> None:
    for name in ("plain é 漢", "a\u2028b", "c\nd", "e"):
        folder.add(name)
    rows = 'id,patient_id,tumor_type,"si\x0bte"\nplain é 漢,P1,glioma,1\na\u2028b,P2,gli\x85oma,2\n'
    rows += '"c\nd",P3,"two\nlines",3\ne,"P\r4",glioma,4\n'
    (folder.root / "metadata.csv").write_text(rows, encoding="utf-8", newline="")
    report = verify(folder.root)
    told = found(report)
    refused = told.pop("unreadable_file")
    assert len(refused) == 4  # an image and a mask of two slices
    assert all("has a name that can't be shown" in each for each in refused)
    assert told == {
        "control_character": (
            r"a\u2028b",
            r"c\nd",
            r"metadata.csv: column si\x0bte",
            r"metadata.csv: row 3, tumor_type: gli\x85oma",
            r"metadata.csv: row 4, tumor_type: two\nlines",
            r"metadata.csv: row 5, patient_id: P\r4",
        )
    }
    assert report.patient_ids == 4
    assert report.tumor_types == {"glioma": 2, "gli\x85oma": 1, "two\nlines": 1}
    assert report.findings[-1].severity == "warning"


def test_a_folder_that_cannot_be_checked_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither"):
        verify(tmp_path)


def test_equal_slices_are_listed_in_groups(folder: Any) -> None:
    for slice_id, seed in {"1": 1, "2": 2, "3": 1, "4": 1, "5": 3}.items():
        folder.add(slice_id, image=picture(seed)[:24, :20])
    folder.metadata({"1": "P1", "2": "P2", "3": "P1", "4": "P4", "5": "P5"})
    assert found(verify(folder.root)) == {"equal_slices": ("1 (patient P1) = 3 (patient P1) = 4 (patient P4)",)}


def test_equal_bytes_of_another_shape_are_not_equal_slices(folder: Any) -> None:
    values = picture(1)[:12, :16]
    folder.add("1", image=values, mask=np.eye(12, 16, dtype=np.uint8))
    folder.add("2", image=values.reshape(16, 12), mask=np.eye(16, 12, dtype=np.uint8))
    folder.metadata({"1": "P1", "2": "P2"})
    assert found(verify(folder.root)) == {}


def as_jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer).convert("L")


COPIES = {
    "JPEG": as_jpeg,
    "half size": lambda image: image.resize((64, 64)),
    "brighter": lambda image: image.point(lambda value: min(255, value // 2 + 60)),
    "gamma": lambda image: image.point(lambda value: round(255 * (value / 255) ** 1.2)),
    "shifted by half a percent": lambda image: ImageChops.offset(image.resize((256, 256)), 1, 0),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_near_duplicate_under_another_patient_is_found(folder: Any, copy: str) -> None:
    original = Image.fromarray(picture(1))
    changed = np.asarray(COPIES[copy](original))
    for slice_id, image in {"1": picture(1), "2": changed, "3": picture(3)}.items():
        folder.add(slice_id, image=image, mask=np.eye(*image.shape, dtype=np.uint8))
    folder.metadata({"1": "P1", "2": "P2", "3": "P3"})
    items = found(verify(folder.root))
    assert items.keys() == {"near_copies"}
    assert len(items["near_copies"]) == 1
    assert items["near_copies"][0].startswith("1 (patient P1) and 2 (patient P2): correlation ")


@pytest.mark.parametrize("patients", [{"1": "P1", "2": "P1"}, {"1": "MR1", "2": "MR1B"}])
def test_near_duplicates_of_one_person_are_no_finding(folder: Any, patients: dict[str, str]) -> None:
    for slice_id, image in {"1": picture(1), "2": picture(1) // 2}.items():
        folder.add(slice_id, image=image, mask=np.eye(128, dtype=np.uint8))
    folder.metadata(patients)
    assert "near_copies" not in found(verify(folder.root))


def test_near_duplicates_are_found_across_the_blocks_of_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainseg.data.near_duplicates._ROWS", 2)
    monkeypatch.setattr("brainseg.data.near_duplicates._COLUMNS", 3)
    images = {str(seed): picture(seed) for seed in range(7)} | {"8": picture(1) // 2, "9": picture(6) // 2}
    coarse = np.stack([shrunk(image[..., np.newaxis], COARSE_PX) for image in images.values()])
    pairs = near_duplicates(
        [*images], coarse, {key: key for key in images}, lambda key: shrunk(images[key][..., np.newaxis], 96)
    )
    assert sorted(pair[:2] for pair in pairs) == [("1", "8"), ("6", "9")]


def test_no_near_duplicate_is_missed_among_pictures_that_are_alike() -> None:
    # Of 300 noisy variants of 20 pictures, every product of two is computed here.
    rng = np.random.default_rng(0)
    variants = np.stack(
        [
            (picture(number % 20, 32) * 0.8 + rng.normal(0, 1 + number % 7, (32, 32)) + 20).clip(0, 255).ravel()
            for number in range(300)
        ]
    ).astype(np.uint8)
    centred = variants - variants.mean(axis=1, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    alike = unit @ unit.T >= 0.98
    expected = {(f"{a:03}", f"{b:03}") for a, b in np.argwhere(alike) if a < b and a % 30 != b % 30}
    assert 100 < len(expected) < 2000
    found = near_duplicates(
        [f"{number:03}" for number in range(300)],
        variants,
        {f"{number:03}": str(number % 30) for number in range(300)},
        lambda key: shrunk(picture(0, 96)[..., np.newaxis], 96),  # all are one, so that every candidate is a pair
    )
    assert {pair[:2] for pair in found} == expected


def test_a_thumbnail_ignores_brightness_and_contrast() -> None:
    # The 2x2 mean of the four quarters is 0, 0, 0, 8: less their mean 2 it is -2, -2, -2, 6, of norm sqrt(48).
    image = np.zeros((4, 4, 1), np.uint8)
    image[2:, 2:] = 8
    expected = np.array([-2, -2, -2, 6]) / np.sqrt(48)
    for variant in (image, 100 + 3 * image):
        thumb = thumbnail(variant.astype(np.uint8), 2)
        assert thumb is not None
        np.testing.assert_allclose(thumb, expected, rtol=1e-6)
    assert thumbnail(image * 0 + 5, 2) is None


def test_ids_that_look_like_one_person_are_warned_of(folder: Any) -> None:
    for slice_id in "12345":
        folder.add(slice_id)
    folder.metadata({"1": "MR1", "2": "MR1B", "3": "MR2C", "4": "MR3D", "5": "MR3E"})
    report = verify(folder.root)
    assert found(report) == {"several_ids": ("MR1: MR1, MR1B", "MR3: MR3D, MR3E")}
    assert (report.patient_ids, report.people) == (5, 3)


def test_the_report_survives_json(folder: Any) -> None:
    folder.add("1", mask=np.zeros((24, 20), np.uint8))
    folder.metadata({"1": "P1"})
    assert json.loads(json.dumps(verify(folder.root).as_json())) == {
        "schema_version": 2,
        "root": str(folder.root),
        "layout": "images/ and masks/",
        "patterns": {"images": "images/{id}.*", "masks": "masks/{id}.*"},
        "slices": 1,
        "patient_ids": 1,
        "people": 1,
        "tumor_types": {"glioma": 1},
        "sizes": {"20x24": 1},
        "channels": ["grey"],
        "colour_images": 0,
        "classes": {"foreground": 0.0},
        "values": {"0": 1},
        "foreground_fraction": {"min": 0.0, "median": 0.0, "max": 0.0},
        "errors": 1,
        "warnings": 0,
        "findings": [
            {
                "check": "no_foreground",
                "severity": "error",
                "count": 1,
                "title": "mask(s) without foreground, and none with any",
                "remedy": "export them again; is the mask in the alpha channel?",
                "items": ["masks/1.png"],
            }
        ],
    }


@pytest.mark.slow
@pytest.mark.figshare
def test_the_real_set_has_no_error_and_18_people_with_several_ids(figshare: Path) -> None:
    report = verify(figshare)
    assert (report.slices, report.patient_ids, report.people) == (3064, 233, 209)
    assert report.tumor_types == {"glioma": 1426, "pituitary": 930, "meningioma": 708}
    assert found(report).keys() <= {"several_ids", "ignored_file"}  # the copy at hand may have a README
    assert len(found(report)["several_ids"]) == 18
