"""Reads a run that started offline from its spool, until the first record is delivered."""

import errno
from collections.abc import Callable
from pathlib import Path

from brainseg.tracking.memory import MemoryStore, MemoryTracker
from brainseg.tracking.protocol import DatasetInfo
from brainseg.tracking.spool.spool import RECORDS, DamagedSpoolError, Record, peek


def memory_of_spool(parent: Path, run_id: str) -> MemoryStore | None:
    """A store with this run alone; None where the run isn't whole in the spool, so that the store has it.

    Raises DamagedSpoolError.
    """
    try:
        records, delivered = peek(parent, run_id)
    except FileNotFoundError:
        return None
    if delivered or not records or not records[0].body.get("is_new"):
        return None
    store = MemoryStore()
    for record in records:
        try:
            if record.number == 0:
                store.trackers[run_id] = MemoryTracker(
                    run_name=record.body["name"], tags=record.body["tags"], run_id=run_id
                )
                store.trackers[run_id].__enter__()  # never left: how the run ended is a record like the others
            _REPLAYS[record.kind](store.trackers[run_id], record, parent / run_id)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            found = f"line {record.number + 1} isn't a record of a run ({error!r})"
            raise DamagedSpoolError(parent / run_id / RECORDS, found) from error
    return store


def experiment_of_spool(parent: Path, run_id: str) -> str | None:
    """The name of the experiment that the run will be in; None where the spool doesn't have its beginning."""
    try:
        records, _ = peek(parent, run_id)
    except FileNotFoundError:
        return None
    experiment = records[0].body.get("experiment") if records and records[0].kind == "open" else None
    return None if experiment is None else str(experiment)


def _file(tracker: MemoryTracker, record: Record, folder: Path) -> None:
    tracker.log_file(_existing(folder / record.body["file"]), record.body["folder"])


def _model(tracker: MemoryTracker, record: Record, folder: Path) -> None:
    tracker.log_model(_existing(folder / record.body["file"]))


def _end(tracker: MemoryTracker, record: Record, folder: Path) -> None:
    body = record.body
    tracker.end(status=body["status"], state=body["state"], failure=body["failure"])


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "the spool has lost a file", str(path))
    return path


_REPLAYS: dict[str, Callable[[MemoryTracker, Record, Path], None]] = {
    "open": lambda tracker, record, folder: None,
    "begin": lambda tracker, record, folder: tracker.begin(record.body["tags"]),
    "params": lambda tracker, record, folder: tracker.log_params(record.body["params"]),
    "tags": lambda tracker, record, folder: tracker.set_tags(record.body["tags"]),
    "dataset": lambda tracker, record, folder: tracker.log_dataset(DatasetInfo(**record.body)),
    "metrics": lambda tracker, record, folder: tracker.log_metrics(record.body["metrics"], epoch=record.body["epoch"]),
    "file": _file,
    "model": _model,
    "end": _end,
}
