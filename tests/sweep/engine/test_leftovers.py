"""Which checkpoints a host deletes when it comes back, and which somebody still needs."""

import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from made_studies import made_study, made_trial, study_config

from brainseg.sweep.engine.leases import this_host
from brainseg.sweep.engine.leftovers import delete_leftovers


def lease(host: str) -> dict[str, Any]:
    keys = {"worker": "w", "supervisor": None, "folder": "f", "claimed_at": 0.0, "epochs_at_claim": 0, "pid": 1}
    return {**keys, "host": host}


def checkpoint(folder: Path, run_id: str, *, attempt: int) -> Path:
    path = folder / run_id
    path.mkdir()
    (path / "lease.json").write_text(json.dumps({"pid": 1, "host": "h", "attempt": attempt}))
    return path


FAR = "gpu07/boot"


@pytest.mark.parametrize(
    ("state", "attributes", "attempt", "is_kept"),
    [
        ("COMPLETE", {"claims": 2}, 1, False),
        ("FAIL", {"claims": 2}, 2, False),
        ("PRUNED", {}, 0, False),  # of version 0.1
        ("COMPLETE", {"claims": 1, "unwritten": ["a figure"]}, 1, True),
        ("RUNNING", {"claims": 2, "begun": 2, "lease": lease(FAR)}, 1, False),  # it has moved
        ("RUNNING", {"claims": 2, "begun": 2, "lease": lease(FAR)}, 2, True),  # and goes on from this, a shared folder
        ("RUNNING", {"claims": 2, "begun": 1, "lease": lease(FAR)}, 1, True),  # it is about to
        ("RUNNING", {"claims": 2, "begun": 2, "lease": None}, 1, True),  # it may come back
        ("RUNNING", {"claims": 3, "begun": 2, "lease": lease(this_host())}, 1, True),  # it has come back
    ],
)
def test_what_no_trial_goes_on_from_is_deleted(
    tmp_path: Path, state: str, attributes: dict[str, Any], attempt: int, is_kept: bool
) -> None:
    values = [0.5] if state == "COMPLETE" else None
    trial = made_trial(0, state, values=values, curve=[0.5], **({"run_id": "r"} | attributes))
    folder = checkpoint(tmp_path, "r", attempt=attempt)
    other = checkpoint(tmp_path, "of another study", attempt=0)
    delete_leftovers(made_study(study_config(), [trial]), tmp_path)
    assert folder.exists() == is_kept
    assert other.exists()


def test_a_checkpoint_from_which_a_process_trains_stays(tmp_path: Path) -> None:
    trial = made_trial(0, "COMPLETE", values=[0.5], run_id="r", claims=1)
    folder = checkpoint(tmp_path, "r", attempt=1)
    with FileLock(folder / "lease.lock"):
        delete_leftovers(made_study(study_config(), [trial]), tmp_path)
        assert folder.exists()
    delete_leftovers(made_study(study_config(), [trial]), tmp_path)
    assert not folder.exists()
