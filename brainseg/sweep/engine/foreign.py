"""What other programs do to a study through Optuna: they hold trials, end them and enqueue them, on its storage."""

from collections.abc import Container, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from brainseg.errors import ConfigError
from brainseg.sweep.engine import keys
from brainseg.sweep.study.parameter import Parameter, Value
from brainseg.sweep.study.space import distribution_of
from brainseg.sweep.study.study_rules import check_params


class OwnStudy(optuna.Study):
    """A study of brainseg's that shows its own trials alone, to the queue, to samplers and pruners, and to plots.

    hyperband's sampler alone sees the others as well: Optuna gives it a study of its own making.
    """

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy, states, use_cache)
        return [trial for trial in trials if not why_left_out(trial)]


def why_left_out(trial: FrozenTrial) -> str:
    """Why a trial doesn't count, behind `trial 7`; empty for one of the study's own.

    Its own are those that wait, whoever has enqueued them, and those that a worker has claimed: with CLAIMS, which is
    there from the first moment, or in version 0.1 with LEASE. Values count only with a run behind them.
    """
    attributes = trial.user_attrs
    is_claimed = attributes.get(keys.CLAIMS) is not None or keys.LEASE in attributes
    if trial.state == TrialState.WAITING:
        return ""
    if trial.state in keys.COUNTED:
        return "" if keys.RUN_ID in attributes else "was told by another program (optuna tell), with no run behind it"
    if is_claimed:
        return ""
    if attributes.get(keys.FAILURE):
        return f"was refused: {attributes[keys.FAILURE]}"
    if trial.state == TrialState.RUNNING:
        return "is held by another program (optuna ask)"
    return "was ended as failed by another program (optuna tell)"


def left_out(study: optuna.Study) -> dict[int, str]:
    """Number -> `why_left_out`, of each trial in the study's storage that doesn't count."""
    trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
    return {trial.number: why for trial in trials if (why := why_left_out(trial))}


def point_of(trial: FrozenTrial, space: Sequence[Parameter]) -> dict[str, Value]:
    """The values that a trial was enqueued with, or has drawn. Raises ConfigError unless they are in the space."""
    given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    return check_params("", given, space, is_whole=False)


def refusal(trial: FrozenTrial, space: Sequence[Parameter]) -> str:
    """Why a waiting trial can't be taken, in a line: its values aren't in the space. Empty if it can."""
    try:
        point_of(trial, space)
    except ConfigError as error:
        return str(error)
    for parameter in space:  # of a trial that was added with what it was drawn from
        if trial.distributions.get(parameter.key, own := distribution_of(parameter)) != own:
            return f"{parameter.key} was drawn from {trial.distributions[parameter.key]}, not from the study's space"
    return ""
