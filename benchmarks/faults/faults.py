"""What is broken, drawn from a seed, and how it is done to a study that runs on several hosts."""

import contextlib
import functools
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.faults.count import Row
from benchmarks.faults.hosts import MLFLOW, Host, Server, kill, running
from brainseg.tracking.spool.spool import spooled_runs

KILL, CUT, LOST, REQUEUE, STOP, SUBMITTER = KINDS = (
    "kill",
    "cut and heal",
    "cut for good",
    "requeue",
    "server stopped",
    "submitter killed",
)
HOSTS = 4
STUDY = "faults"
LAST = 0.9  # of all epochs: until then every fault is due
LONGEST_PAUSE_S = 20.0  # between two faults
LONGEST_CUT_S = 60.0  # of a host that comes back; its worker counts as dead after 36
LONGEST_STOP_S = 30.0  # of a server
POSTPONED_S = 5.0  # a fault of what is broken already
POLL_S = 0.5
REPORTED = "SELECT count(*) FROM trial_intermediate_values"  # epochs
DEADLINE_S = 3600.0
USUAL_ENDS = (0, 75, 128 + SIGTERM, -SIGKILL, -SIGTERM)  # the last one before a worker has set up its handlers


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault; all of it is drawn."""

    kind: str
    host: int
    server: str
    length: float  # of the longest that there is of its kind
    due: float  # the part of all epochs that is reported by then, at the latest
    delay_s: float  # afterwards: else all would strike at the end of an epoch


def draw(count: int, *, seed: int) -> list[Fault]:
    """The faults in their order. Each six, from the first one on, are of six kinds."""
    source = random.Random(seed)  # noqa: S311  # no secret
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += source.sample(KINDS, len(KINDS))
    return [
        Fault(
            kind=kind,
            host=source.randrange(HOSTS),
            server=source.choice(("PostgreSQL", "MLflow")),
            length=source.random(),
            due=LAST * (number + source.random()) / count,
            delay_s=source.uniform(0.0, 3.0),
        )
        for number, kind in enumerate(kinds[:count])
    ]


class Slot:
    """A place for a host, with a command that is started again until it ends well, as an engine does."""

    def __init__(self, host: Host, words: Sequence[str]) -> None:
        self.host = host
        self.command = words[0]
        self.words = [sys.executable, "-m", "brainseg.sweep", *words, f"tracking.root={host.folder}/root/mlruns"]
        self.process: subprocess.Popen[bytes] | None = None
        self.is_done = False
        self.cut_until = 0.0  # of `time.monotonic`; infinity for a host that doesn't come back

    @property
    def log(self) -> Path:
        """What its command prints on this host."""
        return self.host.logs / "command.log"

    @property
    def worker(self) -> list[int]:
        """The process that trains: that of a submitter is the one that it has started."""
        pids = [] if self.process is None else running(self.process)
        return pids[1:2] or pids if self.command == "run" else pids[:1]

    def keep_alive(self) -> int | None:
        """Starts the command where it doesn't run; the exit code of one that has ended since the last call."""
        code = None if self.process is None else self.process.poll()
        if code is not None:
            self.process = None
            self.is_done = code == 0 and not spooled_runs(self.host.root / "mlruns" / "spool")  # else `run` says so
        if self.process is None and not self.is_done:
            self.process = self.host.start(self.words, log=self.log)
        return code


