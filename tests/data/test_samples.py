"""Parts of public data sets, as their owners keep them, train by the commands in docs/data.md."""

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import TINY

from brainseg.compose import freeze
from brainseg.config import RunConfig
from brainseg.data.load import load_data
from brainseg.tracking import MemoryStore

DOCS = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SHOWN = DOCS.partition("### Public sets")[2].partition("\n##")[0].replace("\\\n", "")
COMMANDS = re.findall(r"^ +python -m brainseg\.train (data=folder data\.root=(\w+) .*)$", SHOWN, re.MULTILINE)
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
