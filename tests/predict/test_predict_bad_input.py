"""What can be wrong with a prediction as a whole: one line, exit code 2, before TensorFlow starts, nothing written."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import refusal
from tiny_run import THREADS

from brainseg.config import RunConfig
from brainseg.config_file import to_yaml
from brainseg.data.split import Split
from brainseg.errors import Pruned
from brainseg.predict import __main__ as predict
from brainseg.tracking import MODEL_FILE, MemoryStore

ENDINGS = ".png, .jpg, .jpeg, .tif, .tiff, .bmp, .gif, .webp, .nii.gz, .nii"


@pytest.fixture
def store(tmp_path: Path, tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """memory-1 whole, but its model is no model; memory-2 pruned; memory-3 the parent of the study cv.

    memory-4 and memory-5 have statistics that can't be read.
    """

    def refuse() -> None:
        raise AssertionError("the bad input got as far as TensorFlow")

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("brainseg.runs.models.import_tensorflow", refuse)
    made = MemoryStore()
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: made)
    add_run(made, tiny())
    with pytest.raises(Pruned), made.open_tracker(run_name="pruned"):
        raise Pruned("pruned after epoch 3", epoch=3)
    with made.open_tracker(run_name="cv", tags={"sweep": "cv", "sweep_role": "parent"}):
        pass
    add_run(made, tiny(), statistics="{")
    add_run(made, tiny(), statistics='{"schema_version": 7}')
    return made


def add_run(store: MemoryStore, config: RunConfig, *, statistics: str | None = None) -> None:
    with store.open_tracker(run_name="made") as tracker:
        tracker.set_tags({"threads": str(THREADS)})
        tracker.log_text(to_yaml(config), "config.yaml")
        tracker.log_text(Split(train=("a",), val=("b",)).to_json(), "split.json")
        if statistics is not None:
            tracker.log_text(statistics, "data_statistics.json")
        tracker.files[MODEL_FILE] = b"not a model"


refused = functools.partial(refusal.refused_here, predict.main)

USAGE = "; python -m brainseg.predict --help shows how it is used"
CASES = [
    ("", "the following arguments are required: MODEL, IMAGES, -o/--output" + USAGE),
    ("memory-1 in", "the following arguments are required: -o/--output" + USAGE),
    ("memory-1 in -o out --treshold 1", "unrecognized arguments: --treshold 1" + USAGE),
    ("memory-1 in -o out --threshold much", "argument --threshold: invalid float value: 'much'" + USAGE),
    ("memory-1 in -o out --threshold 0", "--threshold must be between 0 and 1, both excluded, got 0.0"),
    ("memory-1 in -o out --threshold nan", "--threshold must be between 0 and 1, both excluded, got nan"),
    ("memory-1 in -o out --min-area -1", "--min-area must be at least 0, got -1"),
    ("memory-1 in -o out --average memory-1", "the model memory-1 is named twice; leave one out"),
    ("memory-1 nowhere -o out", "nowhere doesn't exist; name images, or folders that hold some"),
    ("memory-1 in/x.png in/y.png -o out", "in/y.png doesn't exist; name images, or folders that hold some"),
    ("memory-1 a-file -o out", f"a-file doesn't end in {ENDINGS}; name images, or folders that hold some"),
    ("memory-1 empty -o out", f"empty holds no image that ends in {ENDINGS} (masks aside); name another folder"),
    ("memory-1 in -o a-file", "-o must name a folder, got the file a-file; name another"),
    ("memory-1 in -o a-file/deep", "-o must name a folder, got the file CWD/a-file; name another"),
    ("memory-1 in -o full", "-o full must be a new or an empty folder, but something is there; name another one"),
    (
        "memory-1 in -o in/out",
        "-o in/out must not lie in in, or its masks are the next one's images; name a folder elsewhere",
    ),
    (
        "champion in -o out",
        "'champion' is no run and no alias of a registered model (there is none); "
        "name a run, an alias or a .keras file, or check --root and --uri",
    ),
    ("memory-2 in -o out", "run memory-2 has no model (state: pruned); name a run that was trained to its end"),
    (
        "memory-3 in -o out",
        "run memory-3 is the parent run of study cv and has no model; name one of the study's runs, "
        "or evaluate them all with --study cv",
    ),
    (
        "memory-4 in -o out",
        "data_statistics.json of run memory-4 can't be read; restore the artifact that the run recorded",
    ),
    (
        "memory-5 in -o out",
        "data_statistics.json of run memory-5 has schema_version 7, and this brainseg reads 1; "
        "use the brainseg version in the run's environment/packages.txt",
    ),
    ("gone.keras in -o out", "gone.keras isn't there; name a .keras file, or the id of a run"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[arguments or "nothing" for arguments, _ in CASES])
def test_what_can_not_be_predicted_is_refused(
    arguments: str, message: str, store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a-file").write_text("a text")
    for folder in ("empty", "in", "full"):
        Path(folder).mkdir()
    for file in ("in/x.png", "full/x.png"):
        Path(file).touch()
    assert refused(arguments, capsys) == message


def test_an_unknown_alias_is_answered_with_those_that_there_are(
    store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.registered = {"brainseg@champion": "memory-1", "brainseg@by-hand": ""}
    Path("x.png").touch()
    assert refused("chmpion x.png -o out", capsys) == (
        "'chmpion' is no run and no alias of a registered model (there are brainseg@by-hand, brainseg@champion); "
        "name a run, an alias or a .keras file, or check --root and --uri"
    )
    assert refused("by-hand x.png -o out", capsys) == (
        "the alias 'brainseg@by-hand' names a version without a run; "
        "register the model of a run, or name the .keras file"
    )


def test_a_model_that_can_not_be_loaded_leaves_nothing(
    store: MemoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainseg.runs.models.import_tensorflow", lambda: None)
    Path("x.png").touch()
    said = refused("memory-1 x.png -o out", capsys)
    assert said.startswith("the model of run memory-1 can't be loaded (")
    assert said.endswith(f"); restore the artifact {MODEL_FILE} of run memory-1, or train again")


@pytest.mark.heavy
def test_a_process_says_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    done = subprocess.run(
        [sys.executable, "-m", "brainseg.predict", "champion", "x.png", "-o", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(predict.__file__).parents[2])},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: no runs are kept in sqlite:///{tmp_path}/mlruns/mlflow.db; "
        "train one first, or check tracking.root and tracking.uri\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
