"""Composes a configuration with Hydra: overrides in, a checked `RunConfig` out.

Hydra composes plain YAML; the result is merged into the dataclasses of `brainseg.config`, which know types and
ranges. A mistake raises `ConfigError` with one line that names the dotted key.
"""

import copy
import dataclasses
import functools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType, Quote, QuotedString, RangeSweep, ValueType
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigKeyError, InterpolationResolutionError, OmegaConfBaseException

from brainseg.config import GROUPS as KEY_GROUPS
from brainseg.config import (
    KEYS,
    OPTIONS,
    RunConfig,
    chosen_parts,
    flatten,
    from_flat,
    loss_terms,
    place_of_options,
    texts,
    with_parts,
)
from brainseg.errors import ConfigError, ResumeError
from brainseg.keys import Key, did_you_mean
from brainseg.plugins import as_stored, load, options_of, refuse_unknown

CONFIG_NAME = "brainseg_config"
# Of `./conf`, which may be another Hydra project's: it counts if its defaults name CONFIG_NAME.
OWN_CONFIG = Path("conf", "config.yaml")
CHOOSING = {name for name, _ in OPTIONS.values()}  # keys that name parts
# What the files of conf/ start from: the dataclasses' defaults. Neither a file nor an option has this name.
BASE = "_base_"
AUTO = "auto"  # a value of several keys: the run finds out
# What may change on a resume. Where the record is kept isn't part of the run.
RESUMABLE_KEYS = ("train.epochs", "train.patience")
NOT_PART_OF_THE_RUN = ("resume", "tracking.", "plugins")
# Keys whose `null` stands for what the run has: it found the latter three in its data.
KEPT_UNLESS_NAMED = ("tracking.experiment", "tracking.tags", "data.annotations", "data.classes", "data.ignore")
# Not in a run's name: they say where things are and what they are called, not what is done.
UNNAMED_KEYS = (
    *("data", "data.root", "data.images", "data.masks", "data.annotations"),
    *("data.cache_dir", "data.classes", "data.ignore"),
    *("resume", "run_name", "plugins"),
)
# A node of keys of one's own, for interpolation: `optimizer.learning_rate=${vars.rate}`. No part of the run.
HELPERS = "vars"
OWN_KEYS = (f"{HELPERS}.", "tracking.tags.")  # what keys begin with that the user makes up
SWEEPER = "hydra/sweeper"
# Folders of conf/: the name of a file in them is an option, as in optimizer=sgd.
GROUPS = (*KEY_GROUPS, "experiment")
# A text that needs no quotes on the command line, and what would be another value without.
PLAIN_TEXT = re.compile(r"[A-Za-z_/.][\w./-]*")
NOT_TEXTS = ("true", "false", "null", "nan", "inf")
KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "a text",
    "Float": "a number",
    "Integer": "a whole number",
}
# OmegaConf's messages on a value of the wrong type, and the type where the message doesn't name it.
WRONG_TYPES = (
    (r"Value '?(?P<value>.*?)'? of type .* could not be converted to (?P<kind>\w+)", ""),
    (r"Incompatible value '(?P<value>None)' for field of type '(?P<kind>\w+)'", ""),
    (r"Value '(?P<value>.*)' is not a valid bool", "bool"),
    (r"Cannot convert '\w+' to string: '(?P<value>.*)'", "str"),
)


logger = logging.getLogger("brainseg")


class LocalConf(SearchPathPlugin):
    """Lets `./conf`, where it exists, come before the configuration that brainseg carries, and `added` after it."""

    added: ClassVar[Path | None] = None  # the folder of --config-dir, absolute

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Adds the folders; called by Hydra whenever it makes a search path."""
        if all(element.path.removeprefix("file://") != str(conf_folder()) for element in search_path.get_path()):
            return  # it is of another Hydra program in this process
        local = Path.cwd() / "conf"
        if local.is_dir():
            search_path.prepend(provider="local", path=f"file://{local}")
        if self.added is not None:
            search_path.append(provider="command-line", path=f"file://{self.added}")


def conf_folder() -> Path:
    """The configuration that brainseg carries: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def config_name() -> str:
    """What Hydra composes: `./conf/config.yaml` where that extends brainseg's own configuration, else the latter."""
    if not OWN_CONFIG.is_file():
        return CONFIG_NAME
    try:
        extends = CONFIG_NAME in yaml.safe_load(OWN_CONFIG.read_text(encoding="utf-8"))["defaults"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):  # it isn't made for brainseg
        extends = False
    if extends:
        return OWN_CONFIG.stem
    _tell_once(f"{OWN_CONFIG} is left aside; it would count with {CONFIG_NAME} among its defaults")
    return CONFIG_NAME


