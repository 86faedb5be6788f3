"""Measures what a study in PostgreSQL costs as its workers and trials grow; nothing is trained.

    python -m benchmarks.scale                                               the tables of docs/scale.md, 12 minutes
    python -m benchmarks.scale --workers 1 8 64                              trials of no length
    python -m benchmarks.scale --workers 64 --seconds-per-trial 60 --trials 128
    python -m benchmarks.scale --finished 1000 10000                         claims, `status` and `report`

A worker is a process with a storage, a process lock, a trial queue and heartbeats of its own. It does what a worker
of a sweep asks of the storage: it claims, keeps the trial's attributes, reports ten epochs, asks the pruner (and goes
on anyway), tells. The server runs beside them with PostgreSQL's defaults but for `max_connections`, which is printed.
"""

import argparse
import contextlib
import multiprocessing
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from sqlalchemy import create_engine, make_url, text

from benchmarks.figures import load, milliseconds, print_table
from benchmarks.sweep.made_study import claimed, finish, made_curve, make_study, place, queue_on, study_config
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.leases import HEARTBEAT_S
from brainseg.sweep.engine.leftovers import delete_leftovers
from brainseg.sweep.engine.storage import StudyStorage, open_storage
from brainseg.sweep.engine.stored_study import open_study
from brainseg.sweep.engine.trial_queue import Claim, NoTrial, TrialQueue, idle_s

EPOCHS = 10
UNEVEN = 0.2  # trials are by so much shorter or longer than asked for: those of a sweep don't end at one moment
CONNECTIONS = 300  # of the server
NAME = "scale"
STEPS = ("first claim", "claim", "epoch", "tell", "turn")  # a worker's first claim, and its later ones
WORKERS, FINISHED = (1, 8, 64), (1000, 10000)
LONG = ((64, 128), (128, 128))  # workers and trials
LONG_S = 60.0  # that each trial takes
MADE = 500  # finished trials by Optuna, which is slow at it; further ones are copies
COPIED = {  # tables of a trial's, and their columns
    "trials": "study_id, state, datetime_start, datetime_complete",
    "trial_params": "param_name, param_value, distribution_json",
    "trial_values": "objective, value, value_type",
    "trial_user_attributes": "key, value_json",
    "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
}
PRELOADED = [
    "benchmarks.sweep.made_study",
    "optuna.storages._rdb.models",
    "optuna.samplers._tpe.sampler",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "alembic.command",
    "psycopg2",
]

Durations = dict[str, list[float]]  # step -> seconds


def main() -> None:
    """Measures what is asked for; the whole table if nothing is."""
    options = _options()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{load()}; max_connections {CONNECTIONS}\n", flush=True)
    if options.workers:
        _measure_workers(options.workers, trials=options.trials, seconds_per_trial=options.seconds_per_trial)
    if options.finished:
        _measure_trials(options.finished)
    if not options.workers and not options.finished:
        _measure_workers(WORKERS, trials=options.trials, seconds_per_trial=0.0)
        for workers, trials in LONG:
            _measure_workers([workers], trials=trials, seconds_per_trial=LONG_S)
        _measure_trials(FINISHED)


def _measure_workers(counts: Sequence[int], *, trials: int, seconds_per_trial: float) -> None:
    rows = []
    for count in counts:
        with _server() as (where, root):
            rows.append(_crowd(where, root, count, trials=trials, seconds_per_trial=seconds_per_trial))
    print(f"trials of {seconds_per_trial:g} s\n")
    print_table(["workers", "all started", "trials", "trials/s", *(f"{step} p50/p95" for step in STEPS), "MiB"], rows)
    print(f"afterwards: {load()}\n", flush=True)


@contextlib.contextmanager
def _server() -> Iterator[tuple[str, Path]]:
    with (
        tempfile.TemporaryDirectory(prefix="brainseg-") as folder,
        place("postgresql", Path(folder), connections=CONNECTIONS) as where,
    ):
        yield where, Path(folder)


