"""The command `compare`: tables and pairs of made-up runs, whose numbers are worked out by hand."""

import csv
import functools
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import refusal
from rich.console import Console

from brainseg.compare.__main__ import main
from brainseg.compare.comparison import compare
from brainseg.compare.text import print_comparison
from brainseg.errors import Pruned
from brainseg.tracking import MemoryStore, MemoryTracker, Tracker

HEAD = "id,patient_id,tumor_type,area_px,dice,iou\n"
# Two people with two slices each: P1 gains 0.5 and 0.25, P2 loses 0.25 and stays.
SCORES_A = HEAD + "s1,P1,glioma,9,0.25,0\ns2,P1,pituitary,9,0.5,0\ns3,P2,glioma,9,0.75,0\ns4,P2,glioma,9,1.0,0\n"
SCORES_B = HEAD + "s1,P1,glioma,9,0.75,0\ns2,P1,pituitary,9,0.75,0\ns3,P2,glioma,9,0.5,0\ns4,P2,glioma,9,1.0,0\n"
HIDDEN = "\nThere are more finished runs; --top N shows N of them, --top all every one.\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """memory-1 to memory-8: a, b, other split, other data, without slices' scores, pruned, running, a parent."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    made = MemoryStore()
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: made)
    with run(made, depth=4, sweep="quick") as tracker:
        record(tracker, score=0.625, scores=SCORES_A)
    with run(made, depth=5, sweep="quick") as tracker:
        record(tracker, score=0.75, scores=SCORES_B)
    with run(made, split="s" * 64) as tracker:
        record(tracker, score=0.875, scores=SCORES_B.replace("s1", "t1").replace("s4", "t4"))
    with run(made, data="e" * 64) as tracker:
        record(tracker, score=0.5, scores=SCORES_A)
    with run(made) as tracker:
        record(tracker, score=0.25, scores=None)
    with pytest.raises(Pruned), run(made):
        raise Pruned("pruned after epoch 3", epoch=3)
    made.open_tracker(run_name="running")
    with made.open_tracker(run_name="quick", tags={"sweep": "quick", "sweep_role": "parent"}):
        pass
    return made


@contextmanager
def run(
    store: MemoryStore, *, depth: int = 4, data: str = "d" * 64, split: str = "f" * 64, **tags: str
) -> Iterator[MemoryTracker]:
    with store.open_tracker(run_name=f"depth {depth}", tags=tags) as tracker:
        tracker.log_params({"model.depth": depth, "seed": 0, "run_name": f"depth {depth}", "model.dropout": 0.0001})
        tracker.set_tags({"data_fingerprint": data, "split_fingerprint": split})
        yield tracker


def record(tracker: Tracker, *, score: float, scores: str | None) -> None:
    tracker.log_metrics({"seconds": 60.0}, epoch=1)
    tracker.log_metrics({"seconds": 30.0, "final_dice": score}, epoch=2)
    if scores is not None:
        tracker.log_text(scores, "val_scores.csv")


def printed(arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments.split()) == 0
    out = capsys.readouterr()
    assert out.err == ""
    return out.out


refused = functools.partial(refusal.refused, main)


