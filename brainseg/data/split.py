"""Which slices train, validate and test: drawn once from sorted ids, then stored with the run.

Stored, not drawn again: a library's shuffles may change between versions, a list of ids can't.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from brainseg.config import DataConfig
from brainseg.data.names import nfc
from brainseg.data.people import names_of_people, person_of
from brainseg.data.source import PATIENT, SliceInfo
from brainseg.errors import DataError

SPLIT_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Split:
    """Ids of each part, sorted; no id is in two parts."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The same for the same parts, whatever made them; 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps([self.train, self.val, self.test]).encode()).hexdigest()

    def to_json(self) -> str:
        """What `read_split` reads."""
        parts = {"schema_version": SPLIT_SCHEMA, "fingerprint": self.fingerprint}
        return json.dumps(parts | {"train": self.train, "val": self.val, "test": self.test}, indent=1) + "\n"


def make_split(slices: Sequence[SliceInfo], config: DataConfig) -> Split:
    """The split that the configuration asks for: from its file, in folds, or by its fractions.

    Groups (single slices, or the slices of a person) stay together; each part has about the same
    shares of `stratify_by`, where that column is known. Raises DataError where the slices can't be
    split so.
    """
    if config.split_file is not None:
        return read_split(Path(config.split_file), slices)
    slices = limited(slices, limit=config.limit, seed=config.split_seed)
    if config.split_by == "folder":
        return _split_of_folders(slices, config)
    groups = _groups(slices, config)
    strata = _strata(groups, config.stratify_by)
    # One stream for each purpose: the test part stays the same when the validation share changes.
    test_rng, val_rng = (np.random.default_rng([config.split_seed, purpose]) for purpose in (1, 2))
    if config.folds is not None and config.fold is not None:
        test = _fold(groups, strata, folds=config.folds, fold=config.fold, rng=test_rng)
        val_fraction = config.val_fraction  # of what the fold leaves
    else:
        test = _draw(groups, strata, fraction=config.test_fraction, rng=test_rng)
        val_fraction = config.val_fraction / (1 - config.test_fraction)
    rest = [[name for name in stratum if name not in test] for stratum in strata]
    val = _draw(groups, rest, fraction=val_fraction, rng=val_rng)
    train = groups.keys() - test - val
    split = Split(train=_ids(groups, train), val=_ids(groups, val), test=_ids(groups, test))
    _check_parts(split, config, groups=len(groups))
    return split


def _split_of_folders(slices: Sequence[SliceInfo], config: DataConfig) -> Split:
    """The parts that folders are named like. Without a folder val, it is drawn from train."""
    ids: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for item in slices:
        if item.part not in ids:
            raise DataError(
                f"data.split_by=folder needs each slice in a folder named train, val or test, and slice {item.id} is "
                f"in {'none' if item.part is None else 'a fold'}; move it, or use data.split_by=patient or image"
            )
        ids[item.part].append(item.id)
    if not ids["train"]:
        raise DataError("data.split_by=folder has no slices in a folder named train; add them, or use another split")
    if ids["val"]:
        return Split(**{part: tuple(sorted(members)) for part, members in ids.items()})
    known = all(config.group_by in item.columns for item in slices)
    rest = replace(config, split_by="patient" if known else "image", limit=None)
    drawn = make_split([item for item in slices if item.part == "train"], rest)
    return replace(drawn, test=tuple(sorted(ids["test"])))


def limited(slices: Sequence[SliceInfo], *, limit: int | None, seed: int) -> list[SliceInfo]:
    """At most `limit` of the slices, drawn at random from sorted ids, in the order of ids."""
    ordered = sorted(slices, key=lambda item: item.id)
    if limit is None or limit >= len(ordered):
        return ordered
    chosen = np.random.default_rng([seed, 0]).permutation(len(ordered))[:limit]
    return [ordered[position] for position in sorted(chosen)]


def read_split(path: Path, slices: Sequence[SliceInfo]) -> Split:
    """A stored split. Raises DataError where it can't be read, overlaps, or names unknown slices."""
    remedy = "use the split.json of a run"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"data.split_file {path} can't be read ({error.strerror}); {remedy}") from error
    split = parse_split(text, where=f"data.split_file {path}", remedy=remedy)
    # Ids are compared in one form of Unicode: copying a folder between systems may change it.
    known = {nfc(item.id): item.id for item in slices}
    train, val, test = (
        tuple(sorted(known.get(nfc(each), each) for each in ids)) for ids in (split.train, split.val, split.test)
    )
    split = Split(train=train, val=val, test=test)
    unknown = sorted({*split.train, *split.val, *split.test} - {item.id for item in slices})
    if unknown:
        raise DataError(
            f"data.split_file {path} names slice {unknown[0]}, which the data doesn't have "
            f"({len(unknown)} in all); use a split of this data set"
        )
    if not split.train or not split.val:
        raise DataError(f"data.split_file {path} must have slices in train and val; {remedy}")
    return split


