"""A study in its storage: made once, opened again as long as its file still says the same."""

import dataclasses
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection

from brainseg import compose
from brainseg.cli.secrets import mask
from brainseg.config import RunConfig, TrackingConfig
from brainseg.config_file import from_yaml
from brainseg.errors import ConfigError, InputError, TrackingError
from brainseg.runs.stored_run import CONFIG_FILE
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.foreign import OwnStudy
from brainseg.sweep.engine.keys import StudySettings
from brainseg.sweep.engine.storage import StudyStorage
from brainseg.sweep.study.definition import check_version, definition_of, differences, from_definition
from brainseg.sweep.study.recipe import recipe_changes, recipe_of, recipe_of_run
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import PLUGINS, key_of, merged, places_in, without_plugins
from brainseg.tracking import open_store
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.train.checkpoint import Checkpoints

# Fields of a StudyConfig that are no part of a study's definition.
MAY_CHANGE = ("trials", "failures", "retries", "tracking", "workers", "time_limit_min")


def open_study(storage: StudyStorage, config: StudyConfig, *, data_fingerprint: str) -> OwnStudy:
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
            _create(storage, config, definition)
        else:
            changes = differences(study.user_attrs[keys.DEFINITION], definition)
            _refuse_changes(config.name, [f"{key}: {change}" for key, change in changes.items()])
            _keep_settings(study, config)
    return OwnStudy(study_name=config.name, storage=storage.optuna)


def going_on(
    storage: StudyStorage, config: StudyConfig, *, asked: Sequence[str], is_carried: bool
) -> tuple[StudyConfig, list[str]]:
    """The study as it was started, with what may change of `config`; and what the file or conf/ says otherwise now.

    A study that doesn't exist yet is `config`, with the recipe of today if it has none. asked: overrides of the command
    line. is_carried: whether brainseg carries the study's file, which then changes with its version. Raises
    ConfigError, naming the differences, where the user asks for another study: by the command line, or in a file of
    their own.
    """
    if not is_whole(storage, config.name):
        return dataclasses.replace(config, recipe=config.recipe or recipe_of(config)), []
    stored = load_config(storage, config.name)
    stored = dataclasses.replace(
        stored,
        overrides=merged(stored.overrides, places_in(config.overrides)),
        **{name: getattr(config, name) for name in MAY_CHANGE},
    )
    changes = differences(*(definition_of(each, data_fingerprint="") for each in (stored, config)))
    refused = [key for key in changes if not is_carried or key in {f"overrides.{key_of(item)}" for item in asked}]
    _refuse_changes(config.name, [f"{key}: {changes[key]}" for key in refused])
    stored = with_recipe(storage, stored)
    searched = {parameter.key for parameter in config.space if not parameter.when}
    composed = recipe_changes(stored.recipe, recipe_of(config), searched=searched)
    changes |= {key: change for key, change in composed.items() if f"overrides.{key}" not in changes}
    return stored, [f"{key}: {change}" for key, change in changes.items()]


def with_recipe(storage: StudyStorage, config: StudyConfig) -> StudyConfig:
    """The stored study with its recipe.

    A study of an earlier version has stored none. The recipe of its first run counts, read from the run's checkpoint,
    else from the artifact config.yaml in the tracking store; without either, what conf/ says now. It is stored.
    """
    if config.recipe:
        return config
    study = optuna.load_study(study_name=config.name, storage=storage.optuna)
    run = _first_run(study, compose.freeze(config.tracking).tracking)
    recipe = recipe_of(config) if run is None else recipe_of_run(config, run)
    with storage.lock():
        study.set_user_attr(keys.DEFINITION, {**study.user_attrs[keys.DEFINITION], "recipe": recipe})
    return dataclasses.replace(config, recipe=recipe)


def with_plugins(study: optuna.Study, config: StudyConfig, overrides: Sequence[str]) -> StudyConfig:
    """The study with the plugins that this host was told of. Raises ConfigError where the study has others."""
    given = [item for item in overrides if key_of(item) == PLUGINS]
    config = dataclasses.replace(config, overrides=merged(config.overrides, given))
    missing = [name for name in study.user_attrs.get(keys.PLUGINS, ()) if name not in plugins_of(config)]
    if missing:
        raise ConfigError(
            f"the study {study.study_name!r} has parts of {', '.join(missing)}, which this process wasn't told to "
            f"import; if you trust what is there, add plugins=[{','.join(study.user_attrs[keys.PLUGINS])}]"
        )
    return config


def _first_run(study: optuna.Study, tracking: TrackingConfig) -> RunConfig | None:
    """The configuration of the first trial that has one to read."""
    store = open_store(tracking)
    for trial in study.get_trials(deepcopy=False):
        run_id = trial.user_attrs.get(keys.RUN_ID)
        if run_id is None:
            continue
        checkpoints = Checkpoints(Path(tracking.root), run_id)
        try:
            if checkpoints.have_begun:
                return checkpoints.stored_config()
            return from_yaml(store.text(run_id, CONFIG_FILE), where=f"{CONFIG_FILE} of run {run_id}")
        except UnreachableError:
            raise
        except InputError:  # deleted, or of another version
            continue
    return None


def _create(storage: StudyStorage, config: StudyConfig, definition: Mapping[str, Any]) -> None:
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
    settings = StudySettings(trials=config.trials, failures=config.failures, retries=config.retries)
    study.set_user_attr(keys.SETTINGS, dataclasses.asdict(settings))
    study.set_user_attr(keys.TRACKING, [item for item in config.tracking if mask(item) == item])
    if places := without_plugins(places_in(config.overrides)):
        study.set_user_attr(keys.PLACES, places)
    if plugins := plugins_of(config):
        study.set_user_attr(keys.PLUGINS, plugins)


def plugins_of(config: StudyConfig) -> list[str]:
    """The modules that its overrides and conf/ name here."""
    return list(compose.freeze([item for item in config.overrides if key_of(item) == PLUGINS]).plugins)


def load_config(storage: StudyStorage, name: str) -> StudyConfig:
    """The study as it was started, for those who have its storage alone.

    Raises TrackingError where there is none, and ConfigError for one of another version of brainseg.
    """
    if not is_whole(storage, name):
        names = optuna.get_all_study_names(storage.optuna)
        known = f"; it has {', '.join(sorted(names))}" if names else ""
        raise TrackingError(
            f"no study {name!r} in {storage.shown}{known}; start it with: python -m brainseg.sweep run {name}"
        )
    attributes = optuna.load_study(study_name=name, storage=storage.optuna).user_attrs
    definition = attributes[keys.DEFINITION]
    check_version(definition)
    settings = StudySettings(**attributes[keys.SETTINGS])
    return from_definition(
        definition,
        overrides=[item for item in attributes.get(keys.PLACES, ()) if item not in definition["overrides"]],
        name=name,
        trials=settings.trials,
        failures=settings.failures,
        retries=settings.retries,
        tracking=tuple(without_plugins(attributes[keys.TRACKING])),
    )


def is_whole(storage: StudyStorage, name: str) -> bool:
    """Whether there is a study of this name, made to its end."""
    names = optuna.get_all_study_names(storage.optuna)
    return name in names and keys.DEFINITION in optuna.load_study(study_name=name, storage=storage.optuna).user_attrs


def _refuse_changes(name: str, changes: Sequence[str]) -> None:
    if changes:
        raise ConfigError(
            f"the study {name!r} was started differently: {'; '.join(changes)}; "
            "undo that, or start another study with --new NAME"
        )
