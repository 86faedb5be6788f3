"""The mask of a volume is a volume on the same grid."""

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from made_volumes import write_volume
from numpy.typing import NDArray
from trained_run import Trained

from brainseg.config import DataConfig
from brainseg.data.image_files import find_images
from brainseg.inference.postprocess import MaskSettings
from brainseg.predict.__main__ import main
from brainseg.predict.images import Failed, Outcome, Predicted, predict_images
from brainseg.predict.inputs import input_images
from brainseg.predict.pictures import Pictures

SHAPE = (16, 24, 8)
BRIGHT = np.zeros(SHAPE, np.uint8)
BRIGHT[4:9, 5:15, 2:5] = 255


class Brightness:
    """A model that takes the grey level of each channel for the probability of a class."""

    def __call__(self, images: Any, training: bool) -> Any:
        return images


def predicted(folder: Path, out: Path, **keys: Any) -> list[Outcome]:
    data = DataConfig(**({"image_size": (16, 24), "channels": "grey"} | keys))
    outcomes: list[Outcome] = []
    predict_images(
        input_images(find_images([folder]).files, data),
        model=Brightness(),
        settings=MaskSettings(),
        statistics=None,
        pictures=Pictures(folder=out, data=data, probability_bits=None),
        on_outcome=outcomes.append,
    )
    return outcomes


def values(path: Path) -> NDArray[Any]:
    return np.asarray(nibabel.load(path).dataobj)


@pytest.mark.parametrize(("axes", "codes"), [("RAS", (1, 1)), ("PSR", (2, 0)), ("LIA", (0, 4))])
@pytest.mark.parametrize(("axis", "size"), [(0, (24, 8)), (1, (16, 8)), (2, (16, 24))])
def test_a_mask_has_the_grid_of_its_volume(
    axes: str, codes: tuple[int, int], axis: int, size: tuple[int, int], tmp_path: Path
) -> None:
    spacing = [0.5, 0.75, 1.25]
    spacing[axis] = 3
    path = tmp_path / "in" / "scan.nii.gz"
    write_volume(path, BRIGHT.astype(np.int16) * 100, axes=axes, spacing=spacing, codes=codes, scaling=(2.0, -500.0))
    outcomes = predicted(path, tmp_path / "out", image_size=size)
    assert [outcome.image.id for outcome in outcomes] == [f"scan_slice{number:03}" for number in range(SHAPE[axis])]
    (written,) = (tmp_path / "out" / "masks").iterdir()
    image, mask = nibabel.load(path), nibabel.load(written)
    assert written.name == "scan.nii.gz"
    assert (mask.affine == image.affine).all()
    assert mask.header.get_zooms() == image.header.get_zooms()
    assert mask.header.get_xyzt_units() == ("mm", "sec")
    for field in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "srow_x", "pixdim", "dim"):
        assert (mask.header[field] == image.header[field]).all(), field
    stored = nibabel.Nifti1Header(gzip.decompress(written.read_bytes())[:348])
    assert stored.get_data_dtype() == np.uint8
    assert (float(stored["scl_slope"]), float(stored["scl_inter"])) == (1, 0)
    assert (values(written) == (BRIGHT > 0)).all()


def test_a_folder_of_volumes_is_predicted_without_their_masks(tmp_path: Path) -> None:
    for case in ("p1", "p2"):
        write_volume(tmp_path / "in" / case / "t2.nii", BRIGHT)
        write_volume(tmp_path / "in" / case / "t2_seg.nii", BRIGHT)
    assert len(predicted(tmp_path / "in", tmp_path / "out")) == 16
    masks = sorted(path.relative_to(tmp_path / "out" / "masks") for path in (tmp_path / "out" / "masks").rglob("*.gz"))
    assert masks == [Path("p1/t2.nii.gz"), Path("p2/t2.nii.gz")]
    assert (tmp_path / "out" / "overlays" / "p2" / "t2_slice007.png").is_file()


