"""Workers as actors of a Ray cluster: what each is given, how Ray's answers read, and a study that loses a host."""

import dataclasses
import io
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from processes import wait_until
from rich.console import Console
from study_files import made_study

from brainseg.compose import freeze
from brainseg.config import TrackingConfig
from brainseg.errors import ConfigError, SweepError
from brainseg.sweep.engine.live import LiveTable
from brainseg.sweep.launchers import ray as ours
from brainseg.sweep.launchers.config import launcher_config
from brainseg.sweep.launchers.engine import ENDED, RUNNING, WAITING, Study, Task, Workers, workers_for
from brainseg.sweep.launchers.ray import Ray
from brainseg.sweep.launchers.watch import Watch
from brainseg.tracking.mlflow.connection import UnreachableError

STUDY = Study(name="tiny", id="1")
PLACE = "brainseg-tiny-1"
needs_ray = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('ray')", reason="Ray isn't installed")


def engine(*overrides: str) -> Ray:
    return Ray(launcher_config(["launcher=ray", *overrides]))


def workers(folder: Path, *overrides: str, where: str = "postgresql://me@db/studies") -> Workers:
    config = made_study(folder, name="tiny", overrides=["tracking.uri=http://mlflow:5000", *overrides])
    return workers_for(config, freeze(list(config.tracking)).tracking, study_id="1", threads=4, where=where)


class Answer:
    """What an actor says, or that it doesn't answer."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def state(self) -> "Answer":
        return self

    def remote(self) -> "Answer":
        return self


class Cluster:
    """Ray as far as it is asked: actors with their answers, and hosts with what they have."""

    class exceptions:  # noqa: N801  # as Ray has it
        RayError = RuntimeError

    def __init__(self, actors: Mapping[tuple[str, str], Any], hosts: Sequence[Mapping[str, float]] = ()) -> None:
        self.actors = {key: Answer(value) for key, value in actors.items()}
        self.hosts = hosts
        self.killed: list[Any] = []
        self.util = self

    def list_named_actors(self, all_namespaces: bool) -> list[dict[str, str]]:
        return [{"namespace": namespace, "name": name} for namespace, name in self.actors]

    def get_actor(self, name: str, namespace: str) -> Answer:
        return self.actors[namespace, name]

    def wait(self, asked: list[Answer], num_returns: int, timeout: float) -> tuple[list[Answer], list[Answer]]:
        return [answer for answer in asked if answer.value is not None], []

    def get(self, answer: Answer) -> Any:
        if isinstance(answer.value, Exception):
            raise answer.value
        return answer.value

    def kill(self, actor: Answer, no_restart: bool) -> None:
        assert no_restart
        self.killed.append(actor)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"Alive": True, "NodeID": name, "NodeManagerHostname": name, "Resources": resources}
            for name, resources in zip(["ws1", "ws2"], self.hosts, strict=False)
        ]


@dataclasses.dataclass
class Said:
    """A worker's answer."""

    host: str
    ended: str = ""
    log: Path = Path("/home/me/mlruns/studies/tiny.logs/ray-1.log")
    words: str = "epoch 3/10"


def test_a_worker_gets_addresses_and_no_place_of_this_hosts_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = workers(tmp_path, "data=folder", "data.root=/mine", "tracking.root=runs")
    assert engine("launcher.gpus=0.5").shown(asked, 2).splitlines() == [
        f"2 actors in the namespace {PLACE}, each with 4 CPUs, 0.5 GPUs; in {tmp_path}:",
        "TF_CPP_MIN_LOG_LEVEL=3 PYTHONUNBUFFERED=1 MLFLOW_TRACKING_URI=http://mlflow:5000 "
        "'BRAINSEG_STORAGE=postgresql://***@db/studies' "
        "python -m brainseg.sweep worker tiny --threads 4 tracking.root=runs --listen",
    ]


@pytest.mark.parametrize(
    ("where", "uri", "told"),
    [
        (
            "postgresql://me:secret@db/studies",
            "http://mlflow:5000",
            "launcher=ray hands no password to other hosts, got postgresql://me:***@db/studies; "
            "leave it out, and write it into ~/.pgpass on each of them",
        ),
        (
            "postgresql://me@db/studies?password=secret",
            "http://mlflow:5000",
            "got postgresql://***@db/studies?password=***; leave it out, and write it into ~/.pgpass",
        ),
        (
            "postgresql://me@db/studies",
            "http://me:secret@mlflow:5000",
            "got http://me:***@mlflow:5000; leave it out, and write it into ~/.mlflow/credentials",
        ),
    ],
)
def test_a_password_in_an_address_is_not_handed_on(
    where: str, uri: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    config = made_study(tmp_path)
    asked = workers_for(config, TrackingConfig(), study_id="", threads=1, where=where)
    with pytest.raises(ConfigError) as refusal:
        engine().check(asked, 2)
    assert told in str(refusal.value)


def test_a_cluster_in_which_no_host_can_take_a_worker_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster({}, hosts=[{"CPU": 2.0, "GPU": 1.0}, {"CPU": 8.0}])
    monkeypatch.setattr(ours, "_connected", lambda address: cluster)
    with pytest.raises(ConfigError) as refusal:
        engine().check(workers(tmp_path), 2)
    assert str(refusal.value) == (
        "launcher=ray: no host of the cluster has 4 CPUs and 1 GPUs for a worker, got ws1: 2 CPUs, 1 GPUs; "
        "ws2: 8 CPUs, 0 GPUs; lower launcher.cpus or launcher.gpus (0 for none)"
    )


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnreachableError) as refusal:
        engine().tasks(STUDY)
    assert str(refusal.value) == "launcher=ray needs Ray; pip install '.[ray]' in the clone of brainseg"


