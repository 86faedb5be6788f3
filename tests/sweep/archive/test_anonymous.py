"""`sweep export --anonymous`: nothing in the file tells whose data, machine or code it is, and all else stays."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from made_archives import Members, add_study_on, members
from made_runs import SLICES, write_slices

from brainseg.compare import __main__ as compare
from brainseg.sweep import __main__ as sweep
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.storage import open_storage
from brainseg.tracking import MemoryStore

# P1 and P2 are two scans of one person.
PATIENTS = {"P1": "MR040240", "P2": "MR040240B", "P3": "MR999001"}
IDS = {name: f"mueller-{number}" for number, name in enumerate(SLICES)}
SECRETS = (
    *("annam", "Anna", "Mueller", "mueller", "Charite", "scanner7", "lab.example.org", "MR040240", "MR999001"),
    *("data-of-march", "my_readers", "secret"),
)
URI = "http://anna:secret@lab.example.org:5000"
STUDY_FILE = """\
# Anna's study, ask annam@lab.example.org
metric: val_dice_image
direction: maximize
trials: 7
overrides: [data.root=/home/annam/data-of-march, train.epochs=4, "plugins=[my_readers]"]
space: {model.depth: {type: int, low: 2, high: 5}}
"""


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[MemoryStore, Path]:
    """The study with names wherever a run or a trial can have one; its store and its root."""
    root = tmp_path / "annam" / "mlruns"
    slices = write_slices(
        tmp_path / "annam" / "data-of-march",
        {IDS[name]: (PATIENTS[patient], kind) for name, (patient, kind) in SLICES.items()},
    )
    store = MemoryStore()
    add_study_on(store, slices, root)
    for tracker in store.trackers.values():
        for name in ("val_scores.csv", "split.json"):
            if name in tracker.texts:
                text = re.sub(r"\bs[1-6]\b", lambda found: IDS[found[0]], tracker.texts[name])
                tracker.texts[name] = re.sub(r"\bP[1-3]\b", lambda found: PATIENTS[found[0]], text)
        tracker.tags |= {
            "mlflow.user": "annam",
            "source": f"python -m brainseg.train data.root={slices}",
            "overrides": f"data.root={slices}",
            "description": f"Trained on {slices} by Anna",
            "lab": "Charite",
            "data": "data-of-march",
        }
        tracker.texts |= {
            "environment/machine.json": '{"host": "scanner7", "cores": 2}',
            "environment/code.diff": "+# Anna Mueller",
            "command.txt": f"python -m brainseg.sweep run quick data.root={slices}",
        }
        if "config.yaml" in tracker.texts:
            config = yaml.safe_load(tracker.texts["config.yaml"])
            config["tracking"] |= {"uri": URI, "tags": {"lab": "Charite"}}
            config["tracking"] |= {"experiment": "Anna's", "root": str(root)}
            config["model"]["weights"] = "runs of Anna/best.keras"
            config |= {"run_name": "Anna's", "plugins": ["my_readers"]}
            tracker.texts["config.yaml"] = yaml.safe_dump(config)
            tracker.params |= {"tracking.uri": URI, "run_name": "Anna's"}
            tracker.params |= {"model.weights": "runs of Anna/best.keras", "plugins": "('my_readers',)"}
    store.trackers["memory-8"].tags["failure"] = f"DataError: {slices}/mueller-1.png is damaged"
    store.trackers["memory-1"].texts["study.yaml"] = STUDY_FILE
    store.trackers["memory-1"].params["overrides"] = f"data.root={slices} train.epochs=4"

    journal = open_storage(None, root=root, name="quick").optuna
    (study,) = journal.get_all_studies()
    definition = study.user_attrs[keys.DEFINITION] | {
        "overrides": [f"data.root={slices}", "train.epochs=4"],
        "recipe": {"": {"model.weights": "/home/annam/best.keras", "train.epochs": 4}},
    }
    for key, value in {
        keys.DEFINITION: definition,
        keys.PARENT_RUN: "memory-1",
        keys.PLACES: [f"data.root={slices}"],
        keys.TRACKING: ["tracking.experiment=of_Anna"],
        keys.PLUGINS: ["my_readers"],
        keys.LAUNCHER: {"kind": "slurm", "address": "lab.example.org"},
    }.items():
        journal.set_study_user_attr(study._study_id, key, value)
    new = journal.create_new_trial(study._study_id)
    journal.set_trial_user_attr(new, keys.LEASE, {"host": "scanner7", "pid": 1})
    journal.set_trial_user_attr(new, keys.FAILURE, f"DataError: {slices}/mueller-1.png is damaged")
    journal.set_trial_user_attr(new, keys.LINE, f"data.root={slices}")
    journal.set_trial_user_attr(new, keys.RAISED, {"scanner7": 1.0})

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("brainseg.sweep.archive.export.open_store", lambda config: store)
    return store, root


@pytest.fixture
def told(named: tuple[MemoryStore, Path], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints; here.zip is written without names, named.zip with them."""
    assert sweep.main(["export", "quick", "-o", "named.zip", f"tracking.root={named[1]}"]) == 0
    capsys.readouterr()
    assert sweep.main(["export", "quick", "-o", "here.zip", f"tracking.root={named[1]}", "--anonymous"]) == 0
    return capsys.readouterr().out


