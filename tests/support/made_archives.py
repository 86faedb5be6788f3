"""An exported study whose runs are made by hand, and the same file with something changed."""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from made_runs import add_study

from brainseg.data.digests import digests_of
from brainseg.data.load import source_of_folder
from brainseg.tracking import MemoryStore

Members = dict[str, bytes]


def add_study_on(store: MemoryStore, slices: Path, root: Path) -> None:
    """`made_runs.add_study`, whose runs have the fingerprint of the slices."""
    add_study(store, slices, root)
    fingerprint, _ = digests_of(source_of_folder(slices))
    split = {"schema_version": 1, "train": ["s1", "s2"], "val": ["s3", "s4", "s5", "s6"], "test": []}
    for tracker in store.trackers.values():
        if "data_fingerprint" in tracker.tags:
            tracker.tags["data_fingerprint"] = fingerprint
            tracker.texts["split.json"] = json.dumps(split)


def members(path: Path) -> Members:
    """Name -> content."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, content: Mapping[str, bytes]) -> None:
    """A zip as any other program makes it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def change_json(path: Path, name: str, change: Callable[[Any], None]) -> None:
    """Changes a member in place."""
    content = members(path)
    found = json.loads(content[name])
    change(found)
    write_members(path, content | {name: json.dumps(found).encode()})
