"""`plan --time`: how long a study will take here, by a few steps of its baseline."""

import dataclasses

from brainseg.config import RunConfig
from brainseg.model.runtime import import_tensorflow, resolve_threads
from brainseg.sweep.study.plan import threads_of_trials
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.train.run_data import load_run_data


def show_time(config: StudyConfig, baseline: RunConfig) -> None:
    """Prints what a trial and the study cost on this machine. Raises InputError where no trial can start here."""
    share = max(1, resolve_threads(None) // config.workers)
    threads = threads_of_trials(baseline, share=share)
    data = load_run_data(dataclasses.replace(baseline, train=dataclasses.replace(baseline.train, threads=threads)))
    import_tensorflow()
    from brainseg.train.cost import of_run, time_text

    cost = of_run(data)
    print(f"a trial like the baseline, alone on {threads} threads of this machine:")
    for line in cost.lines():
        print(f"  {line}")
    seconds = cost.seconds * config.trials / config.workers
    print(f"all {config.trials} trials by {config.workers} workers: {time_text(seconds)} without pruning")
