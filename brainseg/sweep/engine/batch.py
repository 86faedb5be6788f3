"""Optuna's tables in PostgreSQL, read and written in a few statements: for one claim, Optuna itself takes a hundred."""

import contextlib
import copy
import functools
import json
import threading
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

if TYPE_CHECKING:
    from sqlalchemy import Connection

# A table of what belongs to a trial -> its columns and their types; the first of them names a row of the trial's.
TABLES: Mapping[str, Mapping[str, str]] = {
    "trial_params": {"param_name": "text", "param_value": "float8", "distribution_json": "text"},
    "trial_user_attributes": {"key": "text", "value_json": "text"},
    "trial_system_attributes": {"key": "text", "value_json": "text"},
    "trial_intermediate_values": {
        "step": "int",
        "intermediate_value": "float8",
        "intermediate_value_type": "trialintermediatevaluetype",
    },
    "trial_values": {"objective": "int", "value": "float8", "value_type": "trialvaluetype"},
}
ORDER = {  # that in which they were written
    "trial_params": "param_id",
    "trial_user_attributes": "trial_user_attribute_id",
    "trial_system_attributes": "trial_system_attribute_id",
    "trial_intermediate_values": "trial_intermediate_value_id",
    "trial_values": "objective",
}
PARTS_READ = ", ".join(
    f"(SELECT json_agg(json_build_array({', '.join(columns)}) ORDER BY {ORDER[table]}) FROM {table} "  # noqa: S608
    f"WHERE {table}.trial_id = trials.trial_id) AS {table}"
    for table, columns in TABLES.items()
)
READ = f"SELECT trial_id, number, state, datetime_start, datetime_complete, {PARTS_READ} FROM trials WHERE "  # noqa: S608
BEGIN = """\
INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete)
SELECT count(*), :study, CAST(:state AS trialstate), :started, :completed FROM trials WHERE study_id = :study
RETURNING trial_id, number"""
END = """\
UPDATE trials SET state = CAST(:state AS trialstate),
datetime_start = CASE WHEN :started THEN :now ELSE datetime_start END,
datetime_complete = CASE WHEN :ended THEN :now ELSE datetime_complete END
WHERE trial_id = :id RETURNING trial_id"""
NOT_FINITE = {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}
PARTS = ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values")

_distribution = functools.lru_cache(json_to_distribution)


