"""What is done to a training or a sweep on one machine. Each fault starts it, breaks it, and mends what it broke.

Whoever calls goes on with it afterwards, until it is finished.
"""

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

from benchmarks.faults.disk import MEBIBYTE, Disk
from benchmarks.faults.hosts import kill
from benchmarks.faults.machine import END_S, Machine, SweepMachine

STOPPED_S = 200.0
NEEDED_BYTES = 6 * MEBIBYTE  # what a training has in its root at once, and a little more
SWEEP_STRIKES = ("driver", "worker", "both")  # one each in a case: three deaths of a worker would be the trial's end
CLOCK = """
import time
real, begun = time.time, time.monotonic()
time.time = lambda: real() - (3600.0 if time.monotonic() - begun > {after} else 0.0)
"""


@dataclass(kw_only=True)
class Case:
    """One time that something is broken."""

    source: random.Random
    seconds: float  # that it takes undisturbed
    struck: list[str] = field(default_factory=list)  # what was hit while it ran, and after how many seconds
    wrong: list[str] = field(default_factory=list)  # what else than a difference in the end isn't as it should be

    def moment(self, machine: Machine, process: "subprocess.Popen[bytes]", what: str) -> bool:
        """Waits for a random moment of a training's time; whether the process is still there to be struck."""
        after = self.source.random() * self.seconds
        is_running = machine.wait(process, after)
        if is_running:
            self.struck.append(f"{what} after {after:.1f} s")
        return is_running

    def expect(self, process: "subprocess.Popen[bytes]", code: int) -> None:
        """Waits for the end of a training that has to end in this way."""
        if (found := process.wait(END_S)) != code:
            self.wrong.append(f"a training ended with {found}, not {code}")


def killed(machine: Machine, case: Case) -> None:
    process = machine.start()
    case.moment(machine, process, "the training")
    process.kill()
    process.wait()


def stopped(machine: Machine, case: Case) -> None:
    process = machine.start()
    if case.moment(machine, process, "the training"):
        process.send_signal(SIGSTOP)
        time.sleep(STOPPED_S)
        process.send_signal(SIGCONT)
    case.expect(process, 0)


def clock_set_back(machine: Machine, case: Case) -> None:
    after = case.source.random() * case.seconds
    site = machine.root.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CLOCK.format(after=after))
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    case.struck.append(f"the clock after {after:.1f} s")
    case.expect(machine.start(environment={"PYTHONPATH": path}), 0)


def without_shared_memory(machine: Machine, case: Case) -> None:
    script = 'mount -t tmpfs -o ro,size=0 none /dev/shm && exec "$@"'
    case.struck.append("shared memory")
    case.expect(machine.start(before=["unshare", "--mount", "sh", "-c", script, "sh"]), 0)


def memory_limit(machine: Machine, case: Case) -> None:
    process = machine.start()
    if case.moment(machine, process, "the training"):
        with contextlib.suppress(FileNotFoundError):
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
            limit = pages * os.sysconf("SC_PAGESIZE") + case.source.randrange(16 * MEBIBYTE)
            subprocess.run(["prlimit", f"--pid={process.pid}", f"--as={limit}"], check=False, capture_output=True)
    process.wait(END_S)


def disk_full(machine: Machine, case: Case) -> None:
    with Disk(machine) as disk:
        room = case.source.randrange(NEEDED_BYTES)
        filler = machine.root / "filler"
        filler.write_bytes(bytes(disk.free - room))
        code = machine.start().wait(END_S)
        case.struck += [f"a disk with room for {room / MEBIBYTE:.2f} MiB"] * (code != 0)
        case.wrong += [f"a training on a full disk ended with {code}, not 0 or 1"] * (code not in (0, 1))
        filler.unlink()
        machine.finish()


def read_only(machine: Machine, case: Case) -> None:
    with Disk(machine) as disk:
        process = machine.start()
        if case.moment(machine, process, "the disk"):
            disk.fail()
        process.wait(END_S)
        disk.mend()
        machine.finish()


def _begun(machine: Machine) -> "subprocess.Popen[bytes]":
    """A training, once there is something to resume, or its end."""
    process = machine.start()
    while machine.unfinished() is None and machine.wait(process, 0.1):
        pass
    return process


def two_resumes(machine: Machine, case: Case) -> None:
    process = _begun(machine)
    machine.wait(process, case.source.random() * case.seconds / 4)
    process.kill()
    process.wait()
    if machine.unfinished() is None:
        return
    case.struck.append("the training")
    codes = sorted(process.wait(END_S) for process in [machine.start() for _ in range(2)])
    case.wrong += [f"two resumes ended with {codes}"] * (codes != [0, 2])


def resume_beside(machine: Machine, case: Case) -> None:
    process = _begun(machine)
    if (run_id := machine.unfinished()) is not None:
        code = machine.start("brainseg.train", f"resume={run_id}", f"tracking.root={machine.root}").wait(END_S)
        case.struck += ["the living run"] * (process.poll() is None)
        case.wrong += [f"the resume ended with {code}, not 2"] * (code != 2)
    case.expect(process, 0)


def sweep_killed(machine: Machine, case: Case) -> None:
    assert isinstance(machine, SweepMachine)
    process = machine.start()
    for target in case.source.sample(SWEEP_STRIKES, len(SWEEP_STRIKES)):
        if not case.moment(machine, process, target):
            break
        workers = [] if target == "driver" else machine.workers(process)
        while target != "driver" and not workers and machine.wait(process, 0.1):  # none has started yet
            workers = machine.workers(process)
        if target != "worker":
            process.kill()
            process.wait()
        kill([case.source.choice(workers)] if target == "worker" and workers else workers, SIGKILL)
        if target != "worker":
            process = machine.start()
    case.expect(process, 0)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of fault."""

    what: str
    do: Callable[[Machine, Case], None]
    cases: int  # in a whole campaign
    machine: type[Machine] = Machine


FAULTS: dict[str, Fault] = {
    "kill": Fault(what="a training is killed (SIGKILL)", do=killed, cases=100),
    "sweep": Fault(
        what="a sweep's driver, a worker, and all at once are killed (SIGKILL), three strikes a sweep",
        do=sweep_killed,
        cases=34,
        machine=SweepMachine,
    ),
    "stop": Fault(what=f"a training is stopped for {STOPPED_S:.0f} s (SIGSTOP)", do=stopped, cases=5),
    "clock": Fault(what="the clock is set back by an hour", do=clock_set_back, cases=5),
    "shm": Fault(what="there is no /dev/shm", do=without_shared_memory, cases=5),
    "memory": Fault(what="the memory limit is hit", do=memory_limit, cases=5),
    "disk-full": Fault(what="the disk is full", do=disk_full, cases=5),
    "read-only": Fault(what="the disk of `tracking.root` fails and can only be read", do=read_only, cases=5),
    "two-resumes": Fault(what="a killed training is resumed twice at once", do=two_resumes, cases=5),
    "resume-beside": Fault(what="a training that lives is resumed", do=resume_beside, cases=5),
}
