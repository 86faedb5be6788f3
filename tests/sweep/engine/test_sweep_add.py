"""`sweep add`: values of one's own, checked, and tried before the sampler's next draw."""

from pathlib import Path
from typing import Any

import pytest
from queue_processes import claimed, finish, queue_on
from refusal import refused
from study_files import SMALL, made_study

from brainseg.sweep.__main__ import main
from brainseg.sweep.engine.storage import journal_path, open_storage
from brainseg.sweep.engine.stored_study import open_study

ROOT = Path("mlruns")
JOURNAL = str(journal_path(ROOT, "study"))


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "BRAINSEG_STORAGE"):
        monkeypatch.delenv(name, raising=False)


def start(**changes: Any) -> None:
    config = made_study(Path(), **changes)
    open_study(open_storage(None, root=ROOT, name="study"), config, data_fingerprint="data")


def add(capsys: pytest.CaptureFixture[str], *values: str) -> list[str]:
    """The lines that the command prints."""
    assert main(["add", "study", *values]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_point_is_tried_next_and_what_is_left_out_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    start()
    assert add(capsys, "model.dropout=0.25") == [
        "study: trial 1 waits with model.dropout=0.25; the sampler draws model.depth",
        "go on with: python -m brainseg.sweep run study",
    ]
    assert add(capsys, "model.depth=5", "model.dropout=0", f"tracking.root={ROOT}", "--storage", JOURNAL) == [
        "study: trial 2 waits with model.dropout=0.0 model.depth=5",
        f"go on with: python -m brainseg.sweep run study tracking.root={ROOT} --storage {JOURNAL}",
    ]
    with queue_on(JOURNAL) as queue:
        baseline, first, second = (claimed(queue).params for _ in range(3))
        assert add(capsys, "model.depth=3")[1] == "the next worker that is free takes it"
    assert baseline == SMALL["baseline"]
    assert first["model.dropout"] == 0.25
    assert second == {"model.dropout": 0.0, "model.depth": 5}


def test_a_point_beyond_the_total_needs_a_higher_one(capsys: pytest.CaptureFixture[str]) -> None:
    start(trials=1)
    with queue_on(JOURNAL) as queue:
        finish(queue, claimed(queue))
    goes_on = "go on with: python -m brainseg.sweep run study --trials "
    assert add(capsys, "model.depth=5")[1] == f"{goes_on}2"
    assert add(capsys, "model.depth=3")[1] == f"{goes_on}3"


def test_what_waits_or_was_tried_is_not_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    start(baseline={"model.dropout": 0.15, "model.depth": 4})
    point = ("model.dropout=0.15", "model.depth=4")
    nothing = "nothing is added: trial 0 ({}) has model.dropout=0.15 model.depth=4"
    assert add(capsys, *point) == [nothing.format("waiting")]
    with queue_on(JOURNAL) as queue:
        claim = claimed(queue)
        assert add(capsys, *point) == [nothing.format("running")]
        finish(queue, claim)
        assert add(capsys, *point) == [nothing.format("complete")]
        assert "trial 1 waits" in add(capsys, point[0])[0]  # with another depth, maybe


def test_what_has_failed_may_be_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    start()
    with queue_on(JOURNAL) as queue:
        queue.fail(claimed(queue), "out of memory", may_retry=False)
    assert "trial 1 waits" in add(capsys, "model.dropout=0.1", "model.depth=4")[0]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("", "add takes the values to try, KEY=VALUE of model.dropout, model.depth"),
        ("model.dropout=0.33", "model.dropout must be between 0.0 and 0.5 in steps of 0.05, got 0.33"),
        ("model.dropout=much", "model.dropout must be between 0.0 and 0.5 in steps of 0.05, got 'much'"),
        ("model.depth=4.0", "model.depth must be a whole number between 3 and 5, got 4.0"),
        ("model.dropuot=0.1", "model.dropuot is not in the space; did you mean 'model.dropout'?"),
        ("train.epochs=3", "train.epochs is not in the space; leave it out"),
        ("model.dropout", "model.dropout is not of the form key=value; write model.dropout=VALUE"),
        ("model.depth=3,4", "model.depth=3,4 gives several values; give one"),
        ("model.depth=3 --storage no.journal", "no study 'study' in "),
    ],
)
def test_wrong_values_are_one_line_and_add_nothing(values: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    start()
    before = Path(JOURNAL).read_bytes()
    assert told in refused(main, f"add study {values}", capsys)
    assert Path(JOURNAL).read_bytes() == before


def test_a_point_that_cannot_be_trained_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The ends of a long range are checked when a study starts, not what lies between."""
    size = {"type": "int", "low": 64, "high": 192, "step": 8}
    space = {"data.image_size": size, "model.norm": {"type": "categorical", "choices": ["none", "batch"]}}
    start(space=space, baseline={}, overrides=["model.depth=4"])
    rule = "data.image_size must be divisible by 2**model.depth = 16, got 72; try "
    assert f"data.image_size=72 is refused: {rule}" in refused(main, "add study data.image_size=72", capsys)
    assert "trial 0 waits with data.image_size=80" in add(capsys, "data.image_size=80")[0]


def test_a_value_that_is_searched_only_sometimes_needs_its_condition(capsys: pytest.CaptureFixture[str]) -> None:
    space = {
        "optimizer": {"type": "categorical", "choices": ["adam", "adamw"]},
        "optimizer.weight_decay": {"type": "float", "low": 1e-6, "high": 1e-2, "when": {"optimizer": "adamw"}},
    }
    start(space=space, baseline={})
    told = "optimizer.weight_decay is searched only where optimizer is adamw; leave it out"
    assert told in refused(main, "add study optimizer.weight_decay=1e-4", capsys)
    assert (
        "trial 0 waits with optimizer=adamw optimizer.weight_decay=0.0001"
        in (add(capsys, "optimizer.weight_decay=1e-4", "optimizer=adamw")[0])
    )
    assert "; the sampler draws optimizer.weight_decay" in add(capsys, "optimizer=adamw")[0]
