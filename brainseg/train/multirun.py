"""What the new runs of one `-m` share, in whichever process they train: a parent run, and the tag `multirun`."""

import json
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from brainseg import compose
from brainseg.cli.secrets import mask
from brainseg.config import RunConfig, TrackingConfig
from brainseg.errors import BrainsegError
from brainseg.keys import as_line
from brainseg.tracking import open_tracker
from brainseg.tracking.mlflow.connection import check_store
from brainseg.tracking.mlflow.surroundings import Place, place_of_runs, place_under
from brainseg.tracking.paths import kept_private
from brainseg.train.run_data import load_run_data

TAG = "multirun"
KEY = "BRAINSEG_MULTIRUN"  # in the environment: JSON of the tags, and of the experiment that the parent run is in


class _JobFailedError(BrainsegError):
    """A job has ended with an error of its own, which it has told."""


@contextmanager
def multirun(configs: Sequence[RunConfig], overrides: Sequence[str], *, program: str) -> Iterator[None]:
    """Inside, new runs are recorded under one parent: the run that MLflow's environment names, or one of their own.

    configs: of the jobs, or some of them. Raises InputError, with nothing written, where the first can't start.
    """
    first = next((config for config in configs if config.resume is None), None)
    if first is None:
        yield
        return
    with kept_private(first.tracking), _under_one_parent(first, overrides, program=program):
        yield


@contextmanager
def _under_one_parent(first: RunConfig, overrides: Sequence[str], *, program: str) -> Iterator[None]:
    check_store(first.tracking)
    place = place_of_runs(first.tracking, is_single=False)
    load_run_data(first)
    tag = uuid.uuid4().hex[:8]
    if "parent" in place.tags:
        with _told({**place.tags, TAG: tag}, place.tracking):
            yield
    else:
        source = mask(f"{program} {as_line(['-m', *overrides])}")
        tags = {TAG: tag, "sweep_role": "parent", "source": source}
        parent = open_tracker(place.tracking, run_name=compose.run_name(overrides), tags=tags)
        try:
            with parent, _told({"parent": parent.run_id, TAG: tag}, place.tracking), _failure_recorded():
                yield
        except _JobFailedError as failed:
            sys.exit(failed.exit_code)
    print(f"all of them  python -m brainseg.compare {TAG}={tag}")


def place_of_job(tracking: TrackingConfig) -> Place | None:
    """Where this job of a multirun is recorded; None for a single run."""
    if KEY not in os.environ:
        return None
    told = json.loads(os.environ[KEY])
    return place_under(tracking, tags=told["tags"], experiment=told["experiment"])


@contextmanager
def _told(tags: dict[str, str], tracking: TrackingConfig) -> Iterator[None]:
    """Tells the jobs of this process, and of those that it starts."""
    os.environ[KEY] = json.dumps({"tags": tags, "experiment": tracking.experiment})
    try:
        yield
    finally:
        del os.environ[KEY]


@contextmanager
def _failure_recorded() -> Iterator[None]:
    """A job that ends with an error ends the process; to the parent run it is a failure, unlike a signal."""
    try:
        yield
    except SystemExit as ended:
        if isinstance(ended.code, int) and 0 < ended.code < 128:
            failed = _JobFailedError(f"a run ended with exit code {ended.code}")
            failed.exit_code = ended.code
            raise failed from ended
        raise
