"""Which store a configuration means, and what of a URI may be shown."""

import os
from pathlib import Path

import pytest

from brainseg.cli.secrets import mask
from brainseg.config import TrackingConfig
from brainseg.tracking.paths import is_same_store, kept_private, resolve_uri, store_name, tracking_paths


def test_the_store_is_the_key_then_the_variable_then_the_database_under_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(TrackingConfig(root="my runs")) == f"sqlite:///{tmp_path}/my runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    assert resolve_uri(TrackingConfig()) == "http://somewhere:5000"
    assert resolve_uri(TrackingConfig(uri="sqlite:///here/mlflow.db")) == f"sqlite:///{tmp_path}/here/mlflow.db"


def test_every_folder_lies_under_the_root(tmp_path: Path) -> None:
    paths = tracking_paths(TrackingConfig(root=str(tmp_path)))
    assert paths.database == tmp_path / "mlflow.db"
    assert [paths.artifacts, paths.spool, paths.checkpoints] == [
        tmp_path / name for name in ("artifacts", "spool", "checkpoints")
    ]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("sqlite:////a/mlruns/mlflow.db", "sqlite:////a/mlruns/mlflow.db"),
        ("https://ada:s3cret@host:5000/x/", "https://host:5000/x"),
        ("postgresql+psycopg2://ada:p@ss/word@host/db?sslmode=require", "postgresql://host/db"),
    ],
)
def test_a_store_is_named_without_credentials(uri: str, name: str) -> None:
    assert store_name(uri) == name
    assert is_same_store(name, uri)
    assert is_same_store(mask(uri), uri)
    assert not is_same_store(name, "https://elsewhere")


def test_a_database_that_has_moved_is_the_same_store() -> None:
    assert is_same_store("sqlite:////old/mlruns/mlflow.db", "sqlite:////new/mlruns/mlflow.db")
    assert not is_same_store("sqlite:////old/mlruns/mlflow.db", "sqlite:////old/mlruns/other.db")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://ada:s3cret@host/x", "https://ada:***@host/x"),
        ("https://t0ken@host/x", "https://***@host/x"),
        ("postgresql+psycopg2://ada:p@ss/word@host/db", "postgresql+psycopg2://ada:***@host/db"),
        ("postgresql://host/db?user=ada&password=s3cret&x=1", "postgresql://host/db?user=ada&password=***&x=1"),
        ("Could not parse 'mysql://ada:s3cret@host'.", "Could not parse 'mysql://ada:***@host'."),
        ("ada@example.org wrote to http://host", "ada@example.org wrote to http://host"),
    ],
)
def test_passwords_and_tokens_are_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_what_is_kept_private_leaves_a_folder_elsewhere_as_open_as_the_umask_has_it(tmp_path: Path) -> None:
    config = TrackingConfig(root=str(tmp_path / "mlruns"), private=True)
    before = os.umask(0o027)
    try:
        with kept_private(config):
            (tmp_path / "ours").touch()
            with kept_private(config, tmp_path / "cache"):
                (tmp_path / "theirs").touch()
            (tmp_path / "ours too").touch()
        (tmp_path / "after").touch()
    finally:
        os.umask(before)
    assert {path.name: f"{path.stat().st_mode & 0o777:o}" for path in tmp_path.iterdir()} == {
        "ours": "600",
        "theirs": "640",
        "ours too": "600",
        "after": "640",
    }
