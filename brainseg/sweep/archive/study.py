"""A study of Optuna's as JSON, and back: into memory, where the same functions read it as from a storage."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from brainseg.errors import InputError
from brainseg.runs.archive import Archive
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.foreign import OwnStudy
from brainseg.sweep.engine.storage import StudyStorage
from brainseg.sweep.engine.stored_study import load_config
from brainseg.sweep.study.plan import quiet
from brainseg.sweep.study.study_file import StudyConfig

STUDY, TRIALS, TRIALS_TABLE, STUDY_FILE = "study.json", "trials.json", "trials.csv", "study.yaml"
# Attributes of a study that say what it is; the others say who works on it, and where.
KEPT = (keys.STUDY_ID, keys.DEFINITION, keys.SETTINGS, keys.PARENT_RUN, keys.SOFTWARE, keys.PRECISION, keys.PLUGINS)
OF_WORKERS = (keys.HEARTBEAT, keys.RAISED)  # attributes of a trial


def member(study: str, name: str) -> str:
    """Where a study's file stands in the archive."""
    return f"studies/{study}/{name}"


def study_json(study: optuna.Study) -> dict[str, Any]:
    """What the study is."""
    attributes = {key: value for key, value in study.user_attrs.items() if key in KEPT}
    return {"directions": [each.name for each in study.directions], "attributes": attributes}


def trial_json(trial: FrozenTrial) -> dict[str, Any]:
    """Everything of a trial, whoever has run it, but which process held it."""
    attributes = {key: value for key, value in trial.user_attrs.items() if key not in OF_WORKERS}
    if keys.LEASE in attributes:
        attributes[keys.LEASE] = None
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "distributions": {key: distribution_to_json(each) for key, each in trial.distributions.items()},
        "intermediate_values": trial.intermediate_values,
        "constraints": dict(trial.constraints),
        "enqueued": trial.system_attrs.get("fixed_params"),
        "started": None if trial.datetime_start is None else trial.datetime_start.isoformat(),
        "ended": None if trial.datetime_complete is None else trial.datetime_complete.isoformat(),
        "attributes": attributes,
    }


def archived_study(archive: Archive, name: str) -> tuple[StudyConfig, OwnStudy]:
    """A study of the archive, in memory. Raises InputError where the archive can't be read or lacks it."""
    if name not in archive.studies:
        raise InputError(f"no study {name!r} in {archive.path}; it has {', '.join(archive.studies)}")
    memory = InMemoryStorage()
    with quiet(), archive.reading(where := member(name, STUDY)):
        content = archive.json(where)
        study = optuna.create_study(
            study_name=name,
            storage=memory,
            directions=[StudyDirection[each] for each in content["directions"]],
        )
        for key, value in content["attributes"].items():
            study.set_user_attr(key, value)
        study.set_user_attr(keys.TRACKING, [])
        storage = StudyStorage(memory, shown=str(archive.path), folder=Path())
        config = load_config(storage, name)
    with archive.reading(where := member(name, TRIALS)):
        for number, stored in enumerate(archive.json(where)):
            trial = trial_of(stored, metrics=len(config.metrics))
            if trial.number != number:
                raise ValueError("trials must be counted from 0")
            memory.create_new_trial(study._study_id, template_trial=trial)
    return config, OwnStudy(study_name=name, storage=memory)


def trial_of(content: Mapping[str, Any], *, metrics: int) -> FrozenTrial:
    """What `trial_json` made. metrics: of the study. Raises KeyError, TypeError, AttributeError or ValueError."""
    values = content["values"]
    trial = FrozenTrial(
        number=int(content["number"]),
        trial_id=int(content["number"]),
        state=TrialState[content["state"]],
        value=None,
        values=None if values is None else [float(each) for each in values],
        datetime_start=_time(content["started"]),
        datetime_complete=_time(content["ended"]),
        params=dict(content["params"]),
        distributions={key: json_to_distribution(each) for key, each in content["distributions"].items()},
        user_attrs=dict(content["attributes"]),
        system_attrs={} if content["enqueued"] is None else {"fixed_params": dict(content["enqueued"])},
        intermediate_values={int(step): float(value) for step, value in content["intermediate_values"].items()},
    )
    if trial.state == TrialState.COMPLETE and len(trial.values) != metrics:
        raise ValueError("a complete trial must have a value of each metric")
    if trial.params.keys() != trial.distributions.keys():
        raise ValueError("each parameter must have a distribution")
    for text, excess in content["constraints"].items():
        trial.set_constraint(text, float(excess))
    return trial


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