@pytest.mark.parametrize("whole", [True, False])
def test_channels_are_files_or_a_fourth_axis_and_classes_are_labels_or_volumes(whole: bool, tmp_path: Path) -> None:
    other = BRIGHT[::-1]
    if whole:
        write_volume(tmp_path / "in" / "scan.nii.gz", np.stack([BRIGHT, other], axis=-1))
    else:
        write_volume(tmp_path / "in" / "scan_flair.nii.gz", BRIGHT)
        write_volume(tmp_path / "in" / "scan_t1.nii.gz", other)
    predicted(tmp_path / "in", tmp_path / "out", channels=["flair", "t1"], classes={"a": [1, 2], "b": [1]})
    for name, mask in (("a", BRIGHT), ("b", other)):
        written = nibabel.load(tmp_path / "out" / "masks" / name / "scan.nii.gz")
        assert written.shape == SHAPE
        assert (np.asarray(written.dataobj) == (mask > 0)).all()


def test_classes_that_exclude_each_other_are_values_of_one_volume(tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", np.stack([255 - BRIGHT, BRIGHT], axis=-1))
    predicted(tmp_path / "scan.nii.gz", tmp_path / "out", channels=["flair", "t1"], classes={"tumour": 7})
    assert (values(tmp_path / "out" / "masks" / "scan.nii.gz") == np.where(BRIGHT, 7, 0)).all()


def test_a_volume_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 1000, (30, 30, 30)).astype(np.int16)
    cut = tmp_path / "in" / "cut.nii.gz"
    write_volume(cut, noise)
    cut.write_bytes(cut.read_bytes()[:20_000])
    (tmp_path / "in" / "none.nii").write_bytes(b"nothing")
    write_volume(tmp_path / "in" / "scan.nii.gz", BRIGHT)
    outcomes = predicted(tmp_path / "in", tmp_path / "out")
    failed = [outcome.error for outcome in outcomes if isinstance(outcome, Failed)]
    assert len(failed) == 31
    first, second = dict.fromkeys(failed)
    assert first.startswith(f"{cut} is no NIfTI file, damaged or cut off (")
    assert second.startswith(f"{tmp_path}/in/none.nii is no NIfTI file, damaged or cut off (")
    assert sum(isinstance(outcome, Predicted) for outcome in outcomes) == 8
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["scan.nii.gz"]


def test_the_volumes_of_a_public_set_get_masks_on_their_grids(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "BRAINSEG_SAMPLES" not in os.environ:
        pytest.skip("BRAINSEG_SAMPLES names no folder of samples")
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: trained.store)
    root = Path(os.environ["BRAINSEG_SAMPLES"]) / "spinal_cord"
    assert main([trained.run_id, str(root), "-o", str(tmp_path / "out")]) == 0
    assert "3 .nii.gz files were passed over as masks of those" in capsys.readouterr().out
    masks = sorted((tmp_path / "out" / "masks").rglob("*.nii.gz"))
    assert [path.relative_to(tmp_path / "out" / "masks").as_posix() for path in masks] == [
        "t1/t1w.nii.gz",
        "t2/t2.nii.gz",
    ]
    for path in masks:
        mask, image = nibabel.load(path), nibabel.load(root / path.relative_to(tmp_path / "out" / "masks"))
        assert mask.shape == image.shape
        assert (mask.affine == image.affine).all()
        for field in ("qform_code", "sform_code", "pixdim", "xyzt_units"):
            assert (mask.header[field] == image.header[field]).all(), field
        assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}


def test_the_command_writes_a_row_a_slice_and_one_line_for_a_volume_that_failed(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: trained.store)
    write_volume(Path("in/scan.nii.gz"), BRIGHT)
    write_volume(Path("in/two.nii.gz"), np.stack([BRIGHT, BRIGHT], axis=-1))
    assert main([trained.run_id, "in", "-o", "out"]) == 1
    printed = capsys.readouterr()
    assert printed.err == (
        "error: in/two.nii.gz must have 1 channel(s) along a fourth axis, got 2; "
        "name them all by data.channels=[NAME,...]\n"
    )
    assert "images   8 of 9 predicted" in printed.out
    with Path("out/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["id"]) for row in rows[:8]] == [
        ("in/scan.nii.gz", f"scan_slice{number:03}") for number in range(8)
    ]
    mask = values(Path("out/masks/scan.nii.gz"))
    assert mask.shape == SHAPE
    assert [int(row["area_px"]) for row in rows[:8]] == mask.sum(axis=(0, 1)).tolist()
