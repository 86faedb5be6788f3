"""Scores a run and adds the files to its record, for those who have trained it."""

from pathlib import Path

from brainseg.cli.console import OnProgress
from brainseg.evaluate.evaluation import Task, outcome_of, score, split_of
from brainseg.evaluate.files import tags_of, write_files
from brainseg.inference.postprocess import MaskSettings
from brainseg.runs.stored_run import read_run
from brainseg.tracking.protocol import RunStore


def score_and_add(store: RunStore, run_id: str, *, split: str, root: str, folder: Path, progress: OnProgress) -> None:
    """As `python -m brainseg.evaluate RUN_ID --split SPLIT`, without its tables.

    root: where the cache of decoded slices lies. folder: for what is fetched and written. Raises InputError where the
    run has no model, or no such slices.
    """
    run = read_run(store, run_id, root=root, folder=folder)
    task = Task(runs=(run,), split=split_of(run, split=split, data=None), settings=MaskSettings())
    outcome = outcome_of([score(task, progress)])
    files = folder / f"scores-{run_id}"
    files.mkdir()
    write_files(files, outcome)
    store.add(run_id, files, to=f"evaluation/{outcome.place}", tags=tags_of(outcome))
