"""What SLURM is given, and how its answers are read, without one."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from study_files import write_study

from brainseg.errors import ConfigError
from brainseg.sweep.__main__ import main
from brainseg.sweep.launchers.config import LauncherConfig
from brainseg.sweep.launchers.engine import Study, Task, Workers, counted, missing
from brainseg.sweep.launchers.slurm import Slurm
from brainseg.tracking.mlflow.connection import UnreachableError

STUDY = Study(name="tiny", id="abc")
WORKERS = Workers(
    study=STUDY,
    threads=4,
    arguments=["worker", "tiny", "data.root=/my data"],
    environment={"BRAINSEG_STORAGE": "postgresql://me:secret@db/studies"},
    logs=Path("/my runs/logs"),
)


def slurm(**values: Any) -> Slurm:
    """SLURM with these keys of `launcher.*`."""
    return Slurm(LauncherConfig(**{"kind": "slurm", "cpus": 4, "folder": "/home/me"} | values))


class Answers:
    """Stands for SLURM's commands: keeps what they are called with, and gives an answer."""

    def __init__(self, answer: str = "", *, error: str = "") -> None:
        self.calls: list[tuple[Sequence[str], str, dict[str, str]]] = []
        self._answer = answer
        self._error = error

    def __call__(self, command: Sequence[str], *, text: str = "", environment: Any = None) -> Any:
        self.calls.append((command, text, environment or {}))
        code = 1 if self._error else 0
        return subprocess.CompletedProcess(command, code, stdout=self._answer, stderr=self._error)


def answering(monkeypatch: pytest.MonkeyPatch, answer: str = "", *, error: str = "") -> Answers:
    """Takes the place of SLURM's commands."""
    answers = Answers(answer, error=error)
    monkeypatch.setattr("brainseg.sweep.launchers.slurm._run", answers)
    return answers


def test_a_worker_is_a_job_that_is_requeued_where_it_was_told_to_stop() -> None:
    script = slurm(options="--partition=gpu --comment='of my lab'", setup="module load cuda").shown(WORKERS, 2)
    assert (
        script
        == """\
#!/bin/bash
#SBATCH --job-name=brainseg-tiny
#SBATCH --comment=abc/1
#SBATCH --array=1-2
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
#SBATCH --chdir=/home/me
#SBATCH '--output=/my runs/logs/slurm-%a.log'
#SBATCH --partition=gpu
#SBATCH '--comment=of my lab'
trap : TERM  # what is told to stop goes on to its end here: a worker writes its checkpoint
module load cuda
work() {
    for start in {1..11}; do
        srun --ntasks=1 --cpus-per-task=4 python -m brainseg.sweep worker tiny 'data.root=/my data'
        code=$?
        # 0: nothing left to do; 1, 2: an error; 143: told to stop. Anything else, such as a kill: once more.
        case $code in 0|1|2|143) return $code ;; esac
        sleep 10
    done
    return $code
}
work
code=$?
job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
if [ $code = 143 ]; then
    state=$(squeue --noheader --jobs="$job" --format=%T)
    if [ "$state" = RUNNING ]; then scontrol requeue "$job"; fi  # COMPLETING: SLURM ends it itself, after scancel say
fi
exit $code
"""
    )


def test_workers_that_share_a_job_are_a_step_each() -> None:
    config = {"workers_per_job": 4, "gpus": 2, "command": "apptainer exec --nv 'my brainseg.sif' python"}
    lines = slurm(**config).shown(WORKERS, 6).splitlines()
    expected = ["--array=1-2", "--ntasks=4", "--nodes=1", "--cpus-per-task=4", "--gres=gpu:8"]
    assert [line.removeprefix("#SBATCH ") for line in lines[3:8]] == expected
    (step,) = (line.strip() for line in lines if "srun" in line)
    assert step == (
        "srun --ntasks=1 --cpus-per-task=4 --exact --mem=0 --gres=gpu:2 "
        "apptainer exec --nv 'my brainseg.sif' python -m brainseg.sweep worker tiny 'data.root=/my data'"
    )
    (starts,) = (line for line in lines if line.startswith("for place"))
    assert starts == (
        "for place in {1..4}; do "
        """work >> '/my runs/logs/slurm-'"$SLURM_ARRAY_TASK_ID-$place.log" 2>&1 & pids+=($!); done"""
    )


