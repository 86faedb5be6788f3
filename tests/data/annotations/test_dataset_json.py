"""nnU-Net's `dataset.json` names the classes and channels of a folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brainseg.config import DataConfig
from brainseg.data.folder import FolderSource
from brainseg.data.verify import verify
from brainseg.errors import DataError

VERSION_2 = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "liver": 1, "tumour": 2, "ignore": 3},
}
VERSION_1 = {
    "modality": {"0": "T1", "1": "FLAIR"},
    "labels": {"0": "background", "1": "liver", "2": "tumour", "3": "ignore"},
}


def dataset(root: Path, content: Any, *, channels: tuple[str, ...] = ("_0000", "_0001")) -> FolderSource:
    """A case of 3x2 pixels whose mask holds 0 to 2, and 3 once."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number, channel in enumerate(channels):
        Image.fromarray(np.full((2, 3), 10 * number, np.uint8)).save(root / "images" / f"case{channel}.png")
    Image.fromarray(np.array([[0, 1, 2], [0, 1, 3]], np.uint8)).save(root / "masks" / "case.png")
    (root / "dataset.json").write_text(json.dumps(content))
    return FolderSource(DataConfig(name="folder", root=str(root)))


@pytest.mark.parametrize("content", [VERSION_2, VERSION_1])
def test_labels_become_classes_and_channels_the_endings_of_files(tmp_path: Path, content: dict[str, Any]) -> None:
    source = dataset(tmp_path, content)
    assert source.data.classes == {"background": 0, "liver": 1, "tumour": 2}
    assert (source.data.channels, source.data.ignore, source.data.annotations) == (("0000", "0001"), 3, "masks")
    image, mask = source.read("case")
    assert image[0, 0].tolist() == [0, 10]
    assert mask[..., 0].tolist() == [[0, 1, 2], [0, 1, 255]]
    said = "dataset.json (nnU-Net); classes liver, tumour; data.ignore=3; channels 0000 (T1), 0001 (FLAIR)"
    assert source.notes[-1] == f"{tmp_path}: {said}"
    report = verify(tmp_path)
    assert (report.layout, report.channels) == (f"images/ and masks/, with {said}", ("0000", "0001"))
    assert report.classes == {"liver": 2 / 6, "tumour": 1 / 6}
    assert [each.check for each in report.findings] == ["constant_image", "no_patient_id"]


def test_labels_of_several_values_are_regions(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    source = dataset(tmp_path, {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": labels}, channels=("",))
    assert source.data.channels == "auto"  # colours of one file
    assert source.read("case")[1][0].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]


def test_what_the_user_has_named_counts(tmp_path: Path) -> None:
    dataset(tmp_path, VERSION_2)
    source = FolderSource(
        DataConfig(name="folder", root=str(tmp_path), classes={"any": [1, 2, 3]}, channels=["0001", "0000"])
    )
    assert (source.data.classes, source.data.channels) == ({"any": [1, 2, 3]}, ("0001", "0000"))
    # The files are read as if the JSON weren't there.
    with pytest.raises(DataError, match=r"the masks hold class numbers, the values 1 \(in 1\), 2 \(in 1\), 3 \(in 1\)"):
        FolderSource(
            DataConfig(name="folder", root=str(tmp_path), channels=["0001", "0000"], annotations="masks")
        ).read("case")


@pytest.mark.parametrize("labels", [{"liver": -1}, {"liver": {}}, {"x": "liver"}, {"background": 0}])
def test_labels_that_can_be_no_classes_are_one_line(tmp_path: Path, labels: dict[str, Any]) -> None:
    with pytest.raises(DataError) as refused:
        dataset(tmp_path, {"channel_names": {"0": "T1"}, "labels": labels})
    text = str(refused.value)
    assert text.startswith(f"{tmp_path / 'dataset.json'} can't be used (")
    assert text.endswith("); correct it, or leave it out by data.annotations=masks")


@pytest.mark.parametrize("content", [[], {"name": "another program's"}, {"labels": ["liver"]}])
def test_a_file_of_another_program_is_left_alone(tmp_path: Path, content: Any) -> None:
    assert dataset(tmp_path, content, channels=("",)).data.classes is None
