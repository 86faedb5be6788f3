"""A store with a way to open trackers on it, and a real MLflow server that can be killed."""

import contextlib
import functools
import http.client
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol, Self

import processes
from processes import Command

from brainseg.config import TrackingConfig
from brainseg.tracking import (
    MemoryRegistry,
    MemoryStore,
    ModelRegistry,
    RunStore,
    Tracker,
    open_registry,
    open_store,
    open_tracker,
)
from brainseg.tracking.paths import EXPERIMENT, resolve_uri


class Backend(Protocol):
    """A store and a way to open trackers on it."""

    @property
    def store(self) -> RunStore: ...

    @property
    def registry(self) -> ModelRegistry: ...

    def open(self, *, run_id: str | None = None, attempt: int = 0, **tags: str) -> Tracker: ...

    def on_another_host(self, root: Path) -> "Backend":
        """The same store, with another `tracking.root`."""
        ...

    def register(self, alias: str, run_id: str) -> None:
        """Makes the run's model a version of the registered model `brainseg`, under an alias."""
        ...


@dataclass(frozen=True, kw_only=True)
class MemoryBackend:
    store: MemoryStore = field(default_factory=MemoryStore)

    @functools.cached_property
    def registry(self) -> MemoryRegistry:
        return MemoryRegistry(self.store)

    def open(self, *, run_id: str | None = None, attempt: int = 0, **tags: str) -> Tracker:
        return self.store.open_tracker(run_name="first", tags=tags, run_id=run_id, attempt=attempt)

    def on_another_host(self, root: Path) -> "MemoryBackend":
        return self

    def register(self, alias: str, run_id: str) -> None:
        self.store.registered[f"{EXPERIMENT}@{alias}"] = run_id


@dataclass(frozen=True, kw_only=True)
class MlflowBackend:
    config: TrackingConfig

    @property
    def store(self) -> RunStore:
        return open_store(self.config)

    @property
    def registry(self) -> ModelRegistry:
        return open_registry(self.config)

    def open(self, *, run_id: str | None = None, attempt: int = 0, **tags: str) -> Tracker:
        return open_tracker(self.config, run_name="first", tags=tags, run_id=run_id, attempt=attempt)

    def on_another_host(self, root: Path) -> "MlflowBackend":
        return MlflowBackend(config=replace(self.config, root=str(root), uri=resolve_uri(self.config)))

    def register(self, alias: str, run_id: str) -> None:
        register(resolve_uri(self.config), alias, run_id)


def register(uri: str, alias: str, run_id: str) -> None:
    """Registers a model by MLflow's own client, as a user may."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    with contextlib.suppress(MlflowException):  # it is there already
        client.create_registered_model(EXPERIMENT)
    version = client.create_model_version(EXPERIMENT, f"runs:/{run_id}/model", run_id=run_id)
    client.set_registered_model_alias(EXPERIMENT, alias, version.version)


class Server:
    """A real MLflow server on loopback that can be killed and started again."""

    def __init__(self, folder: Path, database: Path, processes: processes.Server) -> None:
        self.folder = folder
        shutil.copy(database, folder / "mlflow.db")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._processes = processes
        self._command: Command | None = None

    def start(self) -> None:
        arguments = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        arguments += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        arguments += ["--artifacts-destination", str(self.folder / "artifacts")]
        log = self.folder / "log"
        pid = self._processes.start("mlflow", *arguments, folder=self.folder, output=log)
        self._command = Command(pid, log, self._processes)
        self._command.wait_until(self._answers)

    def kill(self) -> None:
        if self._command is not None:
            self._command.kill_all()
            self._command = None

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """The server is dead inside the block, and runs again after it."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (http.client.HTTPException, OSError):
            return False
        finally:
            connection.close()


class Answers(ThreadingHTTPServer):
    """A server on loopback that gives `answer` to every request, each in a thread; used as a context manager."""

    daemon_threads = True

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            do_POST = do_GET  # noqa: N815  # as http.server calls it

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def refusing(status: int, body: str) -> Answers:
    """A server that refuses everything."""
    return Answers(lambda request: _reply(request, status, body.encode()))


def in_front_of(
    server: Server, *, first_after_s: float = 0.0, refusing: tuple[str, int, str] = ("runs/none", 0, "")
) -> Answers:
    """Hands requests on to the server, the first one late. refusing: part of a path, and the status and body for it."""
    pauses = [first_after_s]

    def answer(request: BaseHTTPRequestHandler) -> None:
        time.sleep(pauses.pop() if pauses else 0)
        path, status, body = refusing
        content = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if path in request.path:
            return _reply(request, status, body.encode())
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        headers = {"Content-Type": request.headers.get("Content-Type", "application/json")}
        connection.request(request.command, request.path, content, headers)
        response = connection.getresponse()
        _reply(request, response.status, response.read())
        connection.close()

    return Answers(answer)


def _reply(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        request.send_response(status)
        request.end_headers()
        request.wfile.write(body)
