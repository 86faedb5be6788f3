"""What a study has come to: its trials, their runs in MLflow, and the files that hosts still have."""

import contextlib
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from benchmarks.faults.hosts import Host, Server, children, is_running
from brainseg.sweep.engine import keys

LEFT = {  # what is counted -> where it lies below tracking.root
    "checkpoints left behind": "checkpoints/*",
    "spools left behind": "spool/*",
    "*.alive files left behind": "studies/alive/*.alive",
}
COUNTED_OR_STAY = tuple(f"mlruns/{name}/" for name in ("checkpoints", "spool", "studies", "cache"))


@dataclass(frozen=True, kw_only=True)
class Row:
    """Something that was counted."""

    what: str
    found: Sequence[Any] | int
    expected: int | None = None  # None: any number

    @property
    def count(self) -> int:
        """How many there are."""
        return self.found if isinstance(self.found, int) else len(self.found)

    @property
    def is_as_expected(self) -> bool:
        """Whether it is the number that was expected, if any."""
        return self.expected in (None, self.count)


def counted(server: Server, hosts: Sequence[Host], *, study: str, asked: int) -> list[Row]:
    """Everything that is counted, once no command runs any more."""
    trials = optuna.load_study(study_name=study, storage=server.socket).get_trials()
    done = [trial for trial in trials if trial.state in keys.COUNTED]
    with contextlib.closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as database:
        runs = list(_runs(database, done, server.folder / "artifacts"))
    return [*_trials(trials, done, asked=asked), *runs, *_printed(server.folder / "logs", done), *_left(hosts)]


def _trials(trials: Sequence[FrozenTrial], done: Sequence[FrozenTrial], *, asked: int) -> Iterator[Row]:
    yield Row(what="trials finished", found=len(done), expected=asked)
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    yield Row(what="trials failed", found=[trial.user_attrs.get(keys.FAILURE) for trial in failed], expected=0)
    yield Row(what="trials still running", found=len(trials) - len(done) - len(failed), expected=0)
    yield Row(what="times a worker took a trial", found=sum(trial.user_attrs.get(keys.CLAIMS, 0) for trial in trials))
    yield Row(what="deaths counted", found=sum(len(trial.user_attrs.get(keys.DEATHS, ())) for trial in trials))
    errors = [trial.user_attrs[keys.FAILURE] for trial in done if trial.user_attrs.get(keys.FAILURE)]
    yield Row(what="finished trials that failed before", found=errors, expected=0)


def _runs(database: sqlite3.Connection, done: Sequence[FrozenTrial], artifacts: Path) -> Iterator[Row]:
    status = dict(database.execute("SELECT run_uuid, status FROM runs WHERE lifecycle_stage = 'active'"))
    tags: dict[str, dict[str, str]] = {run_id: {} for run_id in status}
    for run_id, key, value in database.execute("SELECT run_uuid, key, value FROM tags"):
        tags[run_id][key] = value
    of_trial = {
        trial.number: [run_id for run_id in status if tags[run_id].get("trial") == str(trial.number)] for trial in done
    }
    ends = {number: [status[run_id] for run_id in runs] for number, runs in of_trial.items()}
    yield Row(
        what="finished trials without exactly one run, FINISHED",
        found=[(number, states) for number, states in ends.items() if states != ["FINISHED"]],
        expected=0,
    )
    parents = [run_id for run_id in status if tags[run_id].get("sweep_role") == "parent"]
    yield Row(what="parent runs", found=parents, expected=1)
    yield Row(
        what="runs still RUNNING",
        found=[run_id for run_id, state in status.items() if state == "RUNNING"],
        expected=0,
    )
    twice = "SELECT run_uuid, key, step, count(*) FROM metrics GROUP BY 1, 2, 3 HAVING count(*) > 1"
    yield Row(what="points recorded twice", found=database.execute(twice).fetchall(), expected=0)
    curve = "SELECT step, value FROM metrics WHERE run_uuid = ? AND key = 'val_dice_image'"
    yield Row(
        what="curves in MLflow that differ from the study's",
        found=[
            trial.number
            for trial in done
            for run_id in of_trial[trial.number]
            if dict(database.execute(curve, (run_id,))) != trial.intermediate_values
        ],
        expected=0,
    )
    yield Row(
        what="runs whose last writer wasn't the last holder of the trial",
        found=[
            trial.number
            for trial in done
            for run_id in of_trial[trial.number]
            if tags[run_id].get("attempt") != str(trial.user_attrs[keys.CLAIMS])
        ],
        expected=0,
    )
    files = {
        run_id: frozenset(path.name for path in artifacts.glob(f"*/{run_id}/artifacts/**/*"))
        for runs in of_trial.values()
        for run_id in runs
    }
    usual = Counter(files.values()).most_common(1)[0][0] if files else frozenset()
    yield Row(
        what="runs with other files than the others",
        found=[(run_id, sorted(names ^ usual)) for run_id, names in files.items() if names != usual],
        expected=0,
    )


def _printed(logs: Path, done: Sequence[FrozenTrial]) -> Iterator[Row]:
    trained: Counter[tuple[int, int]] = Counter()  # (trial, epoch), as workers have printed them
    errors = []
    for path in sorted(logs.glob("*/*.log")):
        number = -1
        for line in path.read_text(errors="replace").splitlines():
            if found := re.match(r"trial (\d+): ", line):
                number = int(found[1])
            elif found := re.match(r"epoch +(\d+)/", line):
                trained[number, int(found[1])] += 1
            elif line.startswith("Traceback"):
                errors.append(path)
    yield Row(what="epochs trained again", found=trained.total() - len(trained))
    last = {trial.number: max(trial.intermediate_values) for trial in done}
    yield Row(
        what="trials whose last epoch two workers have trained",
        found=[number for number, epoch in last.items() if trained[number, epoch] > 1],
    )
    yield Row(what="tracebacks printed", found=errors, expected=0)


def _left(hosts: Sequence[Host]) -> Iterator[Row]:
    roots = [host.root / "mlruns" for host in hosts]
    for what, pattern in LEFT.items():
        yield Row(what=what, found=[path for root in roots for path in root.glob(pattern)], expected=0)
    files = [(host, path) for host in hosts for path in host.root.rglob("*") if path.is_file()]
    others = [path for host, path in files if not str(path.relative_to(host.root)).startswith(COUNTED_OR_STAY)]
    yield Row(what="other files left behind", found=others, expected=0)
    pids = [pid for host in hosts for pid in children(host.init) if is_running(pid)]
    yield Row(what="processes left behind", found=pids, expected=0)
