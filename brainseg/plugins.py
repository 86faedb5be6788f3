"""Parts by name: networks, losses, augmentations, optimizers, readers and metrics, brainseg's own and those of plugins.

A part is a frozen dataclass. Its fields, each made by `key`, are its options; its methods are what its kind asks for
(docs/extending.md):

    @register("losses", "boundary")
    @dataclass(frozen=True, kw_only=True)
    class Boundary:
        weight: float = key(1.0, low=0.0, high=10.0, help="how much the distance counts")

        def __call__(self, mask, probability): ...

A module with parts is named by the key `plugins`, or an installed package has entry points in the groups
`brainseg.networks`, `brainseg.losses` and so on. Nothing else is imported, and an entry point only once its name is
chosen. Standard library only.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, overload

from brainseg.errors import ConfigError
from brainseg.keys import Key, did_you_mean, one_of
from brainseg.keys import key as key  # for plugins

# Kind -> name of a part -> its place, which is imported when it is used. A kind is also a group of entry points.
BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "networks": {"unet": "brainseg.model.unet:build", "encoder_unet": "brainseg.model.encoder_unet:build"},
    "losses": {
        "dice": "brainseg.model.losses:dice",
        "dice_image": "brainseg.model.losses:dice_image",
        "ce": "brainseg.model.losses:cross_entropy",
        "focal": "brainseg.model.losses:focal",
        "tversky": "brainseg.model.losses:tversky",
        "focal_tversky": "brainseg.model.losses:focal_tversky",
    },
    "augmentations": {
        "none": "brainseg.data.augment:unchanged",
        "light": "brainseg.data.augment:LIGHT",
        "standard": "brainseg.data.augment:STANDARD",
    },
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
    "readers": {
        "phantom": "brainseg.data.load:phantom",
        "folder": "brainseg.data.load:folder",
        "nifti": "brainseg.data.load:folder",
    },
    "metrics": {},
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
        "wilcoxon": "brainseg.sweep.study.pruners:Wilcoxon",
        "none": "brainseg.sweep.study.pruners:Never",
    },
}
# Kinds whose built-in parts are dataclasses with options, as those of plugins are. The options of the others are keys
# of their group, such as model.depth.
OWN_OPTIONS = ("optimizers", "samplers", "pruners")
REMEDY = "a part of a plugin needs plugins=[MODULE]"
# What a plugin's part must have; docs/extending.md says what it does.
CONTRACTS: Mapping[str, Sequence[str]] = {
    "networks": ("build", "size_factor"),  # and coarse, for deep supervision
    "losses": ("__call__",),
    "augmentations": ("__call__",),
    "optimizers": ("build",),
    "readers": ("open",),
    "metrics": ("__call__", "unit", "direction"),
    "samplers": ("build",),
    "pruners": ("build",),
}
# Metrics that every run records.
TAKEN = re.compile(r"(train|val|final|best)_.*|parameters|seconds.*|learning_rate|images_per_second")
NAME = re.compile(r"[a-z][a-z0-9_]*")
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

Part = TypeVar("Part", bound=type)
_registered: dict[str, dict[str, type]] = {kind: {} for kind in BUILT_IN}
_loaded: list[str] = []


def register(kind: str, name: str) -> Callable[[Part], Part]:
    """Decorates the dataclass that `name` then stands for.

    kind: one of BUILT_IN. name: lower case letters, digits and _. Raises ConfigError for a name that is taken, and for
    a class that is no frozen dataclass or has a field without `key`.
    """

    def registered(part: Part) -> Part:
        one_of("kind of a part", kind, tuple(BUILT_IN))
        taken = _registered[kind].get(name)
        if is_built_in(kind, name) or (taken is not None and _place(taken) != _place(part)):
            owner = "brainseg" if taken is None else _place(taken)
            raise ConfigError(f"{name!r} of {_place(part)} is taken: {owner} has one among the {kind}; rename it")
        _check_class(kind, name, part)
        _registered[kind][name] = part
        return part

    return registered


def names(kind: str) -> tuple[str, ...]:
    """The parts of a kind: built in, of loaded modules, of installed packages. No package is imported for it."""
    return tuple({**BUILT_IN[kind], **_registered[kind], **_entry_points().get(kind, {})})


class Names(Sequence[str]):
    """`names` of a kind as they are whenever they are asked for, and further ones, for the choices of a key."""

    def __init__(self, kind: str, *further: str) -> None:
        self._kind = kind
        self._further = further

    def _now(self) -> tuple[str, ...]:
        return (*names(self._kind), *self._further)

    # For a name of brainseg's, both without a look at the installed packages: it takes 10 ms.
    def __contains__(self, name: object) -> bool:
        return name in BUILT_IN[self._kind] or name in self._further or name in self._now()

    def __bool__(self) -> bool:
        return bool(BUILT_IN[self._kind]) or bool(self._now())

    def __len__(self) -> int:
        return len(self._now())

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        return self._now()[place]


def is_built_in(kind: str, name: str) -> bool:
    """Whether brainseg has the part."""
    return name in BUILT_IN[kind]


def part(kind: str, name: str) -> Any:
    """The part of this name, imported if need be: a plugin's is a dataclass. Raises ConfigError for an unknown one."""
    if is_built_in(kind, name):
        module, _, attribute = BUILT_IN[kind][name].partition(":")
        return getattr(import_module(module), attribute)
    one_of(f"the name of one of the {kind}", name, names(kind), remedy=REMEDY)
    if name not in _registered[kind]:
        point = _entry_points()[kind][name]
        with in_one_line(f"the entry point {point.name} of brainseg.{kind} can't be imported"):
            register(kind, name)(point.load())
    return _registered[kind][name]


