"""Which patient ids are one person."""

import re
from collections import defaultdict
from collections.abc import Iterable

# A digit and then one capital letter at the end: `MR040240B` is a further scan of `MR040240`.
_RESCAN = re.compile(r"^(.*\d)[A-Z]$")


def person_of(patient_id: str) -> str:
    """The person that a patient id stands for: `MR040240B` is a scan of `MR040240`; others stay as they are.

    In the Figshare set (Cheng et al. 2015, doi 10.1371/journal.pone.0140381) a letter after the number
    most likely marks a repeat scan: 43 of its 233 ids have one, and they merge to 209 people. Where the
    letter means something else, merging costs a split some freedom, while not merging would leak.
    """
    rescan = _RESCAN.match(patient_id)
    return rescan[1] if rescan else patient_id


def whose(slice_id: str, patient_id: str) -> tuple[str, str]:
    """A key that groups the slices of one person; a slice without a patient id is a group of its own."""
    return ("person", person_of(patient_id)) if patient_id else ("slice", slice_id)


def people_with_several_ids(patient_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Person -> sorted patient ids, for each person with more than one."""
    ids_of = defaultdict(set)
    for patient_id in patient_ids:
        ids_of[person_of(patient_id)].add(patient_id)
    return {person: tuple(sorted(ids)) for person, ids in sorted(ids_of.items()) if len(ids) > 1}
