"""What processes leave on a host: records that wait for MLflow, and checkpoints that no trial goes on from."""

from collections.abc import Callable
from pathlib import Path

import optuna

from brainseg.config import TrackingConfig
from brainseg.model.runtime import import_tensorflow
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.leases import this_host
from brainseg.tracking.mlflow.fence import discard_checkpoint
from brainseg.tracking.mlflow.sync import deliver_leftovers
from brainseg.tracking.paths import tracking_paths

DELIVERY_S = 30.0  # at most, for the records of all but models, and for those


def clear_up(study: optuna.Study, tracking: TrackingConfig, say: Callable[[str], None]) -> None:
    """Delivers the records that processes have left here, and says what still waits; then `delete_leftovers`."""
    note = deliver_leftovers(tracking, patience_s=DELIVERY_S, models=False)
    if note:
        import_tensorflow()  # which the delivery of a model needs
        note = deliver_leftovers(tracking, patience_s=DELIVERY_S, models=True)
    if note:
        say(note)
    delete_leftovers(study, tracking_paths(tracking).checkpoints)


def delete_leftovers(study: optuna.Study, checkpoints: Path) -> None:
    """Deletes what the study's trials need no more of this host's checkpoints, unless a process still trains there.

    checkpoints: the folder of all runs. What a trial that moved has left here is deleted once its new worker has
    finished an epoch: on a shared folder, that one has gone on from it, and has put its own number there.
    """
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        if keys.UNWRITTEN not in attributes:
            for run in attributes.get(keys.RUNS, ()):  # finished, and its worker was killed just then
                if (checkpoints / run["run_id"]).is_dir():
                    discard_checkpoint(checkpoints / run["run_id"], attempt=attributes.get(keys.CLAIMS, 0))
        folder = checkpoints / attributes.get(keys.RUN_ID, "none")
        if not folder.is_dir() or keys.UNWRITTEN in attributes:
            continue
        if trial.state.is_finished():  # its worker was killed just after it had reported the end, say
            discard_checkpoint(folder, attempt=attributes.get(keys.CLAIMS, 0))
            continue
        lease = keys.lease_of(trial)
        if lease is not None and lease.host != this_host():
            discard_checkpoint(folder, attempt=attributes.get(keys.BEGUN, 0) - 1)
