"""A study that is exported, and trained again elsewhere: equal to the digit, within the interval, or not."""

import csv
import io
import json
from pathlib import Path

import pytest
from made_archives import members, write_members

from sweeps import RATE, MakeSweep, Sweep

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def file(make_sweep: MakeSweep) -> Path:
    """A study of a baseline that is the winner as well, exported without names."""
    overrides = [item for item in Sweep.overrides if "patients" not in item]
    sweep = make_sweep(
        "exported", trials=1, workers=1, overrides=[*overrides, "data.phantom_patients=16", "data.val_fraction=0.4"]
    )
    sweep.run("run", "tiny")
    said = sweep.run("export", "tiny", "-o", "tiny.zip", "--anonymous")
    assert said.splitlines()[0].startswith("tiny.zip: tiny with 1 trials; 2 runs, ")
    return sweep.folder / "tiny.zip"


def checked(make_sweep: MakeSweep, file: Path, *arguments: str, expected: int) -> tuple[str, Sweep]:
    """The line of the verdict, and the folder of the other lab."""
    lab = make_sweep("lab")
    said = lab.run("check", str(file), "--part", "baseline", *arguments, expected=expected)
    (line,) = [line for line in said.splitlines() if line.startswith("baseline: ")]
    return line, lab


def test_on_the_same_machine_it_comes_out_equal_to_the_digit(make_sweep: MakeSweep, file: Path) -> None:
    line, lab = checked(make_sweep, file, expected=0)
    assert line.startswith("baseline: equal to the digit: Dice ")
    parent, run = sorted(lab.runs(), key=lambda run: "parent" in run.tags)
    assert (parent.name, parent.status, run.tags["parent"]) == ("tiny.check", "FINISHED", parent.run_id)
    assert float(run.params[RATE]) == 1e-2
    stored = json.loads(lab.store.text(parent.run_id, "check.json"))
    assert [each["outcome"] for each in stored["verdicts"]] == ["equal"]


def test_in_another_number_format_it_is_within_the_interval(make_sweep: MakeSweep, file: Path) -> None:
    line, lab = checked(make_sweep, file, "train.precision=mixed_bfloat16", expected=0)
    assert line.startswith("baseline: within the interval: Dice ")
    assert "note: float32 on " in lab.commands[-1].text


def test_a_score_that_was_made_up_is_not_reproduced(make_sweep: MakeSweep, file: Path, tmp_path: Path) -> None:
    content = members(file)
    (name,) = [name for name in content if name.endswith("val_scores.csv")]
    rows = list(csv.DictReader(io.StringIO(content[name].decode())))
    scores = io.StringIO()
    writer = csv.DictWriter(scores, rows[0].keys())
    writer.writeheader()
    writer.writerows({**row, "dice": "0.99"} for row in rows)
    curves = [line.split(",") for line in content["curves.csv"].decode().splitlines()]
    made_up = "\n".join(",".join([*row[:3], "0.99" if row[1] == "final_dice" else row[3]]) for row in curves)
    write_members(tmp_path / "tiny.zip", content | {name: scores.getvalue().encode(), "curves.csv": made_up.encode()})
    line, _ = checked(make_sweep, tmp_path / "tiny.zip", expected=1)
    assert line.startswith("baseline: not reproduced: Dice 0.")
    assert "0.9900 (0.9900-0.9900) in the file" in line
