"""Measures how long `python -m brainseg.compare` takes over many runs, from an SQLite file and from an MLflow server.

    python -m benchmarks.compare                 10,000 runs
    python -m benchmarks.compare --runs 1000     fewer
    python -m benchmarks.compare --only sqlite   without the server

Wall time of the whole command, imports included, beside its CPU time and the load average of the
machine: where others keep the cores busy, the CPU time tells what an idle one would take. The runs are
made up and written straight into MLflow's tables: 85 % finished, 12 % pruned, 3 % failed, each with
every parameter, the usual tags and a history of its metrics. The scores of the slices, 600 of 200
people, lie beside the 100 best runs alone; the command reads those of the 20 that it shows.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import print_table, spread
from brainseg.config import RunConfig, flatten
from brainseg.tracking.mlflow.database import artifacts_beside, prepare_database

EXPERIMENT, EXPERIMENT_ID = "brainseg", 1
EPOCH_METRICS = ("train_loss", "train_dice", "val_loss", "val_dice", "val_dice_image", "learning_rate", "seconds")
FINAL_METRICS = ("best_val_dice_image", "best_epoch", "parameters", "seconds_per_image")
SLICES, PEOPLE = 600, 200
WITH_SCORES = 100  # runs
SERVER_START_S = 300.0
STARTED_MS = 1_700_000_000_000  # the first run; one a minute follows
BARS_S = {"sqlite": 1.0, "http": 5.0}
COMMANDS = {
    "the 20 best": [],
    "the 20 best with a depth of 3": ["model.depth=3"],
    "--help": ["--help"],
}


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description="Time of brainseg.compare over many runs.")
    parser.add_argument("--runs", type=int, default=10_000, help="runs in the store (default 10,000)")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of each run (default 20)")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    parser.add_argument("--only", choices=BARS_S, help="one of the two stores")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        root = Path(folder)
        begun = time.perf_counter()
        fill(root / "mlflow.db", runs=options.runs, epochs=options.epochs)
        size = (root / "mlflow.db").stat().st_size / 1e6
        print(f"{options.runs} runs, {size:.0f} MB, made in {time.perf_counter() - begun:.0f} s\n")
        rows = []
        if options.only != "http":
            rows += measure("sqlite", ["--root", str(root)], rounds=options.rounds)
        if options.only != "sqlite":
            with served(root) as uri:
                rows += measure("http", ["--root", str(root), "--uri", uri], rounds=options.rounds)
    print_table(["store", "what is asked", "wall time", "bar", "CPU time", "load average"], rows)


def measure(store: str, where: list[str], *, rounds: int) -> list[list[str]]:
    """A row for each command; the first round warms up and isn't counted."""
    rows = []
    for what, arguments in COMMANDS.items():
        seconds, cpu_seconds = [], []
        for number in range(rounds + 1):
            begun, cpu_begun = time.perf_counter(), children_cpu_s()
            command = [sys.executable, "-m", "brainseg.compare", *arguments, *where]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if number:
                seconds.append(time.perf_counter() - begun)
                cpu_seconds.append(children_cpu_s() - cpu_begun)
        wall = spread(seconds, unit="s", digits=2)
        bar = 1.0 if what == "--help" else BARS_S[store]
        cpu = f"{statistics.median(cpu_seconds):.2f} s"
        rows.append([store, what, wall, f"{bar:.0f} s", cpu, f"{os.getloadavg()[0]:.1f}"])
    return rows


def children_cpu_s() -> float:
    """CPU seconds of all child processes that have ended."""
    return os.times().children_user + os.times().children_system


def fill(path: Path, *, runs: int, epochs: int) -> None:
    """Makes MLflow's database with this many runs, and the scores of the best ones beside it."""
    prepare_database(path)
    chance = random.Random(0)  # noqa: S311  # made-up scores
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            "VALUES (?, ?, ?, 'active')",
            (EXPERIMENT_ID, EXPERIMENT, artifacts_beside(path).as_uri()),
        )
        scores = {}
        for number in range(runs):
            run_id = f"{chance.getrandbits(128):032x}"
            state = chance.choices(("finished", "pruned", "failed"), (85, 12, 3))[0]
            dice = round(chance.betavariate(30, 12), 6)
            if state == "finished":
                scores[run_id] = dice
            started = STARTED_MS + number * 60_000
            status = "FAILED" if state == "failed" else "FINISHED"
            files = artifact_folder(path, run_id).as_uri()
            connection.execute(
                "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, end_time, "
                "lifecycle_stage, artifact_uri, experiment_id) "
                "VALUES (?, ?, 'LOCAL', 'somebody', ?, ?, ?, 'active', ?, ?)",
                (run_id, f"run-{number}", status, started, started + 50_000, files, EXPERIMENT_ID),
            )
            insert_names(connection, run_id, number, state=state, chance=chance)
            final = {"final_dice": dice} if state == "finished" else {}
            insert_metrics(connection, run_id, final, epochs=epochs, chance=chance)
    for run_id in sorted(scores, key=lambda each: -scores[each])[:WITH_SCORES]:
        folder = artifact_folder(path, run_id)
        folder.mkdir(parents=True)
        (folder / "val_scores.csv").write_text(slice_scores(scores[run_id], chance))


