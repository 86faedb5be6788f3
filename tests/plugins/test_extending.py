"""The examples of docs/extending.md do what they say, in fewer than thirty lines each."""

import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from brainseg import compose, plugins
from brainseg.data.load import load_data
from examples import EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short(name: str) -> None:
    assert len(EXAMPLES[name].splitlines()) < 30


def test_the_boundary_loss_weighs_pixels_by_their_distance_from_the_outline(example) -> None:
    example("boundary")
    plugins.load(["boundary"])
    loss = plugins.made("losses", "boundary", {"boundary_weight": 2.0})
    mask = np.zeros((1, 1, 5, 1), np.float32)
    mask[0, 0, 0] = 1.0
    # Distances -1, 1, 2, 3, 4 of the pixels from the mask.
    probability = np.array([0.5, 0.0, 0.0, 0.0, 1.0], np.float32).reshape(mask.shape)
    assert float(loss(tf.constant(mask), tf.constant(probability))) == pytest.approx(2.0 * (-0.5 + 4.0) / 5)


def test_objects_are_matched_one_by_one(example) -> None:
    example("objects")
    plugins.load(["objects"])
    metric = plugins.made("metrics", "object_f1", {})
    mask, predicted = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    assert math.isnan(metric(mask, predicted))
    mask[0, 0:4] = mask[4, 0:4] = True
    # One is found, by 3 of its 4 pixels; the other by 1 of 4, which is too few.
    predicted[0, 0:3] = predicted[4, 0:1] = True
    assert metric(mask, predicted) == 0.5
    assert metric(mask, mask) == 1.0
    assert metric(mask, np.zeros((8, 8), bool)) == 0.0


def write_dicom(path: Path, pixels: np.ndarray, patient: str) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    data.PatientID = patient
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelData = pixels.astype("<u2").tobytes()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)


def test_dicom_files_are_read_split_by_patient_and_cached(example, here: Path, tmp_path: Path) -> None:
    example("dicom")
    root = tmp_path / "slices"
    root.mkdir()
    for number in range(8):
        image, mask = np.zeros((16, 16), np.uint16), np.zeros((16, 16), np.uint16)
        image[4:8] = 1000 * (number + 1)
        mask[4:8, 0:4] = 1
        write_dicom(root / f"{number}.dcm", image, f"p{number // 2}")
        write_dicom(root / f"{number}_mask.dcm", mask, f"p{number // 2}")
    overrides = ["plugins=[dicom]", "data.name=dicom", f"data.root={root}", "data.image_size=16", "model.depth=2"]
    data = load_data(compose.freeze([*overrides, "data.val_fraction=0.25"]))
    assert data.config.data.channels == "grey"
    assert [item.columns["patient_id"] for item in data.slices.slices] == [
        "p0",
        "p0",
        "p1",
        "p1",
        "p2",
        "p2",
        "p3",
        "p3",
    ]
    assert data.patients_on_both_sides == 0
    assert [image[5, 0, 0] for image in data.slices.images] == [255] * 8
    assert data.slices.masks.sum() == 8 * 16
