"""Passwords stand in no command line, no message and no record."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from queue_processes import PATIENCE_S
from study_files import made_study, write_study

from brainseg.cli.secrets import ENVIRONMENT_KEY
from brainseg.compose import freeze
from brainseg.sweep.engine.leases import ProcessLock
from brainseg.sweep.launchers.config import LauncherConfig
from brainseg.sweep.launchers.engine import workers_for
from brainseg.sweep.launchers.local import worker_pool

SECRET = "rosebud"  # noqa: S105  # of nothing
WITHOUT_SETTINGS = {
    name: value
    for name, value in os.environ.items()
    if name not in ("BRAINSEG_STORAGE", "MLFLOW_TRACKING_URI", ENVIRONMENT_KEY)
}


def sweep(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "brainseg.sweep", *arguments],
        cwd=folder,
        env=WITHOUT_SETTINGS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="command lines are read from /proc")
def test_the_command_line_of_a_running_sweep_shows_no_password(silent_server: int, tmp_path: Path) -> None:
    host = f"127.0.0.1:{silent_server}"
    arguments = [
        "status", "study",
        "--storage", f"postgresql://user:{SECRET}@{host}/studies",
        f"tracking.uri=http://user:{SECRET}@{host}",
    ]  # fmt: skip
    process = sweep(*arguments, folder=tmp_path)
    try:
        until = time.monotonic() + PATIENCE_S
        while SECRET in (shown := " ".join(command_line(process.pid))) or "--storage" not in shown:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        assert command_line(process.pid)[1:] == [
            "-m", "brainseg.sweep",
            "status", "study",
            "--storage", f"postgresql://user:***@{host}/studies",
            f"tracking.uri=http://user:***@{host}",
        ]  # fmt: skip
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert not any(SECRET in " ".join(command_line(int(child))) for child in children)
    finally:
        process.kill()
        output = "".join(process.communicate())
    assert SECRET not in output


@pytest.mark.heavy
def test_a_server_that_is_away_is_one_line_without_the_password(tmp_path: Path) -> None:
    for arguments in (
        ["status", "study", "--storage", f"postgresql://user:{SECRET}@127.0.0.1:1/studies"],
        ["status", "study", f"--storage=postgresql://127.0.0.1:1/studies?user=me&password={SECRET}"],
    ):
        process = sweep(*arguments, folder=tmp_path)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out) == (2, "")
        (line,) = err.splitlines()
        assert "***" in line
        assert "Connection refused" in line  # the address was right: only what is shown is masked
        assert SECRET not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
def test_a_plan_with_a_password_says_what_it_says_without(tmp_path: Path) -> None:
    write_study(tmp_path)
    outputs = []
    for arguments in ([], [f"tracking.uri=http://user:{SECRET}@127.0.0.1:1"]):
        process = sweep("plan", "study.yaml", *arguments, folder=tmp_path)
        outputs.append(process.communicate(timeout=PATIENCE_S))
        assert process.returncode == 0
    assert outputs[0] == outputs[1]
    assert "first trials" in outputs[0][0]


@pytest.mark.parametrize("key", ["tracking.uri", "++tracking.uri"])
def test_workers_are_started_without_a_password_in_their_command_line(tmp_path: Path, key: str) -> None:
    overrides = ["tracking.experiment=mine", f"{key}=http://user:{SECRET}@host"]
    lock = ProcessLock(tmp_path)
    config = made_study(tmp_path, overrides=overrides)
    workers = workers_for(config, freeze(config.tracking).tracking, study_id="0", threads=1, where=None)
    pool = worker_pool(workers, LauncherConfig(), lock, count=1)
    assert "tracking.experiment=mine" in pool.command
    assert SECRET not in " ".join(pool.command)
