"""Parts of public data sets, as their owners keep them, train by the commands in docs/data.md."""

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_run import TINY

from brainseg.compose import freeze
from brainseg.config import RunConfig
from brainseg.data.load import load_data
from brainseg.plan.__main__ import main as plan
from brainseg.tracking import MemoryStore

DOCS = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SHOWN = DOCS.partition("### Public sets")[2].partition("\n##")[0].replace("\\\n", "")
COMMANDS = re.findall(r"^ +python -m brainseg\.train (data=\w+ data\.root=(\w+).*)$", SHOWN, re.MULTILINE)
NAMES = [name for _, name in COMMANDS]
SMALL = {key: value for key, value in TINY.items() if not key.startswith("data.phantom")} | {
    "data.batch_size": 2,
    "data.augment": "none",
    "optimizer.learning_rate": 0.01,
    "optimizer.warmup_epochs": 0.0,
    "train.epochs": 2,
}


@pytest.fixture
def configure(tmp_path: Path) -> Callable[[str, str], RunConfig]:
    """The configuration of a shown command, for a run of seconds on a part of the set."""

    def configured(words: str, name: str) -> RunConfig:
        if "BRAINSEG_SAMPLES" not in os.environ:
            pytest.skip("BRAINSEG_SAMPLES names no folder of samples")
        changed: dict[str, Any] = {**SMALL, "tracking.root": tmp_path / "mlruns", "data.cache_dir": tmp_path / "cache"}
        root = Path(os.environ["BRAINSEG_SAMPLES"]) / name
        overrides = (f"{key}={value}" for key, value in changed.items())
        return freeze([*shlex.split(words), f"data.root={root}", *overrides])

    return configured


@pytest.mark.heavy
@pytest.mark.parametrize(("words", "name"), COMMANDS, ids=NAMES)
def test_a_public_set_is_read_by_its_command(words: str, name: str, configure: Callable[[str, str], RunConfig]) -> None:
    data = load_data(configure(words, name))
    assert data.split.train
    assert data.split.val
    assert data.slices.images.shape[1:] == (32, 32, data.config.data.channel_count)
    assert len(np.unique(data.slices.masks)) > 1


# What differs between the sets is how they are read: to train on each of them is a long form.
@pytest.mark.heavy
@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    ("words", "name"),
    [COMMANDS[0], *(pytest.param(*each, marks=pytest.mark.slow) for each in COMMANDS[1:])],
    ids=NAMES,
)
def test_a_public_set_trains_by_its_command(words: str, name: str, configure: Callable[[str, str], RunConfig]) -> None:
    from brainseg.train.experiment import run  # TensorFlow

    store = MemoryStore()
    result = run(configure(words, name), store.open_tracker(run_name=name))
    first, last = (metrics for _, metrics in store.trackers[result.run_id].metrics)
    assert last["train_dice"] > first["train_dice"]


@pytest.mark.heavy
@pytest.mark.usefixtures("unrendered")
def test_a_plan_of_a_public_set_with_patterns_classes_and_parts_trains_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "BRAINSEG_SAMPLES" not in os.environ:
        pytest.skip("BRAINSEG_SAMPLES names no folder of samples")
    from brainseg.train.experiment import run  # TensorFlow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("brainseg.plan.planning.timed", lambda plan: SimpleNamespace(lines=list))
    words, name = next(each for each in COMMANDS if each[1] == "camvid")
    keys = [word for word in shlex.split(words) if not word.startswith(("data=", "data.root="))]
    assert plan([f"{os.environ['BRAINSEG_SAMPLES']}/{name}", *keys, "-o", "conf/experiment/mine.yaml"]) == 0
    config = freeze(["experiment=mine", "train.epochs=1", "train.threads=2", "model.base_filters=2"])
    assert (len(config.data.labels.names), config.data.split_by) == (11, "folder")
    store = MemoryStore()
    result = run(config, store.open_tracker(run_name=name))
    ((_, metrics),) = store.trackers[result.run_id].metrics
    assert 0 < metrics["train_dice"] < 1
