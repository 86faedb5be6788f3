"""The server as a job of the scheduler that runs its workers."""

import dataclasses
import hashlib
import time
from collections.abc import Sequence

from rich.console import Console

from brainseg.cli.tables import say
from brainseg.errors import SweepError, TrackingError
from brainseg.sweep.launchers.config import SLURM, LauncherConfig
from brainseg.sweep.launchers.engine import ENDED, WAITING, Engine, Study, Task, Workers
from brainseg.sweep.launchers.known import engine_of
from brainseg.sweep.launchers.local import last_line
from brainseg.sweep.server.address import STORAGE, ServerFolder, check_up, server_folder, why_away
from brainseg.sweep.server.serve import AUTO
from brainseg.tracking.mlflow.connection import UnreachableError

ASK_S = 2.0  # between two looks at the server that is being started


def show_server(launcher: LauncherConfig, tracking: Sequence[str], where: str | None) -> None:
    """Prints the job of the root's own server, where the study would be kept there."""
    if where == STORAGE and (engine := _engine(launcher)) is not None:
        print(f"the server's job, unless it runs:\n\n{engine.shown(_job(server_folder(tracking)), 1)}")


def ensure_server(launcher: LauncherConfig, tracking: Sequence[str], console: Console) -> None:
    """Submits the server's job unless the server runs or its job waits, and waits until it answers.

    Raises SweepError where the job ends instead, and Interrupted; the job then stays.
    """
    folder, engine = server_folder(tracking), _engine(launcher)
    if engine is None:
        return check_up(folder)
    job, said = _job(folder), ""
    engine.check(job, 1)
    while why_away() is not None:
        tasks = _alive(engine, job.study)
        line = "" if tasks is None else f"{engine.name}: the server's job {_told(tasks)}"
        if tasks == [] and not said:
            line = f"{engine.name}: the server is submitted as {engine.start(job, [1])}"
        elif tasks == []:
            log = job.logs / "slurm-1.log"
            raise SweepError(f"the server's job has ended: {last_line(log)}; see {log}")
        if line and line != said:
            say(line, console)
            said = line
        time.sleep(ASK_S)


def check_server(tracking: Sequence[str], *, is_to_stop: bool) -> None:
    """Raises TrackingError, with what SLURM says of its job, where the server doesn't run.

    is_to_stop: a job that waits is cancelled.
    """
    folder = server_folder(tracking)
    if why_away() is None:
        return
    engine = _engine(LauncherConfig(kind=SLURM))
    assert engine is not None
    tasks = _alive(engine, _job(folder).study)
    waiting = [task for task in tasks or () if task.state == WAITING]
    if is_to_stop and waiting:
        engine.cancel(waiting)
        raise TrackingError(
            f"the server of {folder.root} waited in {engine.name} and is cancelled; workers end without it"
        )
    check_up(folder, told=f"{engine.name}: its job {_told(tasks)}" if tasks else "")


def _engine(launcher: LauncherConfig) -> Engine | None:
    options = launcher.options if launcher.server_options is None else launcher.server_options
    return engine_of(dataclasses.replace(launcher, options=options, gpus=0, cpus=1, workers_per_job=1))


def _job(folder: ServerFolder) -> Workers:
    """The server as if it were a worker of a study of its own: it is requeued and restarted like one."""
    return Workers(
        study=Study(name="server", id=hashlib.sha256(str(folder.root).encode()).hexdigest()[:16]),
        threads=1,
        arguments=["serve", "--host", AUTO, "--while-needed", f"tracking.root={folder.root}"],
        environment={"PYTHONUNBUFFERED": "1"},
        logs=folder.path,
    )


def _alive(engine: Engine, study: Study) -> list[Task] | None:
    """The server's jobs that wait or run; None where the scheduler can't be asked now."""
    try:
        return [task for task in engine.tasks(study) if task.state != ENDED]
    except UnreachableError:
        return None


def _told(tasks: Sequence[Task]) -> str:
    return ", ".join(f"waits ({task.reason})" if task.state == WAITING else f"runs on {task.host}" for task in tasks)
