"""Workers as jobs of SLURM: one array a submission, whose tasks requeue themselves.

`sbatch`, `squeue` and `scancel` are the interface, and a script that a cluster's admin can read.
"""

import argparse
import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from brainseg.errors import ConfigError, SweepError
from brainseg.sweep.launchers.config import GROUP, LauncherConfig
from brainseg.sweep.launchers.endings import FINAL, RESTART_PAUSE_S, RESTARTS, RUNS_AGAIN
from brainseg.sweep.launchers.engine import ENDED, RUNNING, WAITING, Study, Task, Workers
from brainseg.tracking.mlflow.connection import UnreachableError

PROGRAMS = ("sbatch", "squeue", "scancel")
TIMEOUT_S = 60
WARNING_S = 120  # before a time limit, a worker is told to write a checkpoint; SLURM is up to a minute early
SHORTEST_MIN = WARNING_S // 60 + 1  # of a time limit: with a shorter one, a worker is told so at its start, for ever
# What squeue calls a task.
STATES: Mapping[str, str] = {
    **dict.fromkeys(("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"), WAITING),
    **dict.fromkeys(
        ("RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"), RUNNING
    ),
}
SCRIPT = """\
#!/bin/bash
{options}
trap : TERM  # what is told to stop goes on to its end here: a worker writes its checkpoint
{setup}work() {{
    for start in {{1..{starts}}}; do
        srun {step} {command}
        code=$?
        # 0: nothing left to do; 1, 2: an error; {again}: told to stop. Anything else, such as a kill: once more.
        case $code in {final}|{again}) return $code ;; esac
        sleep {pause}
    done
    return $code
}}
{workers}
job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
if [ $code = {again} ]; then
    state=$(squeue --noheader --jobs="$job" --format=%T)
    if [ "$state" = RUNNING ]; then scontrol requeue "$job"; fi  # COMPLETING: SLURM ends it itself, after scancel say
fi
exit $code
"""
ONE_WORKER = """\
work
code=$?"""
SOME_WORKERS = """\
for place in {{1..{count}}}; do work >> {log} 2>&1 & pids+=($!); done
code=0
for pid in "${{pids[@]}}"; do
    wait "$pid"; one=$?
    while kill -0 "$pid" 2> /dev/null; do wait "$pid"; one=$?; done  # a signal interrupts a wait
    if [ "$one" != 0 ] && [ $code != {again} ]; then code=$one; fi
done"""


