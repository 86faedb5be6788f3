"""Makes pairs of splits; one training of a pair sees other slices of a test slice's patient, the other doesn't.

The people are dealt, type by type, into four groups. A and B each have slices to train on and slices to test on;
the shared ones train in both trainings of a pair, and the last ones validate. Training `a` has A's and the shared
people's slices, training `b` B's and the shared ones', in equal number, and both are tested on A's and B's test
slices. So each test slice is scored by one model that has seen its patient and by one that hasn't, and whatever else
distinguishes the two models cancels out between A and B.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from brainseg.data.people import person_of
from brainseg.data.source import PATIENT, TUMOR_TYPE, SliceInfo
from brainseg.data.split import Split

A, B, SHARED, VAL = "a", "b", "shared", "val"
# Of all slices, about.
SHARES = {A: 0.35, B: 0.35, SHARED: 0.15, VAL: 0.15}
# Of each person's slices in A and B; four fifths of a split by image are nearly that.
TEST_SHARE = 0.25


def crossover(slices: Sequence[SliceInfo], *, seed: int) -> dict[str, Split]:
    """The splits of trainings `a` and `b`, with the same test and validation slices and equally many to train on.

    Raises ValueError where a slice has no patient id.
    """
    random = np.random.default_rng([seed, 3])
    groups = _dealt(_people(slices), random)
    own = {name: _parted(groups[name], random) for name in (A, B)}
    size = min(len(train) for train, _ in own.values())
    test = sorted(own[A][1] + own[B][1])
    return {
        name: Split(
            train=tuple(sorted([*random.permutation(own[name][0])[:size].tolist(), *_ids(groups[SHARED])])),
            val=tuple(sorted(_ids(groups[VAL]))),
            test=tuple(test),
        )
        for name in (A, B)
    }


def _people(slices: Sequence[SliceInfo]) -> dict[str, dict[str, list[str]]]:
    """Maps tumour type to person to slice ids; the type of a person's first slice counts."""
    people: dict[str, list[SliceInfo]] = defaultdict(list)
    for item in sorted(slices, key=lambda item: item.id):
        if PATIENT not in item.columns:
            raise ValueError(f"slice {item.id} has no {PATIENT}: whether its patient was seen can't be told")
        people[person_of(item.columns[PATIENT])].append(item)
    by_type: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for person, members in sorted(people.items()):
        by_type[members[0].columns.get(TUMOR_TYPE, "")][person] = [item.id for item in members]
    return dict(sorted(by_type.items()))


def _dealt(by_type: dict[str, dict[str, list[str]]], random: np.random.Generator) -> dict[str, list[list[str]]]:
    """Maps group to its people's slices. Each person goes to the group that lacks most of its share of the type."""
    groups: dict[str, list[list[str]]] = {name: [] for name in SHARES}
    for people in by_type.values():
        total = sum(map(len, people.values()))
        lacking = {name: share * total for name, share in SHARES.items()}
        for person in random.permutation(sorted(people)):
            ids = people[str(person)]
            # One slice can't be on both sides.
            allowed = list(SHARES) if len(ids) > 1 else [SHARED, VAL]
            name = max(allowed, key=lambda name: lacking[name] / SHARES[name])
            groups[name].append(ids)
            lacking[name] -= len(ids)
    return groups


def _parted(people: list[list[str]], random: np.random.Generator) -> tuple[list[str], list[str]]:
    """Splits each person's slices at random into those to train on and those to test on (at least one)."""
    train: list[str] = []
    test: list[str] = []
    for ids in people:
        shuffled = random.permutation(ids).tolist()
        count = max(1, round(TEST_SHARE * len(ids)))
        test += shuffled[:count]
        train += shuffled[count:]
    return train, test


def _ids(people: list[list[str]]) -> list[str]:
    return [each for ids in people for each in ids]
