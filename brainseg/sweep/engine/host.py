"""Whether this host may train trials of a study, and how: its software, the record's store, the data, the precision.

Each host resolves for itself where things lie. What a trial's scores depend on is the study's.
"""

import dataclasses
import importlib.metadata
import os
import re
import time
from collections.abc import Mapping, Sequence

import optuna

import brainseg
from brainseg.cli.secrets import mask
from brainseg.config import RunConfig, TrackingConfig
from brainseg.errors import ConfigError, TrackingError
from brainseg.model.runtime import resolve_precision
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.storage import StudyStorage
from brainseg.sweep.study.space import as_overrides
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import key_of, merged
from brainseg.tracking import open_store
from brainseg.tracking.paths import ENVIRONMENT_KEY as TRACKING_KEY
from brainseg.tracking.paths import resolve_uri
from brainseg.train.environment import code_state

# Where a host that has its data elsewhere says so, for workers that an engine starts.
ENVIRONMENT: Mapping[str, str] = {"data.root": "BRAINSEG_DATA_ROOT", "data.cache_dir": "BRAINSEG_CACHE_DIR"}
TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-macos")  # packages of one library
PARENT_WAIT_S = 60.0  # for a study that is being started just now
PRECISION = "train.precision"
AUTO, BFLOAT16 = "auto", "mixed_bfloat16"


def software() -> dict[str, str]:
    """What the scores of a trial depend on: package -> version; and the commit, where git knows it."""
    found = {"brainseg": brainseg.__version__}
    for name in TENSORFLOWS:
        try:
            found["tensorflow"] = importlib.metadata.version(name)
            break
        except importlib.metadata.PackageNotFoundError:
            continue
    code = code_state()
    return found if code is None else {**found, "commit": code.commit}


def move_to_this_software(study: optuna.Study) -> str | None:
    """Stores this process's software with the study, for its workers; a line about what has changed.

    Raises ConfigError where a newer brainseg has gone on with the study.
    """
    ours, stored = software(), study.user_attrs.get(keys.SOFTWARE, {})
    if _numbers(stored.get("brainseg", "")) > _numbers(ours["brainseg"]):
        raise ConfigError(
            f"brainseg {stored['brainseg']} has gone on with the study {study.study_name!r}, and this is "
            f"{ours['brainseg']}; update it, or start another study with --new NAME"
        )
    if stored != ours:
        study.set_user_attr(keys.SOFTWARE, ours)
    changes = [
        f"{name} {stored[name]} -> {ours.get(name, 'none')}"
        for name in ("brainseg", "tensorflow")
        if name in stored and stored[name] != ours.get(name)
    ]
    return (
        f"note: {study.study_name} moves on: {', '.join(changes)}; workers of before are refused" if changes else None
    )


def check_software(study: optuna.Study) -> str | None:
    """Raises ConfigError for a host with another brainseg or TensorFlow than the study's; a note on another commit.

    Studies of version 0.1 name none until `sweep run` has gone on with them.
    """
    ours, stored = software(), study.user_attrs.get(keys.SOFTWARE, {})
    for name in ("brainseg", "tensorflow"):
        if name in stored and stored[name] != ours.get(name):
            raise ConfigError(
                f"the study {study.study_name!r} is trained with {name} {stored[name]}, and this host has "
                f"{ours.get(name, 'none')}; install that one, or move the study by `python -m brainseg.sweep run` here"
            )
    if "commit" in stored and ours.get("commit", stored["commit"]) != stored["commit"]:
        return f"note: the study was started from commit {stored['commit'][:12]}, and this is {ours['commit'][:12]}"
    return None


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def check_parent(study: optuna.Study, tracking: TrackingConfig) -> None:
    """Raises TrackingError where the study's parent run isn't in this store; MLflow has no id of a store.

    A run that began offline is known to its own host until it is delivered.
    """
    deadline = time.monotonic() + PARENT_WAIT_S
    while keys.PARENT_RUN not in study.user_attrs:
        if time.monotonic() > deadline:
            raise TrackingError(
                f"the study {study.study_name!r} has no parent run yet; start it with: "
                f"python -m brainseg.sweep run {study.study_name}"
            )
        time.sleep(0.5)
    identity = {"sweep_id": study.user_attrs[keys.STUDY_ID], "sweep_role": "parent"}
    if not tracking.offline and not open_store(tracking).find(identity):
        raise TrackingError(
            f"the parent run of the study {study.study_name!r} is not in {mask(resolve_uri(tracking))}; "
            f"name the study's own store by tracking.uri or {TRACKING_KEY}, or its folder by tracking.root"
        )


def with_store(config: StudyConfig, tracking: TrackingConfig) -> StudyConfig:
    """The study with the store that the environment names among its overrides, so that every worker uses it."""
    if tracking.uri is not None or not os.environ.get(TRACKING_KEY):
        return config
    named = as_overrides({"tracking.uri": resolve_uri(tracking)})
    return dataclasses.replace(config, tracking=merged(config.tracking, named))


def with_experiment(config: StudyConfig, tracking: TrackingConfig) -> StudyConfig:
    """The study with the experiment in effect among its overrides, so that every worker uses it."""
    named = as_overrides({"tracking.experiment": str(tracking.experiment)})
    return dataclasses.replace(config, tracking=merged(config.tracking, named))


def with_places(config: StudyConfig, baseline: RunConfig, places: Sequence[str]) -> StudyConfig:
    """The study with its data where this host has it. places: overrides of the command line, before the environment."""
    named = {key_of(item) for item in places}
    from_environment = {
        key: os.environ[variable]
        for key, variable in ENVIRONMENT.items()
        if os.environ.get(variable) and key not in named and not (key == "data.root" and baseline.data.root is None)
    }
    overrides = merged(config.overrides, [*as_overrides(from_environment), *places])
    return dataclasses.replace(config, overrides=overrides)


def with_precision(storage: StudyStorage, study: optuna.Study, config: StudyConfig, baseline: RunConfig) -> StudyConfig:
    """The study with what `auto` was resolved to by the first worker of all, which may be this one.

    baseline: the study's fixed part. Raises ConfigError on a host whose hardware doesn't multiply bfloat16, where
    the study has it.
    """
    if baseline.train.precision != AUTO or PRECISION in {parameter.key for parameter in config.space}:
        return config
    ours = resolve_precision(AUTO, is_depthwise=baseline.model.is_depthwise)
    with storage.lock():
        fixed = study.user_attrs.get(keys.PRECISION)
        if fixed is None:
            study.set_user_attr(keys.PRECISION, ours)
            fixed = ours
    if fixed == BFLOAT16 != ours:
        raise ConfigError(
            f"{PRECISION}=auto is {fixed} in the study {study.study_name!r}, and this host's hardware doesn't multiply "
            f"bfloat16; train on others, or start another study with {PRECISION}=float32 and --new NAME"
        )
    recipe = {**config.recipe, "": {**config.recipe[""], PRECISION: fixed}}
    return dataclasses.replace(config, recipe=recipe)
