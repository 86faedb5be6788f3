"""Forks commands, and the workers of sweeps, from a process that has imported TensorFlow and MLflow, and used neither.

Most of a start is imports. A fork is spared them, and is a process of its own all the same: it dies alone, and
shares nothing with the others but the disk.

    this server ── command ── nursery ── worker
                                     └── worker

A supervisor has threads, which a fork would leave in the middle of what they do: its workers are forked by another
process, the nursery, which the command forks before it begins.

Reads a JSON object a line and answers each with one: {"start": [program, argument, ...], "folder": ..., "output": ...,
"typed": ...} with its process id, {"poll": pid} with the exit code, or null while it runs (minus the signal's number,
where a signal ended it). A program is a command of brainseg, `mlflow`, or `-c`, whose first argument is code.
"""

import functools
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from types import SimpleNamespace

import uvicorn  # isort: skip  # first: by it, MLflow knows that it will serve

import composed
import matplotlib.figure
import mlflow.cli
import mlflow.pyfunc
import mlflow.server.fastapi_app
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store
import optuna.importance  # noqa: F401
import pictures
import plotly.graph_objects  # noqa: F401
import sklearn.ensemble  # noqa: F401
import tensorflow

import brainseg.compose
import brainseg.sweep.__main__
import brainseg.sweep.engine.worker
import brainseg.sweep.outcome.plots
import brainseg.sweep.run
import brainseg.train.__main__
import brainseg.train.experiment
from brainseg.data.phantom import source
from brainseg.sweep.launchers import local
from brainseg.train.environment import packages


def _mlflow(arguments):
    """MLflow's command; where that starts uvicorn, this process goes on as it."""

    def serve(command, *, extra_env, **_):
        os.environ.update(extra_env)
        uvicorn.main(command[command.index("uvicorn") + 1 :])

    mlflow.server._exec_cmd = serve
    mlflow.cli.cli(arguments)


def _code(arguments):
    code, *sys.argv[1:] = arguments
    exec(code, {"__name__": "__main__"})  # noqa: S102


PROGRAMS = {
    "brainseg.sweep": brainseg.sweep.__main__.main,
    "brainseg.train": brainseg.train.__main__.main,
    "mlflow": _mlflow,
    "-c": _code,
}


def main():
    matplotlib.figure.Figure.savefig = pictures.unrendered
    source.render = functools.cache(source.render)
    phantom = source.PhantomSource(patients=6)  # that of the small trainings and sweeps
    for item in phantom.slices():
        phantom.read(item.id)
    brainseg.compose.composition.hydra_compose = composed.remembering(brainseg.compose.composition.hydra_compose)
    brainseg.compose.freeze([])
    packages()  # kept by the process: which are installed takes half a second to find out
    gc.freeze()  # nor do the forks go through what is imported when they collect garbage
    gc.set_threshold(50_000, 20, 50)  # as in tests/conftest.py
    codes = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                _end(_command, request)
            print(pid, flush=True)
        else:
            print(json.dumps(_exit_code(request["poll"], codes)), flush=True)


def _command(request):
    """A command as the shell starts it: with a session, a folder and an output of its own."""
    os.setsid()
    os.chdir(request["folder"])
    with open(request["output"], "ab") as output:
        _take(stdin=os.open(request["typed"], os.O_RDONLY), output=output.fileno())
    program, *arguments = request["start"]
    if program in ("brainseg.sweep", "-c"):
        local.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": Nursery().start})
    return _run(program, arguments)


class Nursery:
    """The process that forks the workers of one command, and ends with it."""

    def __init__(self):
        self._socket, other = socket.socketpair()
        if os.fork() == 0:
            self._socket.close()
            _end(_nurse, other)
        other.close()

    def start(self, command, *, env, stdout, **_):
        """What `subprocess.Popen` does of what a supervisor needs."""
        reading, writing = os.pipe()
        request = {"command": command[2:], "environment": env, "folder": os.getcwd()}
        data = json.dumps(request).encode()
        socket.send_fds(self._socket, [len(data).to_bytes(8)], [reading, stdout.fileno()])
        self._socket.sendall(data)
        os.close(reading)
        return Forked(self, int.from_bytes(_received(self._socket, 8)), writing)

    def poll(self, pid):
        """The exit code of a worker; None while it runs."""
        data = json.dumps({"poll": pid}).encode()
        self._socket.sendall(len(data).to_bytes(8) + data)
        return json.loads(_received(self._socket, int.from_bytes(_received(self._socket, 8))))


class Forked:
    """A worker, with as much of `subprocess.Popen` as a supervisor needs."""

    def __init__(self, nursery, pid, stdin):
        self.pid = pid
        self.stdin = os.fdopen(stdin, "w")
        self._nursery = nursery
        self._code = None

    def poll(self):
        if self._code is None:
            self._code = self._nursery.poll(self.pid)
        return self._code

    def wait(self, timeout=float("inf")):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.01)
        return self._code

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _nurse(requests):
    codes = {}
    while True:
        head, descriptors, _, _ = socket.recv_fds(requests, 8, 2)
        if not head:
            return 0  # the command has ended
        request = json.loads(_received(requests, int.from_bytes(head)))
        if "command" in request:
            pid = os.fork()
            if pid == 0:
                requests.close()
                _end(_worker, request, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            requests.sendall(pid.to_bytes(8))
        else:
            data = json.dumps(_exit_code(request["poll"], codes)).encode()
            requests.sendall(len(data).to_bytes(8) + data)


def _worker(request, descriptors):
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    stdin, output = descriptors
    _take(stdin=stdin, output=output)
    program, *arguments = request["command"]
    return _run(program, arguments)


def _take(*, stdin, output):
    os.dup2(stdin, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdin = os.fdopen(0, closefd=False)


def _run(program, arguments):
    if "OPTIMIZE_GRAPHS" not in os.environ:  # to optimise one takes longer than the few steps that it runs for
        tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    sys.argv = [program, *arguments]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]  # by which a worker starts itself again
    return PROGRAMS[program](arguments)


def _end(function, *arguments):
    """Ends this process with what the function returns, as the interpreter would."""
    code = 1
    try:
        code = function(*arguments) or 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _exit_code(pid, codes):
    """Of a child of this process; None while it runs."""
    if pid not in codes:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return None
        codes[pid] = os.waitstatus_to_exitcode(status)
    return codes[pid]


def _received(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the other process has ended")
        data += part
    return data


if __name__ == "__main__":
    main()
