"""Parts of public data sets, as their owners keep them, train by the commands in docs/data.md."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tiny_run import TINY

from brainseg.compose import freeze
from brainseg.tracking import MemoryStore

DOCS = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SHOWN = DOCS.partition("### Public sets")[2].partition("\n##")[0].replace("\\\n", "")
COMMANDS = re.findall(r"^ +python -m brainseg\.train (data=\w+ data\.root=(\w+).*)$", SHOWN, re.MULTILINE)
SMALL = {key: value for key, value in TINY.items() if not key.startswith("data.phantom")} | {
    "data.batch_size": 2,
    "data.augment": "none",
    "optimizer.learning_rate": 0.01,
    "optimizer.warmup_epochs": 0.0,
    "train.epochs": 2,
}


@pytest.mark.heavy
@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(("words", "name"), COMMANDS, ids=[name for _, name in COMMANDS])
def test_a_public_set_trains_by_its_command(words: str, name: str, tmp_path: Path) -> None:
    if "BRAINSEG_SAMPLES" not in os.environ:
        pytest.skip("BRAINSEG_SAMPLES names no folder of samples")
    from brainseg.train.experiment import run  # TensorFlow

    changed: dict[str, Any] = {**SMALL, "tracking.root": tmp_path / "mlruns", "data.cache_dir": tmp_path / "cache"}
    root = Path(os.environ["BRAINSEG_SAMPLES"]) / name
    config = freeze([*shlex.split(words), f"data.root={root}", *(f"{key}={value}" for key, value in changed.items())])
    store = MemoryStore()
    result = run(config, store.open_tracker(run_name=name))
    first, last = (metrics for _, metrics in store.trackers[result.run_id].metrics)
    assert last["train_dice"] > first["train_dice"]
