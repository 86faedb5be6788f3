"""A Ray cluster of two hosts with homes of their own, made by `ray start`: one is lost in the middle of a trial."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from backends import Server
from postgres import sql
from processes import PATIENCE_S

from brainseg.config import TrackingConfig
from brainseg.errors import ConfigError
from brainseg.sweep.engine.leases import STALE_S
from brainseg.sweep.launchers.config import launcher_config
from brainseg.sweep.launchers.engine import RUNNING, WAITING, Study, Workers
from brainseg.sweep.launchers.ray import Ray
from brainseg.tracking import RunRecord, open_store
from sweeps import TINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.heavy,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray isn't installed"),
    pytest.mark.timeout(1500),
    pytest.mark.filterwarnings("ignore"),  # of Ray's, in the process that asks it
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 for the addresses of hosts"),
]
EPOCHS = 120
OURS = ("launcher=ray", "launcher.cpus=1", "launcher.gpus=0", "launcher.folder=~/work")


def wait_until(condition: Callable[[], Any], told: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.5)


class Hosts:
    """Hosts by name, each with a home folder, an address and one core for Ray."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.2", 0))  # the kernel gives from 32768 on: Ray keeps 10002 to 19999 for workers
            self.address = f"127.0.0.2:{free.getsockname()[1]}"
        self.homes: dict[str, Path] = {}
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Types `ray start` on a host; the first one is the cluster's head."""
        number = len(self.homes) + 2
        self.homes[name] = self._folder / name
        (self.homes[name] / "work").mkdir(parents=True)
        role = [f"--address={self.address}"]
        if number == 2:
            role = ["--head", f"--port={self.address.partition(':')[2]}", "--include-dashboard=false"]
            role.append(f"--temp-dir={self._folder}/ray")
        sizes = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000"]
        ports = ["--min-worker-port=0", "--max-worker-port=0"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *role, *sizes, *ports, "--block"]
        with (self._folder / f"{name}.txt").open("wb") as output:
            self._processes[name] = subprocess.Popen(
                [*command, f"--node-ip-address=127.0.0.{number}", "--disable-usage-stats"],
                cwd=self.homes[name],
                env=self.environment | {"HOME": str(self.homes[name])},
                stdout=output,
                stderr=output,
            )
        wait_until(lambda: "--block" in self.text(name), lambda: self.text(name))

    @property
    def environment(self) -> dict[str, str]:
        """Of whoever types a command in the cluster."""
        return {**os.environ, "RAY_ADDRESS": self.address, "TF_CPP_MIN_LOG_LEVEL": "3"}

    def text(self, name: str) -> str:
        """What `ray start` has printed on a host."""
        return (self._folder / f"{name}.txt").read_text()

    def lose(self, name: str) -> None:
        """Ends every process of a host at once, as a power cut does."""
        process = self._processes.pop(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(process.pid)
            for each in [first, *first.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait()

    def end(self) -> None:
        """Ends all hosts."""
        for name in list(self._processes):
            self.lose(name)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """Two hosts; this process may ask their cluster."""
    import ray

    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:  # a short path: Ray's sockets are below it
        made = Hosts(Path(folder))
        monkeypatch.setenv("RAY_ADDRESS", made.address)
        try:
            for name in ("ws1", "ws2"):
                made.start(name)
            yield made
        finally:
            ray.shutdown()
            made.end()


def test_workers_that_wait_are_cancelled_and_those_that_have_ended_free_their_cores(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Ray(launcher_config([*OURS, f"launcher.command=sh -c 'until [ -e {tmp_path}/end ]; do sleep 1; done'"]))
    study = Study(name="tiny", id="1")
    asked = Workers(study=study, threads=1, arguments=["worker"], environment={}, logs=Path("logs").absolute())
    engine.check(asked, 3)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with pytest.raises(
        ConfigError, match=r"has no MLFLOW_TRACKING_PASSWORD; write it into ~/\.mlflow/credentials there"
    ):
        engine.check(asked, 3)
    engine.start(asked, [1, 2, 3])
    wait_until(lambda: Counter(task.state for task in engine.tasks(study)) == {RUNNING: 2, WAITING: 1})
    tasks = engine.tasks(study)
    assert {Path(task.log).parent for task in tasks if task.state == RUNNING} == {
        home / "work" / "logs" for home in hosts.homes.values()
    }
    engine.cancel(tasks)
    wait_until(lambda: Counter(task.state for task in engine.tasks(study)) == {RUNNING: 2})
    (tmp_path / "end").touch()
    wait_until(lambda: engine.tasks(study) == [])

    import ray

    wait_until(lambda: ray.available_resources().get("CPU") == 2)


class RaySweep:
    """The tiny study in PostgreSQL and on a tracking server, and the commands that somebody types for it."""

    def __init__(self, hosts: Hosts, where: str, uri: str, folder: Path) -> None:
        self.where = where.replace(":@", "@")  # without the sign of a password, which is empty
        self.tracking = TrackingConfig(root=str(folder), uri=uri, experiment=folder.name)
        self._hosts = hosts
        self._folder = folder
        self._output = folder / "output.txt"
        self._store = open_store(self.tracking)
        self._others = set(self._store.find({}))  # the server is shared with other tests
        overrides = [item for item in TINY["overrides"] if "epochs" not in item]
        study = TINY | {"trials": 3, "workers": 2, "overrides": [*overrides, f"train.epochs={EPOCHS}"]}
        (folder / "sweeps").mkdir()
        (folder / "sweeps" / "tiny.yaml").write_text(yaml.safe_dump(study))

    def run(self) -> "subprocess.Popen[bytes]":
        """Types `sweep run`."""
        tracking = [f"tracking.uri={self.tracking.uri}", f"tracking.experiment={self.tracking.experiment}"]
        with self._output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "brainseg.sweep", "run", "tiny", *OURS, *tracking, "--storage", self.where],
                cwd=self._folder,
                env=self._hosts.environment,
                stdout=output,
                stderr=output,
            )

    def text(self) -> str:
        """What the commands have printed."""
        return self._output.read_text()

    def told(self) -> str:
        """The same, with the workers' last lines."""
        logs = [path for home in self._hosts.homes.values() for path in home.rglob("ray-*.log")]
        return "\n".join([*(path.read_text()[-1000:] for path in logs), self.text()[-1000:]])

    def runs(self) -> list[RunRecord]:
        """Every run that MLflow has since this was made."""
        return [self._store.read(run_id) for run_id in self._store.find({}) if run_id not in self._others]

    def epochs(self) -> dict[int, int]:
        """Trial -> the epochs that it has reported."""
        rows = "SELECT number, count(*) FROM trials NATURAL JOIN trial_intermediate_values GROUP BY number"
        with contextlib.suppress(Exception):  # the tables aren't there yet
            return dict(sql(self.where, rows))
        return {}

    def wait_for_epochs(self) -> None:
        """Returns when two trials have reported three epochs each."""
        wait_until(lambda: len(self.epochs()) == 2 and min(self.epochs().values()) >= 3, self.told)


@pytest.fixture
def sweep(hosts: Hosts, postgres_server: Any, empty_database: str, server: Server, tmp_path: Path) -> RaySweep:
    """The tiny study, of which nothing runs yet."""
    return RaySweep(hosts, empty_database, server.uri, tmp_path)


def test_a_run_that_looks_outlives_the_cluster_and_ends_when_it_is_told_to(hosts: Hosts, sweep: RaySweep) -> None:
    command = sweep.run()
    sweep.wait_for_epochs()
    hosts.end()
    wait_until(lambda: "no Ray cluster answers at launcher.address=auto" in sweep.text(), sweep.told)
    assert command.poll() is None
    command.send_signal(signal.SIGINT)
    assert command.wait(PATIENCE_S) == 0, sweep.told()
    assert "; look again: sweep run tiny launcher=ray; stop them: sweep stop tiny" in sweep.text()


def test_a_study_whose_host_is_lost_goes_on_without_its_driver_and_ends_whole(hosts: Hosts, sweep: RaySweep) -> None:
    def trained(name: str) -> list[str]:
        """Each trial that began and each last epoch, in the logs of a host."""
        text = "\n".join(path.read_text() for path in sorted(hosts.homes[name].rglob("ray-*.log")))
        return re.findall(rf"^trial \d+(?=: )|^epoch +{EPOCHS}/", text, flags=re.MULTILINE)

    driver = sweep.run()
    sweep.wait_for_epochs()
    driver.send_signal(signal.SIGINT)
    wait_until(lambda: "2 run, 0 wait; they go on without this terminal" in sweep.text(), sweep.told)
    (lost,) = [int(item.split()[1]) for item in trained("ws2")]
    assert sweep.epochs()[lost] < EPOCHS
    hosts.lose("ws2")
    assert driver.wait(PATIENCE_S) == 0, sweep.told()
    sql(  # 150 s without a heartbeat pass at once
        sweep.where,
        f"UPDATE trial_user_attributes SET value_json = (value_json::float - {STALE_S + 60})::text "  # noqa: S608
        f"WHERE key = 'beat' AND trial_id = (SELECT trial_id FROM trials WHERE number = {lost})",
    )
    assert sweep.run().wait(PATIENCE_S) == 0, sweep.told()

    states = sql(sweep.where, "SELECT number, state FROM trials ORDER BY number")
    assert states == [(number, "COMPLETE") for number in range(3)], sweep.told()
    assert Counter((run.tags.get("trial"), run.status) for run in sweep.runs()) == {
        **{(str(number), "FINISHED"): 1 for number in range(3)},
        (None, "FINISHED"): 1,
    }
    ends = [item for name in hosts.homes for item in trained(name) if item.startswith("epoch")]
    assert len(ends) == 3  # nothing was trained twice to its end
    attributes = "SELECT key, value_json FROM trial_user_attributes NATURAL JOIN trials WHERE number = "
    assert dict(sql(sweep.where, f"{attributes}{lost} AND key IN ('claims', 'deaths')")) == {"claims": "2"}
    assert not list(hosts.homes["ws1"].rglob("checkpoints/*"))
    import ray

    ray.init(address="auto")
    wait_until(lambda: ray.util.list_named_actors(all_namespaces=True) == [])
