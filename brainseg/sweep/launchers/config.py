"""`launcher.*`: how `sweep run` starts workers. No part of a study, nor of a run's configuration."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainseg.compose import conf_folder
from brainseg.errors import ConfigError
from brainseg.keys import did_you_mean, in_range, one_of
from brainseg.parsing import ParseError, parse_yaml

GROUP = "launcher"
LOCAL, SLURM, RAY = "local", "slurm", "ray"
AUTO = "auto"  # the Ray cluster that this machine belongs to
# Kind of launcher -> the keys that it has.
KEYS: Mapping[str, tuple[str, ...]] = {
    LOCAL: ("gpus", "cpus"),
    SLURM: ("gpus", "cpus", "options", "command", "workers_per_job", "setup", "folder", "server_options"),
    RAY: ("gpus", "cpus", "command", "address", "folder"),
}
WHOLE_GPUS = (LOCAL, SLURM)  # kinds whose workers don't share one by fractions


@dataclass(frozen=True, kw_only=True)
class LauncherConfig:
    """How workers are started; `conf/launcher/NAME.yaml`, then the command line."""

    kind: str = LOCAL  # one of KEYS
    gpus: float | None = None  # of a worker; None: one, if there are any
    cpus: int | None = None  # of a worker; None: a share of the cores
    options: str = ""  # for sbatch, as a shell would split them
    command: str = "python"  # what runs a module, as a shell would split it: apptainer exec --nv x.sif python
    workers_per_job: int = 1  # that share the GPUs and cores of one job
    setup: str = ""  # lines of the shell before the worker: module load cuda
    server_options: str | None = None  # like `options`, for the job of the server; None: the same
    folder: str | None = None  # where workers start; None: where `sweep run` was typed
    address: str = AUTO  # of the Ray cluster: HOST:PORT

    def __post_init__(self) -> None:
        one_of(f"{GROUP}.kind", self.kind, tuple(KEYS))
        for key, low in (("gpus", 0), ("cpus", 1), ("workers_per_job", 1)):
            in_range(f"{GROUP}.{key}", getattr(self, key), low=low, high=10_000)
        if self.kind in WHOLE_GPUS and self.gpus is not None and self.gpus != int(self.gpus):
            raise ConfigError(f"{GROUP}.gpus must be whole with {GROUP}={self.kind}, got {self.gpus}; take 0 or 1")
        if self.kind == RAY and (self.gpus or 0) > 1 and self.gpus != int(self.gpus or 0):
            raise ConfigError(f"{GROUP}.gpus must be whole or a part of one GPU, got {self.gpus}; take 0.5 or 1")
        if "://" in self.address:
            raise ConfigError(
                f"{GROUP}.address must be HOST:PORT of a cluster that this machine belongs to, got {self.address}; "
                "type `ray start --address=HOST:6379` here, and leave it out"
            )
        for key in ("options", "command", "server_options"):
            _check_quotes(key, getattr(self, key) or "")
        if not self.command.strip():
            raise ConfigError(f"{GROUP}.command must not be empty; leave it out for python")

    @property
    def worker_gpus(self) -> int:
        """GPUs of a worker, where they are counted whole."""
        return 1 if self.gpus is None else int(self.gpus)

    @property
    def start_folder(self) -> Path:
        """Where workers start."""
        return Path(self.folder or Path.cwd()).absolute()


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of the launcher, and all others."""
    mine = [item for item in overrides if item.startswith((f"{GROUP}=", f"{GROUP}."))]
    return mine, [item for item in overrides if item not in mine]


def launcher_config(overrides: Sequence[str]) -> LauncherConfig:
    """The launcher that `launcher=NAME` and `launcher.KEY=VALUE` ask for; `local` without any.

    A value is taken as it stands, up to the override's end: options of sbatch need no quotes beyond the shell's.
    Raises ConfigError.
    """
    named = [item.partition("=")[2] for item in overrides if item.startswith(f"{GROUP}=")]
    name = named[-1] if named else LOCAL
    values = _file(name)
    kind = str(values.get("kind", name))
    if kind not in KEYS:
        raise ConfigError(f"launcher/{name}.yaml: kind must be one of {', '.join(KEYS)}, got {kind}")
    for item in overrides:
        key, equals, text = item.partition("=")
        if key != GROUP:
            if not equals:
                raise ConfigError(f"overrides must be of the form key=value, got {item!r}")
            values[key.removeprefix(f"{GROUP}.")] = text
    return LauncherConfig(**{"kind": kind} | {key: _typed(kind, key, value) for key, value in values.items()})


def _folders() -> tuple[Path, Path]:
    return Path("conf") / GROUP, conf_folder() / GROUP


def _file(name: str) -> dict[str, Any]:
    path = next((path for folder in _folders() if (path := folder / f"{name}.yaml").is_file()), None)
    if path is None or "/" in name:
        known = sorted({path.stem for folder in _folders() for path in folder.glob("*.yaml")})
        raise ConfigError(f"there is no {GROUP} {name!r}; known are {', '.join(known)}{did_you_mean(name, known)}")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except ParseError as error:
        raise ConfigError(f"{path} {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read ({error}); it must be a YAML file") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold keys and values, such as kind: {SLURM}")
    return {str(key): value for key, value in content.items()}


def _typed(kind: str, key: str, value: Any) -> Any:
    """The value of a key as its field has it. Raises ConfigError for an unknown key and for another type."""
    types = {field.name: field.type for field in dataclasses.fields(LauncherConfig)}
    known = ("kind", *KEYS[kind])
    if key not in known:
        raise ConfigError(f"{GROUP}.{key} is no key of {GROUP} {kind}; it has {', '.join(known[1:])}")
    if value is None or value == "null":
        return None
    if types[key] in (int, int | None, float | None):
        try:
            return float(value) if types[key] == float | None else int(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{GROUP}.{key} must be a number, got {value!r}; try {GROUP}.{key}=1") from None
    return str(value)


def _check_quotes(key: str, text: str) -> None:
    try:
        shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{GROUP}.{key} can't be split as a shell would ({error}), got {text!r}; close it") from None
