"""The server as a job of the scheduler that runs its workers."""

import dataclasses
import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Sequence

from rich.console import Console

from brainseg.cli.tables import say
from brainseg.errors import SweepError, TrackingError
from brainseg.sweep.launchers.config import SLURM, LauncherConfig
from brainseg.sweep.launchers.endings import last_line
from brainseg.sweep.launchers.engine import ENDED, WAITING, Engine, Study, Task, Workers, told
from brainseg.sweep.launchers.known import engine_of
from brainseg.sweep.server.address import STORAGE, ServerFolder, server_folder, why_away
from brainseg.sweep.server.serve import AUTO
from brainseg.tracking.mlflow.connection import UnreachableError

ASK_S = 2.0  # between two looks at the server that is being started


def show_server(launcher: LauncherConfig, tracking: Sequence[str], where: str | None) -> None:
    """Prints the job of the root's own server, where the study would be kept there."""
    if where == STORAGE and (engine := _engine(launcher)) is not None:
        print(f"the server's job, unless it runs:\n\n{engine.shown(_job(server_folder(tracking)), 1)}")


def ensure_server(launcher: LauncherConfig, tracking: Sequence[str], console: Console) -> None:
    """Submits the server's job unless the server runs or its job waits, and waits until it answers.

    Raises TrackingError where there is no scheduler, SweepError where the job ends instead, and Interrupted; the job
    then stays.
    """
    engine = _engine(launcher)
    if engine is None:
        check_server(tracking)
        return
    job, said = _job(server_folder(tracking)), ""
    engine.check(job, 1)
    while why_away() is not None:
        tasks = alive_tasks(engine, job.study)
        if tasks:
            line = f"{engine.name}: the server {told(tasks[0])}"
        elif tasks is None:
            line = f"{engine.name} doesn't answer"
        elif not said:
            line = f"{engine.name}: the server is submitted as {engine.start(job, [1])}"
        else:
            log = job.logs / "slurm-1.log"
            raise SweepError(f"the server's job has ended: {last_line(log)}; see {log}")
        if line != said:
            say(line, console)
            said = line
        time.sleep(ASK_S)


def check_server(tracking: Sequence[str], *, is_to_stop: bool = False) -> None:
    """Raises TrackingError, with what SLURM says of its job, where the server doesn't run.

    is_to_stop: a job that waits is cancelled, if no study is there yet whose workers need it to learn of the wish.
    """
    why = why_away()
    if why is None:
        return
    folder, tasks = server_folder(tracking), server_tasks(tracking)
    if not tasks:
        named = shlex.quote(os.path.relpath(folder.root))
        raise TrackingError(
            f"the server of {folder.root} doesn't run ({why}); start it: "
            f"python -m brainseg.sweep serve tracking.root={named}"
        )
    if is_to_stop and tasks[0].state == WAITING and not folder.data.exists():
        engine = engine_of(LauncherConfig(kind=SLURM))
        assert engine is not None
        engine.cancel(tasks)
        shutil.rmtree(folder.path)
        raise TrackingError(f"the server of {folder.root} waited in {engine.name} and is cancelled; no study was begun")
    raise TrackingError(f"the server of {folder.root} doesn't run yet: its job {told(tasks[0])}; ask again then")


def server_tasks(tracking: Sequence[str]) -> list[Task]:
    """The server's jobs that wait or run in SLURM, as far as it can be asked here."""
    engine = engine_of(LauncherConfig(kind=SLURM))
    assert engine is not None
    return alive_tasks(engine, server_study(server_folder(tracking))) or []


def server_study(folder: ServerFolder) -> Study:
    """By what the scheduler knows the server's job."""
    return Study(name="server", id=hashlib.sha256(str(folder.root).encode()).hexdigest()[:16])


def alive_tasks(engine: Engine, study: Study) -> list[Task] | None:
    """Those that wait or run; None where the scheduler can't be asked now."""
    try:
        return [task for task in engine.tasks(study) if task.state != ENDED]
    except UnreachableError:
        return None


def _engine(launcher: LauncherConfig) -> Engine | None:
    options = launcher.options if launcher.server_options is None else launcher.server_options
    return engine_of(dataclasses.replace(launcher, options=options, gpus=0, cpus=1, workers_per_job=1))


def _job(folder: ServerFolder) -> Workers:
    """The server as if it were a worker of a study of its own: it is requeued and restarted like one."""
    return Workers(
        study=server_study(folder),
        threads=1,
        arguments=["serve", "--host", AUTO, "--while-needed", f"tracking.root={folder.root}"],
        environment={"PYTHONUNBUFFERED": "1"},
        logs=folder.path,
    )
