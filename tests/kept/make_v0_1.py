"""Makes `v0_1.tar.xz`: runs, studies, a cache, a spool and a registered model, as brainseg 0.1 leaves them on disk.

The code that writes them is that of the checkout on PYTHONPATH, which has to be commit 654fe3b:

    git worktree add ../brainseg-0.1 654fe3b
    PYTHONPATH=../brainseg-0.1 python tests/kept/make_v0_1.py            # the set, in about five minutes
    PYTHONPATH=../brainseg-0.1 python tests/kept/make_v0_1.py --expected # what the same code makes of it

The set is made in /srv/brainseg, so that no path in it says anything; host and user are called `host` and `user`.
Pictures for people are drawn at 8 dots an inch, since nothing reads them.
"""

import argparse
import contextlib
import functools
import json
import lzma
import os
import platform
import runpy
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from kept_outcome import Outcome, collect
from kept_set import ARCHIVE, ARRAYS, EXPECTED, HOST, KEPT_AT, SETS, made_with
from numpy.typing import NDArray
from PIL import Image

Grey = NDArray[np.float64]
Mask = NDArray[np.uint8]

COMMIT = "654fe3b"
STOP = "KEPT_STOP"  # environment: signal, epoch and step of the stop, as in "SIGKILL 2 2"
DPI = 8
WRITTEN_AT = 1_600_000_000  # seconds since 1970: a cache entry is found again by its files' modification times
SHAPE = (20, 24)  # height and width of a slice as stored
ORIENTATION = 0x0112  # EXIF: 1 as stored, 3 half a turn, 6 and 8 a quarter turn
KEYS: dict[str, Any] = {
    "data.image_size": 16,
    "data.batch_size": 2,
    "data.val_fraction": 0.25,
    "model.depth": 1,
    "model.base_filters": 2,
    "optimizer.warmup_epochs": 0.0,
    "train.epochs": 3,
    "train.precision": "float32",
    "train.threads": 1,
    "tracking.predictions": 0,
}
# Each set trains in another way, so that checkpoints hold other variables; its masks are neither empty nor full.
OWN_KEYS: Mapping[str, Mapping[str, Any]] = {
    "grey": {
        "data.phantom_patients": 6,
        "data.batch_size": 4,
        "model.standardize": True,
        "optimizer.learning_rate": 0.03,
        "train.loss": "dice",
    },
    "colour": {
        "model.base_filters": 1,
        "model.depth": 2,
        "model.standardize": True,
        "optimizer.learning_rate": 0.03,
        "train.loss": "bce_dice_image",
        "train.ema_decay": 0.5,
        "train.deep_supervision": 0.25,
    },
    "deep16": {
        "data.augment": "light",
        "model.norm": "none",
        "model.stem": 2,
        "optimizer": "sgd",
        "optimizer.learning_rate": 0.03,
        "train.patience": 3,
    },
    "exif": {
        "data.augment": "none",
        "data.split_by": "image",
        "data.test_fraction": 0.25,
        "model.standardize": True,
        "optimizer": "adam",
        "optimizer.learning_rate": 0.1,
    },
}
SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "grey": {"name": "tpe", "n_startup_trials": 1},
    "colour": {"name": "cmaes", "n_startup_trials": 1},
    "deep16": {"name": "qmc"},
    "exif": {"name": "grid"},
}
# Of the runs to resume. Killed, a run goes on from the start of the epoch; stopped, from the step.
STOPS = {"grey": "SIGKILL 2 2", "colour": "SIGTERM 2 1", "deep16": "SIGKILL 2 1", "exif": "SIGTERM 2 1"}
RATE, DROPOUT = "optimizer.learning_rate", "model.dropout"


