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
from scipy import ndimage

from brainseg.classes import BINARY, Labels
from brainseg.config import DataConfig
from brainseg.data.load import load_data, source_of_folder
from brainseg.data.phantom import source as phantom
from brainseg.data.phantom.source import ORIENTATION, STORED_SIZE, PhantomSource, write_phantom
from brainseg.data.source import PATIENT, TUMOR_TYPE
from brainseg.errors import DataError, InputError


@pytest.fixture(scope="module")
def source() -> PhantomSource:
    return PhantomSource(patients=8, seed=3)


@pytest.fixture
def _rendered_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests are given slices that were rendered once."""
    monkeypatch.setattr(phantom, "render", phantom.render.__wrapped__)


def digest(source: PhantomSource) -> str:
    pixels = hashlib.sha256()
    for item in source.slices()[::9]:
        image, mask = source.read(item.id)
        pixels.update(image.tobytes() + mask.tobytes())
    return pixels.hexdigest()


@pytest.mark.heavy
@pytest.mark.usefixtures("_rendered_anew")
def test_another_process_renders_the_same_bits(source):
    code = f"from {Path(__file__).stem} import *; print(digest(PhantomSource(patients=8, seed=3)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest(source)


@pytest.mark.usefixtures("_rendered_anew")
def test_the_order_of_reading_changes_nothing(source):
    ids = [item.id for item in source.slices()][:12:3]
    forwards = {slice_id: source.read(slice_id)[0] for slice_id in ids}
    backwards = {slice_id: PhantomSource(patients=8, seed=3).read(slice_id)[0] for slice_id in reversed(ids)}
    for slice_id in ids:
        np.testing.assert_array_equal(forwards[slice_id], backwards[slice_id])


def test_another_seed_gives_other_heads():
    first, second = (PhantomSource(patients=1, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.read(first.slices()[0].id)[0], second.read(second.slices()[0].id)[0])


@pytest.mark.heavy
def test_every_slice_is_an_image_with_a_tumour(source):
    for item in source.slices():
        image, mask = source.read(item.id)
        assert (image.dtype, image.shape) == (np.uint8, (STORED_SIZE, STORED_SIZE, 1))
        assert (mask.dtype, mask.shape) == (np.uint8, (STORED_SIZE, STORED_SIZE, 1))
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


@pytest.mark.usefixtures("_rendered_anew")
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


def test_the_stamp_changes_with_what_the_slices_follow_from():
    sources = [PhantomSource(8, 3), PhantomSource(8, 4), PhantomSource(9, 3)]
    sources += [PhantomSource(8, 3, kind=kind) for kind in ("classes", "colour")]
    sources += [PhantomSource(8, 3, channels="rgb"), PhantomSource(8, 3, kind="colour", channels="grey")]
    assert len({source.stamp() for source in sources}) == 7
    assert PhantomSource(8, 3, kind="binary", channels="grey").stamp() == sources[0].stamp()


def test_a_binary_phantom_has_the_stamp_of_version_0_1_and_with_it_its_cache():
    expected = "6c2a43da7978ec61adc9f6c5a446f4c366cf999ba65107c5547b8397cfa38679"
    assert PhantomSource(patients=12, seed=3).stamp() == expected


def read_all(source: PhantomSource) -> list[tuple[np.ndarray, np.ndarray]]:
    return [source.read(item.id) for item in source.slices()]


def test_with_classes_the_images_stay_and_core_and_rim_are_the_tumour(source):
    classes = PhantomSource(patients=8, seed=3, kind="classes")
    assert classes.labels == Labels(names=("core", "rim", "oedema"), exclusive=True)
    for (image, mask), (same, tumour) in zip(read_all(classes), read_all(source), strict=True):
        np.testing.assert_array_equal(image, same)
        np.testing.assert_array_equal((mask == 1) | (mask == 2), tumour == 1)
        assert set(np.unique(mask)) <= {0, 1, 2, 3}


def test_each_class_is_in_many_slices_and_not_in_all():
    masks = [mask for _, mask in read_all(PhantomSource(patients=8, seed=3, kind="classes"))]
    shares = [np.mean([(mask == number).any() for mask in masks]) for number in (1, 2, 3)]
    assert shares[1] == 1.0
    assert all(0.3 < share < 0.8 for share in (shares[0], shares[2]))


def test_the_core_lies_within_the_rim_and_the_oedema_around_both():
    masks = [mask[..., 0] for _, mask in read_all(PhantomSource(patients=8, seed=3, kind="classes"))]
    touching = np.zeros(4)  # pixels of each number beside a core
    for mask in masks:
        beside = ndimage.binary_dilation(mask == 1) & (mask != 1)
        touching += np.bincount(mask[beside], minlength=4)
    assert touching[2] > 0.9 * touching.sum()


@pytest.mark.heavy
def test_in_colour_the_tumour_differs_in_hue_and_not_in_luma():
    colour, grey = (PhantomSource(patients=6, seed=0, kind="colour", channels=name) for name in ("auto", "grey"))
    assert (colour.labels, colour.holds_colour(), grey.holds_colour()) == (BINARY, True, True)
    hues, lumas, around = [], [], []
    for (image, mask), (luma, _) in zip(read_all(colour), read_all(grey), strict=True):
        assert image.shape == (STORED_SIZE, STORED_SIZE, 3)
        tumour = mask[..., 0] == 1
        ring = ndimage.binary_dilation(tumour, iterations=4) & ~ndimage.binary_dilation(tumour)
        hue = image[..., 2].astype(float) - image[..., 0]
        hues.append(hue[tumour].mean() - hue[ring].mean())
        lumas.append(luma[tumour].mean() - luma[ring].mean())
        around.append(luma[ring].mean())
    assert min(hues) > 5
    assert np.mean(hues) > 0.4 * np.mean(around)
    assert abs(np.mean(lumas)) < 0.1 * np.mean(around)


def test_the_luma_of_the_colours_is_grey_by_the_usual_weights():
    colour, grey = (PhantomSource(patients=2, seed=0, kind="colour", channels=name) for name in ("rgb", "grey"))
    for (image, mask), (luma, same) in zip(read_all(colour), read_all(grey), strict=True):
        np.testing.assert_allclose(luma[..., 0], image @ [0.299, 0.587, 0.114], atol=0.51)
        np.testing.assert_array_equal(mask, same)


@pytest.mark.parametrize(
    ("kind", "channels", "score_by"),
    [
        ("binary", "grey", "slice"),
        ("classes", "grey", "case"),
        ("colour", "rgb", "slice"),
    ],
)
def test_a_run_on_the_phantom_sees_the_channels_that_it_has(kind, channels, score_by, tiny):
    data = load_data(tiny(**{"data.phantom_kind": kind, "data.phantom_patients": 2, "data.limit": None}))
    assert (data.config.data.channels, data.config.data.score_by) == (channels, score_by)
    assert data.slices.images.shape[-1] == data.config.data.channel_count == {"grey": 1, "rgb": 3}[channels]
    assert data.slices.labels == PhantomSource(patients=2, kind=kind).labels
    assert data.slices.masks.max() == (3 if kind == "classes" else 1)


def test_a_grey_phantom_in_rgb_has_three_equal_channels(source):
    rgb = PhantomSource(patients=8, seed=3, channels="rgb")
    assert not rgb.holds_colour()
    slice_id = rgb.slices()[0].id
    np.testing.assert_array_equal(rgb.read(slice_id)[0], np.repeat(source.read(slice_id)[0], 3, axis=-1))


@pytest.mark.parametrize(
    ("kind", "channels", "classes"), [("classes", 1, {"core": 1, "rim": 2, "oedema": 3}), ("colour", 3, None)]
)
def test_a_written_phantom_reads_as_it_is(kind, channels, classes, tmp_path):
    source = PhantomSource(patients=2, seed=0, kind=kind)
    write_phantom(source, tmp_path)
    folder = source_of_folder(tmp_path, DataConfig(name="folder", root=str(tmp_path), classes=classes))
    assert (folder.labels, folder.holds_colour()) == (source.labels, source.holds_colour())
    for (image, mask), (again, same) in zip(
        read_all(source), [folder.read(item.id) for item in source.slices()], strict=True
    ):
        assert again.shape[-1] == channels
        np.testing.assert_array_equal(again, image)
        np.testing.assert_array_equal(same, mask)


def test_name_and_location_are_for_people():
    source = PhantomSource(patients=70, seed=0)
    assert (source.name, source.location) == ("phantom", "phantom of 70 patients, seed 0")
    assert PhantomSource(patients=7, kind="colour").location == "phantom of 7 patients, seed 0, colour"


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
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "new" / "images" / f"{item.id}.png")), image[..., 0]
        )
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "new" / "masks" / f"{item.id}.png")), mask[..., 0] * 255
        )
    assert len(list((tmp_path / "new" / "images").iterdir())) == len(rows)


def test_an_empty_folder_may_be_written_to(tmp_path):
    write_phantom(PhantomSource(patients=1, seed=0), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"images", "masks", "metadata.csv"}


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="must be a new or an empty folder"):
        write_phantom(PhantomSource(patients=1, seed=0), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
