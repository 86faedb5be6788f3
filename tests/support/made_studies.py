"""Studies made by hand, with trials in every state, for the tests of what people see of a sweep."""

from datetime import datetime, timedelta

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from brainseg.sweep.study.parameter import Parameter
from brainseg.sweep.study.study_file import PrunerConfig, StudyConfig

RATE, DROPOUT, NORM, FILTERS = "optimizer.learning_rate", "model.dropout", "model.norm", "model.base_filters"
SPACE = (
    Parameter(key=RATE, type="float", low=1e-5, high=1e-2, log=True),
    Parameter(key=DROPOUT, type="float", low=0.0, high=0.5),
    Parameter(key=NORM, type="categorical", choices=("none", "batch")),
    Parameter(key=FILTERS, type="int", low=8, high=32, when={NORM: ("batch",)}),
)
DISTRIBUTIONS = {
    RATE: FloatDistribution(1e-5, 1e-2, log=True),
    DROPOUT: FloatDistribution(0.0, 0.5),
    NORM: CategoricalDistribution(("none", "batch")),
    FILTERS: IntDistribution(8, 32),
}
BASELINE = {RATE: 1e-4, DROPOUT: 0.1, NORM: "none"}
START = datetime(2026, 1, 1)


def study_config(**changes):
    """A study of four parameters, with a baseline, for 12 trials by 2 workers."""
    given = {
        "name": "quick",
        "metrics": {"val_dice_image": "maximize"},
        "trials": 12,
        "space": SPACE,
        "baseline": BASELINE,
        "workers": 2,
        "pruner": PrunerConfig(name="none"),
    }
    return StudyConfig(**(given | changes))


def made_trial(number, state, params=None, *, values=None, curve=(), epochs=4, ended=None, excesses=None, **attrs):
    """A trial as a worker leaves it.

    curve: val_dice_image by epoch. ended: in seconds after the start. excesses: how far it is beyond constraints.
    """
    params = params or {}
    if state != "WAITING":
        attrs = {"run_id": f"{number:032x}", "line": f"seed={number}", "epochs": epochs, "lease": None} | attrs
    finished = TrialState[state].is_finished()
    trial = FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState[state],
        value=None,
        values=values,
        datetime_start=None if state == "WAITING" else START,
        datetime_complete=START + timedelta(seconds=number if ended is None else ended) if finished else None,
        params=params,
        distributions={key: DISTRIBUTIONS[key] for key in params},
        user_attrs=attrs,
        system_attrs={},
        intermediate_values=dict(enumerate(curve, start=1)),
    )
    for constraint, excess in (excesses or {}).items():
        trial.set_constraint(constraint, excess)
    return trial


def made_study(config, trials):
    """A study in memory with these trials, whose settings are the config's."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(directions=list(config.metrics.values()))
    finally:
        optuna.logging.set_verbosity(verbosity)
    settings = {"trials": config.trials, "retries": config.retries, "failures": config.failures}
    study.set_user_attr("settings", settings)
    study.add_trials(trials)
    return study


def params(rate, dropout=0.1, norm="none", filters=None):
    """Parameters of a trial; `filters` only where norm is batch."""
    return {RATE: rate, DROPOUT: dropout, NORM: norm} | ({} if filters is None else {FILTERS: filters})


def held(*, at=0.0, epochs=0):
    """The lease of a worker that took its trial `at` unix seconds, after so many finished epochs."""
    return {"claimed_at": at, "epochs_at_claim": epochs, "host": "here", "pid": 1}
