"""A study in its storage: made once, opened again as long as its file still says the same."""

import dataclasses
import uuid
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection

from brainseg.cli.secrets import mask
from brainseg.errors import ConfigError, TrackingError
from brainseg.sweep.engine import trial_queue as keys
from brainseg.sweep.engine.storage import StudyStorage
from brainseg.sweep.engine.trial_queue import Settings
from brainseg.sweep.study.definition import check_version, definition_of, differences, from_definition
from brainseg.sweep.study.study_file import StudyConfig


def open_study(storage: StudyStorage, config: StudyConfig, *, data_fingerprint: str) -> optuna.Study:
    """The study that `config` describes: a new one, with its first trials waiting, or the one that is there.

    What may change (totals, failures, retries, where the record goes) is taken from `config`. Raises ConfigError,
    naming the differences, where the study was started as another one.
    """
    definition = definition_of(config, data_fingerprint=data_fingerprint)
    with storage.lock():
        names = optuna.get_all_study_names(storage.optuna)
        study = optuna.load_study(study_name=config.name, storage=storage.optuna) if config.name in names else None
        if study is not None and keys.DEFINITION not in study.user_attrs:
            _discard(study, storage)
            study = None
        if study is None:
            return _create(storage, config, definition)
        _refuse_changes(config.name, differences(study.user_attrs[keys.DEFINITION], definition))
        _keep_settings(study, config)
    return study


def _create(storage: StudyStorage, config: StudyConfig, definition: Mapping[str, Any]) -> optuna.Study:
    study = optuna.create_study(
        study_name=config.name,
        storage=storage.optuna,
        directions=[StudyDirection[direction.upper()] for direction in config.metrics.values()],
    )
    study.set_user_attr(keys.STUDY_ID, uuid.uuid4().hex)  # first: the study is ours
    for _, params in config.first_points():
        study.enqueue_trial(dict(params), skip_if_exists=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(config.metrics))  # for Optuna's own tools
    _keep_settings(study, config)
    study.set_user_attr(keys.DEFINITION, definition)  # last: the study is whole
    return study


def _discard(study: optuna.Study, storage: StudyStorage) -> None:
    """Deletes what was left of a study whose maker was killed; nobody trains it before it is whole.

    Raises ConfigError for a study that another program has made.
    """
    if keys.STUDY_ID not in study.user_attrs and (study.user_attrs or study.get_trials(deepcopy=False)):
        raise ConfigError(
            f"the study {study.study_name!r} in {storage.shown} was made by another program; "
            "start another study with --new NAME"
        )
    optuna.delete_study(study_name=study.study_name, storage=storage.optuna)


def _keep_settings(study: optuna.Study, config: StudyConfig) -> None:
    settings = Settings(trials=config.trials, failures=config.failures, retries=config.retries)
    study.set_user_attr(keys.SETTINGS, dataclasses.asdict(settings))
    study.set_user_attr(keys.TRACKING, [item for item in config.tracking if mask(item) == item])


def load_config(storage: StudyStorage, name: str) -> StudyConfig:
    """The study as it was started, for those who have its storage alone.

    Raises TrackingError where there is none, and ConfigError for one of another version of brainseg.
    """
    names = optuna.get_all_study_names(storage.optuna)
    attributes = optuna.load_study(study_name=name, storage=storage.optuna).user_attrs if name in names else {}
    if keys.DEFINITION not in attributes:
        known = f"; it has {', '.join(sorted(names))}" if names else ""
        raise TrackingError(
            f"no study {name!r} in {storage.shown}{known}; start it with: python -m brainseg.sweep run {name}"
        )
    check_version(attributes[keys.DEFINITION])
    settings = Settings(**attributes[keys.SETTINGS])
    return from_definition(
        attributes[keys.DEFINITION],
        name=name,
        trials=settings.trials,
        failures=settings.failures,
        retries=settings.retries,
        tracking=tuple(attributes[keys.TRACKING]),
    )


def _refuse_changes(name: str, changes: Sequence[str]) -> None:
    if changes:
        raise ConfigError(
            f"the study {name!r} was started differently: {'; '.join(changes)}; "
            "undo that, or start another study with --new NAME"
        )
