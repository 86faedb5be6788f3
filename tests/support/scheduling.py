"""Which worker of pytest-xdist runs what, and in which order."""

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadScopeScheduling

# What takes longest, the longest first, so that one worker isn't left with it in the end: what is short fills the
# gaps. A folder here is given to one worker as a whole, since its tests share servers and finished runs.
LONGEST = (
    "tests/sweep/command/",
    "tests/train/command/",
    "tests/sweep/launchers/test_slurm.py",
    "tests/kept/",
    "tests/evaluate/test_evaluate.py",
    "tests/train/test_experiment.py",
    "tests/test_machines_docs.py",
    "tests/train/test_starting_weights.py",
    "tests/test_library.py",
    "tests/register/",
    "tests/sweep/engine/test_trial_queue.py",
    "tests/tracking/mlflow/test_mlflow_failures.py",
    "tests/train/test_runs_with_classes.py",
    "tests/sweep/engine/test_many_workers.py",
    "tests/tracking/mlflow/test_read_only.py",
    "tests/export/",
    "tests/model/test_encoders.py",
)


def place(nodeid: str) -> str:
    """What has to stay in one worker: one of `LONGEST`, or else the file."""
    return next((prefix for prefix in LONGEST if nodeid.startswith(prefix)), nodeid.partition("::")[0])


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests in the order of `LONGEST`, the others after them as they were."""
    ranks = {prefix: rank for rank, prefix in enumerate(LONGEST)}
    return sorted(items, key=lambda item: ranks.get(place(item.nodeid), len(ranks)))


class ByPlace(LoadScopeScheduling):
    """A worker that has finished gets the next place."""

    def _split_scope(self, nodeid: str) -> str:
        return place(nodeid)
