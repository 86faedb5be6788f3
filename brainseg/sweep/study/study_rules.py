"""The rules of a study: known metrics, options of parts, and what must hold across keys.

Every check raises ConfigError, in one line that names the key, the rule, the value and the remedy.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from brainseg.errors import ConfigError
from brainseg.keys import Absent, did_you_mean, one_of
from brainseg.plugins import REMEDY, fields, made, names, part
from brainseg.sweep.study.parameter import SPLITS, Parameter, Value, check_type, is_number, is_value

# Metric -> what it measures.
METRICS: Mapping[str, str] = {
    "val_dice_image": "mean Dice of the validation slices at the model's size, in the best epoch",
    "final_dice": "mean Dice of the validation slices at their stored size, by the saved model",
    "parameters": "how many weights the model has",
    "seconds_per_image": "how long the saved model takes for the prediction of one slice",
}
# A pruner sees the epochs' val_dice_image: it predicts these metrics.
PRUNABLE = ("val_dice_image", "final_dice")
DIRECTIONS = ("maximize", "minimize")
REPEATED = ("seed", "data.fold", "data.split_seed")  # what the runs of a trial may differ in
OF_RUNS = "wilcoxon"  # the pruner that compares whole runs
# What an override may not fix, and why.
NOT_FIXED: Mapping[str, str] = {
    "resume": "the engine itself resumes a trial that was stopped",
    "run_name": "the engine names its runs",
}

# Where the data lies, which may be elsewhere on each host: the data's fingerprint says whether it is the same.
DATA_PLACES = ("data.root", "data.cache_dir")
PLUGINS = "plugins"
# What each host says for itself. Of plugins, too: a study may name code, and nobody imports it on a study's word.
LOCATIONS = (*DATA_PLACES, PLUGINS)


def check_metrics(metrics: Mapping[str, str]) -> None:
    """One or more known metrics, each with its direction."""
    if not metrics:
        raise ConfigError(f"metric must be given: one of {', '.join(METRICS)}")
    for name, direction in metrics.items():
        if not isinstance(name, Absent):
            one_of("metric", name, (*METRICS, *names("metrics")), remedy="" if name in METRICS else REMEDY)
        key = "direction" if len(metrics) == 1 else f"metrics.{name}"
        one_of(key, direction, DIRECTIONS)


def check_overrides(overrides: Sequence[str], space: Sequence[Parameter]) -> None:
    """key=value with a plain value, of a key that is neither searched nor the engine's own."""
    searched = {parameter.key for parameter in space}
    for override in overrides:
        key = key_of(override)
        if "=" not in override or not key:
            raise ConfigError(f"overrides must be of the form key=value, got {override!r}")
        if "${" in override:
            raise ConfigError(f"overrides must have plain values, got {override!r}; write what it stands for")
        if key in NOT_FIXED:
            raise ConfigError(f"overrides can't set {key}: {NOT_FIXED[key]}; leave {override!r} out")
        if key in searched:
            raise ConfigError(f"{key} is in the space and fixed by {override!r}; leave it out of one of them")


def key_of(override: str) -> str:
    """The key that an override sets: model.dropout of model.dropout=0.2."""
    return override.partition("=")[0].lstrip("+~").strip()


def places_in(overrides: Sequence[str]) -> list[str]:
    """The overrides that say where the data and the plugins lie."""
    return [item for item in overrides if key_of(item) in LOCATIONS]


def without_plugins(overrides: Iterable[str]) -> list[str]:
    """The overrides as a storage keeps and gives them: whoever writes to it has no say in what is imported."""
    return [item for item in overrides if key_of(item) != PLUGINS]


def merged(overrides: Sequence[str], later: Sequence[str]) -> tuple[str, ...]:
    """All overrides, each key once; the later value of a key wins."""
    return tuple({key_of(item): item for item in (*overrides, *later)}.values())


