"""Ids and types with line breaks and markup: they cost a run nothing, and stand as they are wherever they are shown."""

import html
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from brainseg.compare.__main__ import main as compare
from brainseg.config import RunConfig, TrackingConfig
from brainseg.errors import printable
from brainseg.gallery.__main__ import main as gallery
from brainseg.report.__main__ import main as report
from brainseg.runs.slice_scores import read_scores
from brainseg.tracking import open_store, open_tracker
from brainseg.train.experiment import run

pytestmark = pytest.mark.heavy

TYPES = ("two\nlines", "a\u2028b\x85c\x0bd", "<img src=x>", "`a`|*b*", "\u00e9 \u6f22", "a\rb")


def write_slices(folder: Path) -> None:
    """Two slices of each type; their names are plain, since a file whose name can't be shown is refused."""
    rng = np.random.default_rng(0)
    rows = ["id,patient_id,tumor_type\n"]
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number, kind in enumerate(2 * TYPES):
        name = f"{number} |<b>`x`"
        image = rng.integers(0, 90, (32, 32), dtype=np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        mask[4:12, 4 + number : 12 + number] = 255
        Image.fromarray(np.where(mask > 0, np.uint8(200), image)).save(folder / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
        rows.append(f'"{name}","P {number} {kind}","{kind}"\n')
    (folder / "metadata.csv").write_text("".join(rows), encoding="utf-8", newline="")


def test_odd_names_cost_no_score_and_are_shown_as_they_are(
    tiny: Callable[..., RunConfig], sqlite_config: TrackingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_slices(tmp_path / "slices")
    keys = {
        "data.name": "folder",
        "data.root": str(tmp_path / "slices"),
        "data.split_by": "image",
        "data.val_fraction": 0.5,
        "data.cache_dir": None,
        "train.epochs": 1,
        "model.depth": 1,
        "tracking.root": sqlite_config.root,
        "tracking.predictions": 0,
    }
    config = tiny(**keys)
    result = run(config, open_tracker(config.tracking, run_name="odd", tags={}))
    store = open_store(config.tracking)
    record = store.read(result.run_id)

    scores = read_scores(store, record, split="val")
    assert {score.patient_id for score in scores} < {f"P {number} {kind}" for number, kind in enumerate(2 * TYPES)}
    assert {score.tumor_type for score in scores} == set(result.dice_by_type) == set(TYPES)

    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(record.tags["description"])
    cells = [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", page)]
    assert cells[::2] == [printable(kind) for kind in sorted(TYPES)]

    root = ["--root", sqlite_config.root]
    for main, name in ((report, "report.html"), (gallery, "gallery.html")):
        assert main([result.run_id, "-o", str(tmp_path / name), *root]) == 0
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert not [sign for sign in "\u2028\x85\x0b" if sign in text]
        assert "<img src=x>" not in text
        assert printable("a\u2028b\x85c\x0bd") in text.replace("\\\\", "\\")
    capsys.readouterr()
    assert compare(root) == 0
    assert f"{result.final_dice:.4f} (" in capsys.readouterr().out  # the interval comes of the slices' scores
