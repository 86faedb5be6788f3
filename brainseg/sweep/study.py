"""A study in its storage: made once, opened again as long as its file still says the same."""

import uuid
import warnings
from collections.abc import Sequence

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection

from brainseg.errors import ConfigError, TrackingError
from brainseg.sweep import trial_queue as keys
from brainseg.sweep.definition import definition_of, differences, from_definition
from brainseg.sweep.storage import StudyStorage
from brainseg.sweep.study_file import StudyConfig
from brainseg.sweep.trial_queue import Settings
from brainseg.tracking.home import mask


def open_study(storage: StudyStorage, config: StudyConfig, *, data_fingerprint: str) -> optuna.Study:
    """The study that `config` describes: a new one, with its first trials waiting, or the one that is there.

    What may change (totals, failures, retries) is taken from `config`. Raises ConfigError, naming the
    differences, where the study was started as another one.
    """
    definition = definition_of(config, data_fingerprint=data_fingerprint)
    with storage.lock():
        if config.name not in optuna.get_all_study_names(storage.optuna):
            optuna.create_study(
                study_name=config.name,
                storage=storage.optuna,
                directions=[StudyDirection[direction.upper()] for direction in config.metrics.values()],
            )
        study = optuna.load_study(study_name=config.name, storage=storage.optuna)
        stored = study.user_attrs.get(keys.DEFINITION)
        if stored is not None:
            _refuse_changes(config.name, differences(stored, definition))
        study.set_user_attr(
            keys.SETTINGS, {"trials": config.trials, "failures": config.failures, "retries": config.retries}
        )
        if stored is None:
            study.set_user_attr(keys.STUDY_ID, uuid.uuid4().hex)
            for params in first_params(config):
                study.enqueue_trial(dict(params), skip_if_exists=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                study.set_metric_names(list(config.metrics))  # for Optuna's own tools
            study.set_user_attr(keys.TRACKING, [item for item in config.tracking if mask(item) == item])
            study.set_user_attr(keys.DEFINITION, definition)  # last: the study is whole
    return study


def load_config(storage: StudyStorage, name: str) -> StudyConfig:
    """The study as it was started, for those who have its storage alone. Raises TrackingError where there is none."""
    names = optuna.get_all_study_names(storage.optuna)
    attributes = optuna.load_study(study_name=name, storage=storage.optuna).user_attrs if name in names else {}
    if keys.DEFINITION not in attributes:
        known = f"; it has {', '.join(sorted(names))}" if names else ""
        raise TrackingError(
            f"no study {name!r} in {storage.shown}{known}; start it with: python -m brainseg.sweep run {name}"
        )
    settings = Settings(**attributes[keys.SETTINGS])
    return from_definition(
        attributes[keys.DEFINITION],
        name=name,
        trials=settings.trials,
        failures=settings.failures,
        retries=settings.retries,
        tracking=tuple(attributes[keys.TRACKING]),
    )


def first_params(config: StudyConfig) -> list[dict[str, object]]:
    """What is tried before the sampler is asked: the baseline, then the others of the file."""
    return [dict(params) for params in (config.baseline, *config.enqueue) if params]


def _refuse_changes(name: str, changes: Sequence[str]) -> None:
    if changes:
        raise ConfigError(
            f"the study {name!r} was started differently: {'; '.join(changes)}; "
            "undo that, or start another study with --new NAME"
        )
