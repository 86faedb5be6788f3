"""A run's configuration as YAML: what is stored with the run, and read again on a resume."""

import dataclasses
from typing import Any

import yaml

from brainseg.config import KEYS, REMOVED_KEYS, SCHEMA_VERSION, RunConfig, stored
from brainseg.errors import ConfigError
from brainseg.keys import Absent

yaml.SafeDumper.add_representer(Absent, yaml.SafeDumper.represent_str)


def to_yaml(config: RunConfig) -> str:
    """Every key with its value, in the order of the dataclasses, after the schema version."""
    content = {"schema_version": SCHEMA_VERSION} | dataclasses.asdict(config)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def from_yaml(text: str, *, where: str) -> RunConfig:
    """The configuration that `to_yaml` wrote; `where` names it in errors.

    A key that is younger than the run takes the value that means the old behaviour (`Key.since`); a key that was
    removed is left out if that changes nothing (`REMOVED_KEYS`). Parts of plugins are `Absent`, see `config.stored`.
    Raises ConfigError for another schema version, and for text that brainseg didn't write.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where} is not YAML; restore the file that brainseg wrote") from error
    version = content.pop("schema_version", None) if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"{where} has schema_version {version}, and this brainseg reads {SCHEMA_VERSION}; "
            "use the brainseg version in the run's environment/packages.txt"
        )
    values: dict[str, Any] = {}
    for group, value in content.items():
        values |= {f"{group}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {group: value}
    return stored(upgraded(values))


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """The dotted keys that an earlier version stored, as today's: with new ones, and without those that are gone."""
    known = {name: key.since for name, key in KEYS.items() if key.since is not ...} | values
    return {key: value for key, value in known.items() if (key, value) not in REMOVED_KEYS.items()}
