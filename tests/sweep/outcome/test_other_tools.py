"""Optuna's own tools open a study: its command line, and its dashboard in a browser."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_studies import DROPOUT, RATE

from brainseg.sweep.__main__ import main
from brainseg.sweep.engine.leases import ProcessLock
from brainseg.sweep.engine.storage import open_storage
from brainseg.sweep.engine.stored_study import open_study
from brainseg.sweep.engine.trial_queue import Claim, TrialQueue
from brainseg.sweep.study.parameter import Parameter
from brainseg.sweep.study.study_file import PrunerConfig, StudyConfig

NAME = "shown_to_others"
SERVER_START_S = 120.0  # about 5 on a machine that does nothing else
CONFIG = StudyConfig(
    name=NAME,
    metrics={"val_dice_image": "maximize"},
    trials=3,
    baseline={DROPOUT: 0.1, RATE: 1e-3},
    space=(
        Parameter(key=DROPOUT, type="float", low=0.0, high=0.5),
        Parameter(key=RATE, type="float", low=1e-4, high=1e-2, log=True),
    ),
    pruner=PrunerConfig(name="none"),
)
VALUES = (0.5, 0.75, 0.25)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, made through the queue as workers do; trial 1 is the best."""
    from optuna.trial import TrialState

    root = tmp_path_factory.mktemp("mlruns")
    storage = open_storage(None, root=root, name=NAME)
    open_study(storage, CONFIG, data_fingerprint="of the test")
    with ProcessLock(storage.folder) as lock:
        queue = TrialQueue(storage, CONFIG, epochs=2, lock=lock, supervisor=None)
        for value in VALUES:
            claim = queue.claim()
            assert isinstance(claim, Claim)
            claim.trial.report(value, 1)
            queue.tell(claim, TrialState.COMPLETE, [value])
    return root / "studies" / f"{NAME}.journal"


def optuna(*arguments: str) -> list[dict[str, object]]:
    """What Optuna's command line answers, as JSON."""
    program = Path(sys.executable).parent / "optuna"
    done = subprocess.run(
        [program, *arguments, "--format", "json"], capture_output=True, text=True, timeout=120, check=True
    )
    answer = json.loads(done.stdout)
    return answer if isinstance(answer, list) else [answer]


@pytest.mark.heavy
def test_optunas_command_line_shows_the_trials(journal: Path) -> None:
    trials = optuna("trials", "--storage", str(journal), "--study-name", NAME)
    assert [trial["value"] for trial in trials] == [{"val_dice_image": value} for value in VALUES]
    assert {trial["state"] for trial in trials} == {"COMPLETE"}


@pytest.mark.slow  # so does test_machines_docs.py
@pytest.mark.heavy
def test_optunas_command_line_shows_the_best_trial(journal: Path) -> None:
    (best,) = optuna("best-trial", "--storage", str(journal), "--study-name", NAME)
    assert (best["number"], best["value"]) == (1, {"val_dice_image": 0.75})


@pytest.fixture(scope="module")
def dashboard(journal: Path) -> Iterator[str]:
    """The address of optuna-dashboard on the study."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).parent / "optuna-dashboard"
    with (journal.parent / "dashboard.txt").open("wb") as log:
        server = subprocess.Popen(
            [program, str(journal), "--host", "127.0.0.1", "--port", str(port), "--server", "wsgiref"],
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SERVER_START_S
        while not answers(f"{address}/api/studies"):
            assert server.poll() is None, (journal.parent / "dashboard.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=10).close()  # noqa: S310  # on loopback
    except (urllib.error.URLError, TimeoutError):
        return False
    return True


@pytest.mark.heavy
def test_the_dashboard_has_the_study_and_its_trials(dashboard: str) -> None:
    with urllib.request.urlopen(f"{dashboard}/api/studies", timeout=30) as answer:  # noqa: S310  # on loopback
        (study,) = json.load(answer)["study_summaries"]
    assert (study["study_name"], study["directions"]) == (NAME, ["maximize"])
    with urllib.request.urlopen(f"{dashboard}/api/studies/{study['study_id']}", timeout=30) as answer:  # noqa: S310
        trials = json.load(answer)["trials"]
    assert [trial["values"] for trial in trials] == [[value] for value in VALUES]


@pytest.mark.slow  # a page of optuna-dashboard's own; what it asks for is looked at above
@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium here")
def test_the_dashboards_page_shows_the_study(dashboard: str, tmp_path: Path) -> None:
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--dump-dom", f"{dashboard}/dashboard"]
    page = subprocess.run(
        command, capture_output=True, text=True, timeout=200, check=True, env=os.environ | {"HOME": str(tmp_path)}
    )
    assert NAME in page.stdout


@pytest.mark.heavy
def test_what_optunas_command_line_asks_for_and_tells_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = str(tmp_path / "study.journal")
    storage = open_storage(journal, root=tmp_path, name=NAME)
    open_study(storage, CONFIG, data_fingerprint="of the test")
    on_study = ("--storage", journal, "--study-name", NAME)
    assert [optuna("ask", *on_study)[0]["number"] for _ in range(2)] == [0, 1]
    program = Path(sys.executable).parent / "optuna"
    subprocess.run([program, "tell", *on_study, "--trial-number", "1", "--values", "0.99"], timeout=120, check=True)
    assert main(["status", NAME, "--storage", journal]) == 0
    told = capsys.readouterr().out
    assert f"{NAME}: 0 of 3 trials finished\n" in told
    assert "trial 0 is held by another program (optuna ask); it is left out" in told
    assert "trial 1 was told by another program (optuna tell), with no run behind it; it is left out" in told
    assert main(["status", NAME, "--storage", journal, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["best"], [each["trial"] for each in content["left_out"]]) == (None, [0, 1])
