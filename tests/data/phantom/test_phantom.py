"""The phantom through its `Source` methods, and as a folder."""

import csv
import hashlib
import subprocess
import sys
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainseg.data.phantom.source import ORIENTATION, STORED_SIZE, PhantomSource, write_phantom
from brainseg.data.source import PATIENT, TUMOR_TYPE
from brainseg.errors import DataError, InputError


@pytest.fixture(scope="module")
def source() -> PhantomSource:
    return PhantomSource(patients=8, seed=3)


def digest(source: PhantomSource) -> str:
    pixels = hashlib.sha256()
    for item in source.slices()[::9]:
        image, mask = source.read(item.id)
        pixels.update(image.tobytes() + mask.tobytes())
    return pixels.hexdigest()


@pytest.mark.heavy
def test_another_process_renders_the_same_bits(source):
    code = f"from {Path(__file__).stem} import *; print(digest(PhantomSource(patients=8, seed=3)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest(source)


def test_the_order_of_reading_changes_nothing(source):
    ids = [item.id for item in source.slices()][:12:3]
    forwards = {slice_id: source.read(slice_id)[0] for slice_id in ids}
    backwards = {slice_id: PhantomSource(patients=8, seed=3).read(slice_id)[0] for slice_id in reversed(ids)}
    for slice_id in ids:
        np.testing.assert_array_equal(forwards[slice_id], backwards[slice_id])


