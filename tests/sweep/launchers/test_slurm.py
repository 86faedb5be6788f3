"""Workers as jobs of a real SLURM: what becomes of them, and of the study in the end."""

import functools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from backends import Server as TrackingServer
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from processes import Command, Server, kill, wait_until
from slurm import Slurm

from brainseg.config import TrackingConfig
from brainseg.sweep.engine.storage import open_storage
from brainseg.sweep.launchers import slurm as launcher
from brainseg.sweep.launchers.config import LauncherConfig
from brainseg.sweep.launchers.engine import Study, Workers
from brainseg.sweep.server.address import STORAGE, ServerFolder
from brainseg.tracking import RunRecord, open_store
from brainseg.tracking.paths import SERVER
from sweeps import Sweep

pytestmark = pytest.mark.timeout(900)
EPOCHS = 30  # enough for a trial to be met while it is trained
MANY = 300  # enough for SLURM to notice something meanwhile
# Instead of a worker: says which GPUs it has, and is told to stop as one is.
STAND_IN = """\
trap 'echo told to stop; exit 143' TERM
echo "process $$ has GPU $CUDA_VISIBLE_DEVICES"
while :; do sleep 0.1; done
"""


class SlurmSweep(Sweep):
    """A sweep whose commands find a SLURM; a job of it serves the study unless `keep_in` names servers."""

    def __init__(self, folder: Path, server: Server, empty_store: Path, slurm: Slurm) -> None:
        overrides = [item for item in self.overrides if "epochs" not in item]
        super().__init__(folder, server, empty_store, trials=2, overrides=[*overrides, f"train.epochs={EPOCHS}"])
        self.slurm = slurm
        self.address = ServerFolder(self.mlruns).file
        self.store = open_store(TrackingConfig(root=str(self.mlruns), uri=SERVER))
        self._where = STORAGE
        self._places: list[str] = []
        self._others: set[str] = set()

    def keep_in(self, where: str, uri: str) -> None:
        """Has the commands keep the study and its records there."""
        self.store = open_store(TrackingConfig(root=str(self.mlruns), uri=uri, experiment=self.folder.name))
        self._where = where
        self._places = [f"tracking.uri={uri}", f"tracking.experiment={self.folder.name}", "--storage", where]
        self._others = set(self.store.find({}))  # the server is shared with other tests

    @functools.cached_property
    def _storage(self) -> BaseStorage:
        return open_storage(self._where, root=self.mlruns, name="tiny").optuna

    def start(self, *arguments: str, program: str = "brainseg.sweep") -> Command:
        """Starts `COMMAND NAME ARGUMENTS` where SLURM_CONF names the cluster."""
        told = [*arguments, *self._places]
        code = (
            f"import os; os.environ.update({self.slurm.environment!r}); "
            f"from {program}.__main__ import main; raise SystemExit(main({told!r}))"
        )
        return super().start(code, program="-c")

    def launch(self, *arguments: str, workers: int = 2, **values: object) -> Command:
        """Starts `run tiny launcher=slurm`. values: of `launcher.*`."""
        values = {"command": sys.executable, "cpus": 1} | values
        return self.start(
            *("run", "tiny", "launcher=slurm", "--workers", str(workers), *arguments),
            *(f"launcher.{key}={value}" for key, value in values.items()),
        )

    def trials(self, name: str = "tiny") -> list[FrozenTrial]:
        """The study's trials; none before it is there."""
        known = {study.study_name: study._study_id for study in self._storage.get_all_studies()}
        return self._storage.get_all_trials(known[name], deepcopy=False) if name in known else []

    def runs(self) -> list[RunRecord]:
        """Every run that MLflow has since this was made."""
        return [run for run in super().runs() if run.run_id not in self._others]

    def told(self, command: Command) -> str:
        """With SLURM's own words."""
        return f"{super().told(command)}\n{self.slurm.run('squeue', '--array', '--states=all')}"

    def status(self) -> dict[str, Any]:
        """What `status --json` prints."""
        found: dict[str, Any] = json.loads(self.run("status", "tiny", "--json"))
        return found

    def wait_for_epochs(self, command: Command, *, trials: int) -> None:
        """Returns when so many trials are in training, each with an epoch or more."""
        command.wait_until(lambda: len([worker for worker in self.workers() if worker.epochs]) == trials)

    def assert_whole(self, epochs: int = EPOCHS) -> None:
        """`assert_finished`, and no epoch was trained again to its end."""
        self.assert_finished()
        assert {number: sorted(epochs) for number, epochs in self.trained().items()} == {
            number: list(range(1, epochs + 1)) for number in range(2)
        }

    def assert_finished(self) -> None:
        """Every trial is complete, in one run, and no death was counted."""
        assert self.states() == {"COMPLETE": 2}
        assert {run.status for run in self.children().values()} == {"FINISHED"}
        assert sorted(self.children()) == [0, 1]
        assert not any(trial.user_attrs.get("deaths") for trial in self.trials())
        self.assert_nothing_is_open()


