"""The MLflow UI over a store with a sweep and 200 runs: what the saved views of an experiment show in a browser."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from backends import Server
from chromium import Chromium

from benchmarks.compare import fill
from brainseg.config import TrackingConfig
from brainseg.tracking import open_store, open_tracker
from brainseg.tracking.mlflow.connection import where_to_look

pytestmark = pytest.mark.slow  # MLflow's own pages; test_views.py has what they are told
OTHER_RUNS, TRIALS, EPOCHS = 188, 12, 6
BEST_RUNS = 20  # that the curves are drawn of
WIDE = (1600, 1000)


@pytest.fixture(scope="module")
def runs_page(tmp_path_factory: pytest.TempPathFactory, process_server: processes.Server) -> Iterator[str]:
    """The address of the experiment's page of runs, on a server of its own."""
    folder = tmp_path_factory.mktemp("ui")
    filled = TrackingConfig(root=str(folder / "filled"))
    Path(filled.root).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        fill(folder / "filled" / "mlflow.db", runs=OTHER_RUNS, epochs=EPOCHS)
        add_sweep(filled)
    with contextlib.closing(sqlite3.connect(folder / "filled" / "mlflow.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the server copies that file alone
    server = Server(folder, folder / "filled" / "mlflow.db", process_server)
    try:
        server.start()
        yield f"{server.uri}/#/experiments/1/runs"
    finally:
        server.kill()


def add_sweep(config: TrackingConfig) -> None:
    """A parent, and trials that are better than every other run, the later the better."""
    with open_tracker(config, run_name="quick", tags={"sweep": "quick", "sweep_role": "parent"}) as parent:
        pass
    for number in range(TRIALS):
        tags = {"sweep": "quick", "trial": str(number), "mlflow.parentRunId": parent.run_id}
        with open_tracker(config, run_name=f"quick {number:03d} dropout=0.{number}", tags=tags) as trial:
            trial.log_params({"model.dropout": number / 20, "model.depth": 3, "optimizer.learning_rate": 1e-3})
            for epoch in range(1, EPOCHS + 1):
                curves = {"val_dice_image": 0.15 * epoch, "train_dice": 0.16 * epoch, "val_loss": 1 / epoch}
                trial.log_metrics(curves | {"train_loss": 0.9 / epoch}, epoch=epoch)
            trial.log_metrics({"final_dice": 0.98 + number / 1000, "best_epoch": EPOCHS}, epoch=EPOCHS)


@pytest.fixture
def page(browser: Chromium, runs_page: str) -> Chromium:
    """An empty page on a wide screen."""
    browser.driver.get("about:blank")
    browser.show(WIDE)
    return browser


def opened(page: Chromium, address: str, *, view: str, until: str) -> None:
    page.driver.get(f"{address}?viewStateShareKey={view}")
    page.wait(f"document.body.innerText.includes('{until}')")


def test_the_scores_show_the_best_run_first_and_what_tells_runs_apart(page: Chromium, runs_page: str) -> None:
    opened(page, runs_page, view="brainseg-scores", until="quick 011")
    headings = page.texts("[role=columnheader]")
    for heading in ("Run Name", "final_dice", "best_epoch", "state", "model.dropout", "optimizer.learning_rate"):
        assert heading in headings
    names = [text for text in page.texts("[role=row] a") if text]
    assert names[:3] == ["quick 011 dropout=0.11", "quick 010 dropout=0.10", "quick 009 dropout=0.9"]
    assert "quick" not in names  # the parent has no score of its own


def test_a_sweep_is_one_line_that_holds_its_trials(page: Chromium, runs_page: str) -> None:
    opened(page, runs_page, view="brainseg-runs", until="run-187")
    names = [text for text in page.texts("[role=row] a") if text]
    assert names[:2] == ["quick", "run-187"]
    rows = "[...document.querySelectorAll('[role=row]')]"
    page.ask(f"{rows}.find(row => row.innerText.includes('quick')).querySelector('button').click()")
    page.wait("document.body.innerText.includes('quick 011')")
    shown = [text for text in page.texts("[role=row] a") if text.startswith("quick")]
    assert len(shown) == 1 + TRIALS


def test_the_curves_draw_dice_and_loss_of_the_best_runs(page: Chromium, runs_page: str) -> None:
    opened(page, runs_page, view="brainseg-curves&compareRunsMode=CHART", until="quick 011")
    # Those that are further down are drawn once they are scrolled to.
    plots = "[...document.querySelectorAll('.js-plotly-plot')]"
    page.wait(
        f"{plots}.filter(plot => plot.querySelectorAll('.scatterlayer .trace').length >= {BEST_RUNS}).length >= 4"
    )
    text = page.ask("document.body.innerText")
    for title in ("val_dice_image", "train_dice", "val_loss", "train_loss"):
        assert title in text


def test_the_address_of_a_study_opens_its_parent_with_all_trials(page: Chromium, runs_page: str) -> None:
    server = TrackingConfig(uri=runs_page.partition("/#")[0])
    (parent,) = open_store(server).find({"sweep_role": "parent"})
    page.driver.get(where_to_look(server, run_id=parent))
    page.wait("document.body.innerText.includes('Child runs')")
    page.wait("document.body.innerText.includes('quick 011')")


def test_the_views_are_in_the_menu(page: Chromium, runs_page: str) -> None:
    opened(page, runs_page, view="brainseg-runs", until="run-187")
    page.find("[data-testid=saved-views-trigger]").click()
    page.wait("document.body.innerText.includes('3 Curves of the best')")
    assert "2 Scores, the best first" in page.ask("document.body.innerText")