def check_space(space: Sequence[Parameter]) -> None:
    """At least one parameter, each once; `when` names parameters before it and values that they can take."""
    if not space:
        raise ConfigError("space must have at least one parameter, such as model.dropout; add it")
    earlier: dict[str, Parameter] = {}
    for parameter in space:
        if parameter.key in earlier:
            raise ConfigError(f"space.{parameter.key} must be there once, got it twice; leave one out")
        for key, values in parameter.when.items():
            where = f"space.{parameter.key}.when"
            if key not in earlier:
                raise ConfigError(
                    f"{where} must name a parameter of the space before it, got {key!r}"
                    f"{did_you_mean(key, list(earlier)) or f'; move {key} before {parameter.key}'}"
                )
            _check_when(f"{where}.{key}", values, earlier[key])
        earlier[parameter.key] = parameter


def _check_when(where: str, values: Sequence[Value], parent: Parameter) -> None:
    if parent.size is None:
        raise ConfigError(f"{where} must be a key with single values, and a float has them only with a step; add step")
    if not values:
        raise ConfigError(f"{where} must have at least one value, got none; add it, or leave it out")
    for value in values:
        if not parent.holds(value):
            raise ConfigError(f"{where} must be {parent.rule}, got {value!r}")


def check_params(
    where: str, params: Mapping[str, object], space: Sequence[Parameter], *, is_whole: bool = True
) -> dict[str, Value]:
    """A trial inside the space: what is searched is there, with a value that can be drawn, and nothing else.

    where: what messages say before a key; may be empty. is_whole: whether every searched key has to be there. Returns
    the values in the order of the space, without rounding errors.
    """
    known = [parameter.key for parameter in space]
    before = f"{where}." if where else ""
    for key in params:
        if key not in known:
            raise ConfigError(f"{before}{key} is not in the space{did_you_mean(key, known) or '; leave it out'}")
    taken: dict[str, Value] = {}
    for parameter in space:
        key = parameter.key
        if not parameter.is_searched(taken):
            if key in params:
                told = [f"{each} is {' or '.join(map(str, values))}" for each, values in parameter.when.items()]
                raise ConfigError(f"{before}{key} is searched only where {' and '.join(told)}; leave it out")
            continue
        if key not in params:
            if is_whole:
                raise ConfigError(f"{where} must say every searched key, and {key} is missing; add it")
            continue
        value = params[key]
        if not is_value(value) or not parameter.holds(value):
            raise ConfigError(f"{before}{key} must be {parameter.rule}, got {value!r}")
        exact = parameter.exact(value)
        taken[key] = float(exact) if parameter.type == "float" and is_number(exact) else value
    return taken


def check_part(where: str, kind: str, name: str, options: Mapping[str, Any]) -> None:
    """A part of this kind, and options that it has, each of its type and range. A stored one needn't be here."""
    if isinstance(name, Absent):
        return
    one_of(f"{where}.name", name, names(kind), remedy=REMEDY)
    known = fields(part(kind, name))
    for option, value in options.items():
        if option not in known:
            has = f"; it has {', '.join(known)}" if known else "; it has none"
            raise ConfigError(f"{where}.{option} is not an option of {name}{did_you_mean(option, list(known)) or has}")
        check_type(f"{where}.{option}", value, known[option].type)
        known[option].check(f"{where}.{option}", value)
    made(kind, name, options)  # what must hold across its options


def check_sampler(name: str, space: Sequence[Parameter], *, metrics: int, trials: int) -> None:
    """Refuses what grid, cmaes and qmc can't do."""
    conditional = next((parameter.key for parameter in space if parameter.when), None)
    if name in ("grid", "cmaes", "qmc") and conditional is not None:
        raise ConfigError(f"sampler.name: {name} can't search space.{conditional}, which has a when; use tpe or random")
    if name == "cmaes":
        numbers = sum(parameter.type != "categorical" for parameter in space)
        if numbers < 2:
            raise ConfigError(f"sampler.name: cmaes needs at least two parameters of numbers, got {numbers}; use tpe")
        if metrics > 1:
            raise ConfigError(f"sampler.name: cmaes needs a single metric, got {metrics}; use tpe")
    if name == "grid":
        points = grid_points(space)
        if trials > points:
            raise ConfigError(f"trials must be at most the {points} points of the grid, got {trials}; try {points}")


