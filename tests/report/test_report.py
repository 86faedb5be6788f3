"""The command `report`: what the page says of runs whose scores are worked out by hand, and what it refuses."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import refusal
from made_classes import add_class_run
from made_runs import NASTY, add_run, add_study, write_slices
from pages import Page
from PIL import Image

from brainseg.config import TrackingConfig
from brainseg.report import __main__ as report
from brainseg.sweep.outcome.facts import StudyFacts
from brainseg.sweep.outcome.front import FrontTrial
from brainseg.tracking import MemoryStore, open_tracker

refused = functools.partial(refusal.refused_here, report.main)


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    return write_slices(tmp_path / "slices")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Empty; the current folder is one without files."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("BRAINSEG_STORAGE", raising=False)
    made = MemoryStore()
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: made)
    return made


@pytest.fixture
def three(store: MemoryStore, slices: Path) -> MemoryStore:
    """memory-1 with Dice 0.75 on each slice; memory-2 with 1; memory-3 with 1, 0.75 and 0.625 on those of a person."""
    add_run(store, slices, name="first", shifts=[2] * 6)
    add_run(store, slices, name="second", shifts=[0] * 6, model__dropout=0.3)
    add_run(store, slices, name="third", shifts=[0, 0, 2, 2, 3, 3], model__depth=4)
    return store


def page_of(arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[Page, str]:
    """The page, and its answer, which is printed as well."""
    assert report.main([*arguments.split(), "-o", "out.html"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    answer, file = printed.out.splitlines()
    assert file == "report  out.html"
    assert [path.name for path in Path().iterdir()] == ["out.html"]
    page = Page("out.html")
    assert answer in page.text
    return page, answer


def test_the_best_run_and_its_gain_come_first(three: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    page, answer = page_of("memory-1 memory-2 memory-3", capsys)
    assert answer == (
        "'second' is better than the baseline 'first': Dice 1.0000 against 0.7500, a gain of 0.2500 (0.2500-0.2500)."
    )
    assert page.text.index("Which run segments the validation slices best") < page.text.index(answer)
    assert "over the 6 validation slices of 3 people that both runs have scored" in page.text
    assert "'second' is the best of 3 runs on these very slices" in page.text
    assert page.headings == [
        "Question and answer",
        "Curves",
        "Runs",
        "Predictions of second",
        "What differs in the configurations",
        "Cost",
        "Where it comes from",
        "Doing it again",
    ]


def test_an_interval_that_holds_zero_is_no_gain(three: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    # The differences of the three people are 0.25, 0 and -0.125: drawn with replacement, -0.125 to 0.25.
    _, answer = page_of("memory-1 memory-3", capsys)
    assert answer == (
        "Not told apart: 'third' has the highest Dice, 0.7917 against 0.7500 of the baseline 'first', but the 95% "
        "interval of the gain, 0.0417 (-0.1250 to 0.2500), holds 0: the difference may be chance."
    )


def test_a_baseline_can_be_named_and_may_be_the_best(three: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    _, answer = page_of("memory-1 memory-3 --baseline memory-2", capsys)
    # The differences of the three people are 0, -0.25 and -0.375.
    assert answer == (
        "No run is better than the baseline 'second': 'third' has Dice 0.7917 against 1.0000, "
        "a difference of -0.2083 (-0.3750 to 0.0000)."
    )
    Path("out.html").unlink()
    _, answer = page_of("memory-2 memory-1", capsys)
    assert answer.startswith("No run is better than the baseline 'second', whose Dice is 1.0000 (")


def test_a_single_run_is_told_as_it_is(three: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    page, answer = page_of("memory-3", capsys)
    assert answer == "'third' has a Dice of 0.7917 (0.6250-1.0000)."
    assert "How well does this run segment the validation slices?" in page.text


def test_scores_on_different_splits_are_not_ranked(
    three: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(three, slices, name="fourth", shifts=[0] * 6, split="e" * 64)
    page, answer = page_of("memory-1 memory-4", capsys)
    assert answer.startswith("The scores can't be ranked: the runs were scored on different slices")
    assert [row[0] for row in page.table(0)[1:]] == ["*", "1"]
    Path("out.html").unlink()
    page, answer = page_of("memory-1 memory-2 memory-4", capsys)
    assert answer.startswith("'second' is better than the baseline 'first'")
    assert "1 run marked with * was scored on other slices (another split, or other data)" in page.text


def test_a_baseline_that_was_never_scored_is_said(
    three: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(three, slices, name="gone", pruned_after=1)
    _, answer = page_of("memory-4 memory-1", capsys)
    assert answer == (
        "'first' is the best with a Dice of 0.7500 (0.7500-0.7500); "
        "the baseline 'gone' is pruned, without a final Dice."
    )


@pytest.mark.heavy
def test_a_study_is_held_against_its_baseline(
    store: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "mlruns"
    add_study(store, slices, root)
    page, answer = page_of(f"quick --root {root}", capsys)
    assert answer == (
        f"'{NASTY}' is better than the baseline 'quick 000': Dice 1.0000 against 0.5000, "
        "a gain of 0.5000 (0.5000-0.5000)."
    )
    assert page.headings[2] == "Parameters of study quick"
    assert "Best val_dice_image: 1.0000, trial 5: 0.5000 better than the baseline (0.5000)." in page.text
    assert "quick: 7 of 7 trials finished: 6 complete, 1 pruned." in page.text
    assert "Importance for val_dice_image" in page.text
    drawn = {name: len(content["data"]) for name, content in page.data.items()}
    assert drawn == {
        "data-curves": 7,
        "data-importance": 1,
        "data-slice-0": 1,
        "data-slice-1": 1,
        "data-slice-2": 1,
        "data-parallel": 6,
    }
    # One run was pruned after 1 of 4 epochs of half a minute; six had all.
    assert "Training 12.5 minutes in all, without pauses" in page.text
    assert "Epochs 25 " in page.text
    assert "Saved by pruning 3 epochs, about 1.5 minutes" in page.text
    assert page.text.endswith("for research.")
    for command in ("python -m brainseg.sweep run quick", "python -m brainseg.train run_name=quick 000"):
        assert command in page.text


def test_a_study_without_its_storage_says_what_is_missing(
    store: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    add_study(store, slices, tmp_path / "mlruns")
    page, answer = page_of(f"quick --root {tmp_path / 'elsewhere'}", capsys)
    assert "is better than the baseline 'quick 000'" in answer
    assert "Nothing can be drawn of them: the storage of the study isn't here" in page.text
    assert set(page.data) == {"data-curves"}


def test_a_front_says_which_trials_are_not_worth_their_cost(
    store: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts = [[4] * 6, [3, 4, 3, 4, 3, 4], [0, 0, 5, 5, 2, 2], [1] * 6]
    trials = tuple(
        FrontTrial(
            number=number,
            values=(1e3 * (number + 1), 0.5 + number / 10),
            run_id=add_run(store, slices, name=f"quick {number}", shifts=each, tags={"sweep": "quick"}),
        )
        for number, each in enumerate(shifts)
    )
    metrics = {"parameters": "minimize", "val_dice_image": "maximize"}
    facts = StudyFacts(name="quick", baseline=None, metrics=metrics, front=trials)
    monkeypatch.setattr("brainseg.sweep.outcome.facts.facts_of_study", lambda *names, **places: facts)
    page, _ = page_of("quick", capsys)
    # Of trial 2 the differences of the three people from trial 1 are 0.4375, -0.1875 and 0.1875.
    assert "Trial 2 is not to be told from trial 0 and trial 1, which cost less." in page.text
    assert "Better than all that cost less: trial 0 and trial 1." in page.text
    table = next(rows for rows in map(page.table, range(2)) if rows[0][0] == "trial")
    assert [(row[0], row[1], row[4]) for row in table[1:]] == [
        ("3", "4000", "2"),
        ("2", "3000", "0, 1"),
        ("1", "2000", ""),
        ("0", "1000", ""),
    ]
    assert table[4][3] == "0.5000 (0.5000-0.5000)"


def test_names_are_text_wherever_they_stand(
    store: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(store, slices, name=NASTY, shifts=[2] * 6)
    add_run(store, slices, name="</script><b>x</b>", shifts=[0] * 6)
    page, _ = page_of("memory-1 memory-2", capsys)
    assert page.text.count(NASTY) >= 3
    assert NASTY not in page.source
    assert "</script><b>" not in page.source
    # In a figure Plotly would take <b> for bold.
    assert [line["name"] for line in page.data["data-curves"]["data"]] == [
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&lt;/script&gt;&lt;b&gt;x&lt;/b&gt;",
    ]


def test_only_keys_that_differ_are_shown(three: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    page, _ = page_of("memory-1 memory-2 memory-3", capsys)
    assert page.table(0)[0] == [
        *("#", "run", "final_dice", "95% interval", "depth", "dropout", "epochs run", "minutes", "split", "state", "id")
    ]
    assert page.table(0)[1] == [
        *("1", "second", "1.0000", "1.0000 to 1.0000", "5", "0.3", "4", "2.0", "ffffffff", "finished", "memory-2")
    ]
    assert page.table(1) == [
        ["key", "baseline", "best", "values"],
        ["model.depth", "5", "5", "5 (2) 4 (1)"],
        ["model.dropout", "0.1", "0.3", "0.1 (2) 0.3 (1)"],
    ]


def test_where_runs_come_from_is_told(three: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    three.trackers["memory-3"].tags["code_changed"] = "yes"
    page, _ = page_of("memory-1 memory-2 memory-3", capsys)
    assert page.table(2) == [
        ["data", "slices"],
        ["fingerprint of the data", "d" * 64],
        ["split by", "patient"],
        ["fingerprint of the split", "f" * 64],
        ["people with slices on both sides of the split", "0"],
        ["git commit", "c" * 40],
        ["uncommitted changes in the code", "no (2) yes (1)"],
        ["number format", "float32"],
        ["threads", "2"],
    ]
    assert page.table(3) == [["host", "here"], ["memory gib", "8.0"]]
    assert "numpy==2.0" in page.text


def test_curves_can_be_switched_to_the_losses(three: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    page, _ = page_of("memory-1 memory-2", capsys)
    figure = page.data["data-curves"]
    assert [line["y"] for line in figure["data"]] == [[0.08, 0.18, 0.28, 0.38], [0.1, 0.2, 0.3, 0.4]]
    assert figure["choices"]["val_loss"]["y"] == [[0.92, 0.82, 0.72, 0.62], [0.9, 0.8, 0.7, 0.6]]
    assert figure["choices"]["train_loss"]["x"] == [[1, 2, 3, 4]] * 2


def test_no_more_than_two_hundred_curves_are_drawn(
    store: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(store, slices, name="scored", shifts=[2] * 6, tags={"sweep": "many", "trial": "0"})
    for number in range(1, 203):
        tracker = store.open_tracker(run_name=f"run {number}", tags={"sweep": "many", "trial": str(number)})
        with tracker:
            tracker.log_metrics({"val_dice_image": 0.5, "seconds": 1.0}, epoch=1)
    page, _ = page_of("many", capsys)
    assert len(page.data["data-curves"]["data"]) == 200
    assert "3 further runs aren't drawn; they stand in the table." in page.text
    assert len(page.table(0)) == 1 + 203


def test_predictions_are_drawn_with_both_outlines(three: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    page, _ = page_of("memory-1", capsys)
    outlines = [path["d"] for path in page.named("path") if path.get("class") in ("truth", "predicted")][2:]
    assert outlines == ["M5 4H13V12H5Z", "M7 4H15V12H7Z"] * 6
    assert [image["href"][:23] for image in page.named("image")] == ["data:image/webp;base64,"] * 6


def test_each_class_is_drawn_in_its_colour(
    store: MemoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_class_run(store, tmp_path / "classes", name="classes")
    page, _ = page_of("memory-1", capsys)
    drawn = [path for path in page.named("path") if path.get("class") in ("truth", "predicted")]
    legend, outlines = drawn[2:4], drawn[4:]
    orange, blue = "stroke: #e69f00", "stroke: #56b4e9"
    assert [path["style"] for path in legend] == [orange, blue]
    # The worst slice, which has no road, comes first.
    assert [(path["class"], path["style"], path["d"]) for path in outlines] == [
        ("truth", orange, "M5 4H13V12H5Z"),
        ("predicted", orange, "M9 4H17V12H9Z"),
        ("truth", blue, ""),
        ("predicted", blue, ""),
        ("truth", orange, "M5 4H13V12H5Z"),
        ("predicted", orange, "M7 4H15V12H7Z"),
        ("truth", blue, "M0 20H16V22H0Z"),
        ("predicted", blue, "M0 20H16V22H0Z"),
    ]
    assert "of each class in its colour: car <script>" in page.text


def test_the_gain_of_each_class_is_told(store: MemoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_class_run(store, tmp_path / "classes", name="classes")
    add_class_run(store, tmp_path / "classes", name="nearer", nearer=2)
    page, _ = page_of("memory-1 memory-2 --baseline memory-1", capsys)
    # Dice of the cars: 0.75 and 0.5 before, 1 and 0.75 now; the road is the same.
    assert "It is the mean over the classes, whose gains are: car 0.2500 (0.2500-0.2500), " in page.text


def test_without_the_data_the_recorded_picture_is_shown(
    three: MemoryStore, slices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slices.rename(tmp_path / "moved")
    page, _ = page_of("memory-1", capsys)
    missing = f"Drawn anew they can't be: run memory-1: its data {slices} isn't there"
    assert missing in page.text
    assert "and the run has no figures/predictions.png." in page.text
    Path("out.html").unlink()
    Image.new("L", (3, 2)).save(tmp_path / "predictions.png")
    with three.open_tracker(run_name="first", run_id="memory-1") as tracker:
        tracker.log_file(tmp_path / "predictions.png", folder="figures")
    page, _ = page_of("memory-1", capsys)
    assert missing in page.text
    (picture,) = page.named("img")
    assert picture["src"].startswith("data:image/png;base64,")
    assert picture["alt"]
    Path("out.html").unlink()
    page, _ = page_of(f"memory-1 --data {tmp_path / 'moved'}", capsys)
    assert len(page.named("image")) == 6


def test_data_that_has_changed_is_not_drawn(
    three: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (32, 24)).save(slices / "masks" / "s3.png")
    page, _ = page_of("memory-1", capsys)
    assert "isn't what the run was scored on (slice s3 doesn't give its recorded Dice)" in page.text
    assert page.named("image") == []


def test_the_page_is_built_for_everybody(three: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    page, _ = page_of("memory-1 memory-2", capsys)
    assert len(page.named("h1")) == 1
    assert page.named("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")
    assert page.named("a")[0] == {"class": "skip", "href": "#main"}
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.named("a")} <= set(ids)
    for attributes in page.named("svg") + page.named("img"):
        assert attributes.get("aria-hidden") or attributes.get("aria-label") or attributes.get("alt")
    assert not [each for _, each in page.elements if re.match("(?i)https?:", each.get("src", each.get("href", "")))]


CASES = [
    ("memory-9", "no run and no study 'memory-9' here; python -m brainseg.compare lists the runs"),
    ("quik", "no run and no study 'quik' here (the start of an id needs 6 characters); did you mean 'quick'?"),
    ("memory-1 -o here.html", "here.html exists; name another file with -o FILE, or replace it with --force"),
    ("memory-1 -o no/out.html", "no is not a folder; create it first"),
    ("memory-1 -o .", "-o . is a folder; name a file"),
    ("memory-1 --baseline memory-9", "no run 'memory-9' here; python -m brainseg.compare lists them, or check "),
    ("quick memory-1", "study quick must be named alone, got quick memory-1; make a report of each"),
    ("memory-1 --storage s.journal", "--storage belongs to a study, and runs are named; leave it out"),
    ("memory-4", "none of the 1 runs has finished with a final_dice; name runs that were trained to their end, "),
    ("quick --storage no.journal", "no study 'quick' in CWD/no.journal; start it with: "),
    ("memory-1 --data no", "no doesn't exist; name a folder that holds "),
    ("", "the following arguments are required: STUDY|RUN_ID|FILE.zip; "),
]


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[arguments or "nothing" for arguments, _ in CASES])
def test_bad_input_is_one_line(
    arguments: str, message: str, three: MemoryStore, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("here.html").write_text("mine")
    add_run(three, slices, name="pruned", pruned_after=1, tags={"sweep": "quick"})
    with three.open_tracker(run_name="quick", tags={"sweep": "quick", "sweep_role": "parent"}):
        pass
    said = refused(arguments, capsys)
    assert said.startswith(message)
    assert Path("here.html").read_text() == "mine"


def test_a_file_is_replaced_where_that_is_asked_for(three: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.html").write_text("mine")
    page, _ = page_of("memory-1 --force", capsys)
    assert page.headings[0] == "Question and answer"


@pytest.mark.heavy
def test_a_report_is_made_from_sqlite_without_tensorflow(
    tmp_path: Path, slices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = MemoryStore()
    add_run(made, slices, name="first", shifts=[2] * 6)
    tracker = made.trackers["memory-1"]
    config = TrackingConfig(root=str(tmp_path / "mlruns"))
    with open_tracker(config, run_name="first", tags={}) as stored:
        stored.log_params(tracker.params)
        for epoch, metrics in tracker.metrics:
            stored.log_metrics(metrics, epoch=epoch)
        for name, text in tracker.texts.items():
            stored.log_text(text, name)
        file = made.file("memory-1", "val_predictions.npz", tmp_path)
        stored.log_file(file)
    code = (
        "import sys; from brainseg.report.__main__ import main\ntry: main(sys.argv[1:])\nfinally: print(*sys.modules)"
    )
    arguments = [stored.run_id, "--root", config.root, "-o", str(tmp_path / "out.html")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=Path.cwd(), capture_output=True, text=True, check=True
    )
    answer, _, modules = done.stdout.splitlines()
    assert answer == "'first' has a Dice of 0.7500 (0.7500-0.7500)."
    assert not {"tensorflow", "keras", "optuna"} & set(modules.split())
    page = Page(tmp_path / "out.html")
    assert len(page.named("image")) == 6
    assert page.data["data-curves"]["data"][0]["y"] == [0.08, 0.18, 0.28, 0.38]
