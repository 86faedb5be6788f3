"""Trainings on one machine that are broken in many ways, and go on; what they leave is held against an undisturbed one.

Each case trains the same small run in a root of its own, breaks it, mends what was broken, and resumes until the run
is finished. Then weights, predictions and metric rows have to be those of the undisturbed run, to the byte.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from benchmarks.faults.count import Row

TRAINING = (
    *("data.phantom_patients=12", "data.image_size=32", "data.batch_size=2", "model.depth=2", "model.base_filters=4"),
    *("train.epochs=6", "train.precision=float32", "train.threads=1", "tracking.predictions=0"),
)
STOPPED_S = 200.0
END_S = 900.0  # of a command, at the latest
RESUMES = 5  # at the most, until a run is finished
MEBIBYTE = 2**20
DISK_BYTES = 96 * MEBIBYTE
# Left in the root of a finished run: its record, its model, and the cache of decoded slices.
STAY = ("mlflow.db", "artifacts", "cache")
CLOCK = """
import time
real, begun = time.time, time.monotonic()
time.time = lambda: real() - (3600.0 if time.monotonic() - begun > {after} else 0.0)
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished run has left; equal for equal runs."""

    weights: str  # a digest each
    predictions: str
    metrics: str
    left: tuple[str, ...]  # files that no finished run leaves

    def differs(self, other: "Outcome") -> str:
        """The names of what isn't equal; empty if all is."""
        return ", ".join(
            name
            for name in ("weights", "predictions", "metrics", "left")
            if getattr(self, name) != getattr(other, name)
        )


class Machine:
    """A folder in which one run is trained, by any number of commands after one another."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "mlruns"
        self.root.mkdir(parents=True)
        self._log = folder / "log"

    def start(
        self, *words: str, before: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """A training in a process. before: a command that starts it."""
        command = [*before, sys.executable, "-m", "brainseg.train", *(words or TRAINING), f"tracking.root={self.root}"]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.root.parent, env=os.environ | dict(environment or {})
            )

    def finish(self) -> None:
        """Goes on until the run is finished. Raises RuntimeError where it can't."""
        for _ in range(RESUMES):
            run_id = self.unfinished()
            if run_id is None and self.run_ids(finished=True):
                return
            self.start(*((f"resume={run_id}",) if run_id else ())).wait(END_S)
        raise RuntimeError(f"{self.root} has no finished run after {RESUMES} resumes; see {self._log}")

    def unfinished(self) -> str | None:
        """The run whose checkpoint is there."""
        found = [path.parent.name for path in self.root.glob("checkpoints/*/run.json")]
        return found[0] if found else None

    def run_ids(self, *, finished: bool) -> list[str]:
        """The runs in MLflow's database; with `finished` those that are."""
        if not (self.root / "mlflow.db").exists():
            return []
        which = "status = 'FINISHED'" if finished else "1"
        with contextlib.closing(sqlite3.connect(self.root / "mlflow.db")) as database:
            return [run_id for (run_id,) in database.execute(f"SELECT run_uuid FROM runs WHERE {which}")]  # noqa: S608

    def outcome(self) -> Outcome:
        """What the one finished run has left."""
        (run_id,) = self.run_ids(finished=True)
        folder = self.root / "artifacts" / run_id / "artifacts"
        (model,) = self.root.glob("artifacts/models/*/artifacts/data/model.keras")
        with contextlib.closing(sqlite3.connect(self.root / "mlflow.db")) as database:
            rows = database.execute(
                "SELECT key, step, value FROM metrics WHERE run_uuid = ? AND key NOT LIKE '%seconds%' "
                "AND key NOT LIKE '%minutes%' AND key NOT LIKE '%per_second%' ORDER BY key, step, value",
                (run_id,),
            ).fetchall()
        left = [path.relative_to(self.root).as_posix() for path in self.root.iterdir() if path.name not in STAY]
        unknown = [name for name in left if not name.endswith((".lock", "-wal", "-shm")) and self._holds_files(name)]
        return Outcome(
            weights=_members(model),
            predictions=_members(folder / "val_predictions.npz"),
            metrics=hashlib.sha256(repr(rows).encode()).hexdigest(),
            left=tuple(sorted(unknown)),
        )

    def _holds_files(self, name: str) -> bool:
        return any(path.is_file() for path in [self.root / name, *(self.root / name).rglob("*")])

    def when_trained(self, share: float, process: "subprocess.Popen[bytes]", *, seconds: float) -> None:
        """Waits for a share of the time that an undisturbed training takes, or for its end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(share * seconds)


def _members(path: Path) -> str:
    """A digest of the content of an archive, whose own bytes hold times."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name != "metadata.json":  # when it was saved
                digest.update(name.encode() + hashlib.sha256(archive.read(name)).digest())
    return digest.hexdigest()


Fault = Callable[[Machine, random.Random, float], str]


def killed(machine: Machine, source: random.Random, seconds: float) -> str:
    process = machine.start()
    machine.when_trained(source.random(), process, seconds=seconds)
    process.kill()
    process.wait()
    return ""


def stopped(machine: Machine, source: random.Random, seconds: float) -> str:
    process = machine.start()
    machine.when_trained(source.random(), process, seconds=seconds)
    if process.poll() is None:
        process.send_signal(SIGSTOP)
        time.sleep(STOPPED_S)
        process.send_signal(SIGCONT)
    return _ended(process, 0)


