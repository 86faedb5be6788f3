"""`sweep check` as far as nothing is trained: data against its digests, contradicting scores, verdicts."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_archives import members, write_members
from PIL import Image

from brainseg.scoring.slice_score import SliceScore
from brainseg.sweep.__main__ import main
from brainseg.sweep.archive.verdict import Scored, verdict
from brainseg.tracking import MemoryStore

PEOPLE = ("P1", "P1", "P2", "P2", "P3", "P3")


@pytest.fixture(params=["named", "anonymous"])
def file(request: pytest.FixtureRequest, store: MemoryStore, root: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The study as a file, with names and without."""
    options = ["--anonymous"] if request.param == "anonymous" else []
    assert main(["export", "quick", "-o", "quick.zip", f"tracking.root={root}", *options]) == 0
    capsys.readouterr()
    return Path("quick.zip")


@pytest.fixture
def changed(slices: Path, file: Path) -> Path:
    """The data afterwards: the mask of s2 differs, s4 is gone, s7 is new. Moved, as another lab has it elsewhere."""
    moved = slices.rename(slices.with_name("elsewhere"))
    for part, value in (("images", 100), ("masks", 255)):
        (moved / part / "s4.png").unlink()
        Image.fromarray(np.full((24, 32), value, np.uint8)).save(moved / part / "s7.png")
    Image.fromarray(np.full((24, 32), 255, np.uint8)).save(moved / "masks" / "s2.png")
    table = moved / "metadata.csv"
    table.write_text(table.read_text().replace("s4,P2,meningioma\n", "") + "s7,P4,glioma\n")
    return moved


def checked(arguments: str, capsys: pytest.CaptureFixture[str], *, code: int) -> str:
    """What the command prints."""
    assert main(["check", *arguments.split()]) == code
    return capsys.readouterr().out


