"""Reads metadata.csv: `id,patient_id,tumor_type` and any other columns, one row a slice."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brainseg.data.names import breaks_lines, is_image, nfc, same_spelling, stem
from brainseg.data.opening import LFS_POINTER
from brainseg.data.source import PATIENT, TUMOR_TYPE

ID = "id"
# A header's letters in lower case -> the column that may be meant.
_MEANT = {
    **dict.fromkeys(("id", "slice", "sliceid", "imageid", "image", "file", "filename", "name"), ID),
    **dict.fromkeys(("patientid", "patient", "pid", "subject", "subjectid"), PATIENT),
    **dict.fromkeys(("tumortype", "tumourtype"), TUMOR_TYPE),
}
_SEPARATORS = {";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Slice id -> column -> value (no empty values); problems by key of findings.CHECKS."""

    rows: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problems: Mapping[str, list[str]] = field(default_factory=dict)


def read_metadata(path: Path, *, ids: Collection[str], left_out: Collection[str] = ()) -> Metadata:
    """The table at `path`, held against the `ids` of the slices; without a file there is no metadata.

    Comma-separated UTF-8, with or without a byte order mark; the header must have `id`. Space around
    names and values is dropped, and ids are compared in one form of Unicode. left_out: ids that may have a row.
    """
    if not path.exists():
        return Metadata()
    if not path.is_file():
        return _unreadable(path, "it is no regular file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = [[cell.strip() for cell in row] for row in csv.reader(file, strict=True)]
    except UnicodeDecodeError:
        return _unreadable(path, "it is not UTF-8 text")
    except csv.Error as error:
        return _unreadable(path, f"it is not comma-separated ({error})")
    except OSError as error:
        return _unreadable(path, f"it can't be read ({error.strerror})")
    if any("\0" in cell for row in table for cell in row):
        return _unreadable(path, "it has the character U+0000, as text of UTF-16 has; export it as UTF-8")
    header = table[0] if table else []
    if ID not in header:
        return _unreadable(path, _without_id(header))
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        return _unreadable(path, f"the header has {twice[0]!r} more than once")
    return _check_rows(path, header, table, ids, left_out)


def _without_id(header: Sequence[str]) -> str:
    """Why the table can't be used, with the remedy."""
    whole = ",".join(header)
    if whole.startswith(LFS_POINTER.decode()):
        return "it is a pointer of Git LFS, not the file; fetch it by `git lfs pull`"
    for separator, called in _SEPARATORS.items():
        if ID in (name.strip() for name in whole.split(separator)):
            return f"it is separated by {called}; export it with commas, and numbers with a decimal point"
    meant = _meant(header, ID)
    remedy = f"; rename {meant!r} to {ID!r}" if meant else ""
    return f"the header has no column {ID!r}, only: {', '.join(header) or 'nothing'}{remedy}"


def _meant(header: Sequence[str], column: str) -> str | None:
    """The name in the header that may stand for a column that it lacks."""
    letters = {name: re.sub(r"[^a-z]", "", name.casefold()) for name in header}
    return None if column in header else next((name for name in header if _MEANT.get(letters[name]) == column), None)


def _check_rows(
    path: Path, header: list[str], table: list[list[str]], ids: Collection[str], left_out: Collection[str]
) -> Metadata:
    problems: dict[str, list[str]] = defaultdict(list)
    problems["control_character"] = [f"{path.name}: column {name}" for name in header if breaks_lines(name)]
    rows: dict[str, Mapping[str, str]] = {}
    known = {nfc(slice_id): slice_id for slice_id in (*left_out, *ids)}
    for number, cells in enumerate(table[1:], start=2):
        if not any(cells):
            continue  # a blank line
        row = dict(zip(header, cells, strict=False))
        written = row.pop(ID, "")
        broken = [f"{path.name}: row {number}, {name}: {value}" for name, value in row.items() if breaks_lines(value)]
        problems["control_character"] += broken
        slice_id = known.get(nfc(written), written)
        if len(cells) != len(header):
            quote = "; put quotes around a value that has a comma" if len(cells) > len(header) else ""
            problems["metadata_unreadable"].append(
                f"{path.name}: row {number} has {len(cells)} cells under {len(header)} columns{quote}"
            )
        elif not slice_id:
            problems["metadata_unreadable"].append(f"{path.name}: row {number} has no {ID}")
        elif slice_id in rows:
            problems["metadata_duplicate_id"].append(slice_id)
        if slice_id and slice_id not in rows:
            rows[slice_id] = {column: value for column, value in row.items() if value}
    of_slices = set(ids)
    unknown = [slice_id for slice_id in rows if slice_id not in of_slices and slice_id not in left_out]
    respelt = _respelt(unknown, of_slices - rows.keys())
    problems["metadata_other_spelling"] = [f"{written}, for the slice {meant}" for written, meant in respelt.items()]
    problems["metadata_unknown_id"] = [slice_id for slice_id in unknown if slice_id not in respelt]
    problems["metadata_missing_row"] = sorted(of_slices - rows.keys() - set(respelt.values()))
    for column in (PATIENT, TUMOR_TYPE):
        name = _meant(header, column)
        if name is not None:
            problems["metadata_column"].append(f"{name}: is it {column}?")
    return Metadata(rows={slice_id: row for slice_id, row in rows.items() if slice_id in of_slices}, problems=problems)


def _respelt(unknown: Sequence[str], missing: Collection[str]) -> dict[str, str]:
    """Id of a row -> the one slice that it may mean: `1` for 001, `7.png` for 7."""
    meant: dict[str, list[str]] = defaultdict(list)
    for slice_id in missing:
        meant[same_spelling(slice_id)].append(slice_id)
    plain = {written: same_spelling(stem(written) if is_image(written) else written) for written in unknown}
    rows_of = Counter(plain.values())
    return {written: meant[key][0] for written, key in plain.items() if len(meant[key]) == rows_of[key] == 1}


def _unreadable(path: Path, reason: str) -> Metadata:
    return Metadata(problems={"metadata_unreadable": [f"{path.name}: {reason}"]})
