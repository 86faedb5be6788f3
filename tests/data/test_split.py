"""Splits: who is in which part, and what is refused."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from brainseg.config import DataConfig
from brainseg.data.people import person_of
from brainseg.data.source import SliceInfo
from brainseg.data.split import Split, make_split, patients_on_both_sides, read_split
from brainseg.errors import DataError

TYPES = ("glioma", "meningioma", "pituitary")


def make_slices(patients: int = 60) -> list[SliceInfo]:
    """Patient k has 1 + k % 5 slices; every tenth patient's second half comes under a suffixed id."""
    slices = []
    for patient in range(patients):
        for number in range(1 + patient % 5):
            suffix = "B" if patient % 10 == 4 and number > 2 else ""
            columns = {"patient_id": f"P{patient:03d}{suffix}", "tumor_type": TYPES[patient % 3]}
            slices.append(SliceInfo(id=f"{number}-{patient:03d}", columns=columns))
    return slices


SLICES = make_slices()
PERSON = {item.id: person_of(item.columns["patient_id"]) for item in SLICES}
TYPE = {item.id: item.columns["tumor_type"] for item in SLICES}


def people(ids: tuple[str, ...]) -> set[str]:
    return {PERSON[item] for item in ids}


def everything(split: Split) -> list[str]:
    return sorted((*split.train, *split.val, *split.test))


def test_every_slice_is_in_exactly_one_part() -> None:
    split = make_split(SLICES, DataConfig(split_by="image", test_fraction=0.1))
    assert everything(split) == sorted(PERSON)


def test_no_patient_is_on_both_sides() -> None:
    split = make_split(SLICES, DataConfig(split_by="patient", test_fraction=0.2))
    assert not people(split.train) & people(split.val)
    assert not people(split.train) & people(split.test)
    assert not people(split.val) & people(split.test)
    assert patients_on_both_sides(split, SLICES) == 0


def test_a_split_by_image_is_80_to_20_within_each_tumour_type() -> None:
    slices = [SliceInfo(id=f"{n:04d}", columns={"tumor_type": TYPES[n % 3]}) for n in range(300)]
    split = make_split(slices, DataConfig(split_by="image", val_fraction=0.2))
    assert Counter(TYPES[int(item) % 3] for item in split.val) == dict.fromkeys(TYPES, 20)
    assert len(split.train) == 240


def test_a_split_by_patient_holds_about_the_asked_share_of_each_tumour_type() -> None:
    split = make_split(SLICES, DataConfig(split_by="patient", val_fraction=0.25))
    whole, held_out = Counter(TYPE.values()), Counter(TYPE[item] for item in split.val)
    for name in TYPES:
        # The last patient taken may overshoot by at most half of the 5 slices that a patient can have.
        assert abs(held_out[name] - 0.25 * whole[name]) <= 2.5


def test_patients_on_both_sides_are_counted_as_people_not_as_ids() -> None:
    slices = [
        SliceInfo(id="a", columns={"patient_id": "MR01"}),
        SliceInfo(id="b", columns={"patient_id": "MR01B"}),
        SliceInfo(id="c", columns={"patient_id": "MR02"}),
        SliceInfo(id="d", columns={"patient_id": "MR02"}),
        SliceInfo(id="e", columns={"patient_id": "MR03"}),
    ]
    assert patients_on_both_sides(Split(train=("a", "c", "e"), val=("b",), test=("d",)), slices) == 2


def test_spellings_of_one_patient_id_fall_on_one_side() -> None:
    ids = ["P1", "p1", "P01", "P2", "p2", "P02", "P3", "P4", "P5", "P6"]
    slices = [SliceInfo(id=str(number), columns={"patient_id": name}) for number, name in enumerate(ids)]
    for seed in range(20):
        split = make_split(slices, DataConfig(split_by="patient", val_fraction=0.4, split_seed=seed))
        assert patients_on_both_sides(split, slices) == 0
        for same in ({"0", "1", "2"}, {"3", "4", "5"}):
            assert same <= set(split.train) or same <= set(split.val)


