"""Composes a configuration with Hydra: overrides in, a checked `RunConfig` out.

Hydra composes plain YAML; the result is merged into the dataclasses of `brainseg.config`, which know types and
ranges. A mistake raises `ConfigError` with one line that names the dotted key.
"""

from brainseg.compose.composition import Composition, freeze, from_dictconfig, overrides_of
from brainseg.compose.overrides import expand, for_hydra, run_name, values_in
from brainseg.compose.resuming import resumed
from brainseg.compose.search_path import GROUPS, add_folder, conf_folder, config_name, options, register_local_conf

__all__ = [
    "GROUPS",
    "Composition",
    "add_folder",
    "conf_folder",
    "config_name",
    "expand",
    "for_hydra",
    "freeze",
    "from_dictconfig",
    "options",
    "overrides_of",
    "register_local_conf",
    "resumed",
    "run_name",
    "values_in",
]
