"""Someone else's runs, in a folder that can't be written to: listed and shown as one's own."""

import contextlib
import ctypes
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Command, Server, environment

from brainseg.config import TrackingConfig

RECORD = """
import sys
from pathlib import Path
from brainseg.config import TrackingConfig
from brainseg.tracking import open_tracker
with open_tracker(TrackingConfig(root=sys.argv[1]), run_name="theirs", tags={"sweep": "quick"}) as tracker:
    tracker.log_metrics({"seconds": 90.0, "final_dice": 0.5}, epoch=1)
    tracker.log_text("id,patient_id,tumor_type,dice\\ns1,P1,,0.25\\ns2,P2,,0.75\\n", "val_scores.csv")
    tracker.log_model(Path(sys.argv[2]))
print(tracker.run_id)
"""
READ = """
import sys
from pathlib import Path
from brainseg.config import TrackingConfig
from brainseg.tracking import MODEL_FILE, open_store
root, run_id, out = sys.argv[1:]
store = open_store(TrackingConfig(root=root))
assert store.read(run_id).metrics["final_dice"] == {1: 0.5}
assert store.find({"sweep": "quick"}) == [run_id]
assert store.aliases() == []
assert store.file(run_id, "val_scores.csv", Path(out)).read_text().startswith("id,")
assert store.file(run_id, MODEL_FILE, Path(out)).exists()
try:
    store.add(run_id, Path(out), to="more", tags={})
except Exception as error:
    print(type(error).__name__, error)
"""
SHOW = """
import sys
from brainseg.compare.__main__ import main as compare
from brainseg.report.__main__ import main as report
root, run_id, out = sys.argv[1:]
assert compare(["--root", root]) == 0
print("and the report:")
raise SystemExit(report([run_id, "-o", out, "--root", root]))
"""
CAP_DAC_OVERRIDE, PR_CAPBSET_DROP = 1, 24
# The same as `without_privileges`, which counts from the start of a program on, in a process that has begun.
WITHOUT_PRIVILEGES = """
import ctypes
head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable
ctypes.CDLL(None).capget(head, sets)
sets[0] &= ~2
sets[1] &= ~2
assert ctypes.CDLL(None).capset(head, sets) == 0
"""


def without_privileges() -> None:
    """In a child process: root loses the right to write what its mode forbids."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)


pytestmark = pytest.mark.heavy  # another user's processes read


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(), preexec_fn=without_privileges, capture_output=True, text=True, check=False
    )


def forked(server: Server, folder: Path, code: str, *arguments: str) -> str:
    """Runs code without root's right to write what its mode forbids; what it prints."""
    output = folder / "printed.txt"
    pid = server.start("-c", WITHOUT_PRIVILEGES + code, *arguments, folder=folder, output=output)
    command = Command(pid, output, server)
    assert command.exit_code() == 0, command.text
    return command.text


@pytest.fixture(scope="module")
def theirs(
    tmp_path_factory: pytest.TempPathFactory, keras_file: Path, empty_store: Path, process_server: Server
) -> Iterator[tuple[TrackingConfig, str]]:
    """A store without write permission, and its run. Nobody has it open: SQLite's -wal and -shm are gone."""
    folder = tmp_path_factory.mktemp("theirs")
    root = folder / "their runs" / "mlruns"
    root.mkdir(parents=True)
    shutil.copy(empty_store, root / "mlflow.db")
    run_id = forked(process_server, folder, RECORD, str(root), str(keras_file)).strip()
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as database:
        database.execute("SELECT * FROM runs")  # the last one to close it removes them
    paths = [root, *root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert python("-c", f"open({str(root / 'new')!r}, 'w')", cwd=folder).returncode == 1  # the permissions count
    yield TrackingConfig(root=str(root)), run_id
    for path in paths:
        path.chmod(0o755)


def test_runs_that_can_not_be_written_are_listed_and_reported(
    theirs: tuple[TrackingConfig, str], tmp_path: Path, process_server: Server
) -> None:
    config, run_id = theirs
    text = forked(process_server, tmp_path, SHOW, config.root, run_id, str(tmp_path / "out.html"))
    assert "Traceback" not in text
    assert "Warning" not in text
    listed, _, reported = text.partition("and the report:")
    assert "0.5000" in listed
    assert "0.5000" in reported
    page = (tmp_path / "out.html").read_text()
    assert run_id in page
    assert "theirs" in page


def test_all_that_reads_a_run_reads_one_that_can_not_be_written(
    theirs: tuple[TrackingConfig, str], tmp_path: Path, process_server: Server
) -> None:
    config, run_id = theirs
    (tmp_path / "out").mkdir()
    before = sorted(Path(config.root).iterdir())
    text = forked(process_server, tmp_path, READ, config.root, run_id, str(tmp_path / "out"))
    assert text.startswith(f"TrackingError {config.root}/mlflow.db can't be written to (")
    assert sorted(Path(config.root).iterdir()) == before


def test_records_that_are_not_in_the_database_yet_are_no_reason_to_leave_them_out(
    theirs: tuple[TrackingConfig, str], tmp_path: Path
) -> None:
    root = tmp_path / "mlruns"
    shutil.copytree(theirs[0].root, root)
    root.chmod(0o755)
    (root / "mlflow.db-wal").write_bytes(bytes(4096))  # a crash has left it, without its -shm
    root.chmod(0o555)
    done = python("-m", "brainseg.compare", "--root", str(root), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {root}/mlflow.db can't be read without writing beside it (")
    assert len(done.stderr.splitlines()) == 1
    root.chmod(0o755)
