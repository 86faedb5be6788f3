"""A host that is cut off and comes back: its trial is another one's by then, and stays so in every place."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from postgres import sql
from processes import PATIENCE_S

from brainseg.config import TrackingConfig
from brainseg.sweep.engine.leases import STALE_S
from brainseg.tracking import open_store
from sweeps import TINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make the namespaces that stand for hosts"),
]


@contextlib.contextmanager
def host(folder: Path, where: str, *arguments: str, output: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A command of `brainseg.sweep` in a mount namespace of its own; killed in the end if it still runs."""
    with (folder / output).open("wb") as file:
        process = subprocess.Popen(
            ["unshare", "-m", sys.executable, "-m", "brainseg.sweep", *arguments],
            cwd=folder,
            env=os.environ | {"BRAINSEG_STORAGE": where, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=file,
            stderr=file,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in family(process):
                each.kill()
        process.wait()


def family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    first = psutil.Process(process.pid)
    return [first, *first.children(recursive=True)]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_host_that_comes_back_leaves_the_run_that_another_one_has_finished(
    empty_database: Any, tmp_path: Path, empty_store: Path
) -> None:
    study = TINY | {"trials": 1, "workers": 1, "overrides": [*TINY["overrides"], "train.epochs=100"]}
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "tiny.yaml").write_text(yaml.safe_dump(study))
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    store = open_store(TrackingConfig(root=str(tmp_path), uri=uri.partition("=")[2]))

    def epochs() -> int:
        with contextlib.suppress(Exception):  # the tables aren't there yet
            return int(sql(empty_database, "SELECT count(*) FROM trial_intermediate_values")[0][0])
        return 0

    def attribute(key: str) -> str | None:
        found = sql(empty_database, f"SELECT value_json FROM trial_user_attributes WHERE key = '{key}'")  # noqa: S608
        return found[0][0] if found else None

    with host(tmp_path, empty_database, "run", "tiny", uri, "tracking.root=a", output="a.txt") as first:
        wait_until(lambda: epochs() >= 3)
        cut_off = family(first)
        for process in cut_off:
            process.suspend()
        sql(
            empty_database,
            f"UPDATE trial_user_attributes SET value_json = (value_json::float - {STALE_S + 60})::text "  # noqa: S608
            "WHERE key = 'beat'",
        )
        with host(tmp_path, empty_database, "worker", "tiny", uri, "tracking.root=b", output="b.txt") as second:
            assert second.wait(PATIENCE_S) == 0, (tmp_path / "b.txt").read_text()
        (run_id,) = store.find({"trial": "0"})
        finished = store.read(run_id)
        assert (finished.status, finished.tags["attempt"]) == ("FINISHED", "2")
        assert (tmp_path / "a" / "checkpoints" / run_id).exists()
        for process in cut_off:
            process.resume()
        assert first.wait(PATIENCE_S) == 0, (tmp_path / "a.txt").read_text()

    assert store.find({"trial": "0"}) == [run_id]
    assert store.read(run_id) == finished
    assert list(finished.metrics["val_dice_image"]) == list(range(1, 101))
    assert (attribute("claims"), attribute("deaths"), attribute("attempts")) == ("2", None, None)
    for root in ("a", "b"):
        assert not list((tmp_path / root / "checkpoints").iterdir())
        assert not [path for path in (tmp_path / root / "spool").iterdir() if path.is_dir()]