def test_a_split_file_matches_in_whatever_form_of_unicode_its_ids_are(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(Split(train=("a\u0308",), val=("b",)).to_json())
    split = read_split(path, [SliceInfo(id="\u00e4"), SliceInfo(id="b")])
    assert split == Split(train=("\u00e4",), val=("b",))


def test_patients_on_both_sides_are_unknown_without_patient_ids() -> None:
    slices = [SliceInfo(id="a"), SliceInfo(id="b")]
    assert patients_on_both_sides(Split(train=("a",), val=("b",)), slices) is None


@pytest.mark.parametrize("split_by", ["image", "patient"])
def test_the_folds_test_every_slice_once_and_are_of_about_one_size(split_by: str) -> None:
    splits = [make_split(SLICES, DataConfig(split_by=split_by, folds=5, fold=fold)) for fold in range(5)]
    assert sorted(item for split in splits for item in split.test) == sorted(PERSON)
    sizes = [len(split.test) for split in splits]
    assert max(sizes) - min(sizes) <= 5
    for split in splits:
        assert everything(split) == sorted(PERSON)
        assert split.val
        if split_by == "patient":
            assert not people(split.test) & people((*split.train, *split.val))


def test_the_split_follows_from_its_seed_and_not_from_the_order_of_the_slices() -> None:
    config = DataConfig(split_seed=3)
    assert make_split(SLICES, config) == make_split(SLICES[::-1], config)
    assert make_split(SLICES, config).fingerprint != make_split(SLICES, DataConfig(split_seed=4)).fingerprint


def test_the_test_part_stays_when_the_validation_share_changes() -> None:
    first, second = (make_split(SLICES, DataConfig(test_fraction=0.2, val_fraction=share)) for share in (0.1, 0.3))
    assert first.test == second.test
    assert len(first.val) < len(second.val)


def test_a_limit_draws_that_many_slices() -> None:
    split = make_split(SLICES, DataConfig(split_by="image", limit=50))
    assert len(everything(split)) == 50
    assert set(everything(split)) < set(PERSON)


def test_another_column_can_keep_slices_together() -> None:
    slices = [SliceInfo(id=f"{n:02d}", columns={"site": f"S{n % 6}"}) for n in range(36)]
    split = make_split(slices, DataConfig(split_by="patient", group_by="site", val_fraction=0.34))
    sites = {item.id: item.columns["site"] for item in slices}
    assert not {sites[item] for item in split.train} & {sites[item] for item in split.val}
    assert len(split.val) == 12


def test_a_stored_split_is_used_as_it_is(tmp_path: Path) -> None:
    split = make_split(SLICES, DataConfig(split_seed=9, test_fraction=0.1))
    path = tmp_path / "split.json"
    path.write_text(split.to_json())
    assert make_split(SLICES, DataConfig(split_file=str(path))) == split


def test_a_split_by_patient_without_patient_ids_names_the_remedy() -> None:
    with pytest.raises(DataError) as error:
        make_split([SliceInfo(id="a"), SliceInfo(id="b")], DataConfig(split_by="patient"))
    assert str(error.value) == (
        "data.split_by=patient needs 'patient_id' for every slice, and slice a has none; "
        "add it to metadata.csv, or use data.split_by=image"
    )


def test_a_split_that_leaves_a_part_empty_is_refused() -> None:
    with pytest.raises(DataError, match="leave no slices for val of 2 slices"):
        make_split([SliceInfo(id="a"), SliceInfo(id="b")], DataConfig(split_by="image", val_fraction=0.1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "is not JSON"),
        (json.dumps({"train": ["a"], "val": ["b"]}), "is no split of schema_version 1"),
        (json.dumps({"schema_version": 1, "train": ["a"], "val": ["a"]}), "names slice a twice"),
        (json.dumps({"schema_version": 1, "train": ["a"], "val": ["x"]}), "names slice x, which the data doesn't have"),
        (json.dumps({"schema_version": 1, "train": ["a"], "val": []}), "must have slices in train and val"),
        (json.dumps({"schema_version": 1, "train": "ab", "val": ["b"]}), "train must be a list of ids"),
    ],
)
def test_a_split_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_split(path, [SliceInfo(id="a"), SliceInfo(id="b")])


@pytest.mark.figshare
def test_the_real_split_by_patient_keeps_209_people_apart(figshare: Path) -> None:
    from brainseg.data.load import source_of_folder

    slices = source_of_folder(figshare).slices()
    config: dict[str, Any] = {"name": "folder", "root": str(figshare)}
    assert len({person_of(item.columns["patient_id"]) for item in slices}) == 209
    by_patient = make_split(slices, DataConfig(**config, split_by="patient"))
    by_image = make_split(slices, DataConfig(**config, split_by="image"))
    assert patients_on_both_sides(by_patient, slices) == 0
    assert (len(by_image.train), len(by_image.val)) == (2451, 613)
    # Most people have several slices, so that most are on both sides.
    assert (patients_on_both_sides(by_image, slices) or 0) > 150