@needs_ray
@pytest.mark.parametrize(("address", "told"), [("127.0.0.2:1", "Connection refused"), ("here", "Invalid address")])
def test_an_address_where_no_cluster_answers_is_named(address: str, told: str) -> None:
    with pytest.raises(UnreachableError) as refusal:
        engine(f"launcher.address={address}").tasks(STUDY)
    assert str(refusal.value).startswith(f"no Ray cluster answers at launcher.address={address} ({told}")


def test_an_actor_that_does_not_answer_waits_and_one_of_another_study_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actors = {
        (PLACE, "10"): None,
        (PLACE, "1"): Said("ws1"),
        (PLACE, "2"): Said("ws2", ended="exit code 2", words="other data"),
        (PLACE, "3"): RuntimeError("the node was lost"),
        ("brainseg-tiny-2", "4"): Said("ws1"),
    }
    monkeypatch.setattr(ours, "_connected", lambda address: Cluster(actors))
    log, waits = str(Said("").log), "starting, or no CPU or GPU is free"
    assert engine().tasks(STUDY) == [
        Task(job=f"{PLACE}/1", number=1, state=RUNNING, host="ws1", log=log, words="epoch 3/10"),
        Task(
            job=f"{PLACE}/2",
            number=2,
            state=ENDED,
            reason="exit code 2",
            host="ws2",
            log=log,
            words="other data",
        ),
        Task(job=f"{PLACE}/3", number=3, state=WAITING, reason=waits),
        Task(job=f"{PLACE}/10", number=10, state=WAITING, reason=waits),
    ]


def test_what_has_found_a_place_meanwhile_is_not_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({(PLACE, "1"): None, (PLACE, "2"): Said("ws1")})
    monkeypatch.setattr(ours, "_connected", lambda address: cluster)
    engine().cancel([Task(job=f"{PLACE}/{number}", number=number, state=WAITING) for number in (1, 2)])
    assert cluster.killed == [cluster.actors[PLACE, "1"]]


class Answers:
    """A scheduler that answers one list of tasks after the other."""

    name = "Ray"

    def __init__(self, *answers: list[Task]) -> None:
        self._answers = list(answers)

    def tasks(self, study: Study) -> list[Task]:
        return self._answers.pop(0)


class Nothing:
    """A study in which nothing happens."""

    def look(self) -> None: ...


def test_a_worker_that_is_refused_before_anybody_saw_it_run_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainseg.sweep.launchers.watch.LOOK_S", 0.0)
    monkeypatch.setattr("brainseg.sweep.launchers.watch.ASK_S", 0.0)
    refused = Task(
        job="a/1",
        number=1,
        state=ENDED,
        reason="exit code 2",
        host="ws2",
        log="/x/ray-1.log",
        words="other data",
    )
    answers: Any = Answers([Task(job="a/1", number=1, state=WAITING)], [refused])
    out, view = io.StringIO(), Nothing()
    table = LiveTable(made_study(tmp_path), Console(file=out, width=500))
    watch = Watch(answers, STUDY, table, count=1, logs=tmp_path, server=None)
    with pytest.raises(SweepError) as error:
        watch.until(lambda: False, view)  # type: ignore[arg-type]
    assert "worker 1 ended (exit code 2): other data" in out.getvalue()
    assert str(error.value).endswith("worker 1 ended (exit code 2): other data; see /x/ray-1.log on ws2")


@needs_ray
@pytest.mark.heavy
def test_a_worker_is_started_again_after_a_kill_and_not_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brainseg.sweep.launchers import ray_actor

    ended: list[Any] = []
    monkeypatch.setattr(ray_actor, "RESTART_PAUSE_S", 0)
    monkeypatch.setattr(ray_actor, "TELLING_S", 0)
    monkeypatch.setattr(ray_actor.ray, "get_runtime_context", lambda: type("Context", (), {"current_actor": "me"}))
    monkeypatch.setattr(ray_actor.ray, "kill", lambda actor, no_restart: ended.append((actor, no_restart)))
    script = "echo $PLACE; if [ -e again ]; then echo refused; exit 2; fi; touch again; kill -9 $$"
    actor = ray_actor.WorkerActor(
        ["sh", "-c", script], environment={"PLACE": "here"}, folder=str(tmp_path), log="logs/ray-1.log"
    )
    wait_until(lambda: bool(ended), lambda: str(actor.state()))
    assert ended == [("me", True)]
    log = tmp_path / "logs/ray-1.log"
    assert log.read_text() == "here\nhere\nrefused\n"
    assert actor.state() == ray_actor.State(host=socket.gethostname(), log=log, ended="exit code 2", words="refused")
