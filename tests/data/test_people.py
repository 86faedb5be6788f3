"""Which patient ids are one person."""

import itertools

import pytest

from brainseg.data.people import names_of_people, people_with_several_ids, person_of
from brainseg.data.phantom.source import PhantomSource


@pytest.mark.parametrize(
    "ids",
    [
        ("MR040240", "MR040240B", "MR040240F"),  # a capital letter after a digit is a further scan
        ("P1", "p1", "P01", "P001", " P1 "),
        ("1", "01", "001", "1.0", "1.00"),
        ("P1", "P01B", "p1"),
        ("M\u00fcller", "Mu\u0308ller"),  # composed and decomposed
        ("0", "00"),
    ],
)
def test_the_spellings_and_scans_of_one_person_have_one_key(ids: tuple[str, ...]) -> None:
    assert len({person_of(patient_id) for patient_id in ids}) == 1


@pytest.mark.parametrize(
    "ids",
    [
        ("MR040240", "MR040240BC", "MR040240b", "MR04024"),
        ("anna", "anne", "A", "B", ""),
        ("1.01", "1.1", "1.10"),  # versions, or visits
        ("2020_01", "2020_1", "2020_10"),
        ("P1.0", "P1", "P10", "P1.1"),
        ("TCGA_CS_4941_19960909", "TCGA_CS_4942_19970222"),
    ],
)
def test_ids_that_may_be_different_people_have_different_keys(ids: tuple[str, ...]) -> None:
    for one, other in itertools.combinations(ids, 2):
        assert person_of(one) != person_of(other)


def test_people_with_several_ids_are_listed_with_all_of_them() -> None:
    ids = ["MR2C", "MR2", "MR1", "MR3B", "MR3D", "MR2", "MR4B", "p7", "P07"]
    assert people_with_several_ids(ids) == {"MR2": ("MR2", "MR2C"), "MR3": ("MR3B", "MR3D"), "P07": ("P07", "p7")}


def test_a_person_with_one_spelling_keeps_the_name_that_orders_the_split() -> None:
    ids = {item.columns["patient_id"] for item in PhantomSource(patients=30).slices()}
    assert "PH0007B" in ids
    assert names_of_people(ids) == {patient_id: patient_id.removesuffix("B") for patient_id in ids}
    # `2` would come before `010`, were zeros left out of names.
    assert names_of_people(["002", "010", "MR017260F"]) == {"002": "002", "010": "010", "MR017260F": "MR017260"}
