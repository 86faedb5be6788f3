"""A study in one file: its runs as a store, which `report`, `compare` and `sweep status` read like any other.

The file is a zip of JSON, CSV and the runs' own texts. It has no image, no model, and nothing that is run or unpickled.

    archive.json             what it is: schema, studies, whether names were left out
    runs.json                of each run its name, status, parameters, tags and data set
    curves.csv               of each run every metric by epoch
    runs/RUN_ID/...          texts that the run recorded
    slices.csv               of each slice of the data the digests of image and mask
    studies/NAME/...         of each study what it is, and its trials
"""

import contextlib
import csv
import dataclasses
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brainseg
from brainseg.cli.output import csv_text
from brainseg.data.digests import SliceDigest
from brainseg.errors import InputError
from brainseg.parsing import parse_json
from brainseg.runs.archive_file import is_archive, read_texts
from brainseg.tracking.memory import MemoryStore, MemoryTracker
from brainseg.tracking.protocol import DatasetInfo, RunRecord

SCHEMA = 1
KIND = "brainseg study"
ABOUT, RUNS, CURVES, SLICES = "archive.json", "runs.json", "curves.csv", "slices.csv"
CURVE_COLUMNS = ("run_id", "metric", "epoch", "value")
SLICE_COLUMNS = tuple(field.name for field in dataclasses.fields(SliceDigest))


@dataclass(frozen=True, kw_only=True)
class ArchivedRun:
    """A run with the texts that it recorded, by their names."""

    record: RunRecord
    texts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file that has been read."""

    path: Path
    study: str
    studies: tuple[str, ...]  # in the file: the study itself, and the one that confirms its winners, if there is one
    is_anonymous: bool
    store: MemoryStore  # its runs
    slices: tuple[SliceDigest, ...]
    texts: Mapping[str, str]  # name of a member -> its text; those of runs aside

    def names(self, words: Sequence[str]) -> list[str]:
        """The words without the file; the study's name in its place where no other study or run is named."""
        rest = [word for word in words if not is_archive(word)]
        return rest if any("=" not in word for word in rest) else [self.study, *rest]

    def json(self, name: str) -> Any:
        """The content of a member. Raises InputError where it isn't there, or is no JSON."""
        with self.reading(name):
            return parse_json(_member(self.path, self.texts, name))

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Raises InputError for what goes wrong inside with the content of a member."""
        with _reading(self.path, name):
            yield


def archive_in(words: Sequence[str]) -> Archive | None:
    """The file that one of the words names, read; None if none does. Raises InputError for several, or a bad one."""
    named = [word for word in words if is_archive(word)]
    if len(named) > 1:
        raise InputError(f"one archive is read at a time, got {' and '.join(named)}; name one of them")
    return read_archive(Path(named[0])) if named else None


def texts_of(
    studies: Sequence[str], runs: Sequence[ArchivedRun], slices: Sequence[SliceDigest], *, is_anonymous: bool
) -> dict[str, str]:
    """The members that `read_archive` reads. studies: the one that the file is about first."""
    about = {
        "kind": KIND,
        "schema_version": SCHEMA,
        "brainseg": brainseg.__version__,
        "study": studies[0],
        "studies": list(studies),
        "anonymous": is_anonymous,
    }
    records = [dataclasses.asdict(run.record) for run in runs]
    curves = [
        (record["run_id"], metric, epoch, value)
        for record in records
        for metric, values in sorted(record.pop("metrics").items())
        for epoch, value in sorted(values.items())
    ]
    return {
        ABOUT: as_json(about),
        RUNS: as_json(records),
        CURVES: csv_text(CURVE_COLUMNS, curves),
        SLICES: csv_text(SLICE_COLUMNS, [dataclasses.astuple(each) for each in slices]),
        **{f"runs/{run.record.run_id}/{name}": text for run in runs for name, text in run.texts.items()},
    }


def as_json(content: Any) -> str:
    """JSON for a member."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def read_archive(path: Path) -> Archive:
    """The file, checked. Raises InputError where it isn't one, is of another version, or lacks a member."""
    texts = read_texts(path)
    with _reading(path, ABOUT):
        about = parse_json(_member(path, texts, ABOUT))
        if about.get("kind") != KIND or about["schema_version"] != SCHEMA:
            raise InputError(
                f"{path} is a {_plain(about.get('kind'))!r} of schema_version {about.get('schema_version')!r}, and "
                f"this brainseg reads a {KIND!r} of {SCHEMA}; use the brainseg that has written it"
            )
        study, studies = _plain(about["study"]), tuple(map(_plain, about["studies"]))
        is_anonymous = bool(about.get("anonymous"))
    store = MemoryStore(called=str(path))
    of_runs: dict[str, dict[str, str]] = defaultdict(dict)
    for name, text in texts.items():
        top, _, rest = name.partition("/")
        if top == "runs" and "/" in rest:
            of_runs[rest.partition("/")[0]][rest.partition("/")[2]] = text
    with _reading(path, RUNS):
        for content in parse_json(_member(path, texts, RUNS)):
            tracker = _tracker(content)
            tracker.texts = of_runs[tracker.run_id]
            store.trackers[tracker.run_id] = tracker
    with _reading(path, CURVES):
        _add_curves(store, _member(path, texts, CURVES))
    with _reading(path, SLICES):
        slices = tuple(
            SliceDigest(**{name: _plain(row[name]) for name in SLICE_COLUMNS})
            for row in csv.DictReader(io.StringIO(_member(path, texts, SLICES), newline=""))
        )
    return Archive(
        path=path,
        study=study,
        studies=studies,
        is_anonymous=is_anonymous,
        store=store,
        slices=slices,
        texts={name: text for name, text in texts.items() if not name.startswith("runs/")},
    )


def _tracker(content: Mapping[str, Any]) -> MemoryTracker:
    """A run without its curves. Raises KeyError, TypeError, AttributeError or ValueError for what is none."""
    tracker = MemoryTracker(run_name=_plain(content["name"]), run_id=_plain(content["run_id"]))
    tracker.status = _plain(content["status"])
    tracker.params, tracker.tags = _texts(content["params"]), _texts(content["tags"])
    if (stored := content["dataset"]) is not None:
        tracker.dataset = DatasetInfo(
            **{key: _plain(stored[key]) for key in ("name", "fingerprint", "source")},
            slices=int(stored["slices"]),
            patients=None if stored["patients"] is None else int(stored["patients"]),
        )
    return tracker


def _add_curves(store: MemoryStore, text: str) -> None:
    by_epoch: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in csv.DictReader(io.StringIO(text, newline="")):
        value = float(row["value"])
        if not math.isfinite(value):
            raise ValueError("a metric must be finite")
        by_epoch[row["run_id"]][int(row["epoch"])][_plain(row["metric"])] = value
    for run_id, epochs in by_epoch.items():
        store.trackers[run_id].metrics = sorted(epochs.items())


def _texts(content: Mapping[str, Any]) -> dict[str, str]:
    return {_plain(key): _plain(value) for key, value in content.items()}


def _plain(text: Any) -> str:
    """A text without control characters, which could steer the terminal that shows it."""
    return "".join(each if each.isprintable() or each in "\n\t" else "?" for each in str(text))


def _member(path: Path, texts: Mapping[str, str], name: str) -> str:
    if name not in texts:
        raise InputError(f"{path} has no member {name}; ask for a file that sweep export has written")
    return texts[name]


@contextlib.contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, csv.Error) as error:
        raise InputError(f"{path}: {name} can't be read; ask for a file that sweep export has written") from error