def test_the_table_ranks_what_can_be_ranked(store: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed("memory-1 memory-2 memory-5 memory-6 memory-7", capsys).splitlines()
    assert [line.split() for line in lines[:6]] == [
        ["#", "final_dice", "(95%)", "depth", "minutes", "data", "split", "state", "run"],
        ["1", "0.7500", "(0.7500-0.7500)", "5", "1.5", "dddddddd", "ffffffff", "finished", "memory-2"],
        ["2", "0.6250", "(0.3750-0.8750)", "4", "1.5", "dddddddd", "ffffffff", "finished", "memory-1"],
        ["3", "0.2500", "4", "1.5", "dddddddd", "ffffffff", "finished", "memory-5"],
        ["4", "dddddddd", "ffffffff", "pruned", "memory-6"],
        ["running", "memory-7"],
    ]
    assert "No interval: the run's val_scores.csv is missing, or is of one person alone." in lines


def test_each_run_is_a_line_on_a_terminal_that_is_too_narrow(store: MemoryStore) -> None:
    console = Console(width=70, force_terminal=True, color_system=None, file=io.StringIO())
    print_comparison(compare(store, ["quick", "memory-3", "memory-7"], experiment="brainseg", top=20), console)
    lines = console.file.getvalue().splitlines()
    assert lines[:3] == [
        "1 final_dice 0.8750 (0.7500-0.7500), depth=4, 1.5 minutes, data ",
        "dddddddd, split ssssssss, finished, run memory-3",
        "* final_dice 0.7500 (0.7500-0.7500), depth=5, 1.5 minutes, data ",
    ]
    assert lines[6] == "running, run memory-7"


def test_a_score_on_another_split_or_other_data_is_marked(
    store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed("memory-2 memory-1 memory-4", capsys).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "*"]
    assert "eeeeeeee* ffffffff*" in " ".join(lines[3].split())
    assert (
        "* other data than run memory-2, the first one: other slices were scored, so that these scores can't be "
        "ranked against it."
    ) in lines
    first = printed("--top 2", capsys)  # the first one decides what the others are held against
    assert [line.split()[0] for line in first.splitlines()[1:3]] == ["1", "*"]
    assert "* other split than run memory-3, the first one: " in first
    assert first.endswith(HIDDEN)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", "3 2 1 4 5 7 6"),
        ("quick", "2 1"),
        ("quick memory-5", "2 1 5"),
        ("quick model.depth=5", "2"),
        ("model.depth=4", "3 1 4 5 6"),
        ("state=pruned", "6"),
        ("state=finished model.dropout=1e-4 model.depth=5", "2"),
    ],
)
def test_runs_are_chosen_by_ids_studies_and_conditions(
    store: MemoryStore, capsys: pytest.CaptureFixture[str], words: str, found: str
) -> None:
    runs = json.loads(printed(f"{words} --json -", capsys))["runs"]
    assert [each["run_id"] for each in runs] == [f"memory-{number}" for number in found.split()]


