"""The study file, `sweeps/NAME.yaml`: what is searched, by which sampler, in how many trials.

The dataclasses own the rules, so that a study from anywhere is checked; `read_study` reads the file into them.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from brainseg import compose
from brainseg.errors import ConfigError
from brainseg.keys import did_you_mean, in_range
from brainseg.parsing import ParseError, parse_yaml
from brainseg.plugins import names
from brainseg.sweep.study import study_rules as rules
from brainseg.sweep.study.constraint import check_constraints
from brainseg.sweep.study.parameter import Parameter, Value, check_number, check_whole, is_number

STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """What proposes the next trial."""

    name: str = "tpe"
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)  # as the file has them

    def __post_init__(self) -> None:
        rules.check_part("sampler", "samplers", self.name, self.options)
        check_whole("sampler.seed", self.seed)
        in_range("sampler.seed", self.seed, low=0, high=2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class PrunerConfig:
    """What stops a trial that isn't worth its remaining epochs."""

    name: str = "median"
    options: Mapping[str, Any] = field(default_factory=dict)  # as the file has them

    def __post_init__(self) -> None:
        rules.check_part("pruner", "pruners", self.name, self.options)


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study, complete and consistent in itself; `plan.check` finds out whether its trials can run."""

    name: str  # letters, digits, - _ and dots
    metrics: Mapping[str, str]  # metric -> maximize or minimize, in order
    trials: int  # total of COMPLETE and PRUNED over the study's life
    overrides: tuple[str, ...] = ()  # fixed for every trial: the file's, then the command line's; no tracking.*
    tracking: tuple[str, ...] = ()  # where the record goes: no part of the study, and a URI may hold a password
    baseline: Mapping[str, Value] = field(default_factory=dict)  # tried first; may be empty
    enqueue: tuple[Mapping[str, Value], ...] = ()  # tried next, in order
    space: tuple[Parameter, ...]
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    repeat: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)  # key -> its values: a trial is a run of each
    constraints: tuple[str, ...] = ()  # over metrics, which the best trial has to keep; see constraint.py
    workers: int = 1
    failures: int = 3  # how many failed trials are allowed
    retries: int = 1  # how often a failed trial is tried again
    time_limit_min: float | None = None
    # What the overrides composed to when the study started, see recipe.py; empty: what conf/ says today.
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not STUDY_NAME.fullmatch(str(self.name)):
            raise ConfigError(
                f"name must be letters, digits, - _ or dots, at most 64, beginning with a letter or digit, "
                f"got {self.name!r}; write name: NAME into the file"
            )
        rules.check_metrics(self.metrics)
        for key, value, low in (
            ("trials", self.trials, 1),
            ("workers", self.workers, 1),
            ("failures", self.failures, 0),
            ("retries", self.retries, 0),
        ):
            check_whole(key, value)
            in_range(key, value, low=low, high=100_000)
        if self.time_limit_min is not None:
            check_number("time_limit_min", self.time_limit_min)
            in_range("time_limit_min", self.time_limit_min, low=0.0, high=1e6, exclusive=True)
        rules.check_overrides(self.overrides + self.tracking, self.space)
        rules.check_space(self.space)
        for where, params in self.first_points():
            rules.check_params(where, params, self.space)
        rules.check_splits(self.space, sampler=self.sampler.name, pruner=self.pruner.name)
        rules.check_sampler(self.sampler.name, self.space, metrics=len(self.metrics), trials=self.trials)
        rules.check_repeat(self.repeat, self.space, self.overrides)
        if self.repeat:
            rules.check_pruner_of_runs(self.pruner.name, self.pruner.options, metrics=len(self.metrics), runs=self.runs)
        else:
            rules.check_pruner(self.pruner.name, tuple(self.metrics))
        known = dict.fromkeys((*rules.METRICS, *names("metrics"), *self.metrics))
        check_constraints(self.constraints, tuple(known))

    @property
    def repeats(self) -> tuple[Mapping[str, Value], ...]:
        """What each run of a trial has beside the trial's values; a single run has nothing."""
        return tuple({key: value} for key, values in self.repeat.items() for value in values) or ({},)

    @property
    def runs(self) -> int:
        """How many runs a trial is."""
        return len(self.repeats)

    def first_points(self) -> list[tuple[str, Mapping[str, Value]]]:
        """The baseline and what is enqueued, each after the name that it has in the file."""
        baseline = [("baseline", self.baseline)] if self.baseline else []
        return [*baseline, *((f"enqueue[{place}]", params) for place, params in enumerate(self.enqueue))]


