"""Workers as actors of a Ray cluster, made of machines on which somebody has typed `ray start`.

An actor of its own a worker, named and detached: Ray starts it again after its death, on another host if need be, and
nothing of that depends on the process that asked for it. A task would end with its driver.
"""

import contextlib
import logging
import os
import shlex
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainseg.cli.secrets import has_password, mask
from brainseg.errors import ConfigError, how_to_install
from brainseg.sweep.engine.storage import ENVIRONMENT_KEY
from brainseg.sweep.launchers.config import AUTO, GROUP, RAY, LauncherConfig
from brainseg.sweep.launchers.engine import ENDED, RUNNING, WAITING, Study, Task, Workers
from brainseg.sweep.study.study_rules import DATA_PLACES, key_of
from brainseg.tracking.mlflow.connection import UnreachableError, reason
from brainseg.tracking.paths import ENVIRONMENT_KEY as TRACKING_KEY

ANSWER_S = 5.0  # for an actor to answer; one without a place doesn't
LOOK_S = 60.0  # for a host to answer: it imports Ray first
WAITS = "starting, or no CPU or GPU is free"
# Where each host keeps its own passwords: variable -> the file in its stead.
PASSWORDS: Mapping[str, str] = {"PGPASSWORD": "~/.pgpass", "MLFLOW_TRACKING_PASSWORD": "~/.mlflow/credentials"}
ADDRESSES: Mapping[str, str] = {ENVIRONMENT_KEY: "~/.pgpass", TRACKING_KEY: "~/.mlflow/credentials"}


@dataclass(frozen=True)
class Ray:
    """The cluster that this machine belongs to."""

    config: LauncherConfig
    name: str = "Ray"

    def check(self, workers: Workers, count: int) -> None:
        """Raises ConfigError where a password would have to be handed on, and where no host can take a worker."""
        for key, file in ADDRESSES.items():
            address = _environment(workers).get(key, "")
            if has_password(address):
                raise ConfigError(
                    f"{GROUP}={RAY} hands no password to other hosts, got {mask(address)}; "
                    f"leave it out, and write it into {file} on each of them"
                )
        ray = _connected(self.config.address)
        self._check_room(ray)
        _check_hosts(ray)

    def shown(self, workers: Workers, count: int) -> str:
        """The command of each actor, and what it is given."""
        environment = [f"{key}={mask(value)}" for key, value in _environment(workers).items()]
        each = f"{self._cpus} CPUs, {self._gpus:g} GPUs"
        return "\n".join(
            [
                f"{count} actors in the namespace {_namespace(workers.study)}, each with {each}; in {self._folder}:",
                shlex.join([*environment, *self._command(workers)]),
            ]
        )

    def start(self, workers: Workers, numbers: Sequence[int]) -> str:
        """Starts detached actors, named by their numbers."""
        ray = _connected(self.config.address)
        from brainseg.sweep.launchers.ray_actor import WorkerActor

        namespace = _namespace(workers.study)
        for number, handle in _actors(ray, namespace).items():
            if number in numbers:  # it has failed, and still tells why
                ray.kill(handle, no_restart=True)
        here = Path.cwd()
        logs = workers.logs.relative_to(here) if workers.logs.is_relative_to(here) else workers.logs
        environment = _environment(workers) | ({} if self._gpus else {"CUDA_VISIBLE_DEVICES": ""})
        for number in numbers:
            ray.remote(WorkerActor).options(
                name=str(number),
                namespace=namespace,
                lifetime="detached",
                get_if_exists=True,  # made by another `sweep run` just now
                max_restarts=-1,
                num_cpus=self._cpus,
                num_gpus=self._gpus,
                scheduling_strategy="SPREAD",
            ).remote(
                self._command(workers),
                environment=environment,
                folder=self._folder,
                log=str(logs / f"ray-{number}.log"),
            )
        return f"actors in the namespace {namespace}, which keep their logs on their own hosts"

    def tasks(self, study: Study) -> list[Task]:
        """The study's actors. One that doesn't answer waits for a place, or for Ray to start it again."""
        ray = _connected(self.config.address)
        namespace = _namespace(study)
        actors = _actors(ray, namespace)
        answers = _answers(ray, list(actors.values()))
        return [
            Task(job=f"{namespace}/{number}", number=number, state=WAITING, reason=WAITS)
            if state is None
            else Task(
                job=f"{namespace}/{number}",
                number=number,
                state=ENDED if state.ended else RUNNING,
                reason=state.ended,
                host=state.host,
                log=str(state.log),
                words=state.words,
            )
            for number, state in zip(actors, answers, strict=True)
        ]

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Ends these tasks' actors, unless they have found a place by now."""
        ray = _connected(self.config.address)
        actors = []
        for namespace, _, name in (task.job.partition("/") for task in tasks):
            with contextlib.suppress(ValueError):  # it has ended
                actors.append(ray.get_actor(name, namespace=namespace))
        for actor, state in zip(actors, _answers(ray, actors), strict=True):
            if state is None:
                ray.kill(actor, no_restart=True)

    @property
    def _cpus(self) -> int:
        return self.config.cpus or 1

    @property
    def _gpus(self) -> float:
        return 1 if self.config.gpus is None else self.config.gpus

    @property
    def _folder(self) -> str:
        return self.config.folder or str(Path.cwd())

    def _command(self, workers: Workers) -> list[str]:
        """Without the places of this host's data: each host has its own, or else the study's."""
        arguments = [item for item in workers.arguments if key_of(item) not in DATA_PLACES]
        return [*shlex.split(self.config.command), "-m", "brainseg.sweep", *arguments, "--listen"]

    def _check_room(self, ray: Any) -> None:
        hosts = [node for node in ray.nodes() if node["Alive"]]
        if not any(_has(node, "CPU", self._cpus) and _has(node, "GPU", self._gpus) for node in hosts):
            found = "; ".join(
                f"{node['NodeManagerHostname']}: {node['Resources'].get('CPU', 0):g} CPUs, "
                f"{node['Resources'].get('GPU', 0):g} GPUs"
                for node in hosts
            )
            raise ConfigError(
                f"{GROUP}={RAY}: no host of the cluster has {self._cpus} CPUs and {self._gpus:g} GPUs for a worker, "
                f"got {found}; lower {GROUP}.cpus or {GROUP}.gpus (0 for none)"
            )


