"""The command `gallery`: what the page holds of slices that are worked out by hand, and what it refuses."""

import functools
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import refusal
from made_classes import add_class_run
from made_runs import NASTY, SLICES, add_run, square, write_slices
from pages import Page
from PIL import Image

from brainseg.gallery import __main__ as gallery
from brainseg.tracking import MemoryStore

refused = functools.partial(refusal.refused_here, gallery.main)


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    return write_slices(tmp_path / "slices")


@pytest.fixture
def store(tmp_path: Path, slices: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """memory-1 with Dice 0.75 on each slice, memory-2 with 1, 0.75 and 0.625 on those of a person.

    The current folder is one without files.
    """
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = MemoryStore()
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: made)
    add_run(made, slices, name="first", shifts=[2] * 6)
    add_run(made, slices, name="second", shifts=[0, 0, 2, 2, 3, 3])
    return made


def page_of(arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[Page, str]:
    """The page, and what it says at its head, which is printed as well."""
    assert gallery.main([*arguments.split(), "-o", "out.html"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    summary, file = printed.out.splitlines()
    assert file == "gallery  out.html"
    assert [path.name for path in Path().iterdir()] == ["out.html"]
    page = Page("out.html")
    assert summary in page.text
    return page, summary


def slices_of(page: Page) -> dict[str, Any]:
    """Id -> slice."""
    return {item["id"]: item for item in page.data["data-gallery"]["slices"]}


def test_every_slice_is_there_with_the_corners_of_its_outlines(
    store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    page, summary = page_of("memory-2", capsys)
    # (1 + 0.75 + 0.625) / 3
    assert summary == "6 validation slices of 3 people, mean Dice 0.7917."
    assert page.data["data-gallery"]["runs"] == ["second"]
    found = slices_of(page)
    assert list(found) == list(SLICES)
    assert all(item.pop("image").startswith("data:image/webp;base64,") for item in found.values())
    assert found["s3"] == {
        "id": "s3",
        "patient": "P2",
        "type": "meningioma",
        "height": 24,
        "width": 32,
        "area": 64,
        "areas": [64],
        "truth": ["M5 4H13V12H5Z"],
        "dices": [0.75],
        "class_dices": [[0.75]],
        "predicted": [["M7 4H15V12H7Z"]],
    }
    assert found["s6"]["predicted"] == [["M8 4H16V12H8Z"]]
    assert page.data["data-gallery"]["classes"] == []


def test_two_runs_are_paired_slice_by_slice(store: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    page, summary = page_of("memory-1 memory-2", capsys)
    # The differences of the three people are 0.25, 0 and -0.125: drawn with replacement, -0.125 to 0.25.
    assert summary == (
        "6 validation slices of 3 people that both runs have scored: mean Dice 0.7500 of 'first' and 0.7917 of "
        "'second'. The second less the first is 0.0417 (-0.1250 to 0.2500), in brackets the 95% interval."
    )
    assert page.data["data-gallery"]["runs"] == ["first", "second"]
    assert {key: item["dices"] for key, item in slices_of(page).items()} == {
        "s1": [0.75, 1.0],
        "s2": [0.75, 1.0],
        "s3": [0.75, 0.75],
        "s4": [0.75, 0.75],
        "s5": [0.75, 0.625],
        "s6": [0.75, 0.625],
    }
    assert slices_of(page)["s5"]["predicted"] == [["M7 4H15V12H7Z"], ["M8 4H16V12H8Z"]]


def test_only_slices_that_both_have_scored_are_shown(
    store: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = {key: SLICES[key] for key in ("s2", "s5")}
    add_run(store, slices, name="third", shifts=[0, 0], slices=two)
    page, summary = page_of("memory-1 memory-3", capsys)
    assert list(slices_of(page)) == ["s2", "s5"]
    assert summary.startswith("2 validation slices of 2 people that both runs have scored: mean Dice 0.7500 of 'first'")
    assert summary.endswith(" 4 more, which one run alone has scored, aren't shown.")


def test_a_slice_where_nothing_is_predicted_has_no_outline(
    store: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(store, slices, name="third", shifts=[24] * 6)
    page, _ = page_of("memory-3", capsys)
    assert [item["predicted"] for item in slices_of(page).values()] == [[[""]]] * 6


def test_names_are_text_wherever_they_stand(
    store: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(store, slices, name=NASTY, shifts=[2] * 6)
    page, _ = page_of("memory-3", capsys)
    assert page.text.count(NASTY) == 2
    assert NASTY not in page.source
    assert page.data["data-gallery"]["runs"] == [NASTY]


def test_the_data_may_lie_elsewhere_now(
    store: MemoryStore, slices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slices.rename(tmp_path / "moved")
    assert refused("memory-1", capsys) == (
        f"run memory-1: its data {slices} isn't there; name where it lies now with --data DIR"
    )
    page, _ = page_of(f"memory-1 --data {tmp_path / 'moved'}", capsys)
    assert len(slices_of(page)) == 6


def test_runs_whose_true_masks_differ_are_refused(
    store: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A square further to the right by 4 gives the same Dice with the first run's, which is by 2, but not with another.
    Image.fromarray(square(4).astype(np.uint8) * np.uint8(255)).save(slices / "masks" / "s1.png")
    assert len(slices_of(page_of("memory-1", capsys)[0])) == 6
    Path("out.html").unlink()
    assert refused("memory-1 memory-2", capsys) == (
        f"run memory-2: the data in {slices} isn't what the run was scored on (slice s1 doesn't give its recorded "
        "Dice); restore it, or name where the run's data lies with --data DIR"
    )
    store.trackers["memory-2"].tags["data_fingerprint"] = "e" * 64
    assert refused("memory-1 memory-2", capsys) == (
        "run memory-1 and run memory-2 were trained on different data (dddddddd and eeeeeeee), so that their slices "
        "can't be paired; name two runs on the same data"
    )


def test_the_page_is_built_for_everybody(store: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    page, _ = page_of("memory-1 memory-2", capsys)
    assert len(page.named("h1")) == 1
    assert page.named("html") == [{"lang": "en"}]
    assert page.named("a")[0] == {"class": "skip", "href": "#main"}
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "main" in ids
    assert re.findall(r"https?://\S+", page.source) == [
        'http://www.w3.org/2000/svg";'
    ]  # a name, which is asked for nothing


@pytest.fixture
def classes(store: MemoryStore, tmp_path: Path) -> MemoryStore:
    """memory-3, of slices in colour with a car and, but for the last one, a road."""
    add_class_run(store, tmp_path / "classes", name="classes")
    return store


def test_each_class_has_outlines_in_its_colour_and_its_own_dice(
    classes: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    page, summary = page_of("memory-3", capsys)
    # Cars: (0.75 + 0.5) / 2. Roads: 1 on the one slice that has one.
    assert summary == "2 validation slices, mean Dice 0.8125."
    assert page.data["data-gallery"]["classes"] == [
        {"name": "car", "colour": "#e69f00"},
        {"name": NASTY, "colour": "#56b4e9"},
    ]
    found = slices_of(page)
    assert list(found) == ["c1", "c2"]
    assert all(item.pop("image").startswith("data:image/webp;base64,") for item in found.values())
    assert found["c1"] == {
        "id": "c1",
        "patient": "",
        "type": "",
        "height": 24,
        "width": 32,
        "area": 64 + 32,
        "areas": [64, 32],
        "truth": ["M5 4H13V12H5Z", "M0 20H16V22H0Z"],
        "dices": [0.875],
        "class_dices": [[0.75, 1.0]],
        "predicted": [["M7 4H15V12H7Z", "M0 20H16V22H0Z"]],
    }
    assert (found["c2"]["areas"], found["c2"]["dices"], found["c2"]["class_dices"]) == ([64, 0], [0.5], [[0.5, None]])
    boxes = [each["data-outline"] for each in page.named("input") if "data-outline" in each]
    assert boxes == ["truth", "predicted", "class-0", "class-1"]
    assert NASTY not in page.source


def test_a_mask_that_gives_one_class_another_dice_is_refused(
    classes: MemoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.where(square(), np.uint8(1), np.uint8(0))  # the road is gone; the car gives its recorded Dice
    Image.fromarray(mask).save(tmp_path / "classes" / "masks" / "c1.png")
    assert "(slice c1 doesn't give its recorded Dice)" in refused("memory-3", capsys)


CASES = [
    ("memory-9", "no run 'memory-9' here; python -m brainseg.compare lists them, or check --root and --uri"),
    ("memory-1 memory-1", "run memory-1 is named twice; name two runs, or one alone"),
    ("memory-1 -o here.html", "here.html exists; name another file with -o FILE, or replace it with --force"),
    ("memory-1 -o no/out.html", "no is not a folder; create it first"),
    ("memory-3", "run memory-3 has no val_scores.csv (state: pruned); name a run that was trained to its end"),
    (
        "memory-1 memory-4",
        "run memory-1 and run memory-4 have no val slice in common; name two runs on the same split",
    ),
    ("memory-1 --data no", "no doesn't exist; name a folder that holds "),
    ("", "the following arguments are required: RUN_ID; "),
]


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[arguments or "nothing" for arguments, _ in CASES])
def test_bad_input_is_one_line(
    arguments: str, message: str, store: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("here.html").write_text("mine")
    add_run(store, slices, name="pruned", pruned_after=1)
    add_run(store, slices, name="other", shifts=[0], slices={"s7": ("P4", "glioma")})
    assert refused(arguments, capsys).startswith(message)
    assert Path("here.html").read_text() == "mine"


def archive(**arrays: Any) -> bytes:
    """As `np.savez` writes it, with predictions of one slice of 8x8 pixels unless it is said otherwise."""
    content = io.BytesIO()
    usual = {"schema_version": 1, "ids": ["s1"], "shapes": [[8, 8]], "bits": np.zeros(8, np.uint8)}
    np.savez_compressed(content, **{name: np.asarray(array) for name, array in (usual | arrays).items()})
    return content.getvalue()


def one_array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


DAMAGED = {
    "no archive": b"ids: s1\n",
    "empty": b"",
    "one array": one_array(),
    "cut off": archive()[:-60],
    "other bytes": archive().replace(archive()[60:70], bytes(10), 1),
    "a pickle": archive(ids=np.array([{"s1": 1}], dtype=object)),
    "another version": archive(schema_version=2),
    "no shapes": archive(shapes=np.zeros(0, np.int32)),
    "shapes of other masks": archive(shapes=[[8, 9]]),
    "shapes beyond memory": archive(shapes=[[2**31 - 1, 2**31 - 1]]),
    "shapes below zero": archive(shapes=[[-8, 8]]),
    "shapes of nothing": archive(shapes=[8]),
}


@pytest.mark.parametrize("content", DAMAGED)
def test_predictions_that_are_damaged_are_one_line(
    content: str, store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.trackers["memory-1"].files["val_predictions.npz"] = DAMAGED[content]
    said = "val_predictions.npz of run memory-1 can't be read; restore the artifact that the run recorded"
    assert refused("memory-1", capsys) == said


def test_a_file_is_replaced_where_that_is_asked_for(store: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.html").write_text("mine")
    page, _ = page_of("memory-1 --force", capsys)
    assert len(slices_of(page)) == 6


@pytest.mark.heavy
def test_a_gallery_is_made_without_tensorflow() -> None:
    code = (
        "import sys; import brainseg.gallery, brainseg.gallery.page, brainseg.tracking; "
        "print({'tensorflow', 'keras', 'optuna', 'mlflow', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
