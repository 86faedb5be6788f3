"""Code, packages and machine as a run records them."""

import importlib.metadata
import json
import os
import platform
import subprocess

import brainseg
from brainseg.train import environment


def git(folder, *arguments):
    done = subprocess.run(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def use_repository(folder, monkeypatch):
    """Makes `folder` both brainseg's and the current folder."""
    monkeypatch.setattr(brainseg, "__file__", str(folder / "__init__.py"))
    monkeypatch.chdir(folder)


def test_commit_and_diff_are_those_of_the_checkout(tmp_path, monkeypatch):
    (tmp_path / "file.txt").write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "file.txt")
    git(tmp_path, "commit", "-q", "-m", "first")
    use_repository(tmp_path, monkeypatch)
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert environment.code_state() == environment.Code(commit=commit, diff="")

    (tmp_path / "file.txt").write_text("two\n")
    changed = environment.code_state()
    assert changed.commit == commit
    assert changed.diff.splitlines()[-2:] == ["-one", "+two"]


def test_brainsegs_checkout_goes_before_the_current_folder(tmp_path, monkeypatch):
    for name in ("code", "current"):
        (tmp_path / name).mkdir()
        git(tmp_path / name, "init", "-q")
        git(tmp_path / name, "commit", "-q", "--allow-empty", "-m", name)
    monkeypatch.setattr(brainseg, "__file__", str(tmp_path / "code" / "__init__.py"))
    monkeypatch.chdir(tmp_path / "current")
    assert environment.code_state().commit == git(tmp_path / "code", "rev-parse", "HEAD").strip()


def test_without_a_repository_or_git_there_is_no_code_state(tmp_path, monkeypatch):
    use_repository(tmp_path, monkeypatch)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.code_state() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.code_state() is None


def test_packages_are_sorted_and_have_the_versions_that_are_installed():
    lines = environment.packages().splitlines()
    assert f"numpy=={importlib.metadata.version('numpy')}" in lines
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))


def test_the_machine_is_this_one():
    machine = json.loads(environment.machine_json())
    assert machine["host"] == platform.node()
    assert machine["cores"] == os.cpu_count()
    assert machine["brainseg"] == brainseg.__version__
    assert machine["python"] == platform.python_version()
    assert machine["memory_gib"] > 0.1
    assert machine["processor"]
