"""Parts by name, brainseg's own and those of plugins: each a frozen dataclass whose fields are its options."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

from brainseg.config import Key, one_of

# Kind -> name of a part -> its place, which is imported when it is used.
BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "optimizers": {
        "adam": "brainseg.train.optimizers:Adam",
        "adamw": "brainseg.train.optimizers:AdamW",
        "sgd": "brainseg.train.optimizers:Sgd",
        "nadam": "brainseg.train.optimizers:Nadam",
        "rmsprop": "brainseg.train.optimizers:RmsProp",
        "lion": "brainseg.train.optimizers:Lion",
        "lamb": "brainseg.train.optimizers:Lamb",
        "adafactor": "brainseg.train.optimizers:Adafactor",
        "muon": "brainseg.train.optimizers:Muon",
    },
    "samplers": {
        "tpe": "brainseg.sweep.study.samplers:Tpe",
        "random": "brainseg.sweep.study.samplers:Random",
        "grid": "brainseg.sweep.study.samplers:Grid",
        "cmaes": "brainseg.sweep.study.samplers:CmaEs",
        "qmc": "brainseg.sweep.study.samplers:Qmc",
        "gp": "brainseg.sweep.study.samplers:GaussianProcess",
        "nsgaii": "brainseg.sweep.study.samplers:NsgaII",
    },
    "pruners": {
        "median": "brainseg.sweep.study.pruners:Median",
        "percentile": "brainseg.sweep.study.pruners:Percentile",
        "hyperband": "brainseg.sweep.study.pruners:Hyperband",
        "successive_halving": "brainseg.sweep.study.pruners:SuccessiveHalving",
        "patient": "brainseg.sweep.study.pruners:Patient",
        "none": "brainseg.sweep.study.pruners:Never",
    },
}

Part = TypeVar("Part", bound=type)
_registered: dict[str, dict[str, type]] = {kind: {} for kind in BUILT_IN}


def register(kind: str, name: str) -> Callable[[Part], Part]:
    """Decorates the dataclass that `name` then stands for."""

    def registered(part: Part) -> Part:
        _registered[kind][name] = part
        return part

    return registered


def names(kind: str) -> tuple[str, ...]:
    """The parts of a kind."""
    return tuple({**BUILT_IN[kind], **_registered[kind]})


def part(kind: str, name: str) -> Any:
    """The part of this name. Raises ConfigError for an unknown one."""
    one_of(f"the name of one of the {kind}", name, names(kind))
    if name in _registered[kind]:
        return _registered[kind][name]
    module, _, attribute = BUILT_IN[kind][name].partition(":")
    return getattr(import_module(module), attribute)


def made(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """The part with those of the options that it has."""
    chosen = part(kind, name)
    return chosen(**{option: options[option] for option in fields(chosen) if option in options})


def fields(chosen: type) -> dict[str, Key]:
    """The options of a part, in their order."""
    types = typing.get_type_hints(chosen)
    return {
        item.name: dataclasses.replace(item.metadata["key"], type=types[item.name])
        for item in dataclasses.fields(chosen)
    }
