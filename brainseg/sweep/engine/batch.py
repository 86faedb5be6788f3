"""Optuna's tables in PostgreSQL, read and written in a few statements: Optuna itself takes seventy for one claim."""

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

USER, SYSTEM = "trial_user_attributes", "trial_system_attributes"
# A table of what belongs to a trial -> its columns and their types; the first of them names a row of the trial's.
TABLES: Mapping[str, Mapping[str, str]] = {
    "trial_params": {"param_name": "text", "param_value": "float8", "distribution_json": "text"},
    USER: {"key": "text", "value_json": "text"},
    SYSTEM: {"key": "text", "value_json": "text"},
    "trial_intermediate_values": {
        "step": "int",
        "intermediate_value": "float8",
        "intermediate_value_type": "trialintermediatevaluetype",
    },
    "trial_values": {"objective": "int", "value": "float8", "value_type": "trialvaluetype"},
}
ORDER = {  # that in which they were written
    "trial_params": "param_id",
    USER: "trial_user_attribute_id",
    SYSTEM: "trial_system_attribute_id",
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
SELECT count(*), :study, CAST(:state AS trialstate), :started, :ended FROM trials WHERE study_id = :study
RETURNING trial_id, number"""
END = """\
UPDATE trials SET state = CAST(:state AS trialstate),
datetime_start = CASE WHEN :is_start THEN :now ELSE datetime_start END,
datetime_complete = CASE WHEN :is_end THEN :now ELSE datetime_complete END
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

    def asked(self, query: str, **values: Any) -> Sequence[Any]:
        """The rows of a query."""
        from sqlalchemy import text

        return self.connection.execute(text(query), values).all()

    def later(self, table: str, trial_id: int, name: Any, *values: Any) -> None:
        """Has a row written before the next reading, or at the end."""
        self.unwritten[table][trial_id, name] = values

    def attribute(self, table: str, trial_id: int, key: str, value: Any) -> Any:
        """Has an attribute written later; what will be read of it then."""
        written = json.dumps(value)
        self.later(table, trial_id, key, written)
        return json.loads(written)


class BatchStorage(RDBStorage):
    """Optuna's storage, in which a thread may have all that it does to trials be one transaction of few statements.

    A trial that it has read, it doesn't read again before the end; whether another program has ended or popped it
    meanwhile, is asked where its state is set.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._thread = threading.local()

    @contextlib.contextmanager
    def together(self) -> Iterator[Batch]:
        """Inside, what this thread does is one transaction; it may be a part of one that has begun."""
        batch: Batch | None = getattr(self._thread, "batch", None)
        if batch is not None:
            yield batch
            return
        with self.engine.begin() as connection, self.together_on(connection) as batch:
            yield batch

    @contextlib.contextmanager
    def together_on(self, connection: "Connection") -> Iterator[Batch]:
        """Inside, what this thread does is a part of the connection's transaction."""
        self.remove_session()
        # In savepoints: what isn't written here, Optuna commits change by change, and rolls back what it tries in vain.
        self.scoped_session(bind=connection, join_transaction_mode="create_savepoint")
        self._thread.batch = batch = Batch(connection)
        try:
            yield batch
            _write(batch)
        finally:
            self._thread.batch = None
            self.remove_session()

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A copy."""
        with self.together() as batch:
            if trial_id not in batch.trials:
                _read(batch, "trial_id = :id", id=trial_id)
            if trial_id not in batch.trials:
                raise KeyError(f"no trial has the id {trial_id}")
            return _copied(batch.trials[trial_id])

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        with self.together() as batch:
            trials = _read(
                batch,
                "study_id = :study AND (trial_id > :known OR trial_id = ANY(:open)) ORDER BY trial_id",
                study=study_id,
                known=trial_id_greater_than,
                open=list(included_trial_ids),
            )
        return [trial for trial in trials if states is None or trial.state in states]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Of the study."""
        with self.together() as batch:
            if study_id not in batch.studies:
                rows = batch.asked(
                    "SELECT key, value_json FROM study_user_attributes WHERE study_id = :id", id=study_id
                )
                batch.studies[study_id] = _attributes(rows)
            return batch.studies[study_id]

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes it at once."""
        with self.together() as batch:
            super().set_study_user_attr(study_id, key, value)
            batch.studies.pop(study_id, None)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        made = create_trial(state=TrialState.RUNNING) if template_trial is None else copy.deepcopy(template_trial)
        started, ended = made.datetime_start, made.datetime_complete
        with self.together() as batch:
            # As Optuna does, so that no other program counts the trials meanwhile.
            batch.asked("SELECT 1 FROM studies WHERE study_id = :study FOR UPDATE", study=study_id)
            ((made._trial_id, made.number),) = batch.asked(
                BEGIN, study=study_id, state=made.state.name, started=started, ended=ended
            )
            for objective, value in enumerate(made.values or ()):
                batch.later("trial_values", made._trial_id, objective, *_stored(value))
            for name, distribution in made.distributions.items():
                batch.later("trial_params", made._trial_id, name, *_drawn(distribution, made.params[name]))
            for table, attributes in ((USER, made.user_attrs), (SYSTEM, made.system_attrs)):
                for key, value in attributes.items():
                    batch.later(table, made._trial_id, key, json.dumps(value))
            for step, value in made.intermediate_values.items():
                batch.later("trial_intermediate_values", made._trial_id, step, *_stored(value))
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
        if previous_distribution is not None:
            check_distribution_compatibility(previous_distribution, distribution)
        with self._changed(trial_id) as (batch, trial):
            trial.distributions[param_name] = distribution
            trial.params[param_name] = value = distribution.to_external_repr(param_value_internal)
            batch.later("trial_params", trial_id, param_name, *_drawn(distribution, value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Of a trial that isn't finished."""
        with self._changed(trial_id) as (batch, trial):
            trial.user_attrs[key] = batch.attribute(USER, trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Of a trial that isn't finished."""
        with self._changed(trial_id) as (batch, trial):
            trial.system_attrs[key] = batch.attribute(SYSTEM, trial_id, key, value)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Of a trial that isn't finished."""
        with self._changed(trial_id) as (batch, trial):
            trial.intermediate_values[step] = intermediate_value
            batch.later("trial_intermediate_values", trial_id, step, *_stored(intermediate_value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Goes by the state in the database: programs that take no turns pop and end trials, too."""
        with self.together() as batch:
            _write(batch)
            ((before,),) = batch.asked("SELECT state FROM trials WHERE trial_id = :id FOR UPDATE", id=trial_id)
            self.check_trial_is_updatable(trial_id, TrialState[before])
            if state == TrialState.RUNNING and before != TrialState.WAITING.name:
                return False
            is_start, is_end = state == TrialState.RUNNING, state.is_finished()
            batch.asked(END, id=trial_id, state=state.name, now=datetime.now(), is_start=is_start, is_end=is_end)
            for objective, value in enumerate(values or ()):
                batch.later("trial_values", trial_id, objective, *_stored(value))
            batch.trials.pop(trial_id, None)
        return True

    @contextlib.contextmanager
    def _changed(self, trial_id: int) -> Iterator[tuple[Batch, FrozenTrial]]:
        """The trial, to be changed in this batch. Raises UpdateFinishedTrialError for one that is finished."""
        with self.together() as batch:
            trial = self.get_trial(trial_id)
            self.check_trial_is_updatable(trial_id, trial.state)
            yield batch, trial
            batch.trials[trial_id] = trial


def _read(batch: Batch, condition: str, **values: Any) -> list[FrozenTrial]:
    """The trials as the database has them, and as what is left to be written makes them."""
    _write(batch)
    trials = [_trial(row) for row in batch.asked(READ + condition, **values)]
    batch.trials |= {trial._trial_id: trial for trial in trials}
    return trials


def _write(batch: Batch) -> None:
    """Writes what is left to be written, in one statement."""
    inserts, values = [], {}
    for table, rows in batch.unwritten.items():
        columns = {"trial_id": "int", **TABLES[table]}
        trial_id, name, *others = columns
        lists = zip(*((*place, *row) for place, row in rows.items()), strict=True)
        arrays = []
        for (column, kind), content in zip(columns.items(), lists, strict=True):
            values[f"{table}_{column}"] = list(content)
            arrays.append(f"CAST(:{table}_{column} AS {kind}[])")
        renewed = ", ".join(f"{column} = excluded.{column}" for column in others)
        inserts.append(
            f"{table}_written AS (INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608
            f"SELECT * FROM unnest({', '.join(arrays)}) ON CONFLICT ({trial_id}, {name}) DO UPDATE SET {renewed})"
        )
    batch.unwritten.clear()
    if inserts:
        batch.asked(f"WITH {', '.join(inserts)} SELECT 1", **values)


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
        user_attrs=_attributes(row.trial_user_attributes or ()),
        system_attrs=_attributes(row.trial_system_attributes or ()),
        intermediate_values={step: _value(*value) for step, *value in row.trial_intermediate_values or ()},
        trial_id=row.trial_id,
    )


def _attributes(rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Read at once: of a study with 64 running trials, there are some 500 at each claim."""
    values = json.loads(f"[{','.join(value for _, value in rows)}]")
    return {key: value for (key, _), value in zip(rows, values, strict=True)}


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
