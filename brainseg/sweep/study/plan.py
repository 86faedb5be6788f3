"""A dry run of a study: whether every trial can run, and which trials come first."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from brainseg.compose import GROUPS
from brainseg.config import RunConfig, flatten, place_of_options
from brainseg.errors import ConfigError
from brainseg.keys import did_you_mean
from brainseg.plugins import made
from brainseg.sweep.study.parameter import Value
from brainseg.sweep.study.recipe import THREADS, composition_of, options_in, overrides_of
from brainseg.sweep.study.space import as_overrides, corners, exact, suggest
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import METRICS, key_of

SHOWN = 8  # first trials, where they don't depend on the scores of others
ALL_INDEPENDENT = ("random", "grid", "qmc")  # samplers that draw every trial so


def check(config: StudyConfig) -> RunConfig:
    """Composes every corner of the space and every trial in the file. Raises ConfigError.

    It refuses unknown keys, bounds outside a key's range, values that can't go together, choices of a group that
    change nothing, and samplers and pruners that can't be made here. Returns the configuration of the baseline, else
    of the first trial in the file, else of a corner.
    """
    from brainseg.sweep.study.pruners import build_pruner
    from brainseg.sweep.study.samplers import build_sampler

    _check_keys(config)
    tried: list[Mapping[str, Value]] = [*corners(config.space)]
    composed: list[tuple[Mapping[str, Value], RunConfig]] = []
    refused: list[tuple[Mapping[str, Value], str]] = []
    for params in tried:
        try:
            composed.append((params, _compose(config, params)))
        except ConfigError as error:
            refused.append((params, str(error)))
    if refused:
        raise ConfigError(_explain(refused, tried))
    _check_groups(config, composed)
    first_params, first = composed[0]
    for where, params in reversed(config.first_points()):
        try:
            first_params, first = params, _compose(config, params)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    for repeat in config.repeats[1:]:
        try:
            _compose(config, {**repeat, **first_params})
        except ConfigError as error:
            raise ConfigError(f"repeat: {error}") from error
    build_pruner(config, epochs=first.train.epochs)
    build_sampler(config, number=0)
    for metric in config.metrics:
        if metric not in METRICS and metric not in first.metrics:
            raise ConfigError(f"metric {metric} isn't measured by the trials; add metrics=[{metric}] to overrides")
    return first


def every_corner(config: StudyConfig) -> list[RunConfig]:
    """The configurations of the corners of the space and of the trials in the file. Raises ConfigError like `check`."""
    first = (params for _, params in config.first_points())
    return [_compose(config, params) for params in (*corners(config.space), *first)]


def first_trials(config: StudyConfig, count: int) -> list[dict[str, Value]]:
    """At most `count` first trials: the baseline, what is enqueued, and the sampler's draws.

    Trials that may depend on the scores of earlier ones are left out.
    """
    import optuna
    from optuna.study import StudyDirection

    from brainseg.sweep.study.samplers import build_sampler

    first = config.first_points()
    with quiet():
        study = optuna.create_study(directions=[StudyDirection[each.upper()] for each in config.metrics.values()])
        for _, params in first:
            study.enqueue_trial(dict(params))
        trials = []
        for number in range(min(count, max(len(first), _independent_of_scores(config, count)))):
            study.sampler = build_sampler(config, number=number)
            trials.append(exact(suggest(study.ask(), config.space), config.space))
    return trials


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna from logging every study that is made inside."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def show_plan(config: StudyConfig) -> RunConfig:
    """Checks the study and prints its first trials. Raises ConfigError, and returns a configuration, like `check`."""
    baseline = check(config)
    metrics = ", ".join(f"{direction} {metric}" for metric, direction in config.metrics.items())
    runs = f"{config.runs} runs of " if config.repeat else ""
    print(f"{config.name}: {config.trials} trials of {runs}{baseline.train.epochs} epochs, {metrics}")
    print(f"sampler {config.sampler.name}, pruner {config.pruner.name}, {config.workers} workers")
    if config.constraints:
        print(f"the best trial keeps {' and '.join(config.constraints)}")
    print(f"every corner of the space can be trained ({len(corners(config.space))} tried)")
    print("first trials:")
    for number, params in enumerate(first_trials(config, min(SHOWN, config.trials))):
        print(f"  {number:>3}  {' '.join(as_overrides(params))}")
    return baseline


def compose_trial(
    config: StudyConfig, params: Mapping[str, Value], *, threads: int, place: int = 0
) -> tuple[RunConfig, list[str]]:
    """A trial's configuration, and its overrides as they can be pasted behind `python -m brainseg.train`.

    place: of the run among those of the trial, from 0. The overrides may hold a password, within tracking.uri. Raises
    ConfigError if the trial can't run.
    """
    chosen = exact(params, config.space) | dict(config.repeats[place])
    if not any(key_of(override) == THREADS for override in config.overrides):
        chosen[THREADS] = threads
    return _compose(config, chosen), overrides_of(config, chosen)


def threads_of_trials(baseline: RunConfig, *, share: int) -> int:
    """CPU threads of each trial: what the study fixes, or else a worker's share."""
    fixed = baseline.train.threads
    return share if fixed is None else fixed


