"""The real server: it is found again after a kill, on another port, with everything that it was told."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from brainseg.sweep.server import serve as serving
from brainseg.sweep.server.address import STORAGE

pytestmark = pytest.mark.heavy
PATIENCE_S = 200.0


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that other users may enter: for root, PostgreSQL runs as one of them."""
    monkeypatch.delenv("BRAINSEG_STORAGE", raising=False)
    with tempfile.TemporaryDirectory(prefix="brainseg-") as name:
        Path(name).chmod(0o755)
        monkeypatch.setenv("PGSERVICEFILE", f"{name}/mlruns/server/address.conf")
        yield Path(name)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a command of `brainseg.sweep` in the folder; whatever still runs in the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def command(*arguments: str) -> "subprocess.Popen[str]":
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "brainseg.sweep", *arguments],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield command
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_killed_server_is_found_again_by_those_who_were_connected(
    start: Callable[..., "subprocess.Popen[str]"], folder: Path
) -> None:
    from sqlalchemy import create_engine, text

    address = folder / "mlruns" / "server" / "address.conf"
    first = start("serve")
    assert line_of(first).startswith(f"serves {folder}/mlruns on 127.0.0.1:")
    before = address.read_text()
    engine = create_engine(STORAGE, pool_pre_ping=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept AS SELECT 42 AS number"))
    first.kill()
    first.wait()
    again = start("serve")
    assert line_of(again).startswith("serves ")
    assert address.read_text() != before  # another port
    with engine.connect() as connection:
        assert connection.execute(text("SELECT number FROM kept")).scalar() == 42
    engine.dispose()
    again.send_signal(signal.SIGTERM)
    assert again.wait() == 128 + signal.SIGTERM
    assert not address.exists()
    assert not (folder / "mlruns" / "server" / "data" / "postmaster.pid").exists()  # written, and closed


@pytest.mark.slow
def test_a_server_that_nobody_needs_ends_and_leaves_the_address_of_another_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving, "IDLE_S", 0.0)
    monkeypatch.setattr(serving, "ASK_S", 0.0)
    address = folder / "mlruns" / "server" / "address.conf"
    asked: list[bool] = []

    def is_needed() -> bool:
        asked.append(len(asked) < 2)
        if len(asked) == 3:
            address.write_text("another host's")
        return asked[-1]

    monkeypatch.setenv("PGAPPNAME", "")
    assert serving.serve([f"tracking.root={folder}/mlruns"], host="127.0.0.1", is_needed=is_needed) == 0
    assert asked == [True, True, False]
    assert address.read_text() == "another host's"
    assert capsys.readouterr().out.endswith("and no worker waits; ends\n")


STUDY = {
    "metric": "val_dice_image",
    "direction": "maximize",
    "trials": 2,
    "workers": 1,
    "overrides": [
        *("data.phantom_patients=6", "data.image_size=16", "data.batch_size=2", "data.augment=none", "model.depth=1"),
        *("model.base_filters=4", "train.epochs=60", "train.precision=float32", "tracking.predictions=0"),
    ],
    "space": {"model.dropout": {"type": "float", "low": 0.0, "high": 0.4}},
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_goes_on_after_its_server_was_killed_and_came_back_on_another_port(
    start: Callable[..., "subprocess.Popen[str]"], folder: Path
) -> None:
    import optuna

    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "tiny.yaml").write_text(yaml.safe_dump(STUDY))
    server = start("serve")
    assert line_of(server).startswith("serves ")
    run = start("run", "tiny")
    logs = folder / "mlruns" / "studies" / "tiny.logs"
    deadline = time.monotonic() + PATIENCE_S
    while not any("epoch  3/60" in path.read_text() for path in logs.glob("*.log")):
        assert time.monotonic() < deadline
        assert run.poll() is None
        time.sleep(0.2)
    server.kill()
    server.wait()
    time.sleep(5)
    assert line_of(start("serve")).startswith("serves ")
    told, _ = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, told
    study = optuna.load_study(study_name="tiny", storage=STORAGE)
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE", "COMPLETE"]
    assert all(len(trial.intermediate_values) == 60 for trial in study.get_trials())
    listed = start("list").communicate()[0]
    assert listed.splitlines()[1].split()[:3] == ["tiny", "finished", "2/2"]
    assert os.environ["PGSERVICEFILE"] not in told