def read_study(
    name: str, *, overrides: Sequence[str] = (), trials: int | None = None, workers: int | None = None
) -> StudyConfig:
    """The study in `./sweeps/NAME.yaml`, else in the sweeps that brainseg carries, or in a path ending in .yaml.

    overrides, trials, workers: the command line's, which come after (or instead of) the file's.
    Raises ConfigError with the file's name before the key.
    """
    path = study_path(name)
    try:
        content = _load(path)
        # Before the rest is read: the study's metric may be a plugin's.
        fixed = [*_texts("overrides", content.get("overrides"), example="train.epochs=16"), *overrides]
        compose.freeze([item for item in fixed if rules.key_of(item) == rules.PLUGINS][-1:])
        config = _from_content(content, name=path.stem)
    except ConfigError as error:
        raise ConfigError(f"{_shown(path)}: {error}") from error
    return dataclasses.replace(
        config,
        overrides=(*config.overrides, *(each for each in overrides if not _is_tracking(each))),
        tracking=(*config.tracking, *(each for each in overrides if _is_tracking(each))),
        trials=config.trials if trials is None else trials,
        workers=config.workers if workers is None else workers,
    )


def sweeps_folder() -> Path:
    """The studies that brainseg carries: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "sweeps"
    return installed if installed.is_dir() else package.parent / "sweeps"


def study_path(name: str) -> Path:
    """The file of the study. Raises ConfigError if there is none, with the studies that exist."""
    if name.endswith(".yaml"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"{name}: there is no such file; give the path of a study file, or a study's name")
        return path
    for folder in _folders():
        path = folder / f"{name}.yaml"
        if path.is_file():
            return path
    known = known_studies()
    raise ConfigError(
        f"there is no study {name!r} in sweeps/; known are {', '.join(known) or 'none'}{did_you_mean(name, known)}"
    )


def is_carried(path: Path) -> bool:
    """Whether it is one of the files that brainseg carries, which change with its version."""
    return path.resolve().parent == sweeps_folder().resolve()


def known_studies() -> list[str]:
    """The names that `study_path` finds, sorted."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.yaml")})


def _folders() -> tuple[Path, Path]:
    """Where studies are looked for, in this order."""
    return Path("sweeps"), sweeps_folder()