@functools.cache
def _tell_once(text: str) -> None:
    logger.warning("%s", text)


def run_name(overrides: Sequence[str]) -> str:
    """A short name for a run: its experiment or data, and the values that were set (`phantom dropout=0.2`)."""
    parsed = {override.key_or_group: _shown(override) for override in _parse(overrides)}
    base = parsed.pop("experiment", None) or parsed.pop("data", "phantom")
    told = [
        f"{key.rpartition('.')[2]}={value}"
        for key, value in parsed.items()
        if key not in UNNAMED_KEYS and not key.startswith(("tracking.", "hydra"))
    ]
    return " ".join([base, *told])[:100]


def add_folder(folder: str) -> None:
    """Looks for files in this folder too, where neither `./conf` nor brainseg has one. Raises ConfigError for none."""
    if not Path(folder).is_dir():
        raise ConfigError(f"--config-dir must be a folder, got {folder}; name one that has the folders of conf/")
    LocalConf.added = Path(folder).absolute()


def _shown(override: Override) -> str:
    """The value, or the values of a multirun, as they are typed."""
    return (
        str(override.input_line).partition("=")[2]
        if override.is_sweep_override()
        else override.get_value_element_as_str()
    )


@functools.cache
def register_local_conf() -> None:
    """Makes Hydra know the defaults, and look into `./conf` first, for `freeze` and for `hydra.main` alike."""
    Plugins.instance().register(LocalConf)
    # Plain dictionaries: nodes made of frozen dataclasses are read-only.
    defaults = OmegaConf.create(dataclasses.asdict(RunConfig()))
    for where in OPTIONS:  # what options there are depends on the part, which only the composed values tell
        OmegaConf.update(defaults, where, {}, merge=False)
        OmegaConf.set_struct(OmegaConf.select(defaults, where), False)
    for group in KEY_GROUPS:
        ConfigStore.instance().store(group=group, name=BASE, node=defaults.pop(group))
    ConfigStore.instance().store(name=BASE, node=defaults)


