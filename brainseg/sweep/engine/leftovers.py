"""Deletes checkpoints that no trial goes on from: of trials that have ended, or moved to another host."""

from pathlib import Path

import optuna

from brainseg.sweep.engine import keys
from brainseg.sweep.engine.leases import this_host
from brainseg.tracking.mlflow.fence import discard_checkpoint


def delete_leftovers(study: optuna.Study, checkpoints: Path) -> None:
    """Deletes what the study's trials need no more of this host's checkpoints, unless a process still trains there.

    checkpoints: the folder of all runs. What a trial that moved has left here is deleted once its new worker has
    finished an epoch: on a shared folder, that one has gone on from it, and has put its own number there.
    """
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        folder = checkpoints / attributes.get(keys.RUN_ID, "none")
        if not folder.is_dir() or keys.UNWRITTEN in attributes:
            continue
        if trial.state.is_finished():  # its worker was killed just after it had reported the end, say
            discard_checkpoint(folder, attempt=attributes.get(keys.CLAIMS, 0))
            continue
        lease = keys.lease_of(trial)
        if lease is not None and lease.host != this_host():
            discard_checkpoint(folder, attempt=attributes.get(keys.BEGUN, 0) - 1)
