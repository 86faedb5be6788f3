"""`sweep export`: what the file has, and that `report`, `compare` and `sweep status` read it as they read the study."""

import csv
import functools
import hashlib
import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import refusal
from made_archives import members
from made_runs import SLICES
from pages import Page
from PIL import Image

from brainseg.compare import __main__ as compare
from brainseg.report import __main__ as report
from brainseg.sweep import __main__ as sweep
from brainseg.tracking import MemoryStore

refused = functools.partial(refusal.refused_here, sweep.main)


@pytest.fixture
def alone(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in a folder without anything else, where no store can be opened."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    file = exported.rename(folder / exported.name)
    monkeypatch.chdir(folder)

    def refuse(config: object) -> None:
        raise AssertionError("a store is opened")

    monkeypatch.setattr("brainseg.tracking.open_store", refuse)
    return file


def digest(path: Path, *, foreground: int = 1) -> str:
    """Of shape and pixels, by another way than brainseg's. foreground: what stands for 1 in the file."""
    pixels = np.asarray(Image.open(path))[..., None] // foreground
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def test_the_file_has_trials_runs_curves_scores_and_digests(exported: Path, slices: Path, store: MemoryStore) -> None:
    found = members(exported)
    trials = json.loads(found["studies/quick/trials.json"])
    assert [trial["state"] for trial in trials] == [*["COMPLETE"] * 6, "PRUNED"]
    assert [trial["values"] for trial in trials[:3]] == [[0.5], [0.5], [0.625]]
    assert trials[6]["intermediate_values"] == {"1": 0.1}
    assert [row["state"] for row in table(found, "studies/quick/trials.csv")] == [*["complete"] * 6, "pruned"]

    curves = table(found, "curves.csv")
    of_best = [
        float(row["value"]) for row in curves if (row["run_id"], row["metric"]) == ("memory-7", "val_dice_image")
    ]
    assert of_best == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert {row["run_id"] for row in curves} == {f"memory-{number}" for number in range(2, 9)}

    expected = [
        [
            name,
            patient,
            digest(slices / "images" / f"{name}.png"),
            digest(slices / "masks" / f"{name}.png", foreground=255),
        ]
        for name, (patient, _) in SLICES.items()
    ]
    assert [[*row.values()] for row in table(found, "slices.csv")] == expected
    assert found["runs/memory-7/val_scores.csv"].decode() == store.text("memory-7", "val_scores.csv")
    assert not [name for name in found if name.endswith((".npz", ".png", ".keras"))]


def table(found: dict[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(found[name].decode())))


def test_the_same_study_gives_the_same_bytes(exported: Path, root: Path) -> None:
    assert sweep.main(["export", "quick", "-o", "again.zip", f"tracking.root={root}"]) == 0
    assert Path("again.zip").read_bytes() == exported.read_bytes()


def test_the_versions_that_the_commit_asks_for_are_there(store: MemoryStore, root: Path) -> None:
    repository = Path(sweep.__file__).parents[2]
    head = subprocess.run(["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        pytest.skip("brainseg isn't in a git checkout")
    store.trackers["memory-2"].tags["git_commit"] = head.stdout.strip()
    assert sweep.main(["export", "quick", "-o", "quick.zip", f"tracking.root={root}"]) == 0
    kept = subprocess.run(["git", "-C", str(repository), "show", "HEAD:requirements.lock"], capture_output=True)
    assert members(Path("quick.zip"))["requirements.lock"] == kept.stdout


def test_compare_shows_the_runs_of_the_file(
    alone: Path, store: MemoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compare.main(["quick.zip", "--csv", "-"]) == 0
    from_file = capsys.readouterr().out
    assert compare.main(["quick.zip", "model.depth=5", "--csv", "-"]) == 0
    deep = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["run_id"] for row in deep} == {"memory-5", "memory-8"}
    assert compare.main(["quick.zip", "--pair", "memory-2", "memory-7", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"]["value"] == pytest.approx(0.5)
    assert [path.name for path in Path().iterdir()] == ["quick.zip"]
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: store)
    assert compare.main(["quick", "--csv", "-"]) == 0
    assert capsys.readouterr().out == from_file


@pytest.mark.heavy
def test_status_and_report_say_the_same_of_the_file_as_of_the_study(
    alone: Path, store: MemoryStore, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep.main(["status", "quick.zip", "--json"]) == 0
    from_file = json.loads(capsys.readouterr().out)
    assert report.main(["quick.zip", "-o", "file.html"]) == 0
    answer = capsys.readouterr().out.splitlines()[0]
    assert sorted(path.name for path in Path().iterdir()) == ["file.html", "quick.zip"]

    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: store)
    assert sweep.main(["status", "quick", "--json", f"tracking.root={root}"]) == 0
    assert json.loads(capsys.readouterr().out) == from_file
    assert report.main(["quick", "--root", str(root), "-o", "store.html"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == answer
    pages = Page("file.html"), Page("store.html")
    assert pages[0].data == pages[1].data
    assert pages[0].table(0) == pages[1].table(0)


def test_a_report_of_two_runs_of_the_file(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["quick.zip", "memory-2", "memory-7", "-o", "two.html"]) == 0
    assert "Dice 1.0000 against 0.5000" in capsys.readouterr().out


def test_the_file_that_is_there_stays(exported: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = exported.read_bytes()
    assert refused(f"export quick -o {exported} tracking.root={root}", capsys) == (
        f"{exported} exists, and is left as it is; name another file with -o FILE"
    )
    assert exported.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param("export quick -o quick.tar", "-o must name a file that ends in .zip, got quick.tar", id="ending"),
        pytest.param("export quick -o no/quick.zip", "no is not a folder; create it first", id="folder"),
        pytest.param("export quikc -o quick.zip", "no study 'quikc' in ", id="unknown"),
        pytest.param("export quick -o quick.zip model.depth=3", "export takes tracking.*, data.root,", id="key"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    arguments: str, message: str, store: MemoryStore, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(f"{arguments} tracking.root={root}", capsys).startswith(message)


def test_data_that_has_changed_or_is_gone_is_refused(
    store: MemoryStore, slices: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"export quick -o quick.zip tracking.root={root}"
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(slices / "images" / "s3.png")
    assert refused(command, capsys).startswith("the data of quick has changed since its trials were trained")
    gone = slices.rename(slices.with_name("moved"))
    assert refused(command, capsys) == (
        f"the study's data {slices} isn't there; name where it lies here by data.root=DIR"
    )
    assert refused(f"{command} data.root={gone}", capsys).startswith("the data of quick has changed")
