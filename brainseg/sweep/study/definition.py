"""What makes a study this study, as JSON: stored with it, and compared when it is opened again.

How long it runs and where its record goes are no part of it: trials, workers, retries, failures, the time limit
and tracking.* may change. Studies of earlier versions have no recipe stored.
"""

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from brainseg.errors import ConfigError
from brainseg.keys import Absent
from brainseg.plugins import names
from brainseg.sweep.study.parameter import Parameter
from brainseg.sweep.study.study_file import PrunerConfig, SamplerConfig, StudyConfig
from brainseg.sweep.study.study_rules import LOCATIONS, METRICS, key_of, without_plugins

SCHEMA_VERSION = 1
REPEATED = 2  # of a study whose trials are several runs, which earlier versions would train as one
PARTS = ("overrides", "baseline", "enqueue", "space", "sampler", "pruner")  # of a StudyConfig, stored as they are
NOT_THERE = "nothing"


def definition_of(config: StudyConfig, *, data_fingerprint: str) -> dict[str, Any]:
    """What is stored with the study, in JSON's types."""
    parts = dataclasses.asdict(config)
    definition = {
        "schema_version": REPEATED if config.repeat else SCHEMA_VERSION,
        # A list: a storage need not keep the order of keys, and the values of a trial stand in this one.
        "metrics": list(config.metrics.items()),
        **{name: parts[name] for name in PARTS},
        "overrides": without_plugins(config.overrides),
        "data_fingerprint": data_fingerprint,
    }
    # Studies of earlier versions have none of them.
    definition |= {name: parts[name] for name in ("constraints", "recipe", "repeat") if parts[name]}
    as_json: dict[str, Any] = json.loads(json.dumps(definition))
    return as_json


def from_definition(definition: Mapping[str, Any], *, overrides: Sequence[str] = (), **settings: Any) -> StudyConfig:
    """The study that a definition describes: what a worker, on any host, starts from.

    overrides: come after those of the definition, such as where the data lies on this host. settings: the fields of
    a StudyConfig that are no part of a definition. Raises ConfigError for what another version of brainseg stored.
    """
    check_version(definition)
    return StudyConfig(
        # Of a plugin's metric, which needn't be here to look at the study.
        metrics={name if name in METRICS else Absent(name): direction for name, direction in definition["metrics"]},
        overrides=tuple(without_plugins([*definition["overrides"], *overrides])),
        baseline=definition["baseline"],
        enqueue=tuple(definition["enqueue"]),
        space=tuple(_parameter_from(stored) for stored in definition["space"]),
        sampler=SamplerConfig(**_stored_part("samplers", definition["sampler"])),
        pruner=PrunerConfig(**_stored_part("pruners", definition["pruner"])),
        constraints=tuple(definition.get("constraints", ())),
        recipe=definition.get("recipe", {}),
        repeat={key: tuple(values) for key, values in definition.get("repeat", {}).items()},
        **settings,
    )


def _stored_part(kind: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Of a plugin, which needn't be here to look at the study."""
    name = stored["name"]
    return {**stored, "name": name if name in names(kind) else Absent(name)}


def _parameter_from(stored: Mapping[str, Any]) -> Parameter:
    when = {key: tuple(values) for key, values in stored["when"].items()}
    return Parameter(**{**stored, "choices": tuple(stored["choices"]), "when": when})


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Key -> what differs between two definitions: `space.model.depth.high` -> `5 -> 6`.

    Where the data lies isn't compared, only whether it is the same; nor is the recipe. Raises ConfigError for a stored
    definition of another version of brainseg.
    """
    check_version(stored)
    common = {parameter["key"] for parameter in stored["space"]} & {parameter["key"] for parameter in now["space"]}
    before, after = (dict(_leaves(_as_in_the_file(each, common))) for each in (stored, now))
    return {
        key: f"{before.get(key, NOT_THERE)} -> {after.get(key, NOT_THERE)}"
        for key in {**before, **after}
        if key not in before or key not in after or before[key] != after[key]
    }


def _as_in_the_file(definition: Mapping[str, Any], common: Collection[str]) -> dict[str, Any]:
    """The definition under the names that a study file has.

    common: the searched keys that both definitions have; of any other key only its rule is compared.
    """
    space = {
        stored["key"]: {name: value for name, value in stored.items() if name != "key"}
        if stored["key"] in common
        else _parameter_from(stored).rule
        for stored in definition["space"]
    }
    # Of several overrides of one key, the last one counts.
    overrides = {key_of(override): override.partition("=")[2] for override in definition["overrides"]}
    named = {
        part: {**definition[part], **definition[part]["options"], "options": None} for part in ("sampler", "pruner")
    }
    return {
        "metrics": ", ".join(f"{metric} ({direction})" for metric, direction in definition["metrics"]),
        "overrides": {key: value for key, value in overrides.items() if key not in LOCATIONS},
        "baseline": definition["baseline"],
        "enqueue": dict(enumerate(definition["enqueue"])),
        "space": space,
        **named,
        "constraints": dict(enumerate(definition.get("constraints", ()))),
        "repeat": {key: ", ".join(map(str, values)) for key, values in definition.get("repeat", {}).items()},
        "data_fingerprint": definition["data_fingerprint"],
    }


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name -> value, of every value that is set."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            name = f"[{key}]" if isinstance(key, int) else f".{key}" if where else key
            yield from _leaves(item, f"{where}{name}")
    elif value is not None and value != []:
        yield where, value


def check_version(definition: Mapping[str, Any]) -> None:
    """Raises ConfigError for a definition that another version of brainseg stored."""
    version = definition.get("schema_version")
    if version not in (SCHEMA_VERSION, REPEATED):
        raise ConfigError(
            f"the study has schema_version {version}, and this brainseg reads {SCHEMA_VERSION} and {REPEATED}; "
            "go on with the brainseg that started it, or start a new study under another name"
        )