def made(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """The part with those of the options that it has; they are checked already (`completed`)."""
    chosen = part(kind, name)
    return chosen(**{option: options[option] for option in fields(chosen) if option in options})


@functools.cache
def fields(chosen: type) -> Mapping[str, Key]:
    """The options of a part, in their order."""
    types = typing.get_type_hints(chosen)
    return {
        item.name: dataclasses.replace(item.metadata["key"], type=types[item.name])
        for item in dataclasses.fields(chosen)
    }


def options_of(kind: str, chosen: Iterable[str]) -> dict[str, Key]:
    """The options of these parts together. Raises ConfigError for an unknown part, and where two share a name."""
    found: dict[str, Key] = {}
    for name in chosen:
        if is_built_in(kind, name) and kind not in OWN_OPTIONS:
            continue
        own = fields(part(kind, name))
        for option in own.keys() & found.keys():
            raise ConfigError(f"two of the {kind} {', '.join(chosen)} have an option {option}; take one of them")
        found |= own
    return found


def completed(where: str, kind: str, chosen: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of the chosen parts, with the given values or the defaults, checked. where: `model.options`.

    Of brainseg's own parts, those that differ from the defaults.

    Raises ConfigError for an option that none of them has, and for a value that breaks a rule.
    """
    known = options_of(kind, chosen)
    refuse_unknown(where, chosen, given, known)
    values = {option: given.get(option, about.default) for option, about in known.items()}
    for option, about in known.items():
        about.check(f"{where}.{option}", values[option])
    return as_stored(kind, chosen, values)


def as_stored(kind: str, chosen: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of the chosen parts that a configuration holds: of brainseg's own, what differs from the defaults.

    So a run that changes none of them is stored as before there were any.
    """
    if not all(is_built_in(kind, name) for name in chosen):
        return dict(values)
    known = options_of(kind, chosen)
    return {option: value for option, value in values.items() if value != known[option].default}


def refuse_unknown(where: str, chosen: Sequence[str], given: Iterable[str], known: Iterable[str]) -> None:
    """Raises ConfigError, which names the nearest one, for an option that the chosen parts don't have."""
    for option in given:
        if option not in known:
            near = did_you_mean(option, [*known]) or f"; it has {', '.join(known) or 'none'}"
            raise ConfigError(f"{where}.{option} is no option of {'+'.join(chosen) or 'what is chosen'}{near}")


def load(modules: Sequence[str]) -> None:
    """Imports the modules that a user has named, each once, from the path or from the current folder.

    Raises ConfigError where there is no such module, and where it can't be imported.
    """
    for name in modules:
        if not MODULE.fullmatch(name) or name.endswith(".py"):
            raise ConfigError(f"plugins must be modules as `import` names them, got {name!r}; leave out folder and .py")
        if name in _loaded:
            continue
        with in_one_line(f"the plugin {name} can't be imported"):
            _find(name)
            import_module(name)
        _loaded.append(name)


def origin(kind: str, name: str) -> str:
    """Where a plugin's part comes from: `package 1.2`, or `my_module sha256:DIGEST` of its files."""
    module = part(kind, name).__module__
    top = module.partition(".")[0]
    owners = _distributions().get(top)
    if owners:
        return f"{owners[0]} {importlib.metadata.version(owners[0])}"
    file = Path(sys.modules[module].__file__ or "")
    package = sys.modules[top]
    files = sorted(Path(package.__file__ or "").parent.rglob("*.py")) if hasattr(package, "__path__") else [file]
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()
    return f"{module} sha256:{digest}"


def _find(name: str) -> None:
    """Lets Python find a module beside ./conf; commands that pip installs don't look there."""
    here = str(Path.cwd())
    if importlib.util.find_spec(name.partition(".")[0]) is None and here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"plugins: there is no module {name!r} on the path or in {here}; check its name")


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Turns whatever a plugin's code raises into a ConfigError that names the error and its place."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "site-packages" not in frame.filename and "<" not in frame.filename]
        place = (own or frames)[-1]
        said = (str(error).strip().splitlines() or [""])[0]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        raise ConfigError(f"{what}: {type(error).__name__}: {said} ({where})") from error


def _check_class(kind: str, name: str, part: type) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(f"the name of a part must be lower case letters, digits and _, got {name!r}; rename it")
    if kind == "metrics" and TAKEN.fullmatch(name):
        raise ConfigError(f"the metric {name!r} of {_place(part)} is one that every run records; rename it")
    frozen = dataclasses.is_dataclass(part) and part.__dataclass_params__.frozen  # type: ignore[attr-defined]
    if not frozen:
        raise ConfigError(f"{_place(part)} must be a frozen dataclass; write @dataclass(frozen=True, kw_only=True)")
    for item in dataclasses.fields(part):
        if "key" not in item.metadata:
            raise ConfigError(
                f"{_place(part)}.{item.name} must be made by brainseg.plugins.key; write key(DEFAULT, ...)"
            )
    for needed in CONTRACTS[kind]:
        if not any(needed in vars(base) for base in part.__mro__):
            raise ConfigError(f"{_place(part)} must have {needed}, as each of the {kind}; docs/extending.md shows how")


def _place(part: type) -> str:
    return f"{part.__module__}.{part.__qualname__}"


@functools.cache
def _entry_points() -> dict[str, dict[str, importlib.metadata.EntryPoint]]:
    """Kind -> name -> what an installed package offers under it."""
    found = importlib.metadata.entry_points()
    return {kind: {point.name: point for point in found.select(group=f"brainseg.{kind}")} for kind in BUILT_IN}


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
