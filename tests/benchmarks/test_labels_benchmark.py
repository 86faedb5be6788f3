"""The benchmark of how well labels agree, on a folder of a few slices whose masks are counted by hand."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.labels import neighbours
from brainseg.data.load import source_of_folder

SIDE = 64
# id -> patient, tumour type, columns that are bright, columns of the mask. Every bright area is 64 pixels high.
SLICES = {
    "1": ("P1", "glioma", slice(0, 32), slice(0, 8)),
    "2": ("P1", "glioma", slice(0, 30), slice(4, 12)),  # like 1; its mask shares 4 of 8 and 8 columns: Dice 0.5
    "3": ("P1", "glioma", slice(48, 64), slice(56, 64)),  # unlike both
    "4": ("P2", "pituitary", slice(0, 32), slice(0, 8)),  # the picture of 1, but another person's
    "5": ("P7", "meningioma", slice(0, 32), slice(0, 8)),
    "6": ("P7B", "meningioma", slice(0, 32), slice(0, 4)),  # a repeat scan: 4 of 8 and 4 columns, 2/3
}


@pytest.fixture
def source(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    lines = ["id,patient_id,tumor_type"]
    for slice_id, (patient, tumor_type, bright, tumor) in SLICES.items():
        for folder, columns in (("images", bright), ("masks", tumor)):
            pixels = np.zeros((SIDE, SIDE), np.uint8)
            pixels[:, columns] = 255
            Image.fromarray(pixels).save(tmp_path / folder / f"{slice_id}.png")
        lines.append(f"{slice_id},{patient},{tumor_type}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    return source_of_folder(tmp_path)


def test_each_slice_is_scored_by_the_mask_of_the_most_similar_slice_of_its_person(source):
    found = {item.id: item for item in neighbours(source)}
    assert {slice_id: item.other for slice_id, item in found.items()} == {
        "1": "2",
        "2": "1",
        "3": "2",
        "5": "6",
        "6": "5",
    }
    assert [found[slice_id].dice for slice_id in "12356"] == pytest.approx([0.5, 0.5, 0.0, 2 / 3, 2 / 3])
    assert found["5"].correlation == pytest.approx(1.0)
    assert found["6"].person == "p7"