def _shown(path: Path) -> str:
    """The path as the user would write it."""
    absolute, here = path.resolve(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def _is_tracking(override: str) -> bool:
    return override.lstrip("+~").startswith(("tracking.", "tracking="))


def _load(path: Path) -> dict[str, object]:
    """The file's content, with numbers such as 1e-5 read as numbers. Interpolations are refused."""
    try:
        text = path.read_text(encoding="utf-8")
        content = parse_yaml(text, load=_loaded) if text.strip() else {}
    except ParseError as error:
        raise ConfigError(str(error)) from error
    except (OSError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ConfigError(f"can't be read ({_first_line(error)}); it must be a YAML file") from error
    if not isinstance(content, dict):
        raise ConfigError("must hold keys and values, such as trials: 32")
    _refuse_interpolations(content, "")
    return {str(key): value for key, value in content.items()}


def _loaded(text: str) -> Any:
    """Not by PyYAML alone: it reads 1e-5 as a text."""
    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)


def _refuse_interpolations(value: object, where: str) -> None:
    """Refuses `${...}`: a study must be the same on every host, whatever its environment."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_interpolations(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            _refuse_interpolations(item, f"{where}[{place}]")
    elif isinstance(value, str) and "${" in value:
        raise ConfigError(f"{where} must be a plain value, got {value!r}; write what it stands for")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _from_content(content: Mapping[str, object], *, name: str) -> StudyConfig:
    """The study in a file's content. name: the default of its key `name`. Raises ConfigError."""
    of_file = [item.name for item in dataclasses.fields(StudyConfig) if item.name not in ("tracking", "recipe")]
    _refuse_unknown("", content, ["metric", "direction", *of_file])
    for key in ("trials", "space"):
        if key not in content:
            raise ConfigError(f"{key} must be given; add it")
    space = tuple(_parameter(str(key), value) for key, value in _mapping("space", content["space"]).items())
    metrics = _metrics(content)
    overrides = _texts("overrides", content.get("overrides"), example="train.epochs=16")
    plain = {key: content[key] for key in ("workers", "failures", "retries", "time_limit_min") if key in content}
    # The checks of the dataclasses are those of the types as well: a file can hold anything.
    numbers: dict[str, Any] = {"trials": content["trials"], **plain}
    return StudyConfig(
        name=str(content.get("name", name)),
        metrics=metrics,
        overrides=tuple(each for each in overrides if not _is_tracking(each)),
        tracking=tuple(each for each in overrides if _is_tracking(each)),
        baseline=_params("baseline", content.get("baseline"), space),
        enqueue=tuple(
            _params(f"enqueue[{place}]", params, space)
            for place, params in enumerate(_list("enqueue", content.get("enqueue")))
        ),
        space=space,
        sampler=_sampler(content.get("sampler")),
        pruner=_pruner(content.get("pruner"), tuple(metrics), is_repeated=bool(content.get("repeat"))),
        repeat={
            key: tuple(_list(f"repeat.{key}", values))
            for key, values in _mapping("repeat", content.get("repeat")).items()
        },
        constraints=tuple(_texts("constraints", content.get("constraints"), example="parameters <= 2e6")),
        **numbers,
    )


def _metrics(content: Mapping[str, object]) -> dict[str, str]:
    """`metric:` and `direction:`, or `metrics:` with a direction for each."""
    if "metrics" not in content:
        metric = content.get("metric")
        if metric is None:
            raise ConfigError(f"metric must be given: one of {', '.join(rules.METRICS)}")
        if "direction" not in content:
            raise ConfigError("direction must be given: maximize or minimize; add it")
        return {str(metric): str(content["direction"])}
    for key in ("metric", "direction"):
        if key in content:
            raise ConfigError(f"{key} can't go with metrics, which says it; leave one of them out")
    return {key: str(value) for key, value in _mapping("metrics", content["metrics"]).items()}


def _parameter(key: str, value: object) -> Parameter:
    where = f"space.{key}"
    content = _mapping(where, value)
    _refuse_unknown(where, content, [item.name for item in dataclasses.fields(Parameter) if item.name != "key"])
    if "type" not in content:
        raise ConfigError(f"{where}.type must be given: float, int or categorical")
    values: dict[str, Any] = dict(content)
    if "choices" in values:
        values["choices"] = tuple(_list(f"{where}.choices", values["choices"]))
    if "when" in values:
        conditions = _mapping(f"{where}.when", values["when"])
        values["when"] = {
            key: tuple(allowed) if isinstance(allowed, list) else (allowed,) for key, allowed in conditions.items()
        }
    return Parameter(key=key, **values)


def _params(where: str, value: object, space: Sequence[Parameter]) -> dict[str, Value]:
    """A trial that the file gives, in the order of the space; a whole number for a float is a float."""
    content = _mapping(where, value)
    types = {parameter.key: parameter.type for parameter in space}
    ordered = sorted(content, key=lambda key: [*types, key].index(key))
    params: dict[str, Value] = {}
    for key in ordered:
        given = content[key]
        if not isinstance(given, bool | int | float | str | None):
            raise ConfigError(f"{where}.{key} must be a text, a number, true, false or null, got {given!r}")
        params[key] = float(given) if is_number(given) and types.get(key) == "float" else given
    return params


def _sampler(value: object) -> SamplerConfig:
    options: dict[str, Any] = dict(_mapping("sampler", value))
    named = {key: options.pop(key) for key in ("name", "seed") if key in options}
    return SamplerConfig(**named, options=options)


def _pruner(value: object, metrics: Sequence[str], *, is_repeated: bool) -> PrunerConfig:
    """The file's pruner; by default `median` if a pruner can predict the metric of a single run, else `none`."""
    if value is None and is_repeated:
        return PrunerConfig(name="none")
    if value is None:
        return PrunerConfig(name="median" if len(metrics) == 1 and metrics[0] in rules.PRUNABLE else "none")
    return pruner_from(value)


def pruner_from(content: object) -> PrunerConfig:
    """The pruner that a file describes: its name, and its options beside it. Raises ConfigError."""
    options: dict[str, Any] = dict(_mapping("pruner", content))
    named = {key: options.pop(key) for key in ("name",) if key in options}
    return PrunerConfig(**named, options=options)


def _refuse_unknown(where: str, content: Mapping[str, object], known: Sequence[str]) -> None:
    for key in content:
        if key not in known:
            name = f"{where}.{key}" if where else key
            hint = did_you_mean(key, known) or f"; known are {', '.join(known)}"
            raise ConfigError(f"{name} is not a key of a study file{hint}")


def _mapping(where: str, value: object) -> dict[str, object]:
    """Keys and values; null is an empty mapping. Raises ConfigError for another type."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must hold keys and values, got {value!r}")
    return {str(key): item for key, item in value.items()}


def _list(where: str, value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ConfigError(f"{where} must be a list, got {value!r}; write [{value}]")
    return value


def _texts(where: str, value: object, *, example: str) -> list[str]:
    for item in _list(where, value):
        if not isinstance(item, str):
            raise ConfigError(f"{where} must be a list of texts such as {example}, got {item!r}")
    return _list(where, value)
