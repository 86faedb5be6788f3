"""What `launcher=` and `launcher.*` may be, and where their values come from."""

from pathlib import Path

import pytest

from brainseg.errors import ConfigError
from brainseg.sweep.launchers import checks
from brainseg.sweep.launchers.checks import check_reach, too_many
from brainseg.sweep.launchers.config import launcher_config, split_overrides


def test_without_a_word_workers_are_processes_of_this_machine() -> None:
    config = launcher_config([])
    assert (config.kind, config.gpus, config.cpus) == ("local", None, None)


def test_a_value_is_taken_as_it_stands_up_to_its_end() -> None:
    config = launcher_config(["launcher=slurm", "launcher.options=--partition=gpu --time=24:00:00", "launcher.cpus=8"])
    assert (config.kind, config.options, config.cpus) == ("slurm", "--partition=gpu --time=24:00:00", 8)
    assert config.gpus == 1  # of conf/launcher/slurm.yaml


def test_a_launcher_of_ones_own_is_a_file_in_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/launcher").mkdir(parents=True)
    (tmp_path / "conf/launcher/ours.yaml").write_text("kind: slurm\ncpus: 16\noptions: --account=lab\n")
    config = launcher_config(["launcher=ours", "launcher.cpus=2"])
    assert (config.kind, config.options, config.cpus) == ("slurm", "--account=lab", 2)


def test_the_launcher_is_no_part_of_the_study() -> None:
    overrides = ["data.root=x", "launcher=slurm", "launcher.options=a=b", "model.depth=3"]
    assert split_overrides(overrides) == (["launcher=slurm", "launcher.options=a=b"], ["data.root=x", "model.depth=3"])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["launcher=slrum"], "there is no launcher 'slrum'; known are local, ray, slurm; did you mean 'slurm'?"),
        (["launcher=slurm", "launcher.optons=x"], "launcher.optons is no key of launcher slurm; it has gpus, cpus,"),
        (["launcher.options=x"], "launcher.options is no key of launcher local; it has gpus, cpus"),
        (["launcher=slurm", "launcher.cpus=many"], "launcher.cpus must be a number, got 'many'; try launcher.cpus=1"),
        (["launcher=slurm", "launcher.cpus=0"], "launcher.cpus must be between 1 and 10000, got 0"),
        (["launcher=slurm", "launcher.gpus=0.5"], "launcher.gpus must be whole with launcher=slurm, got 0.5"),
        (["launcher.gpus=0.5"], "launcher.gpus must be whole with launcher=local, got 0.5"),
        (["launcher=slurm", "launcher.command='"], "launcher.command can't be split as a shell would"),
        (["launcher=slurm", "launcher.command="], "launcher.command must not be empty; leave it out for python"),
        (["launcher=ray", "launcher.setup=x"], "launcher ray; it has gpus, cpus, command, address, folder"),
        (["launcher=ray", "launcher.gpus=1.5"], "launcher.gpus must be whole or a part of one GPU, got 1.5; take 0.5"),
        (["launcher=ray", "launcher.address=ray://x:10001"], "launcher.address must be HOST:PORT of a cluster that"),
        (["launcher.cpus"], "overrides must be of the form key=value, got 'launcher.cpus'"),
    ],
)
def test_a_mistake_is_named(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        launcher_config(overrides)
    assert told in str(refusal.value)


def test_workers_on_other_hosts_need_a_storage_and_a_server_that_they_reach(tmp_path: Path) -> None:
    check_reach("slurm", place="postgresql://db/studies", uri="http://mlflow:5000")
    with pytest.raises(ConfigError, match="launcher=slurm can't use a journal: it is for one host"):
        check_reach("slurm", place=tmp_path / "x.journal", uri="http://mlflow:5000")
    with pytest.raises(ConfigError, match=r"got sqlite:////x/mlflow\.db, which is for one host"):
        check_reach("slurm", place="postgresql://db/studies", uri="sqlite:////x/mlflow.db")


@pytest.mark.parametrize(
    ("command", "uri", "is_slow"),
    [
        ("python /x/bin/mlflow server", "http://127.0.0.1:5000", True),  # in SQLite by default
        ("python -m mlflow ui --port=5001 --backend-store-uri=sqlite:///x.db", "http://a:b@localhost:5001/", True),
        ("mlflow server -p 5001 --backend-store-uri sqlite:///x.db", "http://127.0.0.1:5000", False),
        ("mlflow server --backend-store-uri postgresql://db/mlflow", "http://127.0.0.1:5000", False),
        ("mlflow server", "http://gpu07:5000", False),  # on another host: nobody can know
        ("python -m http.server 5000", "http://127.0.0.1:5000", False),
        ("", "sqlite:////x/mlflow.db", True),
        ("", "postgresql://db/mlflow", False),
    ],
)
def test_many_workers_that_write_to_mlflow_in_sqlite_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, uri: str, is_slow: bool
) -> None:
    monkeypatch.setattr(checks, "PROCESSES", tmp_path)
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "cmdline").write_text(command.replace(" ", "\0") + "\0")
    notes = list(too_many(13, uri=uri, connections=None))
    assert [note.partition(",")[0] for note in notes] == ["note: MLflow keeps its records in SQLite"] * is_slow
    assert not list(too_many(12, uri=uri, connections=None))


def test_more_workers_than_a_storage_has_connections_are_told_of() -> None:
    (note,) = too_many(128, uri="http://mlflow:5000", connections=97)
    assert note.startswith("note: the storage takes 97 connections, and 128 workers are asked for")
    assert "ALTER SYSTEM SET max_connections = 256" in note
    assert not list(too_many(96, uri="http://mlflow:5000", connections=97))