def parse_split(text: str | bytes, *, where: str, remedy: str) -> Split:
    """What `Split.to_json` wrote; `where` names it in errors. Raises DataError for anything else, and for overlaps."""
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON; {remedy}") from error
    if not isinstance(stored, dict) or stored.get("schema_version") != SPLIT_SCHEMA:
        raise DataError(f"{where} is no split of schema_version {SPLIT_SCHEMA}; {remedy}")
    parts: dict[str, tuple[str, ...]] = {}
    for part in ("train", "val", "test"):
        ids = stored.get(part, [])
        if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
            raise DataError(f"{where}: {part} must be a list of ids; {remedy}")
        parts[part] = tuple(sorted(ids))
    counts = Counter(item for ids in parts.values() for item in ids)
    twice = sorted(item for item, count in counts.items() if count > 1)
    if twice:
        raise DataError(f"{where} names slice {twice[0]} twice ({len(twice)} in all); remove one")
    return Split(**parts)


def patients_on_both_sides(split: Split, slices: Sequence[SliceInfo]) -> int | None:
    """How many people have slices in training and in validation or test; None where ids are unknown."""
    people = {item.id: person_of(item.columns[PATIENT]) for item in slices if PATIENT in item.columns}
    if not people:
        return None
    trained = {people[item] for item in split.train if item in people}
    held_out = {people[item] for item in (*split.val, *split.test) if item in people}
    return len(trained & held_out)


def count_people(slices: Sequence[SliceInfo]) -> int | None:
    """How many people the slices show, repeat scans merged; None where patient ids are unknown."""
    people = {person_of(item.columns[PATIENT]) for item in slices if PATIENT in item.columns}
    return len(people) or None


def _groups(slices: Sequence[SliceInfo], config: DataConfig) -> dict[str, list[SliceInfo]]:
    """Name of each group -> its slices, in the order of names."""
    groups: dict[str, list[SliceInfo]] = defaultdict(list)
    # One person's ids (MR040240, MR040240B, mr040240) must not fall on both sides.
    names = names_of_people(item.columns[PATIENT] for item in slices if PATIENT in item.columns)
    for item in slices:
        if config.split_by == "image":
            groups[item.id].append(item)
            continue
        value = item.columns.get(config.group_by)
        if value is None:
            raise DataError(
                f"data.split_by=patient needs {config.group_by!r} for every slice, and slice {item.id} has none; "
                "add it to metadata.csv, or use data.split_by=image"
            )
        groups[names[value] if config.group_by == PATIENT else value].append(item)
    return {name: groups[name] for name in sorted(groups)}


def _strata(groups: Mapping[str, list[SliceInfo]], column: str) -> list[list[str]]:
    """Names of groups by their most frequent value of `column`; one stratum where nothing is known."""
    strata: dict[str, list[str]] = defaultdict(list)
    for name, members in groups.items():
        values = Counter(item.columns.get(column, "") for item in members)
        strata[min(values, key=lambda value: (-values[value], value))].append(name)
    return [strata[value] for value in sorted(strata)]


def _draw(
    groups: Mapping[str, list[SliceInfo]], strata: list[list[str]], *, fraction: float, rng: np.random.Generator
) -> set[str]:
    """Groups at random that hold about `fraction` of each stratum's slices."""
    drawn: set[str] = set()
    for stratum in strata:
        target = fraction * sum(len(groups[name]) for name in stratum)
        taken = 0
        for position in rng.permutation(len(stratum)):
            size = len(groups[stratum[position]])
            # Taken where that brings the count nearer to the target than leaving it would.
            if taken + size / 2 <= target:
                drawn.add(stratum[position])
                taken += size
    return drawn


def _fold(
    groups: Mapping[str, list[SliceInfo]],
    strata: list[list[str]],
    *,
    folds: int,
    fold: int,
    rng: np.random.Generator,
) -> set[str]:
    """The groups of one fold. Each stratum's groups go, largest first, to the fold with the fewest slices."""
    members: list[set[str]] = [set() for _ in range(folds)]
    sizes = [0] * folds
    for stratum in strata:
        in_stratum = [0] * folds
        shuffled = [stratum[position] for position in rng.permutation(len(stratum))]
        for name in sorted(shuffled, key=lambda name: -len(groups[name])):
            smallest = min(range(folds), key=lambda index: (in_stratum[index], sizes[index]))
            members[smallest].add(name)
            in_stratum[smallest] += len(groups[name])
            sizes[smallest] += len(groups[name])
    return members[fold]


def _ids(groups: Mapping[str, list[SliceInfo]], names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(item.id for name in names for item in groups[name]))


def _check_parts(split: Split, config: DataConfig, *, groups: int) -> None:
    wanted = {"train": split.train, "val": split.val}
    if config.folds is not None or config.test_fraction:
        wanted["test"] = split.test
    for part, ids in wanted.items():
        if not ids:
            kind = "slices" if config.split_by == "image" else "patients"
            raise DataError(
                f"data.val_fraction={config.val_fraction} and data.test_fraction={config.test_fraction} leave no "
                f"slices for {part} of {groups} {kind}; use more {kind} or other fractions"
            )