def _crowd(where: str, root: Path, count: int, *, trials: int, seconds_per_trial: float) -> list[str]:
    """A row of the table: so many workers train so many trials, as it were."""
    open_study(open_storage(where, root=root, name=NAME), study_config(NAME, trials=trials), data_fingerprint="")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    start, results = context.Barrier(count), context.Queue()  # all of them ask for their first trial at one moment
    workers: list[BaseProcess] = [
        context.Process(target=_work, args=(where, root, number, seconds_per_trial, start, results), daemon=True)
        for number in range(count)
    ]
    begun = time.perf_counter()
    for worker in workers:
        worker.start()
    measured: list[tuple[Durations, float]] = [results.get(timeout=3600) for _ in workers]
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("a worker has ended with an error")
    done = optuna.load_study(study_name=NAME, storage=open_storage(where, root=root, name=NAME).optuna).get_trials()
    if [trial.state for trial in done] != [TrialState.COMPLETE] * trials:
        raise RuntimeError(f"{len(done)} trials, and {trials} were asked for")
    began, ended = (max(own[name][0] for own, _ in measured) for name in ("began", "ended"))
    start_s = began - begun
    together = {step: [value for own, _ in measured for value in own[step]] for step in STEPS}
    return [
        str(count),
        f"{start_s:.1f} s",
        str(trials),
        f"{trials / (ended - began):.2f}",
        *(percentiles(values) for values in together.values()),
        f"{statistics.median(mib for _, mib in measured):.0f} each",
    ]


def percentiles(seconds: Sequence[float]) -> str:
    """`12/34 ms`: the median, and what 95 of 100 are at most."""
    if not seconds:
        return "none"
    median, most = np.percentile(seconds, [50, 95])
    return f"{1000 * median:.0f}/{1000 * most:.0f} ms"


def _work(where: str, root: Path, number: int, seconds_per_trial: float, start: Any, results: Any) -> None:
    """Claims, reports and tells until no trial is left."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    durations: Durations = {step: [] for step in (*STEPS, "began", "ended")}
    random = np.random.default_rng(number)
    with queue_on(where, root, NAME, epochs=EPOCHS) as queue:
        delete_leftovers(queue.study, root)  # this and the next as each worker does
        queue.storage.rehearse()
        _time_turns(queue.storage, durations["turn"])
        start.wait(timeout=300)
        durations["began"] = [time.perf_counter()]
        while True:
            begun = time.perf_counter()
            claim = queue.claim()
            if isinstance(claim, NoTrial):
                if claim.is_over:
                    break
                time.sleep(idle_s(time.perf_counter() - begun))
                continue
            step = "claim" if durations["first claim"] else "first claim"
            durations[step].append(time.perf_counter() - begun)
            length_s = seconds_per_trial * random.uniform(1 - UNEVEN, 1 + UNEVEN)
            with _heartbeats(queue, claim):
                _train(queue, claim, made_curve(EPOCHS, random), length_s / EPOCHS, durations)
            durations["ended"] = [time.perf_counter()]
    durations["ended"] = durations["ended"] or [0.0]
    results.put((durations, _own_mib()))


def _train(queue: TrialQueue, claim: Claim, curve: Sequence[float], pause_s: float, durations: Durations) -> None:
    """What a worker asks of the storage during a trial, in the same order."""
    queue.remember(claim, {keys.THREADS: 1, keys.EPOCHS: EPOCHS, keys.LINE: "overrides " * 10})
    queue.remember(claim, {keys.RUN_ID: f"{claim.trial.number:032x}"})
    for epoch, value in enumerate(curve, start=1):
        time.sleep(pause_s)
        with _timed(durations["epoch"]):
            with queue.storage.together():
                if not queue.is_mine(claim) or queue.is_stopped:
                    raise RuntimeError(f"trial {claim.trial.number} was taken by another process")
                if epoch == 1:
                    queue.remember(claim, {keys.BEGUN: claim.attempt})
                queue.report(claim, epoch, value)
            if epoch < EPOCHS:
                claim.trial.should_prune()
    queue.remember(claim, {keys.SECONDS: 60.0})
    with _timed(durations["tell"]):
        finish(queue, claim, max(curve))


def _time_turns(storage: StudyStorage, seconds: list[float]) -> None:
    """Notes how long each of this process's turns is held, from when it is given until the next one may have it."""
    take = storage.lock

    @contextlib.contextmanager
    def lock() -> Iterator[None]:
        with contextlib.ExitStack() as until, take():
            until.enter_context(_timed(seconds))
            yield

    storage.lock = lock  # type: ignore[method-assign]


@contextlib.contextmanager
def _heartbeats(queue: TrialQueue, claim: Claim) -> Iterator[None]:
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_S):
            with contextlib.suppress(Exception):  # as a worker does
                queue.heartbeat(claim)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - begun)


def _own_mib() -> float:
    """Memory of this process that it shares with none: what one more worker costs, without TensorFlow."""
    fields = Path("/proc/self/smaps_rollup").read_text().split()
    return sum(int(fields[fields.index(f"Private_{kind}:") + 1]) for kind in ("Clean", "Dirty")) / 1024


