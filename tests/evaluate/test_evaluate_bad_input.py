"""What can be wrong with an evaluation: one line, exit code 2, found before TensorFlow starts, nothing written."""

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import refusal

from brainseg.config import RunConfig
from brainseg.config_file import to_yaml
from brainseg.data.load import RunData, load_data
from brainseg.data.phantom.source import PhantomSource, write_phantom
from brainseg.data.split import Split
from brainseg.errors import Pruned
from brainseg.evaluate import __main__ as evaluate
from brainseg.tracking import MODEL_FILE, MemoryStore, MemoryTracker

LAYOUT = "images/7.png with masks/7.png, or PATIENT/7.tif with PATIENT/7_mask.tif"


@pytest.fixture
def store(tmp_path: Path, tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Runs that nothing can be predicted with: their model is no model.

    memory-1 plain, memory-2 on the same split, memory-3 pruned, memory-4 running, memory-5 on other data, memory-6
    the parent of the study cv; then those with broken artifacts.
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
    config = tiny()
    data = load_data(config)
    for _ in range(2):
        add_run(made, data)
    with pytest.raises(Pruned), made.open_tracker(run_name="pruned"):
        raise Pruned("pruned after epoch 3", epoch=3)
    made.open_tracker(run_name="running")
    add_run(made, data, fingerprint="f" * 64)
    add_run(made, data, tags={"sweep": "cv", "sweep_role": "parent"})
    add_run(made, data, texts={"config.yaml": "model: [1"})
    add_run(made, data, texts={"config.yaml": to_yaml(config).replace("schema_version: 1", "schema_version: 9")})
    add_run(made, data, texts={"config.yaml": to_yaml(config).replace("dropout", "dropot")})
    add_run(made, data, texts={"split.json": "{"})
    add_run(made, data, texts={"split.json": '{"schema_version": 1, "train": ["a"], "val": ["zz"]}'})
    return made


def add_run(
    store: MemoryStore,
    data: RunData,
    *,
    fingerprint: str | None = None,
    tags: dict[str, str] | None = None,
    texts: dict[str, str] | None = None,
) -> MemoryTracker:
    with store.open_tracker(run_name="made", tags=tags) as tracker:
        tracker.set_tags({"data_fingerprint": fingerprint or data.slices.fingerprint, "threads": "2"})
        for name, text in (
            {"config.yaml": to_yaml(data.config), "split.json": data.split.to_json()} | (texts or {})
        ).items():
            tracker.log_text(text, name)
        tracker.files[MODEL_FILE] = b"not a model"
    return tracker


def add_run_with_a_smaller_validation_part(store: MemoryStore, config: RunConfig) -> tuple[MemoryTracker, Split]:
    """A run that was trained on the first validation slice of memory-1 as well; and the split of memory-1."""
    data = load_data(config)
    split = data.split
    fewer = dataclasses.replace(split, train=(*split.train, split.val[0]), val=split.val[1:])
    return add_run(store, data, texts={"split.json": fewer.to_json()}), split


refused = functools.partial(refusal.refused_here, evaluate.main)

USAGE = "; python -m brainseg.evaluate --help shows how it is used"
CASES = [
    ("", "name runs by their ids, or a study with --study NAME" + USAGE),
    ("memory-1 --study cv", "name runs by their ids, or a study with --study NAME" + USAGE),
    ("memory-1 --splt test", "unrecognized arguments: --splt test" + USAGE),
    ("memory-1 --threshold much", "argument --threshold: invalid float value: 'much'" + USAGE),
    ("memory-1 --threshold 2", "--threshold must be between 0 and 1, both excluded, got 2.0"),
    ("memory-1 --threshold 0", "--threshold must be between 0 and 1, both excluded, got 0.0"),
    ("memory-1 --threshold nan", "--threshold must be between 0 and 1, both excluded, got nan"),
    ("memory-1 --min-area -1", "--min-area must be at least 0, got -1"),
    ("memory-1 --min-area 1.5", "argument --min-area: invalid int value: '1.5'" + USAGE),
    *(
        (
            f"memory-1 --tune {option}",
            "--tune chooses --flip, --shift, --threshold and --min-area itself; leave them out",
        )
        for option in ("--flip all", "--shift none", "--threshold 0.5", "--min-area 0")
    ),
    ("memory-99", "no run 'memory-99' in memory; it has " + ", ".join(f"memory-{number}" for number in range(1, 12))),
    ("memory-1 memory-2 memory-1", "run memory-1 is named twice; leave one out"),
    ("--study cv --study cv", "study cv is named twice; leave one out"),
    ("memory-3", "run memory-3 has no model (state: pruned); name a run that was trained to its end"),
    ("memory-4", "run memory-4 has no model (state: running); name a run that was trained to its end"),
    (
        "memory-6",
        "run memory-6 is the parent run of study cv and has no model; name one of the study's runs, "
        "or evaluate them all with --study cv",
    ),
    (
        "--study cv",
        "study cv has no finished runs here; check the name, --root and --uri, or train them first",
    ),
    (
        "memory-1 --split test",
        "run memory-1 has no test slices in its split; score its validation slices with --split val, "
        "or train with data.test_fraction or data.folds",
    ),
    (
        "memory-1 memory-2",
        "run memory-1 has no test slices in its split; score its validation slices with --split val, "
        "or train with data.test_fraction or data.folds",
    ),
    (
        "memory-1 memory-2 --split val",
        "slice axial-0003a-0 is in the val split of run memory-1 and of run memory-2, "
        "and a pooled score counts each slice once; average them with --average, or evaluate them one by one",
    ),
    *(
        (
            f"{runs} --average",
            "--average is for runs that score the same slices, and no two of these do; leave it out",
        )
        for runs in ("memory-1", "memory-1 --tune")
    ),
    (
        "memory-5",
        "run memory-5: the data in phantom of 8 patients, seed 0 has changed since the run was trained; "
        "restore it, or score the run on it as another data set with --data DIR",
    ),
    ("memory-7", "config.yaml of run memory-7 is not YAML; restore the file that brainseg wrote"),
    (
        "memory-8",
        "config.yaml of run memory-8 has schema_version 9, and this brainseg reads 1; "
        "use the brainseg version in the run's environment/packages.txt",
    ),
    ("memory-9", "model.dropot is not a configuration key; did you mean 'model.dropout'?"),
    ("memory-10", "split.json of run memory-10 is not JSON; restore the artifact that the run recorded"),
    (
        "memory-11",
        "split.json of run memory-11 names slice zz, which its data doesn't have (1 in all); "
        "restore the artifact that the run recorded",
    ),
    ("memory-1 --data nowhere", f"nowhere doesn't exist; name a folder that holds {LAYOUT}"),
    ("memory-1 --data a-file", f"a-file is a file; name a folder that holds {LAYOUT}"),
    ("memory-1 --data empty", f"empty holds neither {LAYOUT}"),
    ("memory-1 --data half", f"half holds neither {LAYOUT}; it has images/ but no masks/"),
    (
        "memory-1 --data half data.image_size=64",
        "data.image_size is what the run has; only data.annotations, data.images, data.masks may be given, "
        "of --data DIR",
    ),
    (
        "memory-1 data.annotations=a.json",
        "data.annotations is what the run has; only data.annotations, data.images, data.masks may be given, "
        "of --data DIR",
    ),
    (
        "memory-1 --data half data.annotations=a.json",
        "half/a.json can't be read (No such file or directory); restore it, or make it readable",
    ),
    ("memory-1 --data half data.images={id}.png", "data.images needs data.masks; add data.masks=PATTERN"),
    ("memory-1 -o a-file", "-o must name a folder, got the file a-file; name another"),
    ("memory-1 -o a-file/deep", "-o must name a folder, got the file CWD/a-file; name another"),
    ("memory-1 -o half", "-o half must be a new or an empty folder, but something is there; name another one"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[arguments or "nothing" for arguments, _ in CASES])
def test_what_can_not_be_evaluated_is_refused(
    arguments: str, message: str, store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a-file").write_text("a text")
    Path("empty").mkdir()
    Path("half", "images").mkdir(parents=True)
    assert refused(arguments, capsys) == message


def test_a_part_that_a_split_never_has_is_refused(store: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused("memory-1 --split train", capsys).startswith("argument --split: invalid choice: 'train' (choose")


@pytest.mark.heavy
def test_runs_of_different_data_are_not_pooled(
    store: MemoryStore, tiny: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"data.folds": 2, "data.val_fraction": 0.4}
    first = add_run(store, load_data(tiny(**keys, **{"data.fold": 0})))
    other = add_run(store, load_data(tiny(**keys, **{"data.fold": 1, "data.phantom_seed": 7})))
    assert refused(f"{first.run_id} {other.run_id}", capsys) == (
        f"run {first.run_id} and run {other.run_id} were trained on different data; evaluate them one by one"
    )


def test_a_slice_of_another_data_set_can_not_be_scored_by_two_runs(
    store: MemoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_phantom(PhantomSource(patients=2, seed=3), tmp_path / "others")
    said = refused(f"memory-1 memory-2 --data {tmp_path / 'others'}", capsys)
    assert said.endswith(
        "is in the data-others split of run memory-1 and of run memory-2, "
        "and a pooled score counts each slice once; average them with --average, or evaluate them one by one"
    )


@pytest.mark.parametrize("option", ["", " --tune"])
def test_models_of_two_sizes_are_not_averaged(
    option: str, store: MemoryStore, tiny: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    other = add_run(store, load_data(tiny(**{"data.image_size": 64})))
    assert refused(f"memory-1 {other.run_id} --split val --average{option}", capsys) == (
        f"run memory-1 and run {other.run_id} work at 32 and at 64 pixels, and only models of one data.image_size can "
        "be averaged; leave one out"
    )


def test_runs_that_share_but_a_part_of_their_slices_are_not_averaged(
    store: MemoryStore, tiny: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    other, split = add_run_with_a_smaller_validation_part(store, tiny())
    assert refused(f"memory-1 memory-2 {other.run_id} --split val --average", capsys) == (
        f"slice {split.val[1]} is in the val split of run memory-1 and of run {other.run_id}, "
        "and a pooled score counts each slice once; evaluate them one by one"
    )


def test_settings_are_chosen_on_slices_that_no_averaged_model_was_trained_on(
    store: MemoryStore, tiny: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, _ = add_run_with_a_smaller_validation_part(store, tiny())
    write_phantom(PhantomSource(patients=2, seed=3), tmp_path / "others")
    assert refused(f"memory-1 {other.run_id} --data {tmp_path / 'others'} --average --tune", capsys) == (
        f"run memory-1 and run {other.run_id} have different validation slices, and --tune needs slices that no model "
        "was trained on; leave --tune out, or one of the runs"
    )


def test_two_studies_of_one_name_are_not_mixed(
    store: MemoryStore, tiny: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    with store.open_tracker(run_name="cv", tags={"sweep": "cv", "sweep_role": "parent"}) as parent:
        pass
    add_run(store, load_data(tiny()), tags={"sweep": "cv"})
    assert refused("--study cv", capsys) == (
        f"2 studies are called cv, with the parent runs memory-6, {parent.run_id}; name the runs by their ids instead"
    )


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--uri ftp://ada:s3cret@host",
            "tracking.uri must start with one of sqlite://, http://, https://, postgresql://, mysql://, mssql://, got "
            "'ftp://ada:***@host'; leave it out for sqlite:///CWD/mlruns/mlflow.db",
        ),
        (
            "--root runs",
            "no runs are kept in sqlite:///CWD/runs/mlflow.db; "
            "train one first, or check tracking.root and tracking.uri",
        ),
    ],
)
def test_a_process_says_one_line_and_leaves_nothing(option: str, message: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "brainseg.evaluate", "abc", *option.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(evaluate.__file__).parents[2])},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {message.replace('CWD', str(tmp_path))}\n"
    assert list(tmp_path.iterdir()) == []
