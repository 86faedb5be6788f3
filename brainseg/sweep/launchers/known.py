"""The launchers that hand workers to a scheduler."""

from collections.abc import Callable, Mapping
from typing import Any

from brainseg.config import RunConfig
from brainseg.sweep.launchers.config import LOCAL, RAY, SLURM, LauncherConfig
from brainseg.sweep.launchers.engine import Engine, workers_for
from brainseg.sweep.study.plan import threads_of_trials
from brainseg.sweep.study.study_file import StudyConfig


def engine_of(launcher: LauncherConfig) -> Engine | None:
    """The scheduler; None for `local`, whose workers are this machine's processes."""
    if launcher.kind == LOCAL:
        return None
    from brainseg.sweep.launchers.apart import Apart
    from brainseg.sweep.launchers.ray import Ray
    from brainseg.sweep.launchers.slurm import Slurm

    engines: Mapping[str, Callable[[LauncherConfig], Engine]] = {SLURM: Slurm, RAY: lambda config: Apart(Ray(config))}
    return engines[launcher.kind](launcher)


def engine_of_study(stored: Mapping[str, Any]) -> Engine:
    """The scheduler that has a study's workers. stored: what the study keeps of it."""
    engine = engine_of(LauncherConfig(**{key: value for key, value in stored.items() if key != "workers"}))
    assert engine is not None, "only schedulers are stored"
    return engine


def show_submission(launcher: LauncherConfig, config: StudyConfig, baseline: RunConfig) -> None:
    """Prints what `run` would hand to the scheduler."""
    engine = engine_of(launcher)
    if engine is not None:
        threads = threads_of_trials(baseline, share=launcher.cpus or 1)
        workers = workers_for(config, baseline.tracking, study_id="STUDY", threads=threads, where=None)
        print(f"what {engine.name} is given:\n\n{engine.shown(workers, config.workers)}")