def _measure_trials(counts: Sequence[int]) -> None:
    """Prints what a claim and the commands cost in a study of so many finished trials."""
    rows = []
    for count in counts:
        with _server() as (where, root):
            make_study(where, root, NAME, finished=MADE, epochs=EPOCHS)
            _copy(where, count // MADE)
            _record(root, count)
            rows.append([str(count), *_claims(where, root), *_commands(where, root)])
    header = ["finished trials", "first claim of a worker", "later claims", "tell", "epoch", "status", "report"]
    print_table(header, rows)
    print(f"afterwards: {load()}\n", flush=True)


def _copy(where: str, times: int) -> None:
    """Copies the trials of a database that holds MADE of them, until it holds `times` as many."""
    with create_engine(make_url(where).set(drivername="postgresql+psycopg2")).begin() as connection:
        for table, columns in COPIED.items():
            number = ", number" if table == "trials" else ""
            moved = f"trial_id + k * {MADE}{number and f'{number} + k * {MADE}'}"
            connection.execute(
                text(
                    f"INSERT INTO {table} (trial_id{number}, {columns}) "  # noqa: S608  # names of this file
                    f"SELECT {moved}, {columns} FROM {table}, generate_series(1, {times - 1}) AS k"
                )
            )
        own_run = "to_json(lpad(to_hex(number), 32, '0'))"
        connection.execute(
            text(
                f"UPDATE trial_user_attributes AS own SET value_json = {own_run} FROM trials "  # noqa: S608
                f"WHERE own.trial_id = trials.trial_id AND key = '{keys.RUN_ID}'"
            )
        )
        connection.execute(text(f"SELECT setval('trials_trial_id_seq', {MADE * times})"))


def _record(root: Path, count: int) -> None:
    """Trains once, and makes the run so many trials of the study in MLflow's database, which is in SQLite."""
    small = [f"data.{key}" for key in ("phantom_patients=6", "image_size=16")] + ["model.depth=1", "train.epochs=2"]
    subprocess.run([sys.executable, "-m", "brainseg.train", *small], cwd=root, check=True, stdout=subprocess.DEVNULL)
    with contextlib.closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as database, database:
        database.execute("CREATE TEMP TABLE trials (number INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO trials VALUES (?)", [(number,) for number in range(count)])
        for table in ("runs", "params", "tags", "metrics", "latest_metrics"):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            copied = ["printf('%032x', number)" if name == "run_uuid" else name for name in columns]
            database.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(copied)} FROM {table}, trials"  # noqa: S608
            )
        for key, value in (("sweep", f"'{NAME}'"), ("trial", "number")):
            database.execute(
                f"INSERT INTO tags (key, value, run_uuid) SELECT '{key}', {value}, printf('%032x', number) FROM trials"  # noqa: S608
            )


def _claims(where: str, root: Path) -> list[str]:
    durations: Durations = {step: [] for step in ("claim", "epoch", "tell")}
    random = np.random.default_rng(0)
    with queue_on(where, root, NAME, epochs=EPOCHS) as queue:
        for _ in range(6):
            with _timed(durations["claim"]):
                claim = claimed(queue)
            _train(queue, claim, made_curve(EPOCHS, random), 0.0, durations)
    first, *later = durations["claim"]
    return [milliseconds([first]), *map(milliseconds, (later, durations["tell"], durations["epoch"]))]


def _commands(where: str, root: Path) -> list[str]:
    """How long `sweep status` and `report` of the study take, from their start to their end, and their memory."""
    cells = []
    for words in (["sweep", "status", NAME], ["report", NAME, "--force"]):
        begun = time.perf_counter()
        command = subprocess.Popen(
            [sys.executable, "-m", f"brainseg.{words[0]}", *words[1:], "--storage", where], cwd=root
        )
        _, code, used = os.wait4(command.pid, 0)
        seconds = time.perf_counter() - begun
        if code:
            raise RuntimeError(f"{words[0]} has failed")
        cells.append(f"{seconds:.1f} s, {used.ru_maxrss / 1024:.0f} MiB")
    return cells


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="A study as it grows.")
    parser.add_argument("--workers", type=int, nargs="+", help=f"such as {' '.join(map(str, WORKERS))}")
    parser.add_argument("--trials", type=int, default=256, help="of the study (default 256)")
    parser.add_argument("--seconds-per-trial", type=float, default=0.0, help="default: none")
    parser.add_argument("--finished", type=int, nargs="+", help=f"trials, in multiples of {MADE}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