def test_the_table_is_read_back_from_its_files(store: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    printed("quick memory-6 --csv runs.csv --json runs.json", capsys)
    rows = list(csv.DictReader(io.StringIO(Path("runs.csv").read_text())))
    assert rows[1] == {
        "rank": "2",
        "run_id": "memory-1",
        "name": "depth 4",
        "state": "finished",
        "final_dice": "0.625",
        "low": "0.375",
        "high": "0.875",
        "training_seconds": "90.0",
        "data": "d" * 64,
        "split": "f" * 64,
        "mark": "",
        "model.depth": "4",
    }
    assert [rows[2][key] for key in ("rank", "state", "final_dice", "low")] == ["", "pruned", "", ""]
    whole = json.loads(Path("runs.json").read_text())
    assert (whole["schema_version"], whole["differing"]) == (1, ["model.depth"])
    assert whole["runs"][0]["params"] == store.read("memory-2").params
    assert refused("quick --csv runs.csv", capsys) == (
        "runs.csv exists; name another file with --csv FILE, or replace it with --force"
    )
    printed("quick --csv runs.csv --force", capsys)
    assert len(Path("runs.csv").read_text().splitlines()) == 3


def test_a_pair_is_compared_slice_by_slice(store: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    # A draw is P1 twice (mean 0.375), P2 twice (-0.125) or both (0.125): the ends are a quarter each.
    assert printed("--pair memory-1 memory-2", capsys) == (
        "A  run memory-1 depth 4: Dice 0.6250\n"
        "B  run memory-2 depth 5: Dice 0.7500\n"
        "on the 4 val slices of 2 people that both have scored\n"
        "\n"
        "Difference in Dice, B - A: 0.1250 (-0.1250 to 0.3750)\n"
        "Not told apart: the interval holds 0, so that the difference may be chance.\n"
        "\n"
        "By type\n"
        "type       slices                       B - A\n"
        "glioma          3  0.0833 (-0.1250 to 0.5000)\n"
        "pituitary       1                      0.2500\n"
        "\n"
        "Gained most\n"
        "slice       A       B    B - A  type     \n"
        "s1     0.2500  0.7500  +0.5000  glioma   \n"
        "s2     0.5000  0.7500  +0.2500  pituitary\n"
        "\n"
        "Lost most\n"
        "slice       A       B    B - A  type  \n"
        "s3     0.7500  0.5000  -0.2500  glioma\n"
        "\n"
        "(95% intervals in brackets: bootstrap over people, 2000 resamples)\n"
    )


def test_a_pair_is_compared_on_common_slices_alone_and_in_its_files(
    store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "note: 2 slices that A alone has scored and 2 that B alone has scored are left out\n" in printed(
        "--pair memory-1 memory-3 --csv pair.csv --json pair.json", capsys
    )
    assert Path("pair.csv").read_text() == (
        "id,patient_id,tumor_type,dice_a,dice_b,difference\ns2,P1,pituitary,0.5,0.75,0.25\ns3,P2,glioma,0.75,0.5,-0.25\n"
    )
    whole = json.loads(Path("pair.json").read_text())
    assert whole["difference"] == {"value": 0.0, "low": -0.25, "high": 0.25}
    assert whole["by_type"]["glioma"] == {"value": -0.25, "low": None, "high": None}
    assert (whole["slices"], whole["people"], whole["only_a"], whole["only_b"]) == (2, 2, 2, 2)


def test_a_pair_is_compared_on_the_test_part_once_it_is_evaluated(
    store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, masks in (("memory-1", "threshold 0.5"), ("memory-2", "threshold 0.4")):
        store.trackers[number].texts["evaluation/test/scores.csv"] = SCORES_A.replace("glioma", "")
        store.trackers[number].tags["evaluation_test_masks"] = masks
    text = printed("--pair memory-1 memory-2 --split test", capsys)
    assert "on the 4 test slices of 2 people" in text
    assert "note: no other configuration has been scored on these test slices here\n" in text
    assert "note: masks were made differently: A threshold 0.5; B threshold 0.4\n" in text
    assert "Difference in Dice, B - A: 0.0000 (0.0000-0.0000)\n" in text
    assert "Gained" not in text
    assert printed("--pair memory-1 memory-2 --part test", capsys) == text  # the option's name in brainseg 0.1


USAGE = "; python -m brainseg.compare --help shows how it is used"
CASES = [
    ("quik", "no run and no study 'quik' here (the start of an id needs 6 characters); did you mean 'quick'?"),
    ("memory", "'memory' is the start of several ids, of memory-3 and memory-2 for two; give more of it"),
    ("0123456789ab", "no run and no study '0123456789ab' here; python -m brainseg.compare lists the runs"),
    (
        "model.dept=5",
        "no run in experiment 'brainseg' has the parameter or tag model.dept; did you mean 'model.depth'?",
    ),
    ("quick stat=finished", "no run of quick has the parameter or tag stat; did you mean 'state'?"),
    (
        "model.depth=9",
        "no run in experiment 'brainseg' has model.depth=9; leave a condition out, or check the values",
    ),
    ("=5", "'=5' is not of the form key=value, such as model.depth=5 or state=finished"),
    ("state=finished state=pruned", "state is given twice, and all conditions must hold; leave one out"),
    ("--top 0", "argument --top: must be a whole number from 1 on, or all, got '0'" + USAGE),
    ("--split test", "--split belongs to --pair A B; a table shows the validation scores" + USAGE),
    ("quick --pair memory-1 memory-2", "--pair names both runs itself; leave the others out" + USAGE),
    ("--csv nowhere/a.csv", "nowhere is not a folder; create it first"),
    ("--csv - --json -", "--csv and --json both name -; name two files"),
    ("--pair memory-1 memory-1", "--pair needs two runs, and both 'memory-1' and 'memory-1' name run memory-1"),
    ("--pair memory-1 mem", "the start of a run id needs at least 6 characters, got 'mem'"),
    (
        "--pair memory-1 memory-9",
        "no run 'memory-9' here; python -m brainseg.compare lists them, or check --root and --uri",
    ),
    (
        "--pair memory-1 memory-4",
        "run memory-1 and run memory-4 were trained on different data (dddddddd and eeeeeeee), so that their slices "
        "can't be paired; name two runs on the same data",
    ),
    (
        "--pair memory-1 memory-6",
        "run memory-6 has no val_scores.csv (state: pruned); name a run that was trained to its end",
    ),
    (
        "--pair memory-1 memory-2 --split test",
        "run memory-1 has no evaluation/test/scores.csv (state: finished); "
        "score it with python -m brainseg.evaluate memory-1 --split test",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[arguments for arguments, _ in CASES])
def test_bad_input_is_one_line(
    arguments: str, message: str, store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(arguments, capsys) == message


def test_runs_without_a_slice_in_common_cannot_be_paired(
    store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.trackers["memory-2"].texts["val_scores.csv"] = SCORES_B.replace("\ns", "\nt")
    assert refused("--pair memory-1 memory-2", capsys) == (
        "run memory-1 and run memory-2 have no val slice in common; name two runs on the same split"
    )
    store.trackers["memory-2"].texts["val_scores.csv"] = "id,dice\ns1,much\n"
    assert refused("--pair memory-1 memory-2", capsys) == (
        "val_scores.csv of run memory-2 can't be read; restore the artifact that the run recorded"
    )


def test_where_there_is_no_store_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert refused("", capsys) == (
        f"no runs are kept in sqlite:///{tmp_path}/mlruns/mlflow.db; train one first, "
        "or check tracking.root and tracking.uri"
    )
