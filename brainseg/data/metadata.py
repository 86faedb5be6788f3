"""Reads metadata.csv: `id,patient_id,tumor_type` and any other columns, one row a slice."""

import csv
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ID = "id"


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Slice id -> column -> value (no empty values); problems by key of findings.CHECKS."""

    rows: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problems: Mapping[str, list[str]] = field(default_factory=dict)


def read_metadata(path: Path, *, ids: Collection[str]) -> Metadata:
    """The table at `path`, held against the `ids` of the slices; without a file there is no metadata.

    Comma-separated UTF-8, with or without a byte order mark; the header must have `id`. Space around
    names and values is dropped.
    """
    if not path.exists():
        return Metadata()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = [[cell.strip() for cell in row] for row in csv.reader(file, strict=True)]
    except UnicodeDecodeError:
        return _unreadable(path, "it is not UTF-8 text")
    except csv.Error as error:
        return _unreadable(path, f"it is not comma-separated ({error})")
    except OSError as error:
        return _unreadable(path, f"it can't be read ({error.strerror})")
    header = table[0] if table else []
    if ID not in header:
        return _unreadable(path, f"the header has no column {ID!r}, only: {', '.join(header) or 'nothing'}")
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        return _unreadable(path, f"the header has {twice[0]!r} more than once")
    return _check_rows(path, header, table, ids)


def _check_rows(path: Path, header: list[str], table: list[list[str]], ids: Collection[str]) -> Metadata:
    problems: dict[str, list[str]] = defaultdict(list)
    rows: dict[str, Mapping[str, str]] = {}
    known = set(ids)
    for number, cells in enumerate(table[1:], start=2):
        if not any(cells):
            continue  # a blank line
        row = dict(zip(header, cells, strict=False))
        slice_id = row.pop(ID, "")
        if len(cells) != len(header):
            problems["metadata_unreadable"].append(
                f"{path.name}: row {number} has {len(cells)} cells under {len(header)} columns"
            )
        elif not slice_id:
            problems["metadata_unreadable"].append(f"{path.name}: row {number} has no {ID}")
        elif slice_id in rows:
            problems["metadata_duplicate_id"].append(slice_id)
        elif slice_id not in known:
            problems["metadata_unknown_id"].append(slice_id)
        if slice_id and slice_id not in rows:
            rows[slice_id] = {column: value for column, value in row.items() if value}
    problems["metadata_missing_row"] = sorted(known - rows.keys())
    return Metadata(rows={slice_id: row for slice_id, row in rows.items() if slice_id in known}, problems=problems)


def _unreadable(path: Path, reason: str) -> Metadata:
    return Metadata(problems={"metadata_unreadable": [f"{path.name}: {reason}"]})
