"""The plots of a study: which there are, and the study as Optuna's plot functions take it.

`plots` draws each as a PNG, and `figures` draws each as an interactive figure.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from brainseg.config import short_names
from brainseg.sweep.engine.keys import is_feasible
from brainseg.sweep.engine.trial_row import INTERRUPTED, REPORTED, TrialRow, trial_row
from brainseg.sweep.outcome.summary import MetricSummary, StudySummary
from brainseg.tracking.listing import INFEASIBLE

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator

# Kind of a plot -> its heading. The last two are drawn once for the whole study, the others for each metric.
HEADINGS = {
    "history": "History of {metric}",
    "importance": "Importance for {metric}",
    "slice": "Slices: {metric} by parameter",
    "parallel": "Parallel coordinates: {metric} of each complete trial",
    "intermediate": f"Intermediate values: {REPORTED} by epoch",
    "pareto": "Pareto front of {metrics}",
}
OF_A_METRIC = ("history", "importance", "slice", "parallel")
MOST_IN_A_FRONT = 3  # metrics: Optuna draws no front of more
WITH_CURVES = ("complete", INFEASIBLE, "pruned", "running", INTERRUPTED)  # states of the trials whose epochs are drawn


@dataclass(frozen=True, kw_only=True, eq=False)
class Plot:
    """What one plot shows, and whether it can be drawn yet."""

    kind: str  # a key of HEADINGS
    study: optuna.Study  # a copy with short names of parameters; of one metric, except for intermediate and pareto
    metric: MetricSummary  # the metric shown; for intermediate and pareto the first
    summary: StudySummary

    @property
    def name(self) -> str:
        """Of its file: the kind, followed by the metric if the study has several."""
        several = len(self.summary.metrics) > 1 and self.kind in OF_A_METRIC
        return f"{self.kind}_{self.metric.name}" if several else self.kind

    @property
    def heading(self) -> str:
        """What the plot shows, in a line."""
        metrics = " and ".join(metric.name for metric in self.summary.metrics)
        return HEADINGS[self.kind].format(metric=self.metric.name, metrics=metrics)

    @property
    def missing(self) -> str:
        """Why the plot can't be drawn yet; empty if it can."""
        importance = self.metric.importance
        if self.kind == "pareto" and len(self.summary.metrics) > MOST_IN_A_FRONT:
            return f"it can be drawn for two or three metrics, not for {len(self.summary.metrics)}"
        if self.kind == "importance":
            return "" if importance.shares else importance.note
        if self.kind == "intermediate":
            return "" if self.rows else "no trial has finished an epoch"
        if self.kind in ("slice", "parallel"):
            return "" if self.varied else "no parameter differs between complete trials"
        return "" if self.complete else "no trial is complete"

    @property
    def complete(self) -> list[FrozenTrial]:
        """The study's complete trials, without infeasible ones."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if is_feasible(trial)]

    @property
    def varied(self) -> list[str]:
        """The parameters with several values among complete trials: an axis without a range can't be drawn."""
        complete = self.complete
        names = dict.fromkeys(name for trial in complete for name in trial.params)
        values = {name: {trial.params[name] for trial in complete if name in trial.params} for name in names}
        return [name for name in names if len(values[name]) > 1]

    @property
    def rows(self) -> dict[int, TrialRow]:
        """Trial number -> row, of the trials that have finished an epoch and haven't failed."""
        rows = map(trial_row, self.study.get_trials(deepcopy=False))
        return {row.number: row for row in rows if row.epoch and row.state in WITH_CURVES}

    @property
    def evaluator(self) -> "BaseImportanceEvaluator":
        """Gives Optuna the summary's shares, under short names: a forest over renamed parameters would give others."""
        from optuna.importance import BaseImportanceEvaluator

        names = short_names(self.metric.importance.shares)
        shares = {names[key]: share for key, share in self.metric.importance.shares.items()}

        class Known(BaseImportanceEvaluator):
            def evaluate(
                self, study: optuna.Study, params: object = None, *, target: object = None
            ) -> dict[str, float]:
                return shares

        return Known()


def plots_of(study: optuna.Study, summary: StudySummary) -> list[Plot]:
    """Every plot of this study, whether it can be drawn yet or not."""
    plots = []
    for position, metric in enumerate(summary.metrics):
        copy = _copy_of(study, position)
        plots += [Plot(kind=kind, study=copy, metric=metric, summary=summary) for kind in OF_A_METRIC]
    copy, first = _copy_of(study), summary.metrics[0]
    kinds = ("intermediate", "pareto") if len(summary.metrics) > 1 else ("intermediate",)
    return plots + [Plot(kind=kind, study=copy, metric=first, summary=summary) for kind in kinds]


def _copy_of(study: optuna.Study, metric: int | None = None) -> optuna.Study:
    """The study in memory, its parameters under short names; with all metrics, or with the one at this position alone.

    Of a study with several metrics, Optuna draws no best value so far, and reverses the colours. A trial that the study
    leaves out is an empty one, so that the others keep their numbers.
    """
    trials = study.get_trials(deepcopy=True)
    own = {trial.number: trial for trial in trials}
    names = short_names(dict.fromkeys(key for trial in trials for key in trial.params))
    copy = optuna.create_study(directions=study.directions if metric is None else [study.directions[metric]])
    for trial in trials:
        trial.params = {names[key]: value for key, value in trial.params.items()}
        trial.distributions = {names[key]: distribution for key, distribution in trial.distributions.items()}
        if metric is not None and trial.state == TrialState.COMPLETE:
            trial.values = [trial.values[metric]]
    for number in range(max(own, default=-1) + 1):
        # Not `add_trial`, which refuses a value that isn't in the space: a study of an earlier brainseg may have one.
        trial = own.get(number, create_trial(state=TrialState.FAIL))
        copy._storage.create_new_trial(copy._study_id, template_trial=trial)
    return copy