def artifact_folder(path: Path, run_id: str) -> Path:
    """Where the files of a run in this database go."""
    return artifacts_beside(path) / str(EXPERIMENT_ID) / run_id / "artifacts"


def insert_names(
    connection: sqlite3.Connection, run_id: str, number: int, *, state: str, chance: random.Random
) -> None:
    """Writes a run's parameters and tags into MLflow's tables."""
    changed = {
        "model.depth": chance.randint(2, 5),
        "model.dropout": round(chance.random() / 2, 4),
        "optimizer.learning_rate": round(10 ** chance.uniform(-5, -3), 6),
    }
    params = {key: str(value) for key, value in (flatten(RunConfig()) | changed).items()}
    tags = {"state": state, "sweep": f"study-{number // 100}", "trial": str(number % 100)}
    tags |= {"data_fingerprint": "d" * 64, "split_fingerprint": "e" * 64, "precision": "float32", "threads": "2"}
    tags |= {"mlflow.runName": f"run-{number}", "mlflow.source.git.commit": "f" * 40, "mlflow.user": "somebody"}
    tags |= {"mlflow.source.name": "python -m brainseg.sweep"}
    for table, items in (("params", params), ("tags", tags)):
        connection.executemany(
            f"INSERT INTO {table} (key, value, run_uuid) VALUES (?, ?, ?)",  # noqa: S608  # one of two names
            [(key, value, run_id) for key, value in items.items()],
        )


def insert_metrics(
    connection: sqlite3.Connection, run_id: str, final: dict[str, float], *, epochs: int, chance: random.Random
) -> None:
    """Writes a run's history and its final scores into MLflow's tables."""
    points = [(key, chance.random(), step) for key in EPOCH_METRICS for step in range(1, epochs + 1)]
    points += [(key, value, epochs) for key, value in ({key: chance.random() for key in FINAL_METRICS} | final).items()]
    rows = [(key, value, STARTED_MS + step, run_id, step) for key, value, step in points]
    last = [row for row in rows if row[-1] == epochs]
    for table, written in (("metrics", rows), ("latest_metrics", last)):
        connection.executemany(
            f"INSERT INTO {table} (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)",  # noqa: S608
            written,
        )


def slice_scores(dice: float, chance: random.Random) -> str:
    """A `val_scores.csv` around this mean."""
    lines = ["id,patient_id,tumor_type,area_px,dice,iou"]
    for number in range(SLICES):
        value = min(1.0, max(0.0, chance.gauss(dice, 0.02)))
        lines.append(f"{number:04d},P{number % PEOPLE:03d},glioma,500,{value!r},{value / (2 - value)!r}")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def served(root: Path) -> Iterator[str]:
    """Starts a server over a copy of the database, which serves the runs' files as well; gives its address."""
    database = root / "served.db"
    shutil.copy(root / "mlflow.db", database)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE runs SET artifact_uri = 'mlflow-artifacts:/' || experiment_id || '/' || run_uuid || '/artifacts'"
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", str(artifacts_beside(root / "mlflow.db"))]
    with (root / "server.log").open("wb") as log:
        # It leads a session of its own, so that its workers can be ended with it.
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=root, start_new_session=True)
    try:
        deadline = time.monotonic() + SERVER_START_S
        while not answers(f"http://127.0.0.1:{port}/health"):
            if time.monotonic() > deadline or server.poll() is not None:
                raise RuntimeError((root / "server.log").read_text()[-2000:])
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(address: str) -> bool:
    """Whether the server is up."""
    try:
        with urllib.request.urlopen(address, timeout=1) as response:  # noqa: S310  # our own, on loopback
            return bool(response.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
