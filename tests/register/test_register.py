"""`python -m brainseg.register` from end to end, on SQLite and on a server: the version, its card, its alias."""

import functools
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
import refusal
from backends import MlflowBackend
from keras_archives import REFUSED, keys_of
from PIL import Image
from trained_run import Trained, record_again

import brainseg
from brainseg.config import TrackingConfig
from brainseg.errors import InputError, Interrupted, Pruned
from brainseg.predict import __main__ as predict
from brainseg.register import __main__ as register
from brainseg.runs.models import record_of
from brainseg.tracking import MODEL_FILE, MemoryRegistry, MemoryStore
from brainseg.tracking.mlflow.connection import connect
from brainseg.tracking.paths import resolve_uri

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Recorded:
    """The trained run, recorded in a store of MLflow's."""

    config: TrackingConfig
    run_id: str
    alias: str  # of no other test

    @property
    def options(self) -> list[str]:
        return ["--root", self.config.root, "--uri", resolve_uri(self.config)]


# What test_serving.py serves was registered in SQLite.
@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.slow), "server"])
def recorded(request: pytest.FixtureRequest, trained: Trained, tmp_path: Path) -> Recorded:
    config = request.getfixturevalue(f"{request.param}_config")
    run_id = record_again(trained, MlflowBackend(config=config).open(), tmp_path)
    return Recorded(config=config, run_id=run_id, alias=f"register-{request.param}")


