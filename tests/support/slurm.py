"""A SLURM of two nodes on this machine, in a folder of its own and without systemd: munged, slurmctld, two slurmd."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
NODES = ("n1", "n2")
START_S = 200.0  # about 1 on a machine that does nothing else
LOST_S = 120.0  # until SLURM finds that a node is lost: about 35
FILES = {
    # Of a node: 4 CPUs, 8000 MB and two GPUs, whatever the machine has.
    "slurm.conf": """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SlurmdTimeout=5
KillWait=30
MinJobAge=300
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=2000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=8000 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=8000 Gres=gpu:2
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=2
""",
    "gres.conf": "NodeName=n1,n2 Name=gpu File=/dev/null Count=1\nNodeName=n1,n2 Name=gpu File=/dev/zero Count=1\n",
    "cgroup.conf": "CgroupPlugin=cgroup/v1\n",
}


def missing() -> str:
    """Why there can be no SLURM here; empty where there can."""
    programs = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if programs:
        return f"{' and '.join(programs)} not found; on Debian: apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "only root can start a SLURM"


class Slurm:
    """A cluster; what is asked of it has SLURM_CONF in its environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._forgotten: set[str] = set()
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}

    def start(self) -> None:
        """Starts the daemons. Raises RuntimeError where no node is there in the end."""
        (self.folder / "state").mkdir()
        values = {"folder": self.folder, "host": socket.gethostname(), "ports": free_ports(3)}
        for name, text in FILES.items():
            (self.folder / name).write_text(text.format(**values))
        key = self.folder / "munge.key"
        key.touch(0o400)
        key.write_bytes(os.urandom(1024))
        names = {"socket": "sock", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        files = [f"--{option}={self.folder}/munge.{suffix}" for option, suffix in names.items()]
        self.run("munged", "--force", *files)
        self._daemon("slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        deadline = time.monotonic() + START_S
        while self.run("sinfo", "--noheader", "-o", "%D %t", "-p", "all", check=False) != "2 idle":
            if time.monotonic() > deadline:
                raise RuntimeError("\n".join(path.read_text() for path in self.folder.glob("*.log")))
            time.sleep(0.05)

    def start_node(self, node: str) -> None:
        """Starts a node's daemon, in a mount namespace of its own: locks of one host say nothing on another."""
        self._daemon("unshare", "-m", "slurmd", "-D", "-N", node, node=node)

    def run(self, *command: str, check: bool = True) -> str:
        """What one of SLURM's commands prints."""
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=False, timeout=START_S
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """The ids of all jobs since `end_all`, a job a worker, in their order; those that have ended included."""
        known = self.run("squeue", "--noheader", "--array", "--sort=i", "--states=all", "--format=%i").splitlines()
        return [job for job in known if job not in self._forgotten]

    def state(self, job: str) -> str:
        """What SLURM calls it."""
        return self.run("squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%T")

    def start_at_once(self, job: str) -> None:
        """Spares a requeued job the two minutes that SLURM lets it wait."""
        deadline = time.monotonic() + LOST_S
        while self.run("squeue", "--noheader", f"--jobs={job}", "--format=%T %r") != "PENDING BeginTime":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # Not within the second of its end, when the node still refuses it.
        self.run("scontrol", "update", f"jobid={job}", "starttime=now+2")

    def end_all(self) -> None:
        """Ends all jobs, of which `jobs` then knows no more."""
        self.run("scancel", "--me")
        deadline = time.monotonic() + 2 * START_S
        while self.run("squeue", "--noheader"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self._forgotten.update(self.jobs())

    def kill_node(self, node: str) -> None:
        """SIGKILL for a node's daemon and all that runs there."""
        self._kill(SLURMD_NODENAME=node)

    def end(self) -> None:
        """SIGKILL for the daemons, and for whatever jobs have left."""
        self._kill()
        for daemon in self._daemons:
            daemon.wait()

    def _daemon(self, *command: str, node: str = "") -> None:
        with (self.folder / f"{node or command[0]}.log").open("ab") as log:
            own = {"SLURMD_NODENAME": node} if node else {}
            self._daemons.append(
                subprocess.Popen(
                    command, env=os.environ | self.environment | own, stdout=log, stderr=log, start_new_session=True
                )
            )

    def _kill(self, **environment: str) -> None:
        wanted = environment | {"SLURM_CONF": self.environment["SLURM_CONF"]}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if wanted.items() <= process.environ().items():
                    found += [process, *(each for each in process.parents() if each.name() == "slurmstepd")]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # all of them at once: a host that is lost tells nobody
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Slurm]:
    """A SLURM that ends with the block, with its jobs. Raises RuntimeError where it doesn't start."""
    cluster = Slurm(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()
