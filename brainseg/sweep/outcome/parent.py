"""The parent run of a study in MLflow: the study, its progress and outcome. The trials are its child runs."""

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from brainseg.cli.secrets import mask
from brainseg.config import TrackingConfig
from brainseg.errors import ResumeError
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.storage import StudyStorage
from brainseg.sweep.outcome.page import sweep_html
from brainseg.sweep.outcome.plots import write_plots
from brainseg.sweep.outcome.summary import summarize, summary_markdown, trials_csv
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking import open_store, open_tracker
from brainseg.tracking.mlflow.tracker import MlflowTracker
from brainseg.train.environment import record_environment

PLOTS_FOLDER = "plots"
PAGE = "sweep.html"


def open_parent(
    storage: StudyStorage, study: optuna.Study, tracking: TrackingConfig, *, command: str | None
) -> MlflowTracker | None:
    """Opens the study's parent run, and makes it if there is none; None while another process writes it."""
    identity = {"sweep": study.study_name, "sweep_id": study.user_attrs[keys.STUDY_ID], "sweep_role": "parent"}
    tags = identity | ({"source": command} if command else {})
    with storage.lock():
        run_id = study.user_attrs.get(keys.PARENT_RUN)
        if run_id is None:
            # A process that was killed before it stored the id may have made it.
            found = open_store(tracking).find(identity)
            run_id = found[0] if found else None
            tracker = open_tracker(tracking, run_name=study.study_name, tags=tags, run_id=run_id)
            study.set_user_attr(keys.PARENT_RUN, tracker.run_id)
            return tracker
    try:
        return open_tracker(tracking, run_name=study.study_name, tags=tags, run_id=run_id)
    except ResumeError:
        return None


def record_study(tracker: MlflowTracker, config: StudyConfig, *, file: Path | None, command: str) -> None:
    """Records the study as it was started. file: the study file, or None if it isn't the one of the start."""
    tracker.log_params(
        {
            "metrics": ", ".join(f"{metric} ({direction})" for metric, direction in config.metrics.items()),
            "trials": config.trials,
            "sampler": config.sampler.name,
            "sampler_seed": config.sampler.seed,
            "pruner": config.pruner.name,
            "space": ", ".join(parameter.key for parameter in config.space),
            "overrides": mask(" ".join(config.overrides)),
        }
    )
    if file is not None:
        tracker.log_text(file.read_text(encoding="utf-8"), "study.yaml")
    tracker.log_text(f"{command}\n", "command.txt")
    record_environment(tracker)


def record_progress(tracker: MlflowTracker, config: StudyConfig, trials: Sequence[FrozenTrial]) -> None:
    """Records the best value so far, over the number of finished trials."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(config.metrics) > 1 or not complete:
        return
    finished = sum(trial.state in keys.COUNTED for trial in trials)
    ((metric, direction),) = config.metrics.items()
    best = (max if direction == "maximize" else min)(trial.values[0] for trial in complete)
    tracker.log_metrics({f"best_{metric}": best}, epoch=finished)


def record_outcome(tracker: MlflowTracker, study: optuna.Study, config: StudyConfig) -> None:
    """Records best trials, importance, tables and plots."""
    summary = summarize(study, config)
    tracker.log_text(trials_csv(study.get_trials(deepcopy=False), config), "trials.csv")
    tracker.set_tags({"description": summary_markdown(summary, config)})
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        page = Path(folder) / PAGE
        page.write_text(sweep_html(study, summary, made=datetime.now()), encoding="utf-8")
        for path in (*write_plots(study, summary, Path(folder)), page):
            tracker.log_file(path, folder=PLOTS_FOLDER)
