"""Delivers the spools that runs left behind because the store was down or their process was killed."""

import contextlib
import logging
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg.cli.secrets import mask
from brainseg.config import TrackingConfig
from brainseg.errors import DiskError, TrackingError
from brainseg.tracking.mlflow.connection import cause_of, connect
from brainseg.tracking.mlflow.delivery import deliver_until
from brainseg.tracking.mlflow.fence import SupersededError, attempt_of, discard_checkpoint, discard_spool
from brainseg.tracking.mlflow.writer import RunWriter, opening
from brainseg.tracking.paths import TrackingPaths, is_same_store, resolve_uri, tracking_paths
from brainseg.tracking.rules import UnknownRunError
from brainseg.tracking.spool.spool import (
    RECORDS,
    DamagedSpoolError,
    Spool,
    SpoolBusyError,
    open_spool,
    spooled_runs,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger("brainseg")


@dataclass(frozen=True, kw_only=True)
class Synced:
    """The result for one spooled run."""

    run_id: str
    delivered: int  # records
    pending: int  # records that are still in the spool
    problem: str | None  # why something is pending or was refused, in one line


def sync_spools(
    client: "MlflowClient", paths: TrackingPaths, *, uri: str, deadline: float = float("inf"), models: bool = True
) -> list[Synced]:
    """Delivers the spool of every run that no process holds, and deletes what is delivered whole.

    A run without an ending was killed: it is marked so, and can be resumed. deadline: of `time.monotonic`.
    models: also models, whose delivery imports TensorFlow. Never raises for a single run.
    """
    results = []
    for run_id in spooled_runs(paths.spool):
        if time.monotonic() >= deadline:
            break
        try:
            with _taken_up(paths.spool, run_id) as spool:
                if spool is not None:
                    results.append(_sync(client, spool, paths, uri=uri, deadline=deadline, models=models))
        except DamagedSpoolError as damage:
            waiting = (paths.spool / run_id / RECORDS).read_bytes().count(b"\n")
            results.append(Synced(run_id=run_id, delivered=0, pending=max(1, waiting), problem=str(damage)))
    return results


def deliver_leftovers(config: TrackingConfig, *, patience_s: float, models: bool) -> str:
    """`sync_spools` for the caller whose processes left them; a note on what still waits, empty if nothing does."""
    paths, uri = tracking_paths(config), resolve_uri(config)
    if not spooled_runs(paths.spool):
        return ""
    try:
        client = connect(uri)
    except (TrackingError, DiskError):
        logger.warning("the tracking store %s can't be reached; what waits for it is in %s", mask(uri), paths.spool)
        return ""
    synced = sync_spools(client, paths, uri=uri, deadline=time.monotonic() + patience_s, models=models)
    problem = next((each.problem for each in synced if each.pending and each.problem), "")
    return waiting_note(config, sum(each.pending for each in synced), problem)


def waiting_note(config: TrackingConfig, waiting: int, problem: str) -> str:
    """How many records wait in the spool, why, and the command that delivers them; empty if none wait."""
    if not waiting:
        return ""
    uri = resolve_uri(config)
    named = ["--root", config.root] + ([] if uri == resolve_uri(TrackingConfig(root=config.root)) else ["--uri", uri])
    why = f" ({problem})" if problem else ""
    command = mask(shlex.join(["python", "-m", "brainseg.tracking", "sync", *named]))
    return f"note: {waiting} records wait for the store{why}; deliver them with: {command}"


@contextlib.contextmanager
def _taken_up(parent: Path, run_id: str) -> Iterator[Spool | None]:
    try:
        spool = open_spool(parent, run_id, create=False)
    except (SpoolBusyError, OSError):  # alive, or delivered by somebody else meanwhile
        yield None
        return
    with spool:
        yield spool


def _sync(
    client: "MlflowClient", spool: Spool, paths: TrackingPaths, *, uri: str, deadline: float, models: bool
) -> Synced:
    before = spool.pending
    problem = None
    attempt = attempt_of(spool)
    try:
        refused = _deliver(client, spool, paths, uri=uri, deadline=deadline, models=models, attempt=attempt)
        problem = "; ".join(refused) or None
    except SupersededError as superseded:
        discard_spool(spool, attempt=attempt)
        discard_checkpoint(paths.checkpoints / spool.run_id, attempt=attempt)
        return Synced(run_id=spool.run_id, delivered=0, pending=0, problem=f"{superseded}; dropped")
    except UnknownRunError:  # not `pending`: no later sync can deliver it
        problem = f"this store doesn't have the run; if it was deleted, delete its {before} records: {spool.folder}"
        return Synced(run_id=spool.run_id, delivered=0, pending=0, problem=problem)
    except Exception as error:  # of this run; the others may do better
        problem = cause_of(error)
    pending = spool.pending
    if pending == 0:
        spool.delete()
    return Synced(run_id=spool.run_id, delivered=max(0, before - pending), pending=pending, problem=problem)


def _deliver(
    client: "MlflowClient",
    spool: Spool,
    paths: TrackingPaths,
    *,
    uri: str,
    deadline: float,
    models: bool,
    attempt: int,
) -> list[str]:
    opened = spool.first()
    if opened is None:  # killed before its first record
        return []
    if not is_same_store(opened.body["uri"], uri):
        raise TrackingError(f"it belongs to {opened.body['uri']}; run sync with --uri")
    if not spool.is_ended():
        last_ms = int((spool.folder / "records.jsonl").stat().st_mtime * 1000)
        body = {"status": "KILLED", "state": "killed", "failure": None, "time_ms": last_ms}
        spool.append("end", body, last=True)
    mlflow_id = opening(dict(opened.body), client, uri=uri, paths=paths, attempt=attempt)
    writer = RunWriter(client, mlflow_id, attempt=attempt)
    return deliver_until(spool, writer, deadline=deadline, models=models)
