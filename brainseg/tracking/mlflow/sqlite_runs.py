"""Reads MLflow's SQLite database without MLflow, whose import alone takes longer than the answer.

Read-only, and only where the tables have the columns that are read: the suite of the tracking tests holds the answers
to those of MLflow's client.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from brainseg.tracking.listing import FINISHED, PARENT, ROLE, UnknownExperimentError
from brainseg.tracking.mlflow.artifacts import local_path, location_now
from brainseg.tracking.mlflow.client_runs import LOCAL_ID
from brainseg.tracking.mlflow.database import BUSY_WAIT_S, reading_uri
from brainseg.tracking.mlflow.tags import from_mlflow, to_mlflow
from brainseg.tracking.paths import SQLITE
from brainseg.tracking.protocol import RunFilter, RunList, RunSummary
from brainseg.tracking.rules import STATE

# Table -> the columns that are read.
COLUMNS = {
    "experiments": {"experiment_id", "name", "lifecycle_stage", "workspace"},
    "runs": {"run_uuid", "name", "status", "lifecycle_stage", "experiment_id", "start_time", "artifact_uri"},
    "tags": {"run_uuid", "key", "value"},
    "params": {"run_uuid", "key", "value"},
    "metrics": {"run_uuid", "key", "value", "step", "is_nan"},
    "latest_metrics": {"run_uuid", "key", "value", "is_nan"},
    "registered_model_aliases": {"name", "alias", "workspace"},
}
# SQLite before 3.32 takes at most 999 values in a statement.
VALUES = 900

RUNS = f"""
SELECT runs.run_uuid, coalesce(runs.name, ''), runs.status
FROM runs
JOIN experiments ON experiments.experiment_id = runs.experiment_id
JOIN tags AS state ON state.run_uuid = runs.run_uuid AND state.key = '{STATE}'
LEFT JOIN tags AS role ON role.run_uuid = runs.run_uuid AND role.key = '{ROLE}'
LEFT JOIN tags AS local ON local.run_uuid = runs.run_uuid AND local.key = '{LOCAL_ID}'
LEFT JOIN latest_metrics AS score ON score.run_uuid = runs.run_uuid AND score.key = :rank_by AND NOT score.is_nan
WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'
AND (coalesce(role.value, '') = '{PARENT}') = :parents
"""
BEST_FIRST = "ORDER BY score.value IS NULL, score.value DESC, runs.start_time, runs.run_uuid LIMIT :limit"
NEWEST_FIRST = "ORDER BY runs.start_time DESC, runs.run_uuid LIMIT :limit"


class UnknownLayoutError(Exception):
    """The database lacks columns that this module reads; MLflow's client can read it."""