def test_a_registered_run_has_a_version_with_scores_and_a_card_and_predicts_by_its_alias(
    recorded: Recorded, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = MlflowBackend(config=recorded.config)
    assert register.main([recorded.run_id, *recorded.options]) == 0
    said = capsys.readouterr()
    (first,) = backend.registry.of_run(recorded.run_id)
    name = recorded.config.experiment
    dice = first.tags["final_dice"]
    assert said.out.splitlines()[:3] == [
        f"version   {first.version} of {name}, run {recorded.run_id}",
        f"score     Dice {dice}",
        "card      registered/model_card.md of the run, and the version's description",
    ]
    assert f"serve it  python -m brainseg.serve {name}/{first.version} --" in said.out

    tags = trained.tracker.tags
    final = trained.tracker.record().metrics
    assert dice.startswith(f"{final['final_dice'][8]:.4f} (")
    assert first.tags["best_val_dice_image"] == f"{final['best_val_dice_image'][8]:.4f}"
    assert {key for key in first.tags if key.startswith("final_dice_")} != set()
    for tag in ("data_fingerprint", "split_fingerprint", "patients_on_both_sides"):
        assert first.tags[tag] == tags[tag]
    assert (first.tags["run_id"], first.tags["brainseg"]) == (recorded.run_id, brainseg.__version__)

    client = connect(resolve_uri(recorded.config))
    stored = client.get_model_version(name, first.version)
    card = backend.store.text(recorded.run_id, "registered/model_card.md")
    assert stored.description == card
    assert stored.run_id == recorded.run_id
    assert "**NOT FOR CLINICAL USE.**" in card
    assert f"| all | {dice} |" in card
    dataset = trained.tracker.dataset
    assert dataset is not None
    assert f"| people | {dataset.patients} |" in card
    assert f"| slices | {dataset.slices} in all: " in card
    assert "| image size | 32x32; " in card
    assert "| channels | grey |" in card
    assert "| classes | foreground and background |" in card
    assert "It marks the foreground on single slices" in card
    assert "Slices without foreground" in card
    assert f"python -m brainseg.predict {recorded.run_id} IMAGES" in card

    # Again, and now with an alias: no second version.
    assert register.main([recorded.run_id, "--alias", recorded.alias, *recorded.options]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].endswith(", which was registered before and stays as it is")
    assert f"alias     {name}@{recorded.alias}\n" in said.out
    assert backend.registry.of_run(recorded.run_id) == [first]

    slice_id, mask = max(trained.masks.items(), key=lambda item: item[1].sum())
    image = str(trained.slices / "images" / f"{slice_id}.png")
    assert predict.main([f"{name}@{recorded.alias}", image, "-o", str(tmp_path / "out"), *recorded.options]) == 0
    with Image.open(tmp_path / "out" / "masks" / f"{slice_id}.png") as predicted:
        np.testing.assert_array_equal(np.asarray(predicted), mask * 255)


@dataclass(frozen=True)
class InMemory:
    store: MemoryStore
    registry: MemoryRegistry


@pytest.fixture
def memory(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InMemory:
    """memory-1 and memory-2 the trained run, the second on another split; then a pruned, a failed, a killed and a
    running one, and the parent of a study.
    """
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    store = MemoryStore()
    registry = MemoryRegistry(store)
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: store)
    monkeypatch.setattr("brainseg.tracking.open_registry", lambda config: registry)
    record_again(trained, store.open_tracker(run_name="one"), tmp_path)
    record_again(trained, store.open_tracker(run_name="two"), tmp_path, split_fingerprint="0" * 64)
    for error in (Pruned("after epoch 3", epoch=3), ValueError("broke"), Interrupted(15)):
        with pytest.raises(type(error)), store.open_tracker(run_name="ended"):
            raise error
    store.open_tracker(run_name="running")
    with store.open_tracker(run_name="cv", tags={"sweep": "cv", "sweep_role": "parent"}):
        pass
    return InMemory(store=store, registry=registry)


def test_an_alias_that_is_moved_is_told_with_the_score_that_it_had(
    memory: InMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register.main(["memory-1", "--alias", "champion"]) == 0
    dice = memory.registry.aliases["brainseg@champion"].tags["final_dice"]
    assert "alias     brainseg@champion\n" in capsys.readouterr().out
    assert register.main(["memory-2"]) == 0
    assert memory.store.registered == {"brainseg@champion": "memory-1"}  # only on request
    assert "\nalias " not in capsys.readouterr().out
    assert register.main(["memory-2", "--alias", "champion"]) == 0
    assert (
        f"alias     brainseg@champion, taken from version 1 (run memory-1; Dice {dice}, on another split)\n"
        in capsys.readouterr().out
    )
    assert memory.store.registered == {"brainseg@champion": "memory-2"}
    assert [version.run_id for version, _ in memory.registry.versions] == ["memory-1", "memory-2"]
    assert register.main(["memory-2", "--alias", "champion"]) == 0
    assert "taken from" not in capsys.readouterr().out


def test_the_aliases_of_two_models_are_apart_and_one_alone_is_understood(
    memory: InMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register.main(["memory-1", "--name", "liver", "--alias", "champion"]) == 0
    said = capsys.readouterr().out
    assert "version   1 of liver, run memory-1\n" in said
    assert "alias     liver@champion\n" in said
    assert record_of(memory.store, "champion").run_id == "memory-1"
    assert register.main(["memory-2", "--name", "retina", "--alias", "champion"]) == 0
    assert "alias     retina@champion\n" in capsys.readouterr().out  # taken from nobody
    assert record_of(memory.store, "liver@champion").run_id == "memory-1"
    assert record_of(memory.store, "retina@champion").run_id == "memory-2"
    with pytest.raises(InputError) as caught:
        record_of(memory.store, "champion")
    assert str(caught.value) == (
        "'champion' is an alias of several registered models; name one of liver@champion, retina@champion"
    )


def test_a_run_stays_in_the_model_that_has_it_unless_another_is_named(memory: InMemory) -> None:
    assert register.main(["memory-1", "--name", "liver"]) == 0
    assert register.main(["memory-1", "--again"]) == 0
    assert register.main(["memory-1", "--name", "retina"]) == 0
    assert register.main(["memory-1", "--name", "liver"]) == 0  # has it
    assert [(version.name, version.version, new.artifact) for version, new in memory.registry.versions] == [
        ("liver", "1", "registered/model"),
        ("liver", "2", "registered-after-1/model"),
        ("retina", "1", "registered-after-2/model"),
    ]
    (_, (_, second), (_, third)) = memory.registry.versions
    assert second.description.startswith("# liver: run ")
    assert "python -m brainseg.serve retina/VERSION\n" in third.description


def test_the_command_that_serves_can_be_pasted_whatever_the_name(
    memory: InMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register.main(["memory-1", "--name", "the liver's $1", "--alias", "champion"]) == 0
    shown = capsys.readouterr().out.partition("serve it  ")[2]
    echoed = f'python() {{ printf "%s\\n" "$@"; }}\n{shown}'
    done = subprocess.run(["bash", "-c", echoed], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[:3] == ["-m", "brainseg.serve", "the liver's $1@champion"]


def test_what_an_evaluation_has_found_stands_in_tags_and_card(memory: InMemory) -> None:
    memory.store.trackers["memory-1"].tags |= {
        "evaluation_test": "0.6000 (0.5000-0.7000)",
        "evaluation_test_masks": "no flips, threshold 0.5, nothing removed",
        "patients_on_both_sides": "3",
    }
    assert register.main(["memory-1"]) == 0
    ((version, new),) = memory.registry.versions
    assert version.tags["evaluation_test"] == "0.6000 (0.5000-0.7000)"
    assert "- test, evaluated: 0.6000 (0.5000-0.7000)" in new.description
    assert "**3 patients have slices on both sides of the split**" in new.description


def test_the_served_model_loads_in_older_versions_of_keras_whatever_the_run_has_recorded(
    memory: InMemory, tmp_path: Path
) -> None:
    files, path = memory.store.trackers["memory-1"].files, tmp_path / "model.keras"
    path.write_bytes(files[MODEL_FILE])
    assert not keys_of(path) & REFUSED  # as a training has left it
    keras.saving.load_model(path, compile=False).save(path)  # as those before left it
    assert keys_of(path) & REFUSED
    files[MODEL_FILE] = path.read_bytes()
    assert register.main(["memory-1"]) == 0
    path.write_bytes(files["registered/model/data/data/model.keras"])
    assert not keys_of(path) & REFUSED


def test_what_a_model_started_from_stands_in_the_card_with_its_licence(memory: InMemory) -> None:
    memory.store.trackers["memory-1"].tags["weights"] = "Lite0 of ImageNet (Apache-2.0)"
    assert register.main(["memory-1"]) == 0
    ((_, new),) = memory.registry.versions
    assert "| starts from | Lite0 of ImageNet (Apache-2.0) |" in new.description


CHOICE = '{"schema_version": 3, "runs": {"memory-1": {"settings": %s}}}'
DEFAULTS = "no flips, threshold 0.5, nothing removed"
TUNED = "mean over left-right flips, threshold 0.4, parts below 25 px removed"


def tune(memory: InMemory) -> None:
    """Adds what `evaluate --tune` adds to memory-1."""
    chosen = '{"flip": "left-right", "shift": "none", "threshold": 0.4, "min_area_px": 25}'
    tracker = memory.store.trackers["memory-1"]
    tracker.texts["evaluation/val/choice.json"] = CHOICE % chosen
    tracker.tags |= {"evaluation_val": "0.6000", "evaluation_val_masks": TUNED}


def test_a_version_that_makes_masks_otherwise_than_the_run_does_now_is_told_and_replaced_on_request(
    memory: InMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register.main(["memory-1", "--alias", "champion"]) == 0
    assert register.main(["memory-1"]) == 0
    assert "\nnote " not in capsys.readouterr().out
    tune(memory)
    assert register.main(["memory-1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "version   1 of brainseg, run memory-1, which was registered before and stays as it is"
    assert said[2] == (
        f"note      version 1 makes masks with {DEFAULTS}; the run's settings are now {TUNED}: "
        "register it with --again to serve these"
    )
    before = dict(memory.store.trackers["memory-1"].files)

    assert register.main(["memory-1", "--again", "--alias", "champion"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "version   2 of brainseg, run memory-1"
    assert said[2].startswith("alias     brainseg@champion, taken from version 1 (run memory-1; ")
    assert said[3] == "card      registered-after-1/model_card.md of the run, and the version's description"
    (_, first), (_, second) = memory.registry.versions
    assert (first.artifact, second.artifact) == ("registered/model", "registered-after-1/model")
    assert f"Masks are made with {DEFAULTS} (the defaults)." in first.description
    assert f"Masks are made with {TUNED} (chosen on validation slices" in second.description
    files = memory.store.trackers["memory-1"].files
    assert {name: files[name] for name in before} == before  # what version 1 serves
    settings = json.loads(files["registered-after-1/model/data/data/served.json"])["settings"]
    assert (settings["flip"], settings["threshold"], settings["min_area_px"]) == ("left-right", 0.4, 25)

    assert register.main(["memory-1"]) == 0  # the newest version is meant
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("version   2 of brainseg, run memory-1, which was registered before")
    assert said[2].startswith("card      registered-after-1/")


refused = functools.partial(refusal.refused_here, register.main)
USAGE = "; python -m brainseg.register --help shows how it is used"
ENDED = "name a run that was trained to its end"
CASES = [
    ("", "the following arguments are required: RUN_ID" + USAGE),
    ("memory-1 --alais x", "unrecognized arguments: --alais x" + USAGE),
    (
        "nobody",
        f"no run 'nobody' in memory; it has {', '.join(f'memory-{number}' for number in range(1, 8))}",
    ),
    ("memory-3", f"run memory-3 has no model to register (state: pruned); {ENDED}"),
    ("memory-4", f"run memory-4 has no model to register (state: failed); {ENDED}"),
    ("memory-5", f"run memory-5 has no model to register (state: killed); {ENDED}"),
    ("memory-6", f"run memory-6 has no model to register (state: running); {ENDED}"),
    (
        "memory-7",
        "run memory-7 is the parent run of study cv and has no model; name one of the study's runs, "
        "or evaluate them all with --study cv",
    ),
    ("memory-1 --alias latest", "--alias latest means a version itself in MLflow; name it champion, say"),
    ("memory-1 --alias v1", "--alias v1 means a version itself in MLflow; name it champion, say"),
    (
        "memory-1 --name a/b",
        "--name can't name a registered model, got 'a/b': MLflow takes at most 256 characters, no /, : or ? and not "
        "dots alone; name another with --name NAME",
    ),
    (
        "memory-1 --alias a/b",
        "--alias must be letters, digits, _ and -, at most 255 of them, got 'a/b'; name it champion, say",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[arguments or "nothing" for arguments, _ in CASES])
def test_what_can_not_be_registered_is_refused(
    arguments: str, message: str, memory: InMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(arguments, capsys) == message
    assert memory.registry.versions == []


def test_a_model_that_can_not_be_loaded_is_not_registered(
    memory: InMemory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = memory.store.trackers["memory-1"]
    tracker.files["model/data/model.keras"] = b"not a model"
    assert refused("memory-1", capsys).startswith("the model of run memory-1 can't be loaded (")
    assert memory.registry.versions == []
    assert not [name for name in tracker.files if name.startswith("registered/")]