def clock_set_back(machine: Machine, source: random.Random, seconds: float) -> str:
    site = machine.root.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CLOCK.format(after=source.random() * seconds))
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return _ended(machine.start(environment={"PYTHONPATH": path}), 0)


def without_shared_memory(machine: Machine, source: random.Random, seconds: float) -> str:
    script = 'mount -t tmpfs -o ro,size=0 none /dev/shm && exec "$@"'
    return _ended(machine.start(before=["unshare", "--mount", "sh", "-c", script, "sh"]), 0)


def memory_limit(machine: Machine, source: random.Random, seconds: float) -> str:
    process = machine.start()
    machine.when_trained(source.random(), process, seconds=seconds)
    with contextlib.suppress(FileNotFoundError):
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGESIZE") + source.randrange(16 * MEBIBYTE)
        subprocess.run(["prlimit", f"--pid={process.pid}", f"--as={limit}"], check=False, capture_output=True)
    process.wait(END_S)
    return ""


def disk_full(machine: Machine, source: random.Random, seconds: float) -> str:
    with Disk(machine) as disk:
        filler = machine.root / "filler"
        filler.write_bytes(bytes(disk.free - source.randrange(disk.free)))
        machine.start().wait(END_S)
        filler.unlink()
        machine.finish()
    return ""


def read_only(machine: Machine, source: random.Random, seconds: float) -> str:
    with Disk(machine) as disk:
        process = machine.start()
        machine.when_trained(source.random(), process, seconds=seconds)
        disk.fail()
        process.wait(END_S)
        disk.mend()
        machine.finish()
    return ""


def two_resumes(machine: Machine, source: random.Random, seconds: float) -> str:
    killed(machine, source, seconds)
    run_id = machine.unfinished()
    if run_id is None:
        return ""
    codes = sorted(process.wait(END_S) for process in [machine.start(f"resume={run_id}") for _ in range(2)])
    return "" if codes in ([0, 2], [0, 0]) else f"two resumes ended with {codes}"


def resume_beside(machine: Machine, source: random.Random, seconds: float) -> str:
    process = machine.start()
    while (run_id := machine.unfinished()) is None and process.poll() is None:
        time.sleep(0.1)
    code = machine.start(f"resume={run_id}").wait(END_S)
    told = "" if code == 2 or process.poll() is not None else f"the resume ended with {code}"
    return told or _ended(process, 0)


FAULTS: dict[str, Fault] = {
    "SIGKILL": killed,
    f"SIGSTOP for {STOPPED_S:.0f} s": stopped,
    "clock set back by an hour": clock_set_back,
    "no /dev/shm": without_shared_memory,
    "memory limit": memory_limit,
    "disk full": disk_full,
    "root remounted read-only": read_only,
    "two resumes at once": two_resumes,
    "resume beside the living run": resume_beside,
}


def campaign(folder: Path, *, kills: int, others: int, seed: int) -> Iterator[Row]:
    """A row for each kind of fault: how many of its cases didn't end as the undisturbed run."""
    begun = time.monotonic()
    first = Machine(folder / "undisturbed")
    first.finish()
    seconds, expected = time.monotonic() - begun, first.outcome()
    yield Row(what="seconds of an undisturbed training", found=round(seconds))
    for kind, fault in FAULTS.items():
        count = kills if fault is killed else others
        yield Row(what=f"{kind}: cases", found=count)
        wrong = [told for case in range(count) if (told := _tried(kind, case, folder, expected, seconds, seed))]
        yield Row(what=f"{kind}: not as undisturbed", found=wrong, expected=0)


def _tried(kind: str, case: int, folder: Path, expected: Outcome, seconds: float, seed: int) -> str:
    """Why the case didn't end as it should; empty if it did, and then its folder is gone."""
    own = folder / f"{kind.replace('/', '')}-{case}"
    machine = Machine(own)
    told = FAULTS[kind](machine, random.Random(f"{seed} {kind} {case}"), seconds)  # noqa: S311  # no secret
    machine.finish()
    told = told or machine.outcome().differs(expected)
    if not told:
        shutil.rmtree(own)
    return told and f"{own}: {told}"


def _ended(process: "subprocess.Popen[bytes]", code: int) -> str:
    found = process.wait(END_S)
    return "" if found == code else f"the training ended with {found}"


class Disk:
    """A disk of its own, an ext4 in a file, for the root of a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._root = machine.root
        self._image = machine.root.parent / "disk"

    def __enter__(self) -> "Disk":
        with self._image.open("wb") as file:
            file.truncate(DISK_BYTES)
        _run("mkfs.ext4", "-q", str(self._image))
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        """Copies what is on the disk, for the outcome."""
        self._machine.root = self._root.with_name("kept")
        shutil.copytree(self._root, self._machine.root, ignore=shutil.ignore_patterns("lost+found"))
        _run("umount", str(self._root))

    @property
    def free(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self._root).free

    def fail(self) -> None:
        """Lets the disk have an error, after which Linux only reads from it."""
        _run("sync")
        (device,) = json.loads(_run("losetup", "--json", "--associated", str(self._image)))["loopdevices"]
        Path("/sys/fs/ext4", Path(device["name"]).name, "trigger_fs_error").write_text("broken on purpose")

    def mend(self) -> None:
        """Checks the disk and mounts it again."""
        _run("umount", str(self._root))
        subprocess.run(["e2fsck", "-f", "-y", str(self._image)], check=False, capture_output=True)
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self._root))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
