"""The launchers that hand workers to a scheduler."""

from brainseg.config import RunConfig
from brainseg.sweep.launchers.config import LOCAL, SLURM, LauncherConfig
from brainseg.sweep.launchers.engine import Engine, workers_for
from brainseg.sweep.study.plan import threads_of_trials
from brainseg.sweep.study.study_file import StudyConfig


def engine_of(launcher: LauncherConfig) -> Engine | None:
    """The scheduler; None for `local`, whose workers are this machine's processes."""
    if launcher.kind == LOCAL:
        return None
    from brainseg.sweep.launchers.slurm import Slurm

    return {SLURM: Slurm}[launcher.kind](launcher)


def show_submission(launcher: LauncherConfig, config: StudyConfig, baseline: RunConfig) -> None:
    """Prints what `run` would hand to the scheduler."""
    engine = engine_of(launcher)
    if engine is not None:
        threads = threads_of_trials(baseline, share=launcher.cpus or 1)
        workers = workers_for(config, baseline.tracking, study_id="STUDY", threads=threads, where=None)
        print(f"what {engine.name} is given:\n\n{engine.shown(workers, config.workers)}")