@dataclass(frozen=True)
class Slurm:
    """The cluster that `sbatch` submits to."""

    config: LauncherConfig
    name: str = "SLURM"

    def check(self, workers: Workers, count: int) -> None:
        """Raises ConfigError where this is no login node, and with sbatch's own words where it refuses the options."""
        limit_min = _time_limit_min(shlex.split(self.config.options))
        if limit_min and limit_min < SHORTEST_MIN:  # 0: no limit
            raise ConfigError(
                f"{GROUP}.options: a time limit must be {SHORTEST_MIN} minutes or more, got {limit_min:g}: SLURM tells "
                f"workers to stop {SHORTEST_MIN - 1} minutes before it or earlier; try --time=60"
            )
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            raise ConfigError(
                f"{missing[0]} is not on this machine; start this on a login node of the cluster, or leave {GROUP} out"
            )
        done = _run(["sbatch", "--test-only"], text=self.shown(workers, count))
        if done.returncode:
            raise ConfigError(f"{GROUP}.options: sbatch refuses the job: {_last_line(done.stderr)}")

    def shown(self, workers: Workers, count: int) -> str:
        """The script that `start` hands to sbatch."""
        return self._script(workers, range(1, count + 1))

    def start(self, workers: Workers, numbers: Sequence[int]) -> str:
        """Submits an array of jobs, as many as these workers need. Raises SweepError with sbatch's own words."""
        workers.logs.mkdir(parents=True, exist_ok=True)
        done = _run(["sbatch", "--parsable"], text=self._script(workers, numbers), environment=workers.environment)
        if done.returncode:
            raise SweepError(f"sbatch refuses the workers: {_last_line(done.stderr)}")
        return f"job {done.stdout.strip().partition(';')[0]}"

    def tasks(self, study: Study) -> list[Task]:
        """The study's tasks, those of other submissions of this user included; every worker of a job is one."""
        form = "%i|%T|%r|%N|%k"
        done = _run(
            [
                *("squeue", "--noheader", "--array", "--me", "--states=all", "--sort=i"),
                *(f"--name={_job_name(study)}", f"--format={form}"),
            ]
        )
        if done.returncode:
            raise UnreachableError(f"squeue says: {_last_line(done.stderr)}; ask again later")
        rows = [line.split("|") for line in done.stdout.splitlines()]
        found = [(row, row[4].removeprefix(f"{study.id}/")) for row in rows if row[4].startswith(f"{study.id}/")]
        tasks = [task for row, count in found for task in _tasks_of(*row[:4], count=int(count))]
        latest = {task.number: task for task in tasks}
        # One that has ended is shown by SLURM for some minutes, beside the one that has taken its place.
        tasks = [task for task in tasks if task.state != ENDED or latest[task.number] is task]
        return sorted(tasks, key=lambda task: task.number)

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Cancels these tasks' jobs as long as they wait."""
        if tasks:
            _run(["scancel", "--state=PENDING", *dict.fromkeys(task.job for task in tasks)])

    def _script(self, workers: Workers, numbers: Sequence[int]) -> str:
        config, count = self.config, self.config.workers_per_job
        places = sorted({(number - 1) // count + 1 for number in numbers})
        logs = workers.logs.absolute()
        cpus = [] if config.cpus is None else [f"--cpus-per-task={config.cpus}"]
        gpus = [f"--gres=gpu:{config.worker_gpus}"] if config.worker_gpus else []
        options = [
            f"--job-name={_job_name(workers.study)}",
            f"--comment={workers.study.id}/{count}",
            f"--array={_ranges(places)}",
            f"--ntasks={count}",
            *(["--nodes=1"] if count > 1 else []),
            *cpus,
            *([f"--gres=gpu:{count * config.worker_gpus}"] if gpus else []),
            "--requeue",
            "--open-mode=append",
            f"--signal=TERM@{WARNING_S}",
            f"--chdir={config.start_folder}",
            f"--output={logs}/slurm-%a.log",
            *shlex.split(config.options),
        ]
        step = ["--ntasks=1", *cpus, *(["--exact", "--mem=0", *gpus] if count > 1 else [])]
        together = SOME_WORKERS.format(
            count=count, log=f'{shlex.quote(f"{logs}/slurm-")}"$SLURM_ARRAY_TASK_ID-$place.log"', again=RUNS_AGAIN
        )
        return SCRIPT.format(
            options="\n".join(f"#SBATCH {shlex.quote(option)}" for option in options),
            setup=f"{config.setup.strip()}\n" if config.setup.strip() else "",
            starts=RESTARTS + 1,
            step=shlex.join(step),
            command=shlex.join([*shlex.split(config.command), "-m", "brainseg.sweep", *workers.arguments]),
            final="|".join(map(str, FINAL)),
            again=RUNS_AGAIN,
            pause=RESTART_PAUSE_S,
            workers=ONE_WORKER if count == 1 else together,
        )


def _time_limit_min(options: Sequence[str]) -> float | None:
    """The time limit in minutes; None where none is named, or in words that sbatch may know."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-t", "--time", nargs="?", default="", const="")
    given: str = parser.parse_known_args(options)[0].time
    found = re.fullmatch(r"(?:(?P<days>\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", given)
    if found is None:
        return None
    days, *numbers = (int(number) if number else 0 for number in found.groups())
    if found["days"] is None and found[4] is None:  # MIN, MIN:S
        numbers = [0, *numbers[:2]]
    hours, minutes, seconds = numbers
    return (days * 24 + hours) * 60 + minutes + seconds / 60


def _tasks_of(job: str, state: str, reason: str, host: str, *, count: int) -> list[Task]:
    """The workers of a job."""
    place = int(job.partition("_")[2] or 1)
    ours = STATES.get(state, ENDED)
    said = state if ours == ENDED else "" if reason == "None" else reason
    return [
        Task(
            job=job,
            number=(place - 1) * count + each,
            state=ours,
            reason=said,
            host=host,
            log=f"slurm-{place}-{each}.log" if count > 1 else f"slurm-{place}.log",
        )
        for each in range(1, count + 1)
    ]


def _ranges(places: Sequence[int]) -> str:
    """Sorted numbers as sbatch has them: 1-3,5."""
    runs = [list(run) for _, run in itertools.groupby(enumerate(places), key=lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0][1]}-{run[-1][1]}" if len(run) > 1 else str(run[0][1]) for run in runs)


def _job_name(study: Study) -> str:
    return f"brainseg-{study.name}"


def _run(
    command: Sequence[str], *, text: str = "", environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            input=text,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreachableError(f"{command[0]} doesn't answer ({error}); ask again later") from error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("sbatch: error: ") if lines else "nothing"