def test_the_same_data_is_equal(file: Path, slices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = slices.rename(slices.with_name("elsewhere"))
    said = checked(f"quick.zip --part data data.root={moved}", capsys, code=0)
    assert said == "data: equal, pixel by pixel: 6 slices\n"


def test_slices_that_differ_are_missing_or_new_are_named(
    file: Path, changed: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    said = checked(f"quick.zip --part data data.root={changed}", capsys, code=1)
    lost = "S00004" if "anonymous" in request.node.name else "s4"
    assert said == f"data: not equal: of 6 slices 1 differ: s2 (mask); 1 missing: {lost}; 1 new: s7\n"


def test_a_run_whose_slices_are_missing_is_not_trained(
    file: Path, changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = checked(f"quick.zip --part winner data.root={changed}", capsys, code=1)
    assert said.startswith("winner: not trained again: 1 slices of its split are missing, first: ")


def test_data_that_is_not_there_is_one_line(exported: Path, slices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slices.rename(slices.with_name("elsewhere"))
    assert main(["check", str(exported)]) == 2
    assert capsys.readouterr().err == (
        f"error: the study's data {slices} isn't there; name where it lies here by data.root=DIR\n"
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        pytest.param(
            "memory-7,final_dice,4,1.0",
            "memory-7,final_dice,4,0.9",
            "its final_dice is 0.9000, and its slices have 1.0000",
            id="score",
        ),
        pytest.param(
            "memory-7,final_dice,4,1.0",
            "memory-7,final_dice,4,1.0\nmemory-7,best_val_dice_image,4,0.4",
            "trial 5 has val_dice_image 1.0000, and its run 0.4000",
            id="trial",
        ),
    ],
)
def test_scores_that_contradict_each_other_are_said(
    before: str, after: str, said: str, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = members(exported)
    changed = content["curves.csv"].replace(before.encode(), after.encode())
    assert changed != content["curves.csv"]
    write_members(exported, content | {"curves.csv": changed})
    assert checked(f"{exported} --part winner", capsys, code=1) == f"winner: not trained again: {said}\n"


def test_a_key_of_the_recipe_is_refused(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(exported), "model.depth=3"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: check takes tracking.*, data.root, data.cache_dir, plugins, seed,"
    )


def reached(dices: list[float], *, people: tuple[str, ...] = PEOPLE, last: float = 0.6) -> Scored:
    scores = [
        SliceScore(id=f"s{place}", patient_id=person, tumor_type="", dice=dice)
        for place, (person, dice) in enumerate(zip(people, dices, strict=True))
    ]
    return Scored(dice=float(np.mean(dices)), curve={1: 0.1, 2: last}, scores=scores, score_by="slice")


BEFORE = [0.5, 0.5, 0.7, 0.7, 0.9, 0.9]


@pytest.mark.parametrize(
    ("again", "outcome"),
    [
        pytest.param(reached(BEFORE), "equal", id="same"),
        pytest.param(reached([0.5, 0.5, 0.7, 0.7, 0.9, 0.9 + 1e-12]), "within", id="last_digit"),
        pytest.param(reached([0.7, 0.7, 0.5, 0.5, 0.9, 0.9]), "within", id="other_slices"),
        pytest.param(reached(BEFORE, last=0.6 + 1e-12), "within", id="curve"),
        pytest.param(reached([0.4] * 6), "not", id="worse"),
        pytest.param(reached([1.0] * 6), "not", id="better"),
    ],
)
def test_a_repetition_is_equal_within_the_interval_or_not(again: Scored, outcome: str) -> None:
    # Of three people with means 0.5, 0.7 and 0.9 the interval of the mean is from one of them to another.
    found = verdict("winner", reached(BEFORE), again, ids={f"s{place}": f"s{place}" for place in range(6)})
    assert found.outcome == outcome
    if outcome != "equal":
        assert "0.7000 (0.5000-0.9000) in the file" in found.text


def test_without_an_interval_only_the_same_digits_count() -> None:
    one = ("P1",) * 6
    ids = {f"s{place}": f"s{place}" for place in range(6)}
    before = reached(BEFORE, people=one)
    assert verdict("winner", before, before, ids=ids).outcome == "equal"
    near = reached([*BEFORE[:5], 0.9001], people=one)
    assert verdict("winner", before, near, ids=ids).outcome == "not"


@pytest.fixture
def startless(exported: Path, tmp_path: Path) -> Path:
    """A file whose run can't start, which is said before anything is recorded; by then the data has been decoded."""
    content = members(exported)
    name = "runs/memory-7/config.yaml"
    config = yaml.safe_load(content[name])
    config["data"]["cache_dir"] = config["tracking"]["root"] = str(tmp_path / "foreign")
    config["model"]["weights"] = str(tmp_path / "no.keras")
    write_members(exported, content | {name: yaml.safe_dump(config).encode()})
    return exported


@pytest.mark.heavy
def test_a_file_says_nothing_of_where_this_host_writes(
    startless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(startless), "--part", "winner", "tracking.root=own"]) == 2
    assert "no.keras" in capsys.readouterr().err
    assert not (tmp_path / "foreign").exists()
    assert [path.name for path in Path("own").iterdir()] == ["cache"]


@pytest.mark.heavy
@pytest.mark.parametrize("cache", ["below_the_root", "elsewhere"])
def test_with_tracking_private_a_check_closes_what_it_writes(
    cache: str, startless: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But a cache outside of the root, which may be for several users, is as open as their other files."""
    given = ["tracking.root=own", "tracking.private=true"]
    given += ["data.cache_dir=shared"] if cache == "elsewhere" else []
    umask = os.umask(0o027)
    try:
        assert main(["check", str(startless), "--part", "winner", *given]) == 2
    finally:
        assert os.umask(umask) == 0o027
    assert "no.keras" in capsys.readouterr().err
    root = Path("shared" if cache == "elsewhere" else "own")
    modes = {path.stat().st_mode & 0o777 for path in (root, *root.rglob("*"))}
    assert modes == ({0o750, 0o640} if cache == "elsewhere" else {0o700, 0o600})