@dataclass
class Batch:
    """What a thread has read and is going to write in one transaction."""

    connection: "Connection"
    trials: dict[int, FrozenTrial] = field(default_factory=dict)  # as they will be; ids are Optuna's own
    studies: dict[int, dict[str, Any]] = field(default_factory=dict)  # user attributes
    # Table -> trial and the first column -> the other columns.
    unwritten: dict[str, dict[tuple[int, Any], tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(dict))


class BatchStorage(RDBStorage):
    """Optuna's storage, in which a thread may have all that it does to trials be one transaction of few statements.

    It counts on it that nobody but this thread writes to the thread's trials meanwhile, except to end or to pop them.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._thread = threading.local()

    @property
    def _batch(self) -> Batch | None:
        batch: Batch | None = getattr(self._thread, "batch", None)
        return batch

    @contextlib.contextmanager
    def batch(self, connection: "Connection") -> Iterator[None]:
        """What this thread reads inside is read once; what it writes is a part of the connection's transaction."""
        self.remove_session()
        # In savepoints: for what isn't here, Optuna commits each change, and rolls back what it tries in vain.
        self.scoped_session(bind=connection, join_transaction_mode="create_savepoint")
        self._thread.batch = Batch(connection)
        try:
            yield
            self._write()
        finally:
            self._thread.batch = None
            self.remove_session()

    @property
    def is_in_batch(self) -> bool:
        """Whether this thread is inside of `batch`."""
        return self._batch is not None

    def asked(self, query: str, **values: Any) -> Sequence[Any]:
        """The rows of a query."""
        from optuna.storages._rdb.storage import _create_scoped_session
        from sqlalchemy import text

        if self._batch is not None:
            return self._batch.connection.execute(text(query), values).all()
        with _create_scoped_session(self.scoped_session) as session:
            return session.execute(text(query), values).all()

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A copy."""
        if self._batch is not None and trial_id in self._batch.trials:
            return _copied(self._batch.trials[trial_id])
        found = self._read("trial_id = :id", id=trial_id)
        if not found:
            raise KeyError(f"no trial has the id {trial_id}")
        return _copied(found[0])

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        trials = self._read(
            "study_id = :study AND (trial_id > :known OR trial_id = ANY(:open)) ORDER BY trial_id",
            study=study_id,
            known=trial_id_greater_than,
            open=list(included_trial_ids),
        )
        return [trial for trial in trials if states is None or trial.state in states]

    def _read(self, condition: str, **values: Any) -> list[FrozenTrial]:
        self._write()
        trials = [_trial(row) for row in self.asked(READ + condition, **values)]
        if self._batch is not None:
            self._batch.trials |= {trial._trial_id: trial for trial in trials}
        return trials

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Of the study."""
        known = {} if self._batch is None else self._batch.studies
        if study_id not in known:
            rows = self.asked("SELECT key, value_json FROM study_user_attributes WHERE study_id = :id", id=study_id)
            known[study_id] = {key: json.loads(value) for key, value in rows}
        return known[study_id]

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes it at once."""
        super().set_study_user_attr(study_id, key, value)
        if self._batch is not None:
            self._batch.studies.pop(study_id, None)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        batch = self._batch
        if batch is None:
            return super()._create_new_trial(study_id, template_trial)
        made = create_trial(state=TrialState.RUNNING) if template_trial is None else copy.deepcopy(template_trial)
        # As Optuna does, so that no other program counts the trials meanwhile.
        self.asked("SELECT 1 FROM studies WHERE study_id = :study FOR UPDATE", study=study_id)
        ((made._trial_id, made.number),) = self.asked(
            BEGIN, study=study_id, state=made.state.name, started=made.datetime_start, completed=made.datetime_complete
        )
        for objective, value in enumerate(made.values or ()):
            self._later("trial_values", made._trial_id, objective, *_stored(value))
        for name, distribution in made.distributions.items():
            self._later("trial_params", made._trial_id, name, *_drawn(distribution, made.params[name]))
        for table, attributes in (("user", made.user_attrs), ("system", made.system_attrs)):
            for key, value in attributes.items():
                self._later(f"trial_{table}_attributes", made._trial_id, key, json.dumps(value))
        for step, value in made.intermediate_values.items():
            self._later("trial_intermediate_values", made._trial_id, step, *_stored(value))
        batch.trials[made._trial_id] = made
        return _copied(made)

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        if self._batch is None:
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, previous_distribution)
            return
        if previous_distribution is not None:
            check_distribution_compatibility(previous_distribution, distribution)
        trial = self._to_change(trial_id)
        trial.distributions[param_name] = distribution
        trial.params[param_name] = value = distribution.to_external_repr(param_value_internal)
        self._later("trial_params", trial_id, param_name, *_drawn(distribution, value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Of the trial, unless it is finished."""
        if self._batch is None:
            super().set_trial_user_attr(trial_id, key, value)
            return
        stored = json.dumps(value)
        self._to_change(trial_id).user_attrs[key] = json.loads(stored)
        self._later("trial_user_attributes", trial_id, key, stored)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Of the trial, unless it is finished."""
        if self._batch is None:
            super().set_trial_system_attr(trial_id, key, value)
            return
        stored = json.dumps(value)
        self._to_change(trial_id).system_attrs[key] = json.loads(stored)
        self._later("trial_system_attributes", trial_id, key, stored)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Of the trial, unless it is finished."""
        if self._batch is None:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
            return
        self._to_change(trial_id).intermediate_values[step] = intermediate_value
        self._later("trial_intermediate_values", trial_id, step, *_stored(intermediate_value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Goes by the state in the database: programs that take no turns pop and end trials, too."""
        if self._batch is None:
            return super().set_trial_state_values(trial_id, state, values)
        self._write()
        ((before,),) = self.asked("SELECT state FROM trials WHERE trial_id = :id FOR UPDATE", id=trial_id)
        self.check_trial_is_updatable(trial_id, TrialState[before])
        if state == TrialState.RUNNING and before != TrialState.WAITING.name:
            return False
        started, ended = state == TrialState.RUNNING, state.is_finished()
        self.asked(END, id=trial_id, state=state.name, now=datetime.now(), started=started, ended=ended)
        for objective, value in enumerate(values or ()):
            self._later("trial_values", trial_id, objective, *_stored(value))
        self._batch.trials.pop(trial_id, None)
        return True

    def _to_change(self, trial_id: int) -> FrozenTrial:
        """The batch's own copy of the trial. Raises UpdateFinishedTrialError for one that is finished."""
        assert self._batch is not None
        trial = self.get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, trial.state)
        self._batch.trials[trial_id] = trial
        return trial

    def _later(self, table: str, trial_id: int, name: Any, *values: Any) -> None:
        assert self._batch is not None
        self._batch.unwritten[table][trial_id, name] = values

    def _write(self) -> None:
        """Writes what is left to be written, in one statement."""
        if self._batch is None or not self._batch.unwritten:
            return
        inserts, values = [], {}
        for table, rows in self._batch.unwritten.items():
            columns = TABLES[table]
            name, *others = columns
            lists = zip(*((trial_id, key, *row) for (trial_id, key), row in rows.items()), strict=True)
            arrays = []
            for column, kind, content in zip(("trial_id", *columns), ("int", *columns.values()), lists, strict=True):
                values[f"{table}_{column}"] = list(content)
                arrays.append(f"CAST(:{table}_{column} AS {kind}[])")
            inserts.append(
                f"INSERT INTO {table} (trial_id, {', '.join(columns)}) SELECT * FROM unnest({', '.join(arrays)}) "  # noqa: S608
                f"ON CONFLICT (trial_id, {name}) DO UPDATE SET "
                + ", ".join(f"{column} = excluded.{column}" for column in others)
            )
        self._batch.unwritten.clear()
        self.asked(
            "WITH " + ", ".join(f"part{place} AS ({insert})" for place, insert in enumerate(inserts)) + " SELECT 1",
            **values,
        )


def _trial(row: Any) -> FrozenTrial:
    """A trial as Optuna gives it."""
    params = row.trial_params or ()
    distributions = {name: _distribution(described) for name, _, described in params}
    values = [_value(*value) for _, *value in row.trial_values or ()]
    return FrozenTrial(
        number=row.number,
        state=TrialState[row.state],
        value=None,
        values=values or None,
        datetime_start=row.datetime_start,
        datetime_complete=row.datetime_complete,
        params={name: distributions[name].to_external_repr(float(value)) for name, value, _ in params},
        distributions=distributions,
        user_attrs={key: json.loads(value) for key, value in row.trial_user_attributes or ()},
        system_attrs={key: json.loads(value) for key, value in row.trial_system_attributes or ()},
        intermediate_values={step: _value(*value) for step, *value in row.trial_intermediate_values or ()},
        trial_id=row.trial_id,
    )


def _copied(trial: FrozenTrial) -> FrozenTrial:
    """One whose values and attributes may be set."""
    copied = copy.copy(trial)
    for part in PARTS:
        setattr(copied, part, dict(getattr(trial, part)))
    return copied


def _drawn(distribution: BaseDistribution, value: Any) -> tuple[float, str]:
    return distribution.to_internal_repr(value), distribution_to_json(distribution)


def _stored(value: float) -> tuple[float | None, str]:
    """A number, and its kind: JSON and older databases have no others than finite ones."""
    value = float(value)
    for kind, other in NOT_FINITE.items():
        if value == other or (value != value and other != other):
            return None, kind
    return value, "FINITE"


def _value(stored: float | None, kind: str) -> float:
    return NOT_FINITE[kind] if stored is None else float(stored)