def test_another_seed_gives_other_heads():
    first, second = (PhantomSource(patients=1, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.read(first.slices()[0].id)[0], second.read(second.slices()[0].id)[0])


def test_every_slice_is_an_image_with_a_tumour(source):
    for item in source.slices():
        image, mask = source.read(item.id)
        assert (image.dtype, image.shape) == (np.uint8, (STORED_SIZE, STORED_SIZE))
        assert (mask.dtype, mask.shape) == (np.uint8, (STORED_SIZE, STORED_SIZE))
        assert set(np.unique(mask)) == {0, 1}, item.id
        assert 10 <= mask.sum() <= 0.15 * mask.size, item.id
        assert image.min() < 20, item.id  # the background is dark
        assert np.percentile(image, 99) > 100, item.id  # fat is bright


def test_ids_are_unique_and_sorted():
    ids = [item.id for item in PhantomSource(patients=120, seed=0).slices()]
    assert ids == sorted(set(ids))


def test_each_patient_has_one_type_and_three_to_seven_slices():
    slices = PhantomSource(patients=60, seed=1).slices()
    types = {(item.columns[PATIENT].rstrip("B"), item.columns[TUMOR_TYPE]) for item in slices}
    assert len(types) == 60
    counts = Counter(item.columns[PATIENT] for item in slices)
    assert set(counts.values()) == {3, 4, 5, 6, 7}


def test_each_patient_is_seen_in_several_orientations():
    slices = PhantomSource(patients=60, seed=1).slices()
    seen = {(item.columns[PATIENT], item.columns[ORIENTATION]) for item in slices}
    assert set(Counter(patient for patient, _ in seen).values()) == {2, 3}
    assert {orientation for _, orientation in seen} == {"axial", "coronal", "sagittal"}


def test_some_people_were_scanned_twice():
    ids = {item.columns[PATIENT] for item in PhantomSource(patients=30, seed=0).slices()}
    assert {name for name in ids if name.endswith("B")} == {"PH0007B", "PH0017B", "PH0027B"}
    assert len(ids) == 33


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_types_come_in_the_shares_of_the_real_data(seed):
    slices = PhantomSource(patients=100, seed=seed).slices()
    people = Counter(dict({(item.columns[PATIENT].rstrip("B"), item.columns[TUMOR_TYPE]) for item in slices}).values())
    # 708, 1426 and 930 of 3064.
    assert people["meningioma"] == pytest.approx(23, abs=2)
    assert people["glioma"] == pytest.approx(47, abs=2)
    assert people["pituitary"] == pytest.approx(30, abs=2)


def test_more_patients_leave_the_first_ones_as_they_are():
    small, large = PhantomSource(patients=8, seed=5), PhantomSource(patients=20, seed=5)
    patients = {item.columns[PATIENT] for item in small.slices()}
    assert "PH0007B" in patients
    assert small.slices() == tuple(item for item in large.slices() if item.columns[PATIENT] in patients)
    for item in small.slices()[::10]:
        np.testing.assert_array_equal(small.read(item.id), large.read(item.id))


def test_neighbours_of_a_patient_are_more_alike_than_slices_of_two_patients(source):
    """By the correlation of pixels, over all pairs of axial slices."""
    axial = [item for item in source.slices() if item.columns[ORIENTATION] == "axial"]
    pixels = {item.id: source.read(item.id)[0].ravel().astype(float) for item in axial}
    same, other = [], []
    for a, b in combinations(axial, 2):
        alike = np.corrcoef(pixels[a.id], pixels[b.id])[0, 1]
        (same if a.columns[PATIENT] == b.columns[PATIENT] else other).append(alike)
    assert len(same) >= 3
    assert np.median(same) > np.percentile(other, 90)


def test_neighbouring_masks_overlap(source):
    """A stack cuts one tumour, so that consecutive masks share pixels."""
    by_stack: dict[tuple[str, str], list[np.ndarray]] = {}
    for item in source.slices():
        by_stack.setdefault((item.columns[PATIENT], item.columns[ORIENTATION]), []).append(source.read(item.id)[1])
    pairs = [pair for masks in by_stack.values() for pair in pairwise(masks)]
    assert len(pairs) >= 8
    for first, second in pairs:
        assert (first & second).sum() > 0.3 * min(first.sum(), second.sum())


def test_pituitary_tumours_lie_in_the_middle_of_the_head():
    source = PhantomSource(patients=12, seed=0)
    frontal = [
        item.id
        for item in source.slices()
        if item.columns[TUMOR_TYPE] == "pituitary" and item.columns[ORIENTATION] != "sagittal"
    ]
    assert len(frontal) >= 3
    for slice_id in frontal:
        columns = np.nonzero(source.read(slice_id)[1])[1]
        assert abs(columns.mean() - STORED_SIZE / 2) < 0.12 * STORED_SIZE


def test_the_stamp_changes_with_seed_and_patients():
    sources = [PhantomSource(8, 3), PhantomSource(8, 4), PhantomSource(9, 3)]
    assert len({source.stamp() for source in sources}) == 3
    assert PhantomSource(8, 3).stamp() == sources[0].stamp()


def test_name_and_location_are_for_people():
    source = PhantomSource(patients=70, seed=0)
    assert (source.name, source.location) == ("phantom", "phantom of 70 patients, seed 0")


def test_an_unknown_id_is_named(source):
    with pytest.raises(DataError, match=r"phantom of 8 patients, seed 3: there is no slice 'axial-9999a-0'"):
        source.read("axial-9999a-0")


@pytest.mark.parametrize(
    ("patients", "seed", "text"),
    [
        (0, 0, r"data.phantom_patients must be between 1 and 10000, got 0; try 70"),
        (10_001, 0, r"data.phantom_patients must be between 1 and 10000, got 10001; try 70"),
        (8, -1, r"data.phantom_seed must be at least 0, got -1; try 0"),
    ],
)
def test_numbers_out_of_range_are_refused(patients, seed, text):
    with pytest.raises(DataError, match=text):
        PhantomSource(patients, seed)


def test_a_written_phantom_holds_every_slice_and_its_metadata(tmp_path):
    source = PhantomSource(patients=2, seed=0)
    write_phantom(source, tmp_path / "new")
    with open(tmp_path / "new" / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"id": item.id, **item.columns} for item in source.slices()]
    for item in source.slices():
        image, mask = source.read(item.id)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "images" / f"{item.id}.png")), image)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "masks" / f"{item.id}.png")), mask * 255)
    assert len(list((tmp_path / "new" / "images").iterdir())) == len(rows)


def test_an_empty_folder_may_be_written_to(tmp_path):
    write_phantom(PhantomSource(patients=1, seed=0), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"images", "masks", "metadata.csv"}


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="must be a new or an empty folder"):
        write_phantom(PhantomSource(patients=1, seed=0), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