def _compose(config: StudyConfig, params: Mapping[str, Value]) -> RunConfig:
    """As the first run of a trial, unless `params` say which."""
    params = {**config.repeats[0], **params}
    options = options_in(params)
    return composition_of(config, options).with_values({key: params[key] for key in params if key not in options})


def _independent_of_scores(config: StudyConfig, count: int) -> int:
    """How many trials the sampler draws without the scores of others; at most `count`."""
    from brainseg.sweep.study.samplers import STARTS

    name, options = config.sampler.name, config.sampler.options
    if name in ALL_INDEPENDENT:
        return count
    if name not in STARTS:  # of a plugin
        return 0
    return int(dataclasses.asdict(made("samplers", name, options))[STARTS[name]])


def _check_keys(config: StudyConfig) -> None:
    """Refuses a fixed part that can't be composed, and unknown searched keys and options of groups."""
    composition_of(config)
    known = [*flatten(RunConfig()), *GROUPS]
    for parameter in config.space:
        if parameter.key not in known and place_of_options(parameter.key) is None:
            raise ConfigError(
                f"space.{parameter.key}: {parameter.key} is not a configuration key"
                f"{did_you_mean(parameter.key, known) or '; python -m brainseg.train --help lists them'}"
            )
        if parameter.key in GROUPS and not config.recipe:
            for choice in parameter.choices:
                try:
                    composition_of(config, {parameter.key: choice})
                except ConfigError as error:
                    raise ConfigError(f"space.{parameter.key}: {choice} is refused: {error}") from error


def _check_groups(config: StudyConfig, composed: Sequence[tuple[Mapping[str, Value], RunConfig]]) -> None:
    """Refuses a searched group whose options all compose to the same: an experiment may pin its keys."""
    for parameter in config.space:
        if parameter.key not in GROUPS:
            continue
        by_choice: dict[Value, set[tuple[object, ...]]] = {}
        for params, run in composed:
            if parameter.key in params:
                of_group = tuple(value for key, value in flatten(run).items() if key.startswith(f"{parameter.key}."))
                by_choice.setdefault(params[parameter.key], set()).add(of_group)
        if all(one == other for one, other in itertools.pairwise(by_choice.values())):
            raise ConfigError(
                f"space.{parameter.key}: its choices all give the same configuration, since other overrides "
                f"set every {parameter.key}.* key; search those keys, or leave out what sets them"
            )


def _explain(refused: Sequence[tuple[Mapping[str, Value], str]], tried: Sequence[Mapping[str, Value]]) -> str:
    """One line about the first refused corner: the value, or the fewest values together, to blame."""
    params, message = refused[0]
    if len(refused) == len(tried) and len({each for _, each in refused}) == 1:
        return message  # whatever is searched: the fixed part is wrong
    reasons = {tuple(each.items()): text for each, text in refused}
    for size in range(1, len(params) + 1):
        for blamed in itertools.combinations(params.items(), size):
            having = [each for each in tried if all(each.get(key) == value for key, value in blamed)]
            if all(tuple(each.items()) in reasons for each in having):
                return _blame(dict(blamed), message)
    raise AssertionError("the whole of a refused corner is refused")


def _blame(blamed: Mapping[str, Value], message: str) -> str:
    if len(blamed) == 1:
        ((key, value),) = blamed.items()
        return f"space.{key}: {value} is refused: {message}"
    return f"space: {' with '.join(as_overrides(blamed))} is refused: {message}; narrow one of them"