class Campaign:
    """A study on several hosts, and what is done to it."""

    def __init__(self, server: Server, *, epochs: int) -> None:
        """epochs: of all its trials together."""
        self.ends: Counter[tuple[str, int]] = Counter()  # (run or worker, exit code)
        self.done: Counter[str] = Counter()  # kind -> faults
        self.started_hosts = 0
        self._server = server
        self._database = create_engine(server.socket, poolclass=NullPool)
        self._epochs = epochs
        self._begun = time.monotonic()
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._stopped: set[str] = set()  # servers
        self._reported = 0  # epochs, when PostgreSQL answered last
        run = ["run", STUDY, f"tracking.uri={MLFLOW}"]
        self.slots = [Slot(self._new_host(), run)]
        self.slots += [Slot(self._new_host(), ["worker", *run[1:]]) for _ in range(HOSTS - 1)]

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._begun

    def run(self, faults: Sequence[Fault]) -> None:
        """Runs the study to its end, with these faults. Raises SystemExit where it doesn't come to one."""
        left, last = list(faults), time.monotonic()
        while self._later or not all(slot.is_done for slot in self.slots):
            if self.seconds > DEADLINE_S:
                raise SystemExit(f"the study hasn't ended within {DEADLINE_S / 60:.0f} minutes")
            now = time.monotonic()
            due = [action for at, action in self._later if at <= now]
            self._later = [item for item in self._later if item[0] > now]
            for action in due:
                action()
            progress = self._progress()
            for slot in self.slots if progress else self.slots[:1]:  # there is something to join
                code = slot.keep_alive()
                if code is not None:
                    self.ends[slot.command, code] += 1
                if code not in (None, *USUAL_ENDS):
                    self._say(f"{slot.host.name}: {slot.command} has ended with {code}; see {slot.log}")
            if left and progress and (progress >= left[0].due or now - last > LONGEST_PAUSE_S):
                fault = left.pop(0)
                last = now + fault.delay_s
                self._later.append((last, functools.partial(self._strike, fault)))
            time.sleep(POLL_S)

    def rows(self) -> list[Row]:
        """What was done, and how commands have ended."""
        worker = {code: count for (command, code), count in self.ends.items() if command == "worker"}
        return [
            Row(what="faults", found=self.done.total()),
            *(Row(what=f"faults: {kind}", found=self.done[kind]) for kind in KINDS),
            Row(what="hosts, one after the other", found=self.started_hosts),
            Row(what="workers that ended with 143, told to", found=worker.get(128 + SIGTERM, 0)),
            Row(what="workers that ended with 75, a store was away for too long", found=worker.get(75, 0)),
            Row(
                what="workers that ended with another error",
                found=[code for code in worker if code not in USUAL_ENDS],
                expected=0,
            ),
            Row(what="`sweep run` that refused to start, a server was away", found=self.ends["run", 2]),
        ]

    def _strike(self, fault: Fault) -> None:
        strike = {
            KILL: self._kill,
            CUT: self._cut,
            LOST: self._cut_for_good,
            REQUEUE: self._requeue,
            STOP: self._stop,
            SUBMITTER: self._kill_submitter,
        }[fault.kind]
        where = strike(fault)
        if where is not None:
            self.done[fault.kind] += 1
            self._say(f"fault {self.done.total()}, {fault.kind}: {where}")
        elif not all(slot.is_done for slot in self.slots):  # it is broken already
            self._later.append((time.monotonic() + POSTPONED_S, functools.partial(self._strike, fault)))

    def _kill(self, fault: Fault) -> str | None:
        return self._signal(self.slots[fault.host], SIGKILL)

    def _requeue(self, fault: Fault) -> str | None:
        return self._signal(self.slots[fault.host], SIGTERM)

    def _kill_submitter(self, fault: Fault) -> str | None:
        slot = self.slots[0]
        pids = [] if slot.process is None else running(slot.process)[:1]
        kill(pids, SIGKILL)
        return slot.host.name if pids else None

    def _signal(self, slot: Slot, number: int) -> str | None:
        pids = slot.worker
        kill(pids, number)
        return slot.host.name if pids else None

    def _cut(self, fault: Fault) -> str | None:
        slot, length_s = self.slots[fault.host], fault.length * LONGEST_CUT_S
        if slot.cut_until > time.monotonic():
            return None
        host = slot.host
        slot.cut_until = until = time.monotonic() + length_s

        def heal() -> None:
            if slot.host is host and time.monotonic() >= slot.cut_until:
                self._server.heal(host)

        self._server.cut(host)
        self._later.append((until, heal))
        return f"{host.name} for {length_s:.0f} s"

    def _cut_for_good(self, fault: Fault) -> str | None:
        turns = [self.slots[(fault.host + turn) % HOSTS] for turn in range(HOSTS)]
        slot = next((slot for slot in turns if slot.cut_until < float("inf")), None)
        if slot is None:
            return None
        host, slot.cut_until = slot.host, float("inf")

        def replace() -> None:
            host.lose()
            if slot.process is not None:
                slot.process.wait()
            slot.host, slot.process, slot.is_done, slot.cut_until = self._new_host(), None, False, 0.0
            self._say(f"{slot.host.name} takes the place of {host.name}")

        self._server.cut(host)
        self._later.append((time.monotonic() + fault.length * LONGEST_CUT_S / 2, replace))
        return host.name

    def _stop(self, fault: Fault) -> str | None:
        servers = {
            "PostgreSQL": (self._server.stop_postgresql, self._server.start_postgresql),
            "MLflow": (self._server.stop_mlflow, self._server.start_mlflow),
        }
        name = next(
            (name for name in sorted(servers, key=lambda name: name != fault.server) if name not in self._stopped), None
        )
        if name is None:
            return None
        stop, start = servers[name]
        length_s = fault.length * LONGEST_STOP_S
        self._stopped.add(name)

        def start_again() -> None:
            start()
            self._stopped.discard(name)

        stop()
        self._later.append((time.monotonic() + length_s, start_again))
        return f"{name} for {length_s:.0f} s"

    def _new_host(self) -> Host:
        self.started_hosts += 1
        host = Host(f"h{self.started_hosts}", self._server.folder)
        self._server.join(host, self.started_hosts + 1)
        return host

    def _progress(self) -> float:
        """The part of all epochs that is reported, as far as PostgreSQL answers."""
        with contextlib.suppress(SQLAlchemyError), self._database.connect() as connection:
            self._reported = connection.execute(text(REPORTED)).scalar_one()
        return self._reported / self._epochs

    def _say(self, line: str) -> None:
        print(f"{self.seconds:7.1f} s  {line}", flush=True)
