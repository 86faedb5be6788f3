"""`sweep add`: a trial with values of the user's own choice, which comes before the sampler's next draw."""

import dataclasses
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from brainseg import compose
from brainseg.cli.secrets import mask
from brainseg.cli.tables import Console, say
from brainseg.errors import ConfigError
from brainseg.keys import as_line
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.foreign import OwnStudy, point_of
from brainseg.sweep.engine.stored_study import load_config, with_plugins
from brainseg.sweep.engine.trial_row import trial_row
from brainseg.sweep.studies import storage_of, workers_of
from brainseg.sweep.study.parameter import Parameter, Value
from brainseg.sweep.study.plan import compose_trial
from brainseg.sweep.study.space import as_overrides, corners
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import check_params, merged, without_plugins


def add_trial(name: str, given: Sequence[str], *, tracking: Sequence[str], where: str | None, console: Console) -> int:
    """Enqueues a trial with these values (`model.dropout=0.25`); the sampler draws those that are left out.

    Nothing is added where a trial of the study waits with the same values, or has been tried with them: it would come
    out the same. The exit code. Raises ConfigError, with nothing written, for values that can't be trained, and
    TrackingError for an unknown study.
    """
    storage = storage_of(name, tracking, where)
    with storage.reached():
        config = load_config(storage, name)
        config = dataclasses.replace(config, tracking=merged(config.tracking, tracking))
        study = OwnStudy(study_name=name, storage=storage.optuna)
        config = with_plugins(study, config, given)
        point = checked_point(config, compose.values_in(without_plugins(given)))
        shown = " ".join(as_overrides(point))
        with storage.lock():
            trials = study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state != TrialState.FAIL and _has(trial, point, config.space):
                    say(f"nothing is added: trial {trial.number} ({trial_row(trial).state}) has {shown}", console)
                    return 0
            study.enqueue_trial(point)
            trials = study.get_trials(deepcopy=False)
    drawn = [each.key for each in config.space if each.is_searched(point) and each.key not in point]
    rest = f"; the sampler draws {', '.join(drawn)}" if drawn else ""
    say(f"{name}: trial {trials[-1].number} waits with {shown}{rest}", console)
    total = sum(trial.state != TrialState.FAIL for trial in trials)
    needed = [] if total <= keys.settings_of(study).trials else ["--trials", str(total)]
    if needed or not workers_of(storage, trials):
        words = [name, *tracking, *([] if where is None else ["--storage", where]), *needed]
        say(mask(f"go on with: python -m brainseg.sweep run {as_line(words)}"), console)
    else:
        say("the next worker that is free takes it", console)
    return 0


def checked_point(config: StudyConfig, given: Mapping[str, object]) -> dict[str, Value]:
    """The values, in the order of the space. Raises ConfigError unless a trial with them can be trained."""
    point = check_params("", given, config.space, is_whole=False)
    if not given:
        raise ConfigError(f"add takes the values to try, KEY=VALUE of {', '.join(each.key for each in config.space)}")
    reason = ""
    for params in corners(config.space, given=point):
        try:
            compose_trial(config, params, threads=1)
        except ConfigError as error:
            reason = str(error)
        else:
            return point
    raise ConfigError(f"{' with '.join(as_overrides(point))} is refused: {reason}")


def _has(trial: FrozenTrial, point: Mapping[str, Value], space: Sequence[Parameter]) -> bool:
    try:
        return point_of(trial, space) == point
    except ConfigError:  # not in the space: it will be refused
        return False
