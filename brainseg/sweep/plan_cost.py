"""`sweep plan`: what a study will cost, told by its finished trials, or by a few steps of its baseline here."""

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial

from brainseg.cli.literal import numbered
from brainseg.config import RunConfig
from brainseg.errors import TrackingError
from brainseg.model.runtime import import_tensorflow, resolve_threads
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.forecast import WHOLE, sweep_seconds_left, whole_s
from brainseg.sweep.engine.foreign import OwnStudy
from brainseg.sweep.engine.storage import open_storage, place_of
from brainseg.sweep.engine.stored_study import load_config
from brainseg.sweep.engine.trial_row import FINISHED, trial_row
from brainseg.sweep.launchers.config import LOCAL, LauncherConfig
from brainseg.sweep.launchers.known import engine_of
from brainseg.sweep.study.definition import definition_of, differences
from brainseg.sweep.study.plan import quiet, threads_of_trials
from brainseg.sweep.study.pruners import never_stopped
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.tracking.paths import tracking_paths
from brainseg.train.checkpoint import BYTES_A_WEIGHT, COPIES
from brainseg.train.progress import time_text
from brainseg.train.run_data import load_run_data

if TYPE_CHECKING:  # it imports TensorFlow
    from brainseg.train.cost import Cost


def show_cost(
    config: StudyConfig, baseline: RunConfig, *, launcher: LauncherConfig, where: str | None, is_timed: bool
) -> None:
    """Prints what the study costs; is_timed: measured here, where no trial of it has finished.

    baseline: as `plan.check` gives it. Raises InputError where no trial can start here.
    """
    print(_pruning(config, epochs=config.runs * baseline.train.epochs))
    trials = _trials(config, root_of=baseline, where=where)
    if whole_s([trial_row(trial) for trial in trials]) is not None:
        _show_from_trials(config, trials)
    elif launcher.kind != LOCAL:
        engine = engine_of(launcher)
        assert engine is not None
        print(
            f"time, memory and disk can't be measured here: the workers run on the hosts of {engine.name}; "
            "plan the study again once a trial has finished"
        )
    elif is_timed:
        _show_measured(config, baseline)
    else:
        print("time, memory and disk: add --time, or plan the study again once a trial has finished")


def _show_from_trials(config: StudyConfig, trials: Sequence[FrozenTrial]) -> None:
    rows = [trial_row(trial) for trial in trials]
    whole, now = whole_s(rows), time.time()
    assert whole is not None
    left, most = (
        sweep_seconds_left(rows, trials=config.trials, workers=config.workers, now=now, each_s=each)
        for each in (None, whole)
    )
    assert left is not None
    assert most is not None
    pruned = sum(row.state == "pruned" for row in rows)
    count = sum(row.state in WHOLE for row in rows)
    print(f"a trial that isn't pruned takes {time_text(whole)}, the mean of {count} of this study")
    if_pruned = f" if the pruner stops as many as so far, {time_text(most)} if it stops none" if pruned else ""
    to_come = max(config.trials - sum(row.state in FINISHED for row in rows), 0)
    print(f"{to_come} trials to come by {config.workers} workers: {time_text(left)}{if_pruned}")
    _show_limit(config, whole)
    memory = max((trial.user_attrs.get(keys.MEMORY, 0) for trial in trials), default=0)
    weights = max((trial.user_attrs.get(keys.WEIGHTS, 0) for trial in trials), default=0)
    if memory and weights:  # brainseg 0.1 has kept neither
        _show_room(config, memory_mib=memory, model_mib=BYTES_A_WEIGHT * weights / 2**20)


def _show_measured(config: StudyConfig, baseline: RunConfig) -> None:
    threads = threads_of_trials(baseline, share=max(1, resolve_threads(None) // config.workers))
    cost = _measured(baseline, threads)
    print(f"a trial like the baseline, alone on {numbered(threads, 'thread')} of this machine:")
    for line in cost.lines():
        print(f"  {line}")
    whole, epochs = config.runs * cost.seconds, config.runs * baseline.train.epochs
    seconds = math.ceil(config.trials / config.workers) * whole
    saved = 1 - _least_epochs(config, epochs=epochs) / (config.trials * epochs)
    if_pruned = f", {time_text(seconds * (1 - saved))} at the least with it" if saved > 0 else ""
    print(f"all {config.trials} trials by {config.workers} workers: {time_text(seconds)} without pruning{if_pruned}")
    _show_limit(config, whole)
    _show_room(config, memory_mib=cost.memory_mib, model_mib=cost.model_mib, cache_mib=cost.cache_mib)


def _measured(baseline: RunConfig, threads: int) -> "Cost":
    data = load_run_data(dataclasses.replace(baseline, train=dataclasses.replace(baseline.train, threads=threads)))
    import_tensorflow()
    from brainseg.train.cost import of_run

    return of_run(data)


def _show_limit(config: StudyConfig, whole: float) -> None:
    if config.time_limit_min is not None:
        limit_s = 60 * config.time_limit_min
        fitting = min(config.workers * int(limit_s // whole), config.trials)
        print(f"within the time limit of {time_text(limit_s)}: {fitting} trials without pruning")


def _show_room(config: StudyConfig, *, memory_mib: float, model_mib: float, cache_mib: float = 0.0) -> None:
    workers, trials = config.workers, config.trials
    print(f"memory of {workers} workers: {workers * memory_mib:,.0f} MiB")
    cache = f"{cache_mib:,.0f} MiB of decoded slices, " if cache_mib else ""
    print(
        f"disk: {cache}{workers * COPIES * model_mib:,.0f} MiB of checkpoints while {workers} trials train, "
        f"{trials * config.runs * model_mib:,.0f} MiB of models in the records of {trials}"
    )


def _pruning(config: StudyConfig, *, epochs: int) -> str:
    """The most that the pruner can save; the least is nothing."""
    least, all_epochs = _least_epochs(config, epochs=epochs), config.trials * epochs
    saved = "none" if least == all_epochs else f"none to {1 - least / all_epochs:.0%} of them"
    runs = f" in {config.trials * config.runs} runs" if config.repeat else ""
    return f"{all_epochs} epochs in all{runs}; the pruner {config.pruner.name} saves {saved}"


def _least_epochs(config: StudyConfig, *, epochs: int) -> int:
    """Of all trials, if the pruner stops each one as soon as it may."""
    whole, least = never_stopped(config, epochs=epochs)
    return whole * epochs + (config.trials - whole) * least


def _trials(config: StudyConfig, *, root_of: RunConfig, where: str | None) -> Sequence[FrozenTrial]:
    """The trials of the study, if it has been started as the file says; none where its storage can't be asked."""
    root = tracking_paths(root_of.tracking).root
    place = place_of(where, root=root, name=config.name)
    if not isinstance(place, str) and not place.exists():
        return ()
    try:
        with quiet():
            storage = open_storage(where, root=root, name=config.name, create=False)
            with storage.reached():
                stored = load_config(storage, config.name)
                if differences(*(definition_of(each, data_fingerprint="") for each in (stored, config))):
                    return ()
                return OwnStudy(study_name=config.name, storage=storage.optuna).get_trials(deepcopy=False)
    except TrackingError:
        return ()