class SqliteRuns:
    """The runs in one database file. Whatever SQLite can't do raises sqlite3.Error; MLflow's client may do better."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def overview(self, which: RunFilter, *, rank_by: str, total_of: str, limit: int | None) -> RunList:
        """`RunStore.overview`. Raises TrackingError for an unknown experiment, UnknownLayoutError."""
        with self._connected() as connection:
            conditions, values = self._conditions(connection, which)
            values |= {"rank_by": rank_by, "parents": which.parents, "limit": -1 if limit is None else limit + 1}

            def first(condition: str, order: str) -> list[tuple[str, str, str]]:
                return list(connection.execute(f"{RUNS} AND {condition} {conditions} {order}", values))

            finished = first(f"state.value = '{FINISHED}'", BEST_FIRST)
            others = first(f"state.value != '{FINISHED}'", NEWEST_FIRST)
            return RunList(
                finished=_summaries(connection, finished[:limit], total_of),
                others=_summaries(connection, others[:limit], total_of),
                more_finished=limit is not None and len(finished) > limit,
                more_others=limit is not None and len(others) > limit,
            )

    def curves(self, run_ids: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, dict[int, float]]]:
        """`RunStore.curves`, without the runs that are unknown here. keys: at most 99."""
        found: dict[str, dict[str, dict[int, float]]] = {}
        with self._connected() as connection:
            for start in range(0, len(run_ids), VALUES):
                some = run_ids[start : start + VALUES]
                ids = ", ".join("?" * len(some))
                known = (
                    "SELECT runs.run_uuid AS run_uuid, coalesce(local.value, runs.run_uuid) AS id FROM runs "
                    f"LEFT JOIN tags AS local ON local.run_uuid = runs.run_uuid AND local.key = '{LOCAL_ID}' "
                    f"WHERE runs.lifecycle_stage = 'active' AND coalesce(local.value, runs.run_uuid) IN ({ids})"
                )
                found |= {run_id: {} for _, run_id in connection.execute(known, some)}
                history = (
                    f"SELECT known.id, key, step, value FROM metrics JOIN ({known}) AS known USING (run_uuid) "
                    f"WHERE NOT is_nan AND key IN ({', '.join('?' * len(keys))}) ORDER BY step"
                )
                for run_id, key, step, value in connection.execute(history, [*some, *keys]):
                    found[run_id].setdefault(key, {})[step] = value
        return found

    def aliases(self) -> list[str]:
        """`NAME@ALIAS` of the registered models."""
        of_default = "SELECT name || '@' || alias FROM registered_model_aliases WHERE workspace = 'default'"
        with self._connected() as connection:
            return [alias for (alias,) in connection.execute(of_default)]

    def artifacts(self, run_id: str) -> Path | None:
        """The folder of a run's artifacts; None for an unknown or deleted run, or where they are not on this machine.

        Raises LostArtifactsError.
        """
        with self._connected() as connection:
            found = connection.execute(
                "SELECT artifact_uri, run_uuid FROM runs WHERE lifecycle_stage = 'active' AND run_uuid IN "
                f"(SELECT :id UNION SELECT run_uuid FROM tags WHERE key = '{LOCAL_ID}' AND value = :id)",
                {"id": run_id},
            ).fetchone()
        if found is None:
            return None
        recorded, run_uuid = found
        own, uri = f"{run_uuid}/artifacts", f"{SQLITE}{self._path}"
        return local_path(location_now(recorded, own=own, of=f"run {run_id}", uri=uri))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        uri = reading_uri(self._path)
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_WAIT_S)) as connection:
            for table, needed in COLUMNS.items():
                lacking = needed - {column for _, column, *_ in connection.execute(f"PRAGMA table_info({table})")}
                if lacking:
                    raise UnknownLayoutError(f"{table}: {', '.join(sorted(lacking))}")
            yield connection

    def _conditions(self, connection: sqlite3.Connection, which: RunFilter) -> tuple[str, dict[str, Any]]:
        """What the filter adds to WHERE, and the values of its parameters."""
        conditions, values = ["AND experiments.workspace = 'default'"], dict[str, Any]()
        if which.experiment is not None:
            rows = connection.execute("SELECT name FROM experiments WHERE lifecycle_stage = 'active'").fetchall()
            if (which.experiment,) not in rows:
                raise UnknownExperimentError(which.experiment, [name for (name,) in rows], uri=f"{SQLITE}{self._path}")
            conditions.append("AND experiments.name = :experiment")
            values["experiment"] = which.experiment
        if which.id_start:
            length = len(which.id_start)
            conditions.append(
                f"AND :id_start IN (substr(runs.run_uuid, 1, {length}), substr(local.value, 1, {length}))"
            )
            values["id_start"] = which.id_start
        for table, wanted in (("params", which.params), ("tags", to_mlflow(which.tags))):
            for number, (key, value) in enumerate(wanted.items()):
                conditions.append(
                    f"AND EXISTS (SELECT 1 FROM {table} WHERE {table}.run_uuid = runs.run_uuid "
                    f"AND {table}.key = :{table}_key_{number} AND {table}.value = :{table}_value_{number})"
                )
                values |= {f"{table}_key_{number}": key, f"{table}_value_{number}": value}
        return " ".join(conditions), values


def _summaries(
    connection: sqlite3.Connection, runs: Sequence[tuple[str, str, str]], total_of: str
) -> tuple[RunSummary, ...]:
    ids = [run_uuid for run_uuid, _, _ in runs]
    params, tags, metrics, totals = ({run_uuid: dict[str, Any]() for run_uuid in ids} for _ in range(4))
    for start in range(0, len(ids), VALUES):
        some = ids[start : start + VALUES]
        which = f"run_uuid IN ({', '.join('?' * len(some))})"
        for found, query in (
            (params, f"SELECT run_uuid, key, value FROM params WHERE {which}"),
            (tags, f"SELECT run_uuid, key, value FROM tags WHERE {which}"),
            (metrics, f"SELECT run_uuid, key, value FROM latest_metrics WHERE NOT is_nan AND {which}"),
        ):
            for run_uuid, key, value in connection.execute(query, some):
                found[run_uuid][key] = value
        history = f"SELECT run_uuid, key, sum(value) FROM metrics WHERE {which} AND key = ? GROUP BY run_uuid"
        for run_uuid, key, value in connection.execute(history, [*some, total_of]):
            totals[run_uuid][key] = value
    return tuple(
        RunSummary(
            run_id=tags[run_uuid].get(LOCAL_ID, run_uuid),
            name=name,
            status=status,
            params=params[run_uuid],
            tags=from_mlflow(tags[run_uuid]),
            metrics=metrics[run_uuid],
            total=totals[run_uuid].get(total_of),
        )
        for run_uuid, name, status in runs
    )
