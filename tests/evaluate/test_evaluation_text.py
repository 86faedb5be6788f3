"""An evaluation in words: on a wide and on a narrow terminal, and in Markdown."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_slices import made
from rich.console import Console

from brainseg.classes import BINARY
from brainseg.config import DataConfig, RunConfig
from brainseg.data.split import Split
from brainseg.evaluate.evaluation import EvaluationSplit, Scored, outcome_of
from brainseg.evaluate.text import RULES, as_markdown, print_outcome
from brainseg.inference.postprocess import MaskSettings
from brainseg.runs.stored_run import StoredRun
from brainseg.scoring.calibration import Calibration
from brainseg.scoring.evaluation import Evaluation

SLICES = [
    made("a", shared=100, patient="P1"),  # Dice 1
    made("b", shared=0, patient="P2"),  # Dice 0
]


def scored(run_id="abc", *, measures=SLICES, part="val", fold=None, location="nowhere", settings=None, other=None):
    data = DataConfig() if fold is None else DataConfig(folds=5, fold=fold)
    run = StoredRun(
        id=run_id,
        name="made",
        config=RunConfig(data=data),
        split=Split(train=(), val=()),
        fingerprint="f",
        threads=2,
        model_file=Path("model.keras"),
        evaluated=(),
    )
    calibration = Calibration()
    calibration.add(np.full((10, 10), 0.5, np.float32), np.ones((10, 10), np.bool_))
    slices = SimpleNamespace(source=SimpleNamespace(name="made", location=location), labels=BINARY)
    return Scored(
        runs=(run,) if other is None else (run, replace(run, id=other)),
        split=EvaluationSplit(name=part, slices=slices, ids=tuple(item.id for item in measures)),
        settings=settings or MaskSettings(),
        choice=None,
        evaluation=Evaluation(
            scores=tuple(measures),
            score_by="slice",
            predictions={},
            calibrations={"": calibration},
            confusion=None,
            seconds_per_image=0.0,
        ),
    )


def printed(outcome, width):
    stream = io.StringIO()
    print_outcome(outcome, Console(file=stream, width=width, markup=False, highlight=False))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_wide_terminal_shows_every_average():
    lines = printed(outcome_of([scored()]), 240)
    assert lines[:4] == [
        "run abc on its val split",
        "2 slices of 2 people",
        "masks: no flips, threshold 0.5, nothing removed",
        "(95% intervals in brackets: bootstrap over people, 2000 resamples)",
    ]
    (dice,) = [line for line in lines if line.startswith("Dice  ")]
    assert dice.split() == ["Dice", "0.5000", "(0.0000-1.0000)", "0.5000", "0.5000", "0.5000", "(0.0000-1.0000)",
                            "0.5000", "(0.0000-1.0000)"]  # fmt: skip
    assert "slices with a Dice of 0: 50.0% (0.0%-100.0%)" in lines
    (glioma,) = [line for line in lines if line.startswith("glioma")]
    assert glioma.split()[:5] == ["glioma", "2", "2", "0.5000", "(0.0000-1.0000)"]
    assert glioma.split()[-2:] == ["3.0", "50.0%"]
    (near,) = [line for line in lines if line.startswith("near the foreground")]
    assert near.split() == ["near", "the", "foreground", "0.5000", "100"]
    for rule in RULES:
        assert rule[:60] in "\n".join(lines)


def test_a_narrow_terminal_shows_fewer_columns_and_cuts_none():
    lines = printed(outcome_of([scored()]), 80)
    assert max(map(len, lines)) <= 80
    (glioma,) = [line for line in lines if line.startswith("glioma")]
    assert glioma.split() == ["glioma", "2", "2", "0.5000", "(0.0000-1.0000)", "0.5000", "50.0%"]


def test_another_data_set_is_named_by_its_place():
    lines = printed(outcome_of([scored(part="data-made", location="/data/[made]")]), 100)
    assert lines[0] == "run abc on /data/[made]"


def test_several_runs_have_a_row_each_and_one_without_fold_0():
    runs = [scored("abc", measures=SLICES[:1], fold=0), scored("def", measures=SLICES[1:], fold=3)]
    outcome = outcome_of(runs)
    assert [(row.name, row.dice.value) for row in outcome.by_run] == [
        ("fold 0, run abc", 1.0),
        ("fold 3, run def", 0.0),
        ("without fold 0", 0.0),
    ]
    assert outcome.summary.overall.measures["dice"].mean.value == 0.5
    assert sum(outcome.calibrations[""].all_pixels.pixels) == 200
    assert printed(outcome, 240)[0] == "2 runs, pooled over their val splits"


def test_a_mean_of_runs_says_of_which():
    runs = [scored("abc", measures=SLICES[:1], fold=0, other="ghi"), scored("def", measures=SLICES[1:], fold=3)]
    lines = printed(outcome_of(runs), 240)
    assert lines[0] == "3 runs, pooled over their val splits"
    assert lines[2] == "probabilities: of each slice the mean over 1 to 2 runs"
    by_run = lines.index("By run")
    assert [line.split("  ")[0] for line in lines[by_run + 2 : by_run + 6]] == [
        "fold 0, ensemble of 2 runs",
        "fold 3, run def",
        "without fold 0",
        "fold 0, ensemble of 2 runs: abc, ghi",
    ]
    alone = printed(outcome_of([scored("abc", other="ghi")]), 240)
    assert alone[0] == "ensemble of runs abc, ghi on their val split"
    assert alone[2] == "probabilities: of each slice the mean over 2 runs"


@pytest.mark.parametrize("folds", [(1, 2), (None, None), (0, 0)], ids=["others", "no folds", "fold 0 alone"])
def test_without_fold_0_stands_only_beside_fold_0(folds):
    runs = [scored(run_id, measures=[SLICES[n]], fold=folds[n]) for n, run_id in enumerate(("abc", "def"))]
    assert [row.name.rpartition(" ")[2] for row in outcome_of(runs).by_run] == ["abc", "def"]


def test_the_markdown_has_the_same_tables_and_the_rules():
    text = as_markdown(outcome_of([scored(settings=MaskSettings(flip="all"))]))
    assert text.startswith(
        "# Evaluation of run abc on its val split\n\n2 slices of 2 people\n\nmasks: mean over all flips, "
    )
    assert (
        "| Dice | 0.5000 (0.0000-1.0000) | 0.5000 | 0.5000 | 0.5000 (0.0000-1.0000) | 0.5000 (0.0000-1.0000) |" in text
    )
    assert "\n## By type\n\n| type | slices | people | Dice |" in text
    for rule in RULES:
        assert f"- {rule}\n" in text
