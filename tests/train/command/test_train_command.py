"""`python -m brainseg.train` from the outside: what it imports, prints, records and leaves."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import Command, Server
from tiny_run import TINY

from brainseg.compose import freeze, run_name
from brainseg.config import RunConfig, TrackingConfig, flatten
from brainseg.keys import as_line
from brainseg.tracking import MemoryTracker, RunRecord, open_store
from brainseg.train import __main__ as train
from brainseg.train.experiment import Result

# Half a minute of processor time; on a machine that trains beside the tests it takes its time.
pytestmark = pytest.mark.timeout(600)

SMALLER = {"train.epochs": 1, "model.depth": 1, "model.norm": "none", "data.augment": "none", "optimizer.name": "sgd"}
TINY_OVERRIDES = [f"{key}={value}" for key, value in (TINY | SMALLER).items()]
# Prints what was imported after the command has answered.
ANSWER_AND_LIST = """
import sys
from brainseg.train.__main__ import main
try:
    main(sys.argv[1:])
finally:
    print("imported", *(name for name in ("tensorflow", "keras", "mlflow", "matplotlib") if name in sys.modules))
"""


def python(arguments: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )


@pytest.mark.heavy
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]], ids=["help", "cfg"])
def test_help_shows_every_key_and_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    shown = python(["-c", ANSWER_AND_LIST, *arguments], cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[-1] == "imported"
    names = {line.strip().partition(":")[0] for line in lines}
    assert {key.rpartition(".")[2] for key in flatten(RunConfig())} <= names
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]], ids=["help", "cfg"])
def test_a_reader_that_has_seen_enough_ends_it_quietly(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "brainseg.train", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=580) == -signal.SIGPIPE


@pytest.mark.heavy
def test_help_shows_what_each_key_means_and_the_value_that_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["--help", "model.norm=none", "data=folder"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {
        "data: folder, nifti, phantom",
        "optimizer: adafactor, adam, adamw, lamb, lion, muon, nadam, rmsprop, sgd",
    } <= set(lines)
    assert "  norm: none                  # normalisation after each 3x3 convolution (none, batch)" in lines
    assert any(
        line.startswith("  image_size: 256             # pixels a side of what the model sees") for line in lines
    )
    assert train.main(["--help", "model.nrom=none"]) == 2
    assert capsys.readouterr().err == "error: model.nrom is not a configuration key; did you mean 'model.norm'?\n"


@pytest.mark.heavy
def test_cfg_shows_what_would_run(tmp_path: Path) -> None:
    shown = python(["-m", "brainseg.train", "model.dropout=0.25", "--cfg", "job"], cwd=tmp_path)
    assert "  dropout: 0.25\n" in shown.stdout


@pytest.fixture(scope="module")
def multirun(
    tmp_path_factory: pytest.TempPathFactory, process_server: Server, empty_store: Path
) -> tuple[Path, Command]:
    """A multirun of two tiny trainings, its flag between the keys: the folder, and the finished process."""
    folder, output = tmp_path_factory.mktemp("multirun"), tmp_path_factory.mktemp("printed") / "output.txt"
    (folder / "mlruns").mkdir()
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    arguments = ["model.dropout=0.1,0.2", "-m", *TINY_OVERRIDES, "tracking.experiment='a name, with a comma'"]
    pid = process_server.start("brainseg.train", *arguments, folder=folder, output=output)
    command = Command(pid, output, process_server)
    command.exit_code()
    return folder, command


@pytest.fixture
def records(multirun: tuple[Path, Command], monkeypatch: pytest.MonkeyPatch) -> list[RunRecord]:
    """What the store knows of the runs that the multirun named on its terminal."""
    folder, command = multirun
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = open_store(TrackingConfig(root=str(folder / "mlruns")))
    ids = [line.split()[1] for line in command.text.splitlines() if line.startswith("run         ")]
    return [store.read(run_id) for run_id in ids]


def test_a_multirun_tracks_a_run_for_each_value(multirun: tuple[Path, Command], records: list[RunRecord]) -> None:
    assert multirun[1].exit_code() == 0, multirun[1].text
    assert [record.status for record in records] == ["FINISHED", "FINISHED"]
    assert [record.params["model.dropout"] for record in records] == ["0.1", "0.2"]
    assert [record.name.split()[:2] for record in records] == [["phantom", "dropout=0.1"], ["phantom", "dropout=0.2"]]
    assert [sorted(record.metrics["val_dice_image"]) for record in records] == [[1], [1]]


def test_a_multirun_leaves_only_the_records(multirun: tuple[Path, Command]) -> None:
    assert [path.name for path in multirun[0].iterdir()] == ["mlruns"]


def test_the_overrides_of_a_run_can_be_pasted_again(records: list[RunRecord]) -> None:
    for record in records:
        pasted = freeze(shlex.split(record.tags["overrides"]))
        parameters = {key: str(value) for key, value in flatten(pasted).items() if key != "resume"}
        found_out = {"data.channels": "grey", "data.score_by": "slice"}  # what `auto` stands for here
        assert parameters | found_out == dict(record.params)
        assert record.tags["source"] == f"python -m brainseg.train {record.tags['overrides']}"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "phantom"),
        (["model.dropout=0.2", "train.epochs=3"], "phantom dropout=0.2 epochs=3"),
        (["data=folder", "data.root=slices"], "folder"),
        (["experiment=reference", "data.root=slices", "seed=1"], "reference seed=1"),
        (["tracking.root=runs", "data.cache_dir=cache", "optimizer=sgd"], "phantom optimizer=sgd"),
        (["data.limit=" + "9" * 200], ("phantom limit=" + "9" * 200)[:100]),
    ],
    ids=["defaults", "keys", "folder", "experiment", "places", "long"],
)
def test_a_run_is_named_by_what_was_asked_for(overrides: list[str], name: str) -> None:
    assert run_name(overrides) == name


@pytest.mark.heavy
@pytest.mark.parametrize("override", ['run_name="a, b"', "run_name='it''s'", "data.group_by=a\\,b", "run_name=ä$(x)"])
def test_overrides_with_special_characters_survive_the_shell(override: str) -> None:
    line = as_line([override, "seed=1"])
    said = subprocess.run(["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True)
    assert said.stdout == f"{override}\nseed=1\n"


def test_a_record_that_could_not_be_written_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = MemoryTracker()
    result = Result(
        run_id="abc",
        history=(),
        best_epoch=1,
        best_val_dice_image=0.5,
        dice_by_class={},
        final_dice=0.25,
        dice_by_type={},
        parameters=10,
        further={},
        seconds_per_image=0.01,
        unwritten=("figures/curves.png (No space left on device)",),
        undelivered=0,
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["brainseg"])
    monkeypatch.setattr("brainseg.tracking.open_tracker", lambda *_, **__: tracker)
    monkeypatch.setattr("brainseg.train.experiment.prepare", lambda *_: None)
    monkeypatch.setattr("brainseg.train.experiment.run", lambda *_, **__: result)
    with pytest.raises(SystemExit) as left:
        train.main([*TINY_OVERRIDES, "tracking.root=runs"])
    assert left.value.code == 1
    printed = capsys.readouterr()
    assert printed.err == (
        "error: not everything could be written: figures/curves.png (No space left on device); "
        "make room and run: python -m brainseg.train resume=abc tracking.root=runs\n"
    )
    assert "Dice        0.2500" in printed.out
