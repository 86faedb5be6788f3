"""Which patient ids are one person."""

import re
from collections import defaultdict
from collections.abc import Iterable

from brainseg.data.names import same_spelling

# A digit and then one capital letter at the end: `MR040240B` is a further scan of `MR040240`.
_RESCAN = re.compile(r"^(.*\d)[A-Z]$")


def person_of(patient_id: str) -> str:
    """A key that all patient ids of one person have in common; `names_of_people` has what is shown.

    `MR040240B` is a scan of `MR040240`. In the Figshare set (Cheng et al. 2015, doi 10.1371/journal.pone.0140381)
    a letter after the number most likely marks a repeat scan: 43 of its 233 ids have one, and they merge to 209
    people. `P1`, `p1` and `P01` are spellings of one id, as are `1` and `1.0`; a small letter after a number is part of
    the id. Where the letter or the zero means something else, merging costs a split some freedom, while not merging
    would leak.
    """
    return same_spelling(_first_scan(patient_id.strip()))


def whose(slice_id: str, patient_id: str) -> tuple[str, str]:
    """A key that groups the slices of one person; a slice without a patient id is a group of its own."""
    return ("person", person_of(patient_id)) if patient_id else ("slice", slice_id)


def names_of_people(patient_ids: Iterable[str]) -> dict[str, str]:
    """Patient id -> name of the person: of its spellings the first in order, without the letter of a scan.

    Names are unique. An id that has one spelling in the set gives the same name in any set, so that a split, which is
    drawn from sorted names, stays the same.
    """
    ids = sorted(set(patient_ids))
    names: dict[str, str] = {}
    for patient_id in ids:
        name = _first_scan(patient_id)
        names[person_of(patient_id)] = min(names.get(person_of(patient_id), name), name)
    return {patient_id: names[person_of(patient_id)] for patient_id in ids}


def people_with_several_ids(patient_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Person's name -> sorted patient ids, for each person with more than one."""
    ids_of = defaultdict(list)
    for patient_id, name in names_of_people(patient_ids).items():
        ids_of[name].append(patient_id)
    return {name: tuple(ids) for name, ids in sorted(ids_of.items()) if len(ids) > 1}


def _first_scan(patient_id: str) -> str:
    rescan = _RESCAN.match(patient_id)
    return rescan[1] if rescan else patient_id