@pytest.fixture
def cluster(slurm: Slurm) -> Iterator[Slurm]:
    """The cluster without a job; none is left there in the end."""
    yield slurm
    slurm.end_all()


@pytest.fixture
def sweep(
    process_server: Server,
    cluster: Slurm,
    postgres: str,
    server: TrackingServer,
    empty_store: Path,
    tmp_path: Path,
) -> Iterator[SlurmSweep]:
    """The tiny study in a folder of this test's own."""
    made = SlurmSweep(tmp_path, process_server, empty_store, cluster)
    made.keep_in(postgres, server.uri)
    yield made
    for command in made.commands:
        command.kill_all()


@pytest.fixture
def served_sweep(
    process_server: Server, cluster: Slurm, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SlurmSweep]:
    """The tiny study without a server, in a folder that other users may enter: for root, PostgreSQL runs as one."""
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        Path(folder).chmod(0o755)
        made = SlurmSweep(Path(folder), process_server, empty_store, cluster)
        monkeypatch.setenv("PGSERVICEFILE", str(made.address))
        yield made
        for command in made.commands:
            command.kill_all()
        cluster.end_all()


@pytest.fixture
def stand_ins(cluster: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "StandIns":
    """Jobs whose workers are shell scripts."""
    monkeypatch.setattr(launcher, "RESTART_PAUSE_S", 0)
    for key, value in cluster.environment.items():
        monkeypatch.setenv(key, value)
    return StandIns(cluster, tmp_path)


class StandIns:
    """Jobs whose workers are shell scripts, and what these have printed."""

    def __init__(self, cluster: Slurm, folder: Path) -> None:
        self._cluster = cluster
        self._logs = folder / "my logs"
        self._script = folder / "worker.sh"
        self._script.write_text(STAND_IN)

    def start(self, count: int, **values: Any) -> list[str]:
        """Submits so many; the ids of their jobs, once all have begun. values: of `launcher.*`."""
        config = LauncherConfig(kind="slurm", command=f"bash {self._script}", **{"cpus": 1, "gpus": 1} | values)
        workers = Workers(study=Study(name="tiny", id="0"), threads=1, arguments=[], environment={}, logs=self._logs)
        name = launcher.Slurm(config).start(workers, range(1, count + 1)).removeprefix("job ")
        self.wait_for("process", count)
        return [f"{name}_{place}" for place in range(1, count // config.workers_per_job + 1)]

    def lines(self, beginning: str) -> list[str]:
        """What follows this beginning of a line, in all logs."""
        lines = [line for path in self._logs.glob("*.log") for line in path.read_text().splitlines()]
        return sorted(line.removeprefix(beginning) for line in lines if line.startswith(beginning))

    def wait_for(self, beginning: str, count: int) -> None:
        """Returns when so many lines begin so."""
        wait_until(lambda: len(self.lines(beginning)) >= count, lambda: "\n".join(self.lines("")))


@pytest.mark.parametrize(
    "program",
    [
        "{python}",
        # As a container does it: processes are numbered anew, and the files that tell which ones live say nothing.
        pytest.param("unshare --pid --fork --mount-proc {python}", marks=pytest.mark.slow),
    ],
)
def test_a_study_of_which_a_job_is_requeued_ends_whole(sweep: SlurmSweep, program: str) -> None:
    command = sweep.launch(command=program.format(python=sys.executable))
    sweep.wait_for_epochs(command, trials=2)
    first = sweep.slurm.jobs()[0]
    sweep.slurm.run("scontrol", "requeue", first)
    sweep.slurm.start_at_once(first)
    assert command.exit_code() == 0, sweep.told(command)
    sweep.assert_whole()
    assert sum(path.read_text().count("goes on in epoch") for path in sweep.logs()) == 1
    (parent,) = sweep.parents()
    assert (parent.status, parent.tags["state"]) == ("FINISHED", "finished")


@pytest.mark.slow  # test_slurm_script.py has the rules
def test_a_job_that_waits_is_shown_and_a_stop_cancels_it_and_ends_the_other_after_its_epoch(
    sweep: SlurmSweep,
) -> None:
    command = sweep.launch("train.epochs=1000", gpus=2, options="--nodelist=n1")
    sweep.wait_for_epochs(command, trials=1)
    status = sweep.status()
    assert (status["state"], [worker["trial"] for worker in status["workers"]]) == ("running", [0])
    assert status["workers"][0]["gpu"] == "0,1"
    first, second = status["launcher"]["tasks"]
    assert (first["state"], first["host"], second["state"], second["reason"]) == (
        "running",
        "n1",
        "waiting",
        "Resources",
    )

    text = sweep.run("stop", "tiny")
    assert "SLURM: 1 that waited are cancelled" in text
    assert command.exit_code() == 0, sweep.told(command)
    assert "not finished yet; go on with: python -m brainseg.sweep run tiny launcher=slurm" in command.text
    assert [sweep.slurm.state(job) for job in sweep.slurm.jobs()] == ["COMPLETED", "CANCELLED"]
    assert sweep.states() == {"RUNNING": 1}
    assert sweep.trials()[0].user_attrs["lease"] is None
    assert [run.status for run in sweep.children().values()] == ["KILLED"]


@pytest.mark.slow  # tests/sweep/engine/test_deadline.py has the rules
def test_jobs_obey_the_time_limit_that_the_study_has(sweep: SlurmSweep) -> None:
    command = sweep.launch("train.epochs=1000")
    sweep.wait_for_epochs(command, trials=2)
    second = sweep.launch("train.epochs=1000", "--hours", "0.0001")
    assert [command.exit_code(), second.exit_code()] == [0, 0], sweep.told(command)
    told = "0 trials ended within the time limit, 2 are to come; not finished yet; go on with: "
    assert told in command.text
    assert told in second.text
    assert [sweep.slurm.state(job) for job in sweep.slurm.jobs()] == ["COMPLETED"] * 2
    assert sweep.states() == {"RUNNING": 2}
    assert [trial.user_attrs["lease"] for trial in sweep.trials()] == [None, None]
    assert [run.status for run in sweep.children().values()] == ["KILLED"] * 2


def test_what_sbatch_refuses_is_one_line_and_nothing_is_written(sweep: SlurmSweep) -> None:
    command = sweep.launch(options="--partition=gpus")
    assert command.exit_code() == 2, sweep.told(command)
    assert command.text == (
        "error: launcher.options: sbatch refuses the job: allocation failure: Invalid partition name specified\n"
    )
    assert (sweep.trials(), sweep.runs(), sweep.logs(), sweep.slurm.jobs()) == ([], [], [], [])


def test_a_cancelled_job_stays_away_and_one_whose_worker_is_told_to_stop_comes_back(
    stand_ins: StandIns, cluster: Slurm
) -> None:
    cancelled, told = stand_ins.start(2)
    cluster.run("scancel", cancelled)
    cluster.run("scancel", "--signal=TERM", told)  # as before a time limit, or at a preemption
    stand_ins.wait_for("told to stop", 2)
    cluster.start_at_once(told)
    stand_ins.wait_for("process", 3)
    assert (cluster.state(cancelled), cluster.state(told)) == ("CANCELLED", "RUNNING")


def test_workers_that_share_a_job_have_a_gpu_each_and_one_that_is_killed_starts_again(
    stand_ins: StandIns, cluster: Slurm
) -> None:
    (job,) = stand_ins.start(2, workers_per_job=2, options="--mem=2000")
    assert sorted(line.split(" has ")[1] for line in stand_ins.lines("process ")) == ["GPU 0", "GPU 1"]
    kill(int(stand_ins.lines("process ")[0].split()[0]))
    stand_ins.wait_for("process", 3)
    cluster.run("scancel", "--signal=TERM", job)
    cluster.start_at_once(job)
    stand_ins.wait_for("process", 5)
    assert len(stand_ins.lines("told to stop")) == 2


@pytest.mark.slow
def test_a_node_that_is_lost_costs_no_trial(sweep: SlurmSweep) -> None:
    command = sweep.launch(f"train.epochs={MANY}", cpus=4)  # a node each
    sweep.wait_for_epochs(command, trials=2)
    first, _ = sweep.slurm.jobs()
    sweep.slurm.kill_node("n1")
    sweep.slurm.start_node("n1")
    command.wait_for("worker 1: n1 has lost it; SLURM starts it again")
    sweep.slurm.start_at_once(first)
    assert command.exit_code() == 0, sweep.told(command)
    sweep.assert_finished()  # of what the lost one has trained, not every line was written


@pytest.mark.slow
def test_a_time_limit_costs_no_trial(sweep: SlurmSweep) -> None:
    command = sweep.launch(workers=1, options="--time=60")
    sweep.wait_for_epochs(command, trials=1)
    (job,) = sweep.slurm.jobs()
    (worker,) = [psutil.Process(each.pid) for each in sweep.workers()]
    worker.suspend()  # so that no trial ends before SLURM looks at its time limits, every 30 s; its signal wakes it
    sweep.slurm.run("scontrol", "update", f"jobid={job}", "endtime=now+145")  # the warning is due
    command.wait_for("lost it; SLURM starts it again")
    sweep.slurm.run("scontrol", "update", f"jobid={job}", "timelimit=60")
    sweep.slurm.start_at_once(job)
    assert command.exit_code() == 0, sweep.told(command)
    sweep.assert_whole()


@pytest.mark.slow
def test_a_study_that_a_job_serves_survives_that_its_server_is_killed(served_sweep: SlurmSweep) -> None:
    sweep = served_sweep
    command = sweep.launch(f"train.epochs={MANY}")
    command.wait_until(sweep.address.exists)
    first = sweep.address.read_text()
    sweep.wait_for_epochs(command, trials=2)
    words = {sys.executable, "serve", f"tracking.root={sweep.mlruns}"}
    found = [each for each in psutil.process_iter(["cmdline"]) if words <= {*(each.info["cmdline"] or ())}]
    (server,) = [each.pid for each in found if each.name() != "srun"]
    kill(server)
    assert command.exit_code() == 0, sweep.told(command)
    assert sweep.address.read_text() != first
    sweep.assert_finished()
    assert sweep.epochs() == 2 * MANY
    # None twice; of one whose report found no server, no line was printed.
    assert all(len(set(epochs)) == len(epochs) for epochs in sweep.trained().values())
    assert [sweep.slurm.state(job) for job in sweep.slurm.jobs()] == ["RUNNING", "COMPLETED", "COMPLETED"]