def check_splits(space: Sequence[Parameter], *, sampler: str, pruner: str) -> None:
    """Trials on different slices are all trained to their end: their scores can't be ranked."""
    split = next((parameter.key for parameter in space if parameter.key in SPLITS), None)
    if split is not None and (sampler, pruner) != ("grid", "none"):
        raise ConfigError(
            f"space.{split} needs sampler.name grid and pruner.name none, as scores on different slices can't be "
            f"ranked, got {sampler} and {pruner}"
        )


def grid_points(space: Sequence[Parameter]) -> int:
    """How many points the grid has, the baseline among them; ConfigError for a continuous range."""
    points = 1
    for parameter in space:
        if parameter.size is None:
            raise ConfigError(f"space.{parameter.key}.step must be given for sampler.name: grid; add it")
        points *= parameter.size
    return points


def check_repeat(repeat: Mapping[str, Sequence[Value]], space: Sequence[Parameter], overrides: Sequence[str]) -> None:
    """One key of REPEATED with two or more different whole numbers, which nothing else sets."""
    if len(repeat) > 1:
        raise ConfigError(f"repeat must have one key, got {' and '.join(repeat)}; leave one of them out")
    for key, values in repeat.items():
        one_of("the key of repeat", key, REPEATED)
        if any(not isinstance(value, int) or isinstance(value, bool) or value < 0 for value in values):
            raise ConfigError(f"repeat.{key} must be whole numbers of 0 or more, got {list(values)}; try [0, 1, 2]")
        if len(values) < 2 or len(set(values)) < len(values):
            raise ConfigError(f"repeat.{key} must be two or more different values, got {list(values)}; try [0, 1, 2]")
        if any(parameter.key == key for parameter in space):
            raise ConfigError(f"{key} is in the space and in repeat; leave it out of one of them")
        if fixed := next((override for override in overrides if key_of(override) == key), None):
            raise ConfigError(f"{key} is in repeat and fixed by {fixed!r}; leave it out of one of them")


def check_pruner_of_runs(name: str, options: Mapping[str, Any], *, metrics: int, runs: int) -> None:
    """With repeat, a pruner is asked between runs, and compares what the same run of other trials has come to."""
    if name == "none":
        return
    if name != OF_RUNS:
        raise ConfigError(
            f"pruner.name must be {OF_RUNS} or none with repeat, as a trial is stopped between its runs, got {name!r}; "
            f"write pruner: {{name: {OF_RUNS}}}"
        )
    if metrics > 1:
        raise ConfigError(f"pruner.name must be none for several metrics, got {name!r}; write pruner: {{name: none}}")
    pruner = made("pruners", name, options)
    if pruner.least_runs >= runs:
        raise ConfigError(
            f"pruner.p_threshold {pruner.p_threshold:g} is reached after {pruner.least_runs} runs at the "
            f"earliest, and a trial has {runs}; raise it, give repeat more values, or write pruner: {{name: none}}"
        )


def check_pruner(name: str, metrics: Sequence[str]) -> None:
    """A pruner sees val_dice_image after each epoch, and nothing else."""
    if name == "none":
        return
    if name == OF_RUNS:
        raise ConfigError(f"pruner.name {OF_RUNS} compares the runs of repeat, which is missing; add it, or try median")
    if len(metrics) > 1:
        raise ConfigError(f"pruner.name must be none for several metrics, got {name!r}; write pruner: {{name: none}}")
    if metrics[0] not in PRUNABLE:
        raise ConfigError(
            f"pruner.name must be none for metric {metrics[0]}, which no epoch foretells, got {name!r}; "
            "write pruner: {name: none}"
        )
