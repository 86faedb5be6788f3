"""One suite over every way of listing runs: in memory, by SQL, by MLflow's client over the same file, and over HTTP."""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from backends import Backend, MemoryBackend, MlflowBackend
from processes import environment

from brainseg.config import TrackingConfig
from brainseg.errors import Pruned, TrackingError
from brainseg.tracking import RunFilter, RunList, RunSummary, open_store, open_tracker

COLUMNS = "brainseg.tracking.mlflow.sqlite_runs.COLUMNS"


def unused(*_: object, **__: object) -> None:
    raise AssertionError("MLflow's client was asked")


@pytest.fixture(params=["memory", "sqlite by SQL", "sqlite by client", "server"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    if request.param == "memory":
        return MemoryBackend()
    if request.param == "sqlite by SQL":
        for name in ("overview", "curves"):
            monkeypatch.setattr(f"brainseg.tracking.mlflow.client_runs.{name}", unused)
    elif request.param == "sqlite by client":
        monkeypatch.setattr(COLUMNS, {"runs": {"of a later MLflow"}})
    return MlflowBackend(config=request.getfixturevalue(f"{request.param.split()[0]}_config"))


@pytest.fixture
def runs(backend: Backend) -> dict[str, str]:
    """Name in the tests -> id: three finished runs, of which one has no score; a parent; two that didn't finish."""
    ids = {}
    for name, score, depth in (("good", 0.5, 4), ("best", 0.75, 5), ("unscored", None, 5)):
        with backend.open(sweep="it's listed") as tracker:
            tracker.log_params({"model.depth": depth, "data.limit": None})
            tracker.log_metrics({"seconds": 2.0} | ({} if score is None else {"final_dice": 0.875}), epoch=1)
            tracker.log_metrics({"seconds": 0.5} | ({} if score is None else {"final_dice": score}), epoch=2)
        ids[name] = tracker.run_id
    with backend.open(sweep="it's listed", sweep_role="parent") as tracker:
        ids["parent"] = tracker.run_id
    pruned = backend.open()
    with contextlib.suppress(Pruned), pruned:
        pruned.log_params({"model.depth": 5})
        raise Pruned("pruned after epoch 3", epoch=3)
    failed = backend.open()
    with contextlib.suppress(ValueError), failed:
        raise ValueError("no such thing")
    return ids | {"pruned": pruned.run_id, "failed": failed.run_id}


def listed(backend: Backend, limit: int | None = 20, **which: Any) -> RunList:
    experiment = backend.config.experiment if isinstance(backend, MlflowBackend) else "the only one"
    asked = RunFilter(**{"experiment": experiment} | which)
    return backend.store.overview(asked, rank_by="final_dice", total_of="seconds", limit=limit)


def names(found: RunList, runs: Mapping[str, str]) -> tuple[str, str]:
    called = {run_id: name for name, run_id in runs.items()}
    finished, others = ([called[run.run_id] for run in part] for part in (found.finished, found.others))
    return " ".join(finished), " ".join(others)


@pytest.mark.heavy
def test_finished_runs_come_best_first_and_the_others_apart(backend: Backend, runs: dict[str, str]) -> None:
    found = listed(backend)
    assert names(found, runs) == ("best good unscored", "failed pruned")
    assert (found.more_finished, found.more_others) == (False, False)
    cut = listed(backend, limit=1)
    assert names(cut, runs) == ("best", "failed")
    assert (cut.more_finished, cut.more_others) == (True, True)
    assert listed(backend, limit=None) == found
    good = found.finished[1]
    own = {key: value for key, value in good.tags.items() if not key.startswith("mlflow.") and key != "source"}
    assert good == RunSummary(
        run_id=runs["good"],
        name="first",
        status="FINISHED",
        params={"model.depth": "4", "data.limit": "None"},
        tags=good.tags,
        metrics={"seconds": 0.5, "final_dice": 0.5},
        total=2.5,
    )
    assert own == {"sweep": "it's listed", "state": "finished"}
    assert (found.finished[2].metrics, found.others[0].total) == ({"seconds": 0.5}, None)


@pytest.mark.heavy
def test_a_list_holds_the_runs_for_which_every_condition_holds(backend: Backend, runs: dict[str, str]) -> None:
    assert names(listed(backend, params={"model.depth": "5"}), runs) == ("best unscored", "pruned")
    assert names(listed(backend, tags={"sweep": "it's listed"}, params={"model.depth": "4"}), runs) == ("good", "")
    assert names(listed(backend, tags={"state": "pruned"}), runs) == ("", "pruned")
    assert names(listed(backend, tags={"state": "pruned", "sweep": "it's listed"}), runs) == ("", "")
    assert names(listed(backend, parents=True), runs) == ("parent", "")
    start = runs["best"] if isinstance(backend, MemoryBackend) else runs["best"][:10]
    assert names(listed(backend, id_start=start, experiment=None), runs) == ("best", "")
    assert names(listed(backend, id_start="nothing"), runs) == ("", "")
    if isinstance(backend, MlflowBackend):
        with pytest.raises(TrackingError, match=r"^no experiment 'brainsag' in .*; "):
            listed(backend, experiment="brainsag")


def test_curves_of_several_runs_are_read_together(backend: Backend, runs: dict[str, str]) -> None:
    asked = [runs["best"], runs["unscored"], runs["pruned"]]
    assert backend.store.curves(asked, ("final_dice", "seconds")) == {
        runs["best"]: {"final_dice": {1: 0.875, 2: 0.75}, "seconds": {1: 2.0, 2: 0.5}},
        runs["unscored"]: {"seconds": {1: 2.0, 2: 0.5}},
        runs["pruned"]: {},
    }
    with pytest.raises(TrackingError, match=f"^no run '{'0' * 32}' in "):
        backend.store.curves([runs["best"], "0" * 32], ("seconds",))


@pytest.mark.usefixtures("not_asked_again")
def test_a_run_that_waits_in_the_spool_is_listed(sqlite_config: TrackingConfig) -> None:
    away = TrackingConfig(root=sqlite_config.root, uri="http://127.0.0.1:9", offline=True)
    with open_tracker(away, run_name="offline", tags={}) as tracker:
        tracker.log_metrics({"final_dice": 0.5}, epoch=1)
    store = open_store(sqlite_config)  # which has no such experiment yet
    for which in (RunFilter(experiment="brainseg"), RunFilter(id_start=tracker.run_id[:12])):
        (run,) = store.overview(which, rank_by="final_dice", total_of="seconds", limit=5).finished
        assert (run.run_id, run.metrics) == (tracker.run_id, {"final_dice": 0.5})
    assert store.curves([tracker.run_id], ["final_dice"]) == {tracker.run_id: {"final_dice": {1: 0.5}}}


def test_a_table_that_has_gained_a_column_is_read_by_sql(
    sqlite_config: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_tracker(sqlite_config, run_name="first", tags={}) as tracker:
        tracker.log_metrics({"final_dice": 0.5}, epoch=1)
    with contextlib.closing(sqlite3.connect(Path(sqlite_config.root) / "mlflow.db")) as database, database:
        database.execute("ALTER TABLE runs ADD COLUMN of_a_later_mlflow TEXT")
        database.execute("UPDATE alembic_version SET version_num = 'a later one'")
    monkeypatch.setattr("brainseg.tracking.mlflow.client_runs.overview", unused)
    asked = RunFilter(experiment="brainseg")
    (run,) = open_store(sqlite_config).overview(asked, rank_by="final_dice", total_of="seconds", limit=5).finished
    assert (run.run_id, run.metrics) == (tracker.run_id, {"final_dice": 0.5})


@pytest.mark.heavy
def test_a_database_is_read_while_it_is_written_and_without_mlflow(
    sqlite_config: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_tracker(sqlite_config, run_name="first", tags={}) as tracker:
        tracker.log_metrics({"seconds": 90.0, "final_dice": 0.5}, epoch=1)
        tracker.log_text("id,patient_id,tumor_type,dice\ns1,P1,größe,0.25\ns2,P2,,0.75\n", "val_scores.csv")
    code = (
        "import sys; from brainseg.compare.__main__ import main\ntry: main(sys.argv[1:])\nfinally: print(*sys.modules)"
    )
    with contextlib.closing(sqlite3.connect(Path(sqlite_config.root) / "mlflow.db")) as writer:
        writer.execute("BEGIN IMMEDIATE")  # as a run that is writing
        for arguments in (["--root", sqlite_config.root], ["--help"]):
            done = subprocess.run(
                [sys.executable, "-c", code, *arguments],
                cwd=tmp_path,
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stderr == ""
            *lines, modules = done.stdout.splitlines()
            assert not {"tensorflow", "keras", "mlflow", "sqlalchemy", "matplotlib", "scipy"} & set(modules.split())
            if arguments == ["--help"]:
                assert not {"numpy", "rich"} & set(modules.split())
            else:
                assert lines[1].split() == ["1", "0.5000", "(0.2500-0.7500)", "1.5", "finished", tracker.run_id]


def test_a_search_by_tags_does_not_stop_at_a_thousand_runs(sqlite_config: TrackingConfig) -> None:
    with open_tracker(sqlite_config, run_name="first", tags={"sweep": "long"}) as tracker:
        pass
    ids = [f"{number:032x}" for number in range(1000)]
    with contextlib.closing(sqlite3.connect(Path(sqlite_config.root) / "mlflow.db")) as database, database:
        ((experiment, start_time),) = database.execute("SELECT experiment_id, start_time FROM runs").fetchall()
        database.executemany(
            "INSERT INTO runs (run_uuid, status, lifecycle_stage, experiment_id, start_time, user_id, artifact_uri) "
            "VALUES (?, 'FINISHED', 'active', ?, ?, '', '')",
            [(run_id, experiment, start_time - 1) for run_id in ids],
        )
        database.executemany("INSERT INTO tags VALUES ('sweep', 'long', ?)", [(run_id,) for run_id in ids])
    found = open_store(sqlite_config).find({"sweep": "long"})
    assert (sorted(found[:-1]), found[-1]) == (ids, tracker.run_id)
