"""What makes a study this study, as JSON: stored with it, and compared when it is opened again.

How long it runs and where its record goes are no part of it: trials, workers, retries, failures, the time limit
and tracking.* may change.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from brainseg.errors import ConfigError
from brainseg.sweep.study.parameter import Parameter
from brainseg.sweep.study.study_file import PrunerConfig, SamplerConfig, StudyConfig
from brainseg.sweep.study.study_rules import key_of

SCHEMA_VERSION = 1
# Where the data lies, which may be elsewhere on each host: the fingerprint says whether it is the same.
NOT_COMPARED = ("data.root", "data.cache_dir")
NOT_THERE = "nothing"


def definition_of(config: StudyConfig, *, data_fingerprint: str) -> dict[str, Any]:
    """What is stored with the study: JSON's types only."""
    return {
        "schema_version": SCHEMA_VERSION,
        # A list: a storage need not keep the order of keys, and the values of a trial stand in this one.
        "metrics": [[metric, direction] for metric, direction in config.metrics.items()],
        "overrides": list(config.overrides),
        "baseline": dict(config.baseline),
        "enqueue": [dict(params) for params in config.enqueue],
        "space": [_parameter(parameter) for parameter in config.space],
        "sampler": {
            "name": config.sampler.name,
            "seed": config.sampler.seed,
            "options": dict(config.sampler.options),
        },
        "pruner": {"name": config.pruner.name, "options": dict(config.pruner.options)},
        "data_fingerprint": data_fingerprint,
    }


def from_definition(
    definition: Mapping[str, Any],
    *,
    name: str,
    trials: int,
    overrides: Sequence[str] = (),
    tracking: Sequence[str] = (),
    workers: int = 1,
    failures: int = 3,
    retries: int = 1,
    time_limit_min: float | None = None,
) -> StudyConfig:
    """The study that a definition describes: what a worker, on any host, starts from.

    overrides: come after those of the definition, such as where the data lies on this host.
    Raises ConfigError for what another version of brainseg stored.
    """
    check_version(definition)
    return StudyConfig(
        name=name,
        metrics=dict(definition["metrics"]),
        trials=trials,
        overrides=(*definition["overrides"], *overrides),
        tracking=tuple(tracking),
        baseline=definition["baseline"],
        enqueue=tuple(definition["enqueue"]),
        space=tuple(_parameter_from(stored) for stored in definition["space"]),
        sampler=SamplerConfig(**definition["sampler"]),
        pruner=PrunerConfig(**definition["pruner"]),
        workers=workers,
        failures=failures,
        retries=retries,
        time_limit_min=time_limit_min,
    )


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two definitions, a line for each key: `space.model.depth.high: 5 -> 6`.

    Where the data lies isn't compared, only whether it is the same. Raises ConfigError for a stored definition
    of another version of brainseg.
    """
    check_version(stored)
    common = {parameter["key"] for parameter in stored["space"]} & {parameter["key"] for parameter in now["space"]}
    before, after = dict(_leaves(stored, common)), dict(_leaves(now, common))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: {_written(before, key)} -> {_written(after, key)}"
        for key in keys
        if key not in before or key not in after or before[key] != after[key]
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "key": parameter.key,
        "type": parameter.type,
        "low": parameter.low,
        "high": parameter.high,
        "step": parameter.step,
        "log": parameter.log,
        "choices": list(parameter.choices),
        "when": {key: list(values) for key, values in parameter.when.items()},
    }


def _parameter_from(stored: Mapping[str, Any]) -> Parameter:
    when = {key: tuple(values) for key, values in stored["when"].items()}
    return Parameter(**{**stored, "choices": tuple(stored["choices"]), "when": when})


def _leaves(definition: Mapping[str, Any], common: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Every value that is set, under the name that it has in the study file.

    common: the searched keys that both definitions have; of another, only that it is there is said.
    """
    yield "metrics", ", ".join(f"{metric} ({direction})" for metric, direction in definition["metrics"])
    # The last of the same key is the one that counts.
    overrides = {key_of(override): override.partition("=")[2] for override in definition["overrides"]}
    yield from ((f"overrides.{key}", value) for key, value in overrides.items() if key not in NOT_COMPARED)
    yield from ((f"baseline.{key}", value) for key, value in definition["baseline"].items())
    for place, params in enumerate(definition["enqueue"]):
        yield from ((f"enqueue[{place}].{key}", value) for key, value in params.items())
    for stored in definition["space"]:
        yield from _leaves_of_parameter(stored, is_common=stored["key"] in common)
    for part in ("sampler", "pruner"):
        yield f"{part}.name", definition[part]["name"]
        yield from ((f"{part}.{option}", value) for option, value in definition[part]["options"].items())
    yield "sampler.seed", definition["sampler"]["seed"]
    yield "data_fingerprint", definition["data_fingerprint"]


def _leaves_of_parameter(stored: Mapping[str, Any], *, is_common: bool) -> Iterator[tuple[str, Any]]:
    where = f"space.{stored['key']}"
    if not is_common:
        yield where, _parameter_from(stored).rule
        return
    for name in ("type", "low", "high", "step", "log", "choices"):
        if stored[name] is not None and stored[name] != []:
            yield f"{where}.{name}", stored[name]
    yield from ((f"{where}.when.{key}", values) for key, values in stored["when"].items())


def _written(leaves: Mapping[str, Any], key: str) -> str:
    return str(leaves[key]) if key in leaves else NOT_THERE


def check_version(definition: Mapping[str, Any]) -> None:
    """Raises ConfigError for a definition that another version of brainseg stored."""
    version = definition.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"the study has schema_version {version}, and this brainseg reads {SCHEMA_VERSION}; "
            "go on with the brainseg that started it, or start a new study under another name"
        )