def main() -> None:
    """Makes the set, or what is expected of it; `--run` is how this script starts commands."""
    if sys.argv[1:2] == ["--run"]:
        run_command(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expected", action="store_true", help="what the code makes of the set, instead of the set")
    parsed = parser.parse_args()
    check_commit()
    if parsed.expected:
        write_expected()
        return
    shutil.rmtree(KEPT_AT, ignore_errors=True)
    KEPT_AT.mkdir(parents=True)
    write_slices(KEPT_AT)
    write_studies(KEPT_AT / "sweeps")
    write_records()
    for plots in KEPT_AT.glob("mlruns/artifacts/*/artifacts/plots"):
        shutil.rmtree(plots)  # five million bytes each, which nothing reads
    (registered,) = KEPT_AT.glob("mlruns/artifacts/*/artifacts/registered/model")
    keep_used_code(registered)
    settle(KEPT_AT / "mlruns" / "mlflow.db")
    pack(KEPT_AT, ARCHIVE)
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size / 1000:.0f} kB")


def check_commit() -> None:
    """Leaves the process where another version than 0.1 would be run."""
    from brainseg.training.environment import code_state

    state = code_state()
    if state is None or not state.commit.startswith(COMMIT) or state.diff:
        sys.exit(f"PYTHONPATH must name an unchanged checkout of {COMMIT}, got {state and state.commit}")


# The slices.


def write_slices(folder: Path) -> None:
    """Three folders of eight slices with masks, from a seed; two slices a patient where there are patients."""
    for name, write in {"colour": save_colour, "deep16": save_deep, "exif": save_turned}.items():
        rng = np.random.default_rng(len(name))
        for part in ("images", "masks"):
            (folder / name / part).mkdir(parents=True)
        for number in range(8):
            grey, mask = made_slice(rng)
            mask = write(folder / name / "images", f"{name}{number}", number, grey, mask)
            Image.fromarray(mask * np.uint8(255)).save(folder / name / "masks" / f"{name}{number}.png")
        if name != "exif":
            rows = (f"{name}{number},P{number // 2},{('glioma', 'meningioma')[number // 4]}\n" for number in range(8))
            (folder / name / "metadata.csv").write_text(f"id,patient_id,tumor_type\n{''.join(rows)}")
        for path in sorted((folder / name).rglob("*")):
            os.utime(path, (WRITTEN_AT, WRITTEN_AT))


def made_slice(rng: np.random.Generator) -> tuple[Grey, Mask]:
    """Noise in [0, 1) with a brighter disc, and the disc in {0, 1}; both of SHAPE."""
    rows, columns = np.indices(SHAPE)
    row, column, radius = rng.integers(6, 14), rng.integers(6, 18), rng.integers(3, 6)
    mask = ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2).astype(np.uint8)
    return 0.5 * rng.random(SHAPE) + 0.4 * mask, mask


def save_colour(folder: Path, name: str, number: int, grey: Grey, mask: Mask) -> Mask:
    """RGB: the disc is in one colour, what surrounds it in another."""
    tints = np.array([[1.0, 0.2, 0.1], [0.1, 0.9, 0.2], [0.2, 0.3, 1.0]])
    tint = np.where(mask[..., None] == 1, tints[number % 3], tints[(number + 1) % 3])
    Image.fromarray(np.rint(255 * grey[..., None] * tint).astype(np.uint8)).save(folder / f"{name}.png")
    return mask


def save_deep(folder: Path, name: str, number: int, grey: Grey, mask: Mask) -> Mask:
    """16 bits, PNG and TIFF in turn; values from about 1000 to 3000 of 65535, in another range for each slice."""
    values = np.rint(1000 + 150 * number + 900 * grey).astype(np.uint16)
    Image.fromarray(values).save(folder / f"{name}.{('png', 'tif')[number % 2]}")
    return mask


def save_turned(folder: Path, name: str, number: int, grey: Grey, mask: Mask) -> Mask:
    """8 bits, with an EXIF tag that says how to turn the image for showing it: PNG, JPEG and TIFF.

    0.1 takes PNG and JPEG as they are stored, and the mask fits that. PIL itself turns TIFF on reading, so that there
    the mask has to be turned as well.
    """
    orientation = (6, 6, 3, 8, 1, 3, 6, 3)[number]
    ending = "tif" if number > 5 else ("png", "jpg")[number % 2]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.rint(255 * grey).astype(np.uint8)).save(folder / f"{name}.{ending}", exif=exif)
    return np.rot90(mask, {6: -1, 3: 2}[orientation]) if ending == "tif" else mask