def _has(node: Mapping[str, Any], resource: str, needed: float) -> bool:
    return bool(node["Resources"].get(resource, 0) >= needed)


def _check_hosts(ray: Any) -> None:
    """Raises ConfigError for a host without brainseg, or without a password that this process has."""
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from brainseg.sweep.launchers.ray_actor import missing_passwords

    ours = {name: file for name, file in PASSWORDS.items() if name in os.environ}
    look = ray.remote(num_cpus=0, max_retries=0)(missing_passwords)
    asked = [
        (node["NodeManagerHostname"], look.options(scheduling_strategy=strategy).remote(ours))
        for node in ray.nodes()
        if node["Alive"]
        for strategy in [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)]
    ]
    for host, answer in asked:
        try:
            missing = ray.get(answer, timeout=LOOK_S)
        except RayTaskError as error:  # raised there
            raise ConfigError(
                f"{GROUP}={RAY}: the host {host} can't run workers ({reason(error)}); "
                "install this brainseg for the Python that runs Ray there"
            ) from None
        except RayError:  # it is lost, or being lost: the others go on
            continue
        for name in missing:
            raise ConfigError(
                f"{GROUP}={RAY} hands no password to other hosts, and {host} has no {name}; "
                f"write it into {ours[name]} there"
            )


def _connected(address: str) -> Any:
    """Ray, connected to the cluster. Raises UnreachableError."""
    try:
        import ray
    except ImportError:
        raise UnreachableError(f"{GROUP}={RAY} needs Ray; {how_to_install(RAY)}") from None
    if not ray.is_initialized():
        handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place
        try:
            _check_port(address)
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise UnreachableError(
                f"no Ray cluster answers at {GROUP}.address={address} ({reason(error)}); "
                "type `ray start --head` on one machine and `ray start --address=HOST:6379` on each other one"
            ) from None
        finally:
            signal.signal(signal.SIGTERM, handler)
    return ray


def _check_port(address: str) -> None:
    """Raises OSError or ValueError where nobody listens: Ray itself would try for minutes."""
    named = os.environ.get("RAY_ADDRESS", "") if address == AUTO else address
    host, _, port = named.rpartition(":")
    if host not in ("", "localhost", "127.0.0.1"):  # Ray takes these for this machine's address in its network
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()


def _environment(workers: Workers) -> dict[str, str]:
    """What the workers are given; Ray shows it to everybody in the cluster."""
    own = {key: os.environ[key] for key in ADDRESSES if key in os.environ}
    return {**own, **workers.environment}


def _namespace(study: Study) -> str:
    """Of the study's actors; `ray list actors` shows it."""
    return f"brainseg-{study.name}-{study.id}"


def _actors(ray: Any, namespace: str) -> dict[int, Any]:
    """Number -> actor, sorted; those that have ended are gone."""
    found = {}
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == namespace:
            with contextlib.suppress(ValueError):  # it ends just now
                found[int(actor["name"])] = ray.get_actor(actor["name"], namespace=namespace)
    return dict(sorted(found.items()))


def _answers(ray: Any, actors: Sequence[Any]) -> list[Any]:
    """How each actor's worker is; None where it doesn't answer."""
    asked = [actor.state.remote() for actor in actors]
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
    answers = []
    for answer in asked:
        try:
            answers.append(ray.get(answer) if answer in ready else None)
        except ray.exceptions.RayError:  # its host is lost
            answers.append(None)
    return answers
