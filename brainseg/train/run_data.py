"""Loads the data of a run that starts or goes on, before TensorFlow is imported, so that a bad folder fails at once."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from brainseg.config import RunConfig
from brainseg.data.load import RunData, cache_dir_of, load_data
from brainseg.data.split import Split, check_split, parse_split
from brainseg.errors import CheckpointError, DataError, ResumeError
from brainseg.tracking.paths import MANIFEST, kept_private
from brainseg.train.checkpoint import Checkpoints


def load_run_data(config: RunConfig, *, split: Split | None = None) -> RunData:
    """The decoded slices and their split; with `config.resume`, the split that the run was started with.

    split: the one to take, where the configuration doesn't say it.

    Raises DataError if the data can't be used, and ResumeError if the run has no checkpoint or a damaged one, is alive,
    or was started with other data; then nothing is written.
    """
    with kept_private(config.tracking, cache_dir_of(config)):
        return load_data(config, split=split) if config.resume is None else _as_started(config, config.resume)


def _as_started(config: RunConfig, run_id: str) -> RunData:
    checkpoints = Checkpoints(Path(config.tracking.root), run_id)
    manifest = checkpoints.manifest()
    checkpoints.check_free()  # the lease is taken when the run goes on
    where, remedy = f"resume={run_id}: the split in {checkpoints.folder / MANIFEST}", "start a new run"
    with _of_the_checkpoint():
        split = parse_split(manifest.split_json, where=where, remedy=remedy)
    data = load_data(config, split=split)
    if manifest.data_fingerprint != data.slices.fingerprint:
        raise ResumeError(
            f"resume={run_id}: the data in {data.slices.source.location} has changed since the run started; "
            "restore it, or start a new run"
        )
    with _of_the_checkpoint():
        check_split(split, data.slices.slices, where=where, remedy=remedy)
    return data


@contextlib.contextmanager
def _of_the_checkpoint() -> Iterator[None]:
    """Turns the error of a split into one of the checkpoint that has it."""
    try:
        yield
    except DataError as error:
        raise CheckpointError(str(error)) from error