@pytest.mark.parametrize(
    ("numbers", "workers_per_job", "array"), [([1, 2, 3, 5], 1, "1-3,5"), ([4], 1, "4"), ([1, 2, 7], 2, "1,4")]
)
def test_only_the_workers_that_are_missing_are_submitted_and_no_password_is_in_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: list[int], workers_per_job: int, array: str
) -> None:
    answers = answering(monkeypatch, "4711;cluster\n")
    workers = Workers(**{**vars(WORKERS), "logs": tmp_path / "logs"})
    assert slurm(workers_per_job=workers_per_job).start(workers, numbers) == "job 4711"
    ((command, script, environment),) = answers.calls
    assert f"#SBATCH --array={array}\n" in script
    assert "secret" not in script + " ".join(command)
    assert environment == WORKERS.environment


def test_what_squeue_says_becomes_the_workers_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = answering(
        monkeypatch,
        "11_1|FAILED|NonZeroExitCode|n1|abc/1\n"  # another one has taken its place
        "11_3|TIMEOUT|TimeLimit|n2|abc/1\n"
        "12_1|RUNNING|None|n1|abc/1\n"
        "12_2|PENDING|Priority||abc/1\n"
        "13_1|RUNNING|None|n9|xyz/1\n",  # of a study of the same name in another storage
    )
    tasks = slurm().tasks(STUDY)
    assert tasks == [
        Task(job="12_1", number=1, state="running", host="n1", log="slurm-1.log"),
        Task(job="12_2", number=2, state="waiting", reason="Priority", log="slurm-2.log"),
        Task(job="11_3", number=3, state="ended", reason="TIMEOUT", host="n2", log="slurm-3.log"),
    ]
    assert "--name=brainseg-tiny" in answers.calls[0][0]
    assert counted(tasks) == "1 runs, 1 waits (Priority)"
    assert missing(tasks, 4) == [3, 4]


def test_every_worker_of_a_job_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = answering(monkeypatch, "12_2|PENDING|Resources||abc/2\n")
    tasks = slurm().tasks(STUDY)
    assert [(task.number, task.log) for task in tasks] == [(3, "slurm-2-1.log"), (4, "slurm-2-2.log")]
    assert missing(tasks, 4) == [1, 2]
    slurm().cancel(tasks)
    assert answers.calls[1][0] == ["scancel", "--state=PENDING", "12_2"]


def test_a_slurm_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, error="slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
    with pytest.raises(UnreachableError, match=r"squeue says: .*Unable to contact slurm controller .*; ask again"):
        slurm().tasks(STUDY)


@pytest.mark.parametrize(
    ("options", "minutes"),
    [
        ("--time=2", "2"),
        ("--partition=gpu -t 2:30", "2.5"),
        ("-t1 --gres=gpu:1", "1"),
        ("--time=60 --time 0:02:00", "2"),
        ("--time=0-0:1", "1"),
    ],
)
def test_a_time_limit_that_leaves_no_time_to_train_is_refused_before_slurm_is_asked(
    monkeypatch: pytest.MonkeyPatch, options: str, minutes: str
) -> None:
    answers = answering(monkeypatch)
    with pytest.raises(ConfigError) as refusal:
        slurm(options=options).check(WORKERS, 2)
    assert str(refusal.value) == (
        f"launcher.options: a time limit must be 3 minutes or more, got {minutes}: SLURM tells workers to stop "
        "2 minutes before it or earlier; try --time=60"
    )
    assert answers.calls == []


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--time=3",
        "--time=0",
        "--time",
        "-t 3:00",
        "--time=1:00:00",
        "--time=1-0",
        "--time=0-1:30",
        "-t 0-0:0:180",
        "--time=UNLIMITED",
    ],
)
def test_a_longer_time_limit_is_slurms_to_judge(monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    answers = answering(monkeypatch)
    monkeypatch.setattr("shutil.which", lambda program: program)
    slurm(options=options).check(WORKERS, 2)
    assert [call[0] for call in answers.calls] == [["sbatch", "--test-only"]]


def test_plan_shows_what_would_be_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRAINSEG_STORAGE", "postgresql://me:secret@db/studies")
    file = write_study(tmp_path)
    options = ["launcher=slurm", "launcher.cpus=8", "launcher.options=--time=24:00:00", "tracking.uri=http://x:5000"]
    assert main(["plan", str(file), "--workers", "3", *options]) == 0
    out = capsys.readouterr().out
    assert "#SBATCH --array=1-3\n" in out
    assert "#SBATCH --time=24:00:00\n" in out
    assert "srun --ntasks=1 --cpus-per-task=8 python -m brainseg.sweep worker study --threads 8" in out
    assert "secret" not in out
    assert sorted(tmp_path.iterdir()) == [file]