def freeze(overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration that `overrides` (`model.dropout=0.2`) compose, checked.

    Raises ConfigError for an unknown key or option (with the nearest one), a wrong type or a value out
    of range.
    """
    with _file_named(overrides):
        return from_dictconfig(_compose(overrides))


def overrides_of(config: RunConfig) -> list[str]:
    """What `freeze` composes to this configuration: the options of groups that it has chosen, then what differs."""
    known = options()
    groups = {group: getattr(config, group) for group in KEY_GROUPS if "name" in vars(getattr(config, group))}
    chosen = [
        f"{group}={part.name}"
        for group, part in groups.items()
        if part.name in known[group] and part.name != KEYS[f"{group}.name"].default
    ]
    composed = {key: _written(value) for key, value in Composition(chosen).values.items()}
    written = {key: _written(value) for key, value in flatten(config).items()}
    return [*chosen, *(f"{key}={text}" for key, text in written.items() if composed.get(key) != text)]


def _written(value: Any) -> str:
    """A value as Hydra reads it on the command line."""
    override = Override(
        type=OverrideType.CHANGE, key_or_group="", value_type=ValueType.ELEMENT, _value=_quoted(value), package=None
    )
    return override.get_value_element_as_str()


def _quoted(value: Any) -> Any:
    """The value with its texts in quotes, unless they can stand without."""
    if isinstance(value, Mapping):
        return {key: _quoted(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_quoted(each) for each in value]
    if isinstance(value, str) and (not PLAIN_TEXT.fullmatch(value) or value.lower() in NOT_TEXTS):
        return QuotedString(value, Quote.single)
    return value


def options() -> dict[str, list[str]]:
    """The groups and what each can be set to, sorted."""
    register_local_conf()
    with _conf():
        return {group: _options(group) for group in sorted(GROUPS)}


def from_dictconfig(composed: DictConfig) -> RunConfig:
    """The checked configuration in what Hydra composed. Raises ConfigError."""
    return _checked(_with_types(composed))


class Composition:
    """What overrides compose to, as a start for many configurations that differ in a few values.

    Hydra runs once, in the constructor. Each `with_values` takes a few milliseconds and gives what
    `freeze([*overrides, "key=value", ...])` would. Groups (`optimizer=sgd`) need Hydra and belong to the overrides.
    """

    def __init__(self, overrides: Sequence[str] = ()) -> None:
        """Raises ConfigError for an unknown key or option and for a wrong type; ranges are checked later."""
        with _file_named(overrides):
            self._typed = _with_types(_compose(overrides))

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> "Composition":
        """What has these values under its dotted keys, without Hydra. Raises ConfigError for an unknown key.

        Options that the chosen part doesn't have are those of another one, and are left out.
        """
        made = cls.__new__(cls)
        node = OmegaConf.create()
        for key, value in values.items():
            OmegaConf.update(node, key, value)
        made._typed = _with_types(node, drop=True)
        return made

    @property
    def values(self) -> dict[str, Any]:
        """Every key with its value, those of the chosen parts' options among them; ranges are not checked."""
        found = {key: OmegaConf.select(self._typed, key) for key in KEYS}
        for where, (name, kind) in OPTIONS.items():
            given = OmegaConf.select(self._typed, where)
            options = {option: given[option] for option in _options_of(where, self._typed)}
            stored = as_stored(kind, chosen_parts(kind, found[name]), options)
            found |= {f"{where}.{option}": value for option, value in stored.items()}
        return {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in found.items()
        }

    @property
    def option_keys(self) -> dict[str, Key]:
        """The options of the chosen parts, dotted (`model.options.width`)."""
        return {
            f"{where}.{option}": about for where in OPTIONS for option, about in _options_of(where, self._typed).items()
        }

    def with_values(self, values: Mapping[str, bool | int | float | str | None]) -> RunConfig:
        """The configuration with these values under their dotted keys, checked. Raises ConfigError.

        Where they choose another part, the options of the one before are left out.
        """
        changed = copy.deepcopy(self._typed)
        for key in sorted(values, key=lambda key: place_of_options(key) is not None):  # parts before their options
            _check_settable(key, values[key], changed)
            try:
                OmegaConf.update(changed, key, values[key], merge=False)
                if key in CHOOSING:
                    _put_options(changed, drop=True)
            except OmegaConfBaseException as error:
                raise ConfigError(_explain_value(error)) from error
        _check_use(values, changed)
        return _checked(changed)


def _with_types(composed: DictConfig, *, drop: bool = False) -> DictConfig:
    """The composed values as a node with the types of `RunConfig` and of the chosen parts; imports the plugins.

    drop: see `_put_options`. Raises ConfigError for a value of another type, an unknown part or option, and a plugin
    that can't be imported.
    """
    try:
        for key in KEYS:
            _check_switch(key, KEYS[key], OmegaConf.select(composed, key))
        helpers, composed = _parted(composed)
        typed = OmegaConf.merge(_types(), composed)
        assert isinstance(typed, DictConfig)
        if helpers is not None:
            with open_dict(typed):
                typed[HELPERS] = helpers
        load(texts("plugins", OmegaConf.select(typed, "plugins")))
        _put_options(typed, drop=drop)
    except OmegaConfBaseException as error:
        raise ConfigError(_explain_value(error)) from error
    return typed


def _parted(composed: DictConfig) -> tuple[Any, DictConfig]:
    """The node of keys of one's own, or None; and all else, whose types are known."""
    if HELPERS not in composed:
        return None, composed
    rest = copy.deepcopy(composed)
    with open_dict(rest):
        return rest.pop(HELPERS), rest


def _options_of(where: str, typed: DictConfig) -> dict[str, Key]:
    """The options that the parts chosen for `where` have. Raises ConfigError for an unknown part."""
    name, kind = OPTIONS[where]
    value = OmegaConf.select(typed, name)
    KEYS[name].check(name, value)
    return options_of(kind, chosen_parts(kind, value))


def _put_options(typed: DictConfig, *, drop: bool) -> None:
    """Gives the options of the chosen parts their types, and those that are left out their defaults.

    drop: leave out the options of other parts, which are refused else.
    """
    for where, (name, kind) in OPTIONS.items():
        known = _options_of(where, typed)
        given = OmegaConf.to_container(OmegaConf.select(typed, where))
        assert isinstance(given, dict)
        if not drop:
            refuse_unknown(where, chosen_parts(kind, OmegaConf.select(typed, name)), map(str, given), known)
        if not known and not given:
            continue
        types = [
            (option, about.type, dataclasses.field(default_factory=functools.partial(copy.copy, about.default)))
            for option, about in known.items()
        ]
        schema = OmegaConf.structured(dataclasses.make_dataclass("Options", types)) if types else {}
        OmegaConf.update(typed, where, schema, merge=False)
        for option, value in given.items():
            if option in known:
                _check_switch(f"{where}.{option}", known[option], value)
                OmegaConf.update(typed, f"{where}.{option}", value, merge=False)


@functools.cache
def _types() -> DictConfig:
    """`RunConfig` as a node, which a merge copies."""
    structured: DictConfig = OmegaConf.structured(RunConfig)
    # A frozen dataclass makes its node read-only, and nothing could be merged into it.
    OmegaConf.set_readonly(structured, False)
    for key in structured:
        if OmegaConf.is_config(structured[key]):
            OmegaConf.set_readonly(structured[key], False)
    for where in OPTIONS:  # of the default parts
        OmegaConf.update(structured, where, {}, merge=False)
    return structured


def _checked(typed: DictConfig) -> RunConfig:
    """The dataclasses of a typed node; making them checks the values. Raises ConfigError."""
    try:
        if HELPERS in typed:
            typed = copy.deepcopy(typed)
            OmegaConf.resolve(typed)
            with open_dict(typed):
                del typed[HELPERS]
        for where in OPTIONS:
            if options := OmegaConf.to_container(OmegaConf.select(typed, where)):
                OmegaConf.update(typed, where, options, merge=False)
        config = OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        raise ConfigError(_explain_value(error)) from error
    assert isinstance(config, RunConfig)
    return config


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of a multirun: `model.dropout=0.1,0.2` gives two lists of overrides.

    A sweeper that isn't Hydra's own chooses values by itself: one list, of all others. Raises ConfigError for values
    that can't be listed, and for a sweeper that isn't installed.
    """
    parsed = _parse(for_hydra(overrides))
    sweeper = next((override.value() for override in parsed if override.key_or_group == SWEEPER), "basic")
    if sweeper != "basic":
        _check_installed(str(sweeper))
        return [[str(override.input_line) for override in parsed if not override.is_sweep_override()]]
    for override in parsed:
        _check_listed(override)
    batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [job for batch in batches for job in batch]


def for_hydra(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra takes them. Raises ConfigError.

    Keys of one's own get the ++ that adds them, a group loses its +, and `optimizer=glob(ad*)` becomes a list.
    """
    return [_for_hydra(override) for override in _parse(overrides)]


def _for_hydra(override: Override) -> str:
    key, line = override.key_or_group, str(override.input_line)
    if f"{key}.".startswith(OWN_KEYS):
        return line if override.is_delete() else f"++{line.lstrip('+')}"
    if key not in GROUPS:
        return line
    pattern: Any = override.value()
    if not isinstance(pattern, Glob):
        return line.lstrip("+")
    register_local_conf()
    with _conf():
        return f"{key}={','.join(pattern.filter(_options(key)))}"


def _check_installed(sweeper: str) -> None:
    register_local_conf()
    with _conf():
        known = GlobalHydra.instance().config_loader().get_group_options(SWEEPER)
    if sweeper not in known:
        raise ConfigError(
            f"{SWEEPER}={sweeper} is not installed; brainseg searches with Optuna by itself: python -m brainseg.sweep"
        )


def _check_listed(override: Override) -> None:
    """Raises ConfigError for what isn't one value or several that can be listed."""
    line, value = override.input_line, cast(Any, override.value())
    if override.is_interval_sweep():
        raise ConfigError(
            f"{line} is an interval, and -m takes values one by one; write them as {override.key_or_group}=0.1,0.2, "
            "or let python -m brainseg.sweep draw from it"
        )
    if isinstance(value, Glob):
        raise ConfigError(f"{line} is for groups, and {override.key_or_group} is a key; list its values")
    if isinstance(value, RangeSweep) and (value.step == 0 or not any(True for _ in value.range())):
        raise ConfigError(f"{line} gives no value; write range(START,STOP,STEP) with a step towards STOP")


def resumed(stored: RunConfig, asked_for: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The configuration of a resumed run: the stored one, with the values that may change taken from `asked_for`.

    asked_for: what `overrides` compose to. Raises ResumeError if an override asks to change any other value.
    """
    asked = flatten(asked_for)
    try:
        before = flatten(with_parts(stored))
    except ConfigError as error:
        needed = f"; add plugins=[{','.join(stored.plugins)}]" if stored.plugins else ""
        raise ResumeError(f"resume={asked_for.resume}: {error}{needed}") from error
    changed: dict[str, Any] = {}
    for key in asked:
        if asked[key] == AUTO or (key in KEPT_UNLESS_NAMED and asked[key] is None):
            continue  # it stands for what the run has
        if key.startswith(NOT_PART_OF_THE_RUN):
            changed[key] = asked[key]
        elif _is_named(key, overrides) and asked[key] != before.get(key):
            if key not in RESUMABLE_KEYS:
                raise ResumeError(
                    f"{key} can't change on a resume: the run has {before.get(key)!r}, got {asked[key]!r}; "
                    f"only {' and '.join(RESUMABLE_KEYS)} may; leave it out, or start a new run without resume"
                )
            changed[key] = asked[key]
    return from_flat(before | changed)


def values_in(overrides: Sequence[str]) -> dict[str, Any]:
    """Key -> the value that an override gives it, as Hydra reads it. Raises ConfigError for several values."""
    parsed = _parse(overrides)
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line} gives several values; give one")
    return {override.key_or_group: override.value() for override in parsed}


def _is_named(key: str, overrides: Sequence[str]) -> bool:
    """Whether an override sets this key: by its name, its group, or a whole experiment."""
    for override in _parse(overrides):
        name = override.key_or_group
        if name == "experiment" or key == name or key.startswith(f"{name}."):
            return True
    return False


def _parse(overrides: Sequence[str]) -> list[Override]:
    for text in overrides:
        if text.startswith("="):
            raise ConfigError(f"{text!r} has no key; write key=value, such as model.dropout=0.2")
    try:
        parsed = OverridesParser.create().parse_overrides([*map(_literal, overrides)])
    except HydraException as error:
        raise ConfigError(_explain_syntax(error, overrides)) from error
    for override in parsed:
        _check_kind(override)
    return parsed


def _literal(override: str) -> str:
    """The override with quotes around its value, where that is a text whatever signs it has (`Key.literal`)."""
    name, _, text = override.partition("=")
    about = KEYS.get(name.lstrip("+"))
    if about is None or not about.literal or text in ("", "null") or text[0] in "'\"":
        return override
    return f"{name}={QuotedString(text, Quote.double).with_quotes()}"


def _check_kind(override: Override) -> None:
    """Raises ConfigError for an override that would add or remove keys: every run has the same ones."""
    key = override.key_or_group
    if override.is_hydra_override() or f"{key}.".startswith(OWN_KEYS) or (key in GROUPS and not override.is_delete()):
        return
    if (override.is_delete() or override.is_add()) and not _is_known(key):
        raise ConfigError(_unknown_key(key))
    if override.is_delete():
        raise ConfigError(f"~{key} would remove a key, and a run has them all; write {key}=VALUE")
    if override.is_add() and not override.is_force_add():
        raise ConfigError(f"+{key} would add a key that is there already; leave out the +")


def _compose(overrides: Sequence[str]) -> DictConfig:
    register_local_conf()
    lines = for_hydra(overrides)
    parsed = _parse(lines)
    with _conf():
        for override in parsed:
            _check_value(override)
        try:
            composed = hydra_compose(config_name(), overrides=lines)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(_explain_composition(error, parsed)) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = "a file of conf/" if mark is None else mark.name
            line = "" if mark is None else f" (line {mark.line + 1})"
            raise ConfigError(f"{where} is not YAML{line}; correct it") from error
    _check_use((override.key_or_group for override in parsed), composed)
    return composed


@contextmanager
def _conf() -> Iterator[None]:
    """Within it Hydra composes from conf/; a Hydra that the caller has initialised is as it was afterwards."""
    hydra, version = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra, VersionBase.instance().version_base = hydra, version


def _options(group: str) -> list[str]:
    """What the group can be set to; a file in a folder of its own as `folder/name`."""
    loader = GlobalHydra.instance().config_loader()
    folders = loader.get_group_options(group, ObjectType.GROUP)
    deeper = [f"{folder}/{option}" for folder in folders for option in _options(f"{group}/{folder}")]
    return [*(option for option in loader.get_group_options(group) if option != BASE), *deeper]


@contextmanager
def _file_named(overrides: Sequence[str]) -> Iterator[None]:
    """Puts the user's file in front of an error about a key that gets its value there."""
    try:
        yield
    except ConfigError as error:
        file = _file_of(str(error).partition(" ")[0], overrides)
        if file is None:
            raise
        raise ConfigError(f"{file}: {error}") from error


def _file_of(key: str, overrides: Sequence[str]) -> str | None:
    """The user's file that sets this key; None if the command line or a file that brainseg carries sets it."""
    lines = for_hydra(overrides)
    named = [override.key_or_group for override in _parse(lines) if override.key_or_group not in GROUPS]
    if any(f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in named):
        return None
    with _conf():
        loader = cast(ConfigLoaderImpl, GlobalHydra.instance().config_loader())
        try:
            defaults = loader.compute_defaults_list(config_name(), lines, RunMode.RUN).defaults
        except (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError):
            return None  # there is none to be read
        for default in reversed(defaults):
            if default.config_path is None or default.config_path.startswith("hydra/"):
                continue
            content = OmegaConf.to_container(loader._load_single_config(default, loader.repository).config)
            if _has(content, key):
                return _own_file(default.config_path)
    return None


def _file_that_chooses(group: str, option: str, parsed: Sequence[Override]) -> str | None:
    """The user's file whose defaults choose this option of a group, if it is one that the command line names."""
    chosen = [f"{override.key_or_group}/{override.value()}" for override in parsed if override.key_or_group in GROUPS]
    for file in filter(None, map(_own_file, [*chosen, config_name()])):
        if re.search(rf"{group}: *{re.escape(option)}\b", Path(file).read_text(encoding="utf-8")):
            return file
    return None


def _has(content: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def _own_file(config_path: str) -> str | None:
    """The path of what Hydra calls `experiment/mine`, as the user would write it; None unless it is the user's own.

    To be called within `_conf`.
    """
    loader = cast(ConfigLoaderImpl, GlobalHydra.instance().config_loader())
    source = next((each for each in loader.repository.get_sources() if each.is_config(config_path)), None)
    if source is None or source.scheme() != "file" or Path(source.path) == conf_folder():
        return None
    path = Path(source.path, f"{config_path}.yaml")
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _check_value(override: Override) -> None:
    """Raises ConfigError unless a key gets one value, and a group the name of an option."""
    key = override.key_or_group
    if override.is_sweep_override():
        is_text = key in KEYS and KEYS[key].type in (str, str | None)
        quoting = f", or quote a text that has a comma: '{key}=\"a, b\"'" if is_text else ""
        raise ConfigError(f"{override.input_line} gives several values; add -m for a run of each{quoting}")
    if key not in GROUPS:
        return
    known = _options(key)
    value = override.value()
    if not isinstance(value, str) or value not in known:
        shown = override.get_value_element_as_str()
        raise ConfigError(f"{key} must be one of {', '.join(known)}, got {shown!r}{did_you_mean(shown, known)}")


def _explain_syntax(error: HydraException, overrides: Sequence[str]) -> str:
    if isinstance(error, OverrideParseException):
        override = error.override
        if override is not None and "=" not in override:
            return f"{override} is not of the form key=value; write {override}=VALUE"
        return f"{override} can't be read as key=value; quote special characters: 'key=\"value\"'"
    return f"{' '.join(overrides)}: {_first_line(error)}"


def _explain_composition(error: Exception, parsed: Sequence[Override]) -> str:
    text = str(error)
    if isinstance(error, MissingConfigException):
        found = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
        if found:
            group, option = found.groups()
            known = [each for each in error.options or [] if each != BASE]
            file = _file_that_chooses(group, option, parsed)
            return f"{file}: " * bool(file) + (
                f"{group} must be one of {', '.join(known)}, got {option!r}{did_you_mean(option, known)}"
                if known
                else f"{group}={option}: there is no such file in conf/{group}"
            )
    if isinstance(error, ConfigCompositionException):
        found = re.search(r"Could not (?:override|append|delete)[^']*'([^']+)'", text)
        if found:
            return _unknown_key(found.group(1))
        if isinstance(error.__cause__, OmegaConfBaseException):
            return _explain_value(error.__cause__)
    return _first_line(error)


def _explain_value(error: OmegaConfBaseException) -> str:
    key = str(error.full_key or error.key or "")
    if isinstance(error, ConfigKeyError):
        return _unknown_key(key)
    if not key:
        return _first_line(error)
    for pattern, kind in WRONG_TYPES:
        found = re.search(pattern, str(error))
        if found:
            names = found.groupdict()
            value = names["value"]
            rule = f"{key} must be {KINDS.get(kind or names['kind'], kind or names['kind'])}"
            return f"{rule}, got null; leave it out for the default" if value == "None" else f"{rule}, got {value!r}"
    if isinstance(error, InterpolationResolutionError):
        return f"{key} refers to what doesn't exist ({_first_line(error)}); write its value"
    return f"{key}: {_first_line(error)}"


def _check_switch(key: str, about: Key, value: object) -> None:
    """Raises ConfigError for a number in place of true or false, which OmegaConf would take."""
    if about.type is bool and isinstance(value, int | float) and not isinstance(value, bool):
        raise ConfigError(f"{key} must be {KINDS['bool']}, got '{value}'")


def _check_settable(key: str, value: object, typed: DictConfig) -> None:
    """Raises ConfigError for a key that doesn't exist, an option that no chosen part has, and a number for a switch."""
    where = place_of_options(key)
    if where is not None:
        name, kind = OPTIONS[where]
        option = key.removeprefix(f"{where}.")
        chosen = chosen_parts(kind, OmegaConf.select(typed, name))
        refuse_unknown(where, chosen, [option], _options_of(where, typed))
    elif key in KEYS:
        _check_switch(key, KEYS[key], value)
    else:
        raise ConfigError(_unknown_key(key))


def _check_use(set_keys: Iterable[str], composed: DictConfig) -> None:
    """Raises ConfigError for a key that was set but has no use with the chosen option of its group."""

    def chosen(option: str) -> Any:
        return OmegaConf.select(composed, option, default=KEYS[option].default)

    for key in set_keys:
        about = KEYS.get(key)
        if about and about.only and chosen(f"{key.partition('.')[0]}.name") not in about.only.split():
            raise ConfigError(_without_use(key))
        if about and about.terms and not set(about.terms).intersection(loss_terms(str(chosen("train.loss")))):
            raise ConfigError(
                f"{key} has no use with train.loss={chosen('train.loss')}; "
                f"leave it out, or choose a loss with {' or '.join(about.terms)}"
            )


def _without_use(key: str) -> str:
    group = key.partition(".")[0]
    return f"{key} has no use with the chosen {group}; leave it out, or choose another {group}"


def _is_known(key: str) -> bool:
    return key in GROUPS or key in KEYS


def _unknown_key(key: str) -> str:
    if key.partition(".")[0] == "experiment" or "@experiment" in key:
        return "the file of an experiment must begin with the line '# @package _global_'; add it in conf/experiment"
    known = list(KEYS)
    group, _, name = key.partition(".")
    if key in known:
        return _without_use(key)  # a file in ./conf lacks it
    if group == "launcher":
        return (
            f"{key} is no key of a run: it starts the workers of a sweep; python -m brainseg.sweep run NAME {key}=..."
        )
    in_group = [item.removeprefix(f"{group}.") for item in known if item.startswith(f"{group}.")]
    if name and in_group:
        near = did_you_mean(name, in_group)  # by the name alone: the group makes all of them alike
        hint = near.replace("'", f"'{group}.", 1) if near else f"; {group} has {', '.join(in_group)}"
    else:
        same_name = [item for item in known if item.endswith(f".{key}")]
        hint = f"; did you mean {same_name[0]!r}?" if same_name else did_you_mean(key, [*known, *GROUPS])
    return f"{key} is not a configuration key{hint or '; --help lists them'}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