# What brainseg writes.


def overrides_of(name: str) -> list[str]:
    """The keys of a set's runs and trials, as they stand behind a command."""
    data = [] if name == "grey" else ["data=folder", f"data.root={name}"]
    keys = KEYS | OWN_KEYS[name]
    return [*data, *(f"{key}={value}" for key, value in keys.items())]


def write_studies(folder: Path) -> None:
    """A study file for each set: a trial that is finished before, one in flight and one to come."""
    folder.mkdir()
    for name in SETS:
        dropout: dict[str, Any] = {"type": "float", "low": 0.0, "high": 0.4}
        rate: dict[str, Any] = {"type": "float", "low": 1e-2, "high": 3e-1, "log": True}
        if name == "exif":
            dropout, rate = dropout | {"step": 0.2}, {"type": "categorical", "choices": [0.03, 0.1]}
        content = {
            "metric": "val_dice_image",
            "direction": "maximize",
            "trials": 3,
            "workers": 1,
            "overrides": [item for item in overrides_of(name) if not item.startswith(RATE)],
            "baseline": {RATE: 0.03, DROPOUT: 0.2},
            "space": {RATE: rate, DROPOUT: dropout},
            "sampler": {**SAMPLERS[name], "seed": 1},
            "pruner": {"name": "none"},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def write_records() -> None:
    """Runs, studies, a registered model and a spool, in the order in which one could come to have them."""
    command("brainseg.train", *overrides_of("grey"), "tracking.predictions=2", "run_name=finished")
    finished = run_named("finished")
    command("brainseg.evaluate", finished)
    command("brainseg.register", finished, "--alias", "champion")
    for name in SETS:
        command("brainseg.sweep", "run", name, "--trials", "1")
    for name in SETS:
        stopped("brainseg.sweep", "run", name, at="SIGKILL 2 1")
    for name in SETS:
        stopped("brainseg.train", *overrides_of(name), f"run_name={name}-run", at=STOPS[name])
    with held(KEPT_AT / "mlruns" / "mlflow.db"):
        command("brainseg.train", *overrides_of("grey"), "run_name=offline", "tracking.offline=true", "seed=1")


def command(module: str, *arguments: str) -> None:
    """Runs a command to its end. Raises CalledProcessError where that isn't a good one."""
    subprocess.run(started(module, *arguments), cwd=KEPT_AT, check=True)


def stopped(module: str, *arguments: str, at: str) -> None:
    """Runs a command that a signal stops at the given epoch and step."""
    code = subprocess.run(started(module, *arguments), cwd=KEPT_AT, env=os.environ | {STOP: at}).returncode
    number = signal.Signals[at.split()[0]]
    expected = 128 + number if number == signal.SIGTERM else -number
    if code != expected:
        raise RuntimeError(f"{module} {' '.join(arguments)} was to be stopped by {at}, but ended with {code}")
    time.sleep(1)  # the worker of a sweep dies just after its supervisor


def started(module: str, *arguments: str) -> list[str]:
    """How a command is started: through `run_command`."""
    return [sys.executable, str(Path(__file__).resolve()), "--run", module, *arguments]


def run_named(name: str) -> str:
    """The id of the run of this name."""
    with contextlib.closing(sqlite3.connect(KEPT_AT / "mlruns" / "mlflow.db")) as database:
        (found,) = database.execute("SELECT run_uuid FROM runs WHERE name = ?", (name,)).fetchone()
        return str(found)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Nobody else can write to the database inside: a run that starts then is recorded in its spool alone."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


# Inside of the processes that run commands.


def run_command(module: str, *arguments: str) -> None:
    """`python -m module arguments` in this process, with neutral names, and stopped where the environment says."""
    import brainseg.sweep.supervisor
    import brainseg.tracking.mlflow_tracker
    from brainseg.sweep import alive
    from brainseg.training import environment
    from brainseg.training.progress import Terminal

    os.environ["LOGNAME"] = "user"
    socket.gethostname = platform.node = lambda: HOST.partition("/")[0]  # type: ignore[assignment]
    platform.platform = lambda *_, **__: "Linux"  # type: ignore[assignment]
    environment._processor = lambda: "processor"
    alive.this_host = lambda: HOST
    brainseg.tracking.mlflow_tracker.LEFTOVERS_S = 0.0  # what a killed run has left in the spool is to stay there
    make_pool = brainseg.sweep.supervisor.worker_pool

    @functools.wraps(make_pool)
    def pool(*args: Any, **options: Any) -> Any:
        """Workers that run through here as well."""
        made = make_pool(*args, **options)
        made.command[1:] = started(*made.command[2:])[1:]
        return made

    brainseg.sweep.supervisor.worker_pool = pool
    if STOP in os.environ and (module, *arguments[:1]) != ("brainseg.sweep", "run"):
        name, epoch, step = os.environ[STOP].split()
        Terminal.step = functools.partialmethod(stop_at, signal.Signals[name], int(epoch), int(step))  # type: ignore[assignment]
    draw_small()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def stop_at(
    terminal: object, number: signal.Signals, at_epoch: int, at_step: int, *, epoch: int, step: int, **_: float
) -> None:
    """In place of `Terminal.step`: sends the signal after this step. A worker's supervisor dies with it."""
    if (epoch, step) != (at_epoch, at_step):
        return
    time.sleep(1)  # some of what is recorded reaches the store
    if "worker" in sys.argv:
        os.kill(os.getppid(), number)
    os.kill(os.getpid(), number)


def draw_small() -> None:
    """Pictures take a thousand bytes instead of many."""
    from matplotlib.figure import Figure

    save = Figure.savefig

    def savefig(figure: Figure, path: Any, **options: Any) -> None:
        save(figure, path, **options | {"dpi": DPI})

    Figure.savefig = savefig  # type: ignore[method-assign,assignment]


# Afterwards.


def keep_used_code(model: Path) -> None:
    """Takes the modules out of the registered model's own code that no answer needs: half of the whole set."""
    asked = (
        "import sys, mlflow, pandas; from pathlib import Path;"
        f"model = mlflow.pyfunc.load_model({str(model)!r});"
        "model.predict(model.input_example);"
        "print(*(module.__file__ for name, module in sys.modules.items() if name.partition('.')[0] == 'brainseg'))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=KEPT_AT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    used = set(map(Path, done.stdout.splitlines()[-1].split()))
    files = {path for path in (model / "code").rglob("*") if path.is_file()}
    if not used <= files:
        raise RuntimeError(f"the registered model uses code from elsewhere: {used - files}")
    for path in files - used:
        path.unlink()


def settle(path: Path) -> None:
    """Puts everything into the one file of the database, and takes out what was deleted."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("VACUUM")


def pack(folder: Path, archive: Path) -> None:
    """Every file, owned by nobody in particular, in the order of their names."""

    def anonymous(item: tarfile.TarInfo) -> tarfile.TarInfo:
        item.uid = item.gid = 0
        item.uname = item.gname = ""
        item.mtime = int(item.mtime)
        return item

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, arcname=str(path.relative_to(folder)), recursive=False, filter=anonymous)


def write_expected() -> None:
    """Runs the commands of the tests on the set, and keeps what comes of them."""
    with tempfile.TemporaryDirectory() as folder:
        facts, arrays = collect(Outcome(Path(folder)))
    content = {"commit": COMMIT, "made_with": made_with(), **facts}
    EXPECTED.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with lzma.open(ARRAYS, "wb", preset=9) as file:  # NumPy's own compression doesn't see how alike the headers are
        np.savez(file, **arrays)  # type: ignore[arg-type]  # names are no options
    print(f"{EXPECTED}: {EXPECTED.stat().st_size / 1000:.0f} kB, {ARRAYS}: {ARRAYS.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
