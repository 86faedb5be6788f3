"""Which patient ids are one person."""

import pytest

from brainseg.data.people import people_with_several_ids, person_of


@pytest.mark.parametrize(
    ("patient_id", "person"),
    [
        ("MR040240", "MR040240"),
        ("MR040240B", "MR040240"),
        ("MR017260F", "MR017260"),  # also where no other scan is known
        ("100360", "100360"),
        ("TCGA_CS_4941_19960909", "TCGA_CS_4941_19960909"),
        ("MR040240BC", "MR040240BC"),
        ("MR040240b", "MR040240b"),
        ("anna", "anna"),
        ("B", "B"),
        ("", ""),
    ],
)
def test_one_capital_letter_after_a_digit_is_a_further_scan(patient_id: str, person: str) -> None:
    assert person_of(patient_id) == person


def test_people_with_several_ids_are_listed_with_all_of_them() -> None:
    ids = ["MR2C", "MR2", "MR1", "MR3B", "MR3D", "MR2", "MR4B"]
    assert people_with_several_ids(ids) == {"MR2": ("MR2", "MR2C"), "MR3": ("MR3B", "MR3D")}
