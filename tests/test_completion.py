"""What TAB offers in bash after `brainseg ...`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from backends import MlflowBackend
from filelock import FileLock

from brainseg.__main__ import MODULES
from brainseg.compose import freeze
from brainseg.config import KEYS, TrackingConfig

# What the first line defines is what bash calls on TAB: it reads the line and leaves its offers in COMPREPLY.
SCRIPT = """
eval "$({register} brainseg)"
COMP_LINE=$1 COMP_POINT=${{#1}} COMP_TYPE=9 COMP_WORDBREAKS=$' \\t\\n"><=;|&(:'
_python_argcomplete brainseg
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Line so far -> what is offered for its last word, sorted."""
    programs = Path(sys.executable).parent
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def ask(line: str) -> list[str]:
        script = SCRIPT.format(register=programs / "register-python-argcomplete")
        done = subprocess.run(["bash", "-c", script, "bash", line], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return sorted(word.strip() for word in done.stdout.split("\n") if word.strip())

    assert shutil.which("brainseg"), "the console script belongs to the environment that tests run in"
    return ask


def test_commands_are_offered(offered):
    assert offered("brainseg ev") == ["evaluate"]
    assert {"train", "sweep", "compare", "predict", "data", "tracking"} <= set(offered("brainseg "))


@pytest.mark.parametrize("command", [name for name in MODULES if name != "train"])
def test_every_command_offers_its_options(offered, command):
    assert offered(f"brainseg {command} --he") == ["--help"]


def test_keys_and_their_values_are_offered_for_a_training(offered):
    assert offered("brainseg train model.st") == ["model.standardize=", "model.stem="]
    assert offered("brainseg train data.augment=st") == ["standard"]
    assert offered("brainseg train model.stem=") == ["1", "2", "4"]
    assert offered("brainseg train model.standardize=") == ["false", "true"]
    assert offered("brainseg train experiment=") == ["best", "reference", "scratch"]


def test_options_and_studies_of_a_subcommand_are_offered(offered, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").touch()
    assert offered("brainseg sweep run m") == ["mine"]
    assert offered("brainseg sweep run mine --tr") == ["--trials"]
    assert offered("brainseg sweep run mine optimizer.learning") == ["optimizer.learning_rate="]


def test_runs_of_the_store_are_offered(offered, tmp_path):
    assert offered("brainseg compare --pair ") == []  # no store yet, and none is made
    assert not (tmp_path / "mlruns").exists()
    with MlflowBackend(config=TrackingConfig()).open() as tracker:
        pass
    assert offered("brainseg compare --pair ") == [tracker.run_id]
    assert offered(f"brainseg predict {tracker.run_id[:6]}") == [tracker.run_id]


def test_aliases_of_registered_models_are_offered_where_a_model_is_asked_for(offered, tmp_path):
    with MlflowBackend(config=TrackingConfig()).open() as tracker:
        pass
    MlflowBackend(config=TrackingConfig()).register("champion", tracker.run_id)
    assert offered("brainseg predict br") == ["brainseg@champion"]
    assert offered("brainseg predict brainseg@ch") == ["brainseg@champion"]
    assert offered(f"brainseg predict {tracker.run_id} in -o out --average br") == ["brainseg@champion"]
    assert "brainseg@champion" in offered("brainseg train model.weights=")


def test_only_runs_that_can_be_resumed_are_offered_behind_resume(offered, tmp_path):
    checkpoints = tmp_path / "mlruns" / "checkpoints"
    for age, name in enumerate(("newest", "alive", "older", "not-begun")):
        folder = checkpoints / name
        folder.mkdir(parents=True)
        if name != "not-begun":
            (folder / "run.json").touch()
            os.utime(folder / "run.json", (1e9 - age, 1e9 - age))
    with FileLock(checkpoints / "alive" / "lease.lock"), MlflowBackend(config=TrackingConfig()).open():  # finished
        assert offered("brainseg train resume=") == ["newest", "older"]


def test_a_word_that_no_command_knows_gets_no_offer(offered):
    assert offered("brainseg nothing --al") == []


@pytest.mark.parametrize("key", [key for key in KEYS if KEYS[key].values])
def test_every_offered_value_is_allowed(key):
    needs = {
        "data.name=folder": ["data.root=x"],
        "data.name=nifti": ["data.root=x"],
        "optimizer.name=adam": ["optimizer.weight_decay=0"],
    }
    group, options = key.partition(".")[0], KEYS[key].only.split()
    chosen = [f"{group}={options[0]}"] if options else []
    for value in KEYS[key].values:
        freeze([*chosen, *needs.get(f"{key}={value}", []), "data.image_size=128", f"{key}={value}"])