def rows(found: Members, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(found[name].decode())))


def test_no_member_has_a_name(told: str, tmp_path: Path) -> None:
    found = members(Path("here.zip"))
    assert [
        (secret, name)
        for secret in (*SECRETS, str(tmp_path))
        for name, content in found.items()
        if secret in name or secret.encode() in content
    ] == []


def test_the_names_were_there(told: str) -> None:
    """The test above would find them; a password isn't in either file."""
    content = b"".join(members(Path("named.zip")).values())
    assert {secret for secret in SECRETS if secret.encode() not in content} == {"secret"}
    assert b"http://anna:***@lab.example.org" in content


def test_a_person_has_one_name_in_all_members(told: str) -> None:
    found = members(Path("here.zip"))
    expected = [("S00001", "P0001"), ("S00002", "P0001"), ("S00003", "P0001"), ("S00004", "P0001")]
    expected += [("S00005", "P0002"), ("S00006", "P0002")]
    tables = ["slices.csv", *(name for name in found if name.endswith("val_scores.csv"))]
    assert len(tables) == 7
    for name in tables:
        assert [(row["id"], row["patient_id"]) for row in rows(found, name)] == expected
    split = json.loads(found["runs/memory-7/split.json"])
    assert (split["train"], split["val"]) == (["S00001", "S00002"], [f"S0000{number}" for number in (3, 4, 5, 6)])


def test_scores_parameters_and_trials_stay(told: str, capsys: pytest.CaptureFixture[str]) -> None:
    tables = []
    for file in ("named.zip", "here.zip"):
        assert compare.main([file, "--csv", "-"]) == 0
        tables.append(list(csv.DictReader(io.StringIO(capsys.readouterr().out))))
    for before, after in zip(*tables, strict=True):
        assert {key for key in before if before[key] != after[key]} <= {"name"}
    trials = [json.loads(members(Path(file))["studies/quick/trials.json"]) for file in ("named.zip", "here.zip")]
    for before, after in zip(*trials, strict=True):
        assert {key for key in before if before[key] != after[key]} <= {"attributes"}
    assert trials[1][7]["attributes"][keys.FAILURE] == "DataError"
    config = yaml.safe_load(members(Path("here.zip"))["runs/memory-7/config.yaml"])
    assert config["data"]["root"] == "PATH1"
    assert config["model"]["depth"] == 3
    assert config["tracking"]["tags"] is None
    study = yaml.safe_load(members(Path("here.zip"))["studies/quick/study.yaml"])
    assert study["overrides"][1:2] == ["train.epochs=4"]
    assert study["space"] == {"model.depth": {"type": "int", "low": 2, "high": 5}}


def test_it_prints_what_it_left_out(told: str) -> None:
    lines = told.splitlines()
    assert "left out: 3 patient ids, now P0001 to P0002" in lines
    assert "left out: 6 slice ids, now S00001 to S00006" in lines
    assert "left out: 1 addresses of servers, now REMOTE1" in lines
    assert "left out: the tag lab, 8 times" in lines
    assert "left out: uncommitted changes of the code, 8 times" in lines
    assert "left out: words of a failure, 2 times" in lines
