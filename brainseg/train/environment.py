"""The code, packages and machine of a run, so that it can be repeated or told from others."""

import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import brainseg
from brainseg.model.gpus import Gpu, gpus
from brainseg.runs.artifacts import CODE_FILE, MACHINE_FILE, PACKAGES_FILE
from brainseg.tracking.protocol import Tracker

LOCK_FILE = "requirements.lock"


@dataclass(frozen=True, kw_only=True)
class Code:
    """The state of a git working tree."""

    commit: str
    diff: str  # of tracked files against the commit; empty where nothing is changed


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Hardware and interpreter."""

    host: str
    system: str
    processor: str
    cores: int
    memory_gib: float
    gpus: tuple[Gpu, ...]  # that the run may use
    python: str
    brainseg: str


def code_state() -> Code | None:
    """Commit and uncommitted diff of brainseg's checkout, else of the current folder's; None without git."""
    for folder in (Path(brainseg.__file__).parent, Path.cwd()):
        commit = _git(folder, "rev-parse", "HEAD")
        if commit is not None:
            return Code(commit=commit.strip(), diff=_git(folder, "diff", "HEAD") or "")
    return None


def lock_of(commit: str) -> str | None:
    """The versions that brainseg's checkout asked for at a commit; None where git doesn't know it."""
    if not re.fullmatch(r"[0-9a-f]{7,64}", commit):
        return None
    return _git(Path(brainseg.__file__).parent, "show", f"{commit}:./../{LOCK_FILE}")


@functools.cache
def machine() -> Machine:
    """This machine."""
    return Machine(
        host=platform.node(),
        system=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        gpus=gpus(),
        python=sys.version.split()[0],
        brainseg=brainseg.__version__,
    )


def machine_json() -> str:
    """`machine` as indented JSON."""
    here = machine()
    found = asdict(here)
    del found["gpus"]
    if here.gpus:
        found["gpus"] = "; ".join(f"{gpu.name}, {gpu.memory_mib} MiB, driver {gpu.driver}" for gpu in here.gpus)
    return json.dumps(found, indent=1) + "\n"


@functools.cache
def packages() -> str:
    """Every installed package with its version, as pip's requirements, sorted."""
    found = {
        (item.metadata["Name"] or "").lower(): item.version
        for item in importlib.metadata.distributions()
        if item.metadata["Name"]
    }
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found))


def record_environment(tracker: Tracker) -> None:
    """Packages, machine, and the state of the code where git knows it."""
    tracker.log_text(packages(), PACKAGES_FILE)
    tracker.log_text(machine_json(), MACHINE_FILE)
    code = code_state()
    if code is not None:
        tracker.set_tags({"git_commit": code.commit, "code_changed": "yes" if code.diff else "no"})
        if code.diff:
            tracker.log_text(code.diff, CODE_FILE)


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()
