"""Measures what data costs: time and memory of `verify`, and from a folder of slices to its first batch.

    python -m benchmarks.data --root DIR
    python -m benchmarks.data --made 12500 25000 50000

First batch: a fresh process measures each figure, after its imports. Cold: it begins without a cache and decodes every
file. Memory: the most that the process held beyond what it held after the imports; pages of the
memory-mapped cache count as soon as they are touched, and the measurement touches all of them.

Verify: the whole command, imports included, in DIR or in made folders of so many slices of 64x64 of 3,000 people.
CPU: user and system time of all its processes. Memory: the most that they held together; pages that they share
count for each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.figures import load, peak_mib, print_table, resident_mib

SIDE, PEOPLE = 64, 3000  # of a made folder
_SAMPLED_S = 0.05


def main() -> None:
    """Prints a table for each part that is asked for."""
    parser = argparse.ArgumentParser(description="Time and memory of verify, and until the first batch.")
    parser.add_argument("--root", type=Path, help="folder of images and masks")
    parser.add_argument("--size", type=int, default=256, help="pixels a side of the first batch (default 256)")
    parser.add_argument("--made", type=int, nargs="*", default=[], metavar="N", help="verify made folders of N slices")
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)  # of a child process
    options = parser.parse_args()
    if options.cache is not None:
        print(json.dumps(first_batch(options.root, options.size, options.cache)))
        return
    print(f"{load()}\n")
    rows = []
    if options.root is not None:
        print_table(["", "first batch", "CPU", "memory for the data, all slices read"], _first_batches(options))
        rows.append(_verified(options.root, called=str(options.root)))
    for slices in options.made:
        with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
            make_folder(Path(folder), slices=slices)
            rows.append(_verified(Path(folder), called=f"{slices:,} made slices"))
    print_table(["verify", "time", "CPU", "memory of all processes"], rows)


def _first_batches(options: argparse.Namespace) -> list[list[str]]:
    """A row for each of three fresh processes on one cache folder."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        command = [sys.executable, "-m", "benchmarks.data", "--root", str(options.root), "--size", str(options.size)]
        for name in ("cold", "from the cache", "from the cache"):
            child = subprocess.run([*command, "--cache", folder], capture_output=True, text=True, check=True)
            seconds, cpu_seconds, mebibytes = json.loads(child.stdout.splitlines()[-1])
            rows.append([name, f"{seconds:.2f} s", f"{cpu_seconds:.2f} s", f"{mebibytes:.0f} MiB"])
    return rows


def make_folder(root: Path, *, slices: int, seed: int = 0) -> None:
    """Writes images/, masks/ and metadata.csv: smooth pictures of what all heads have and each person's own."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (root / name).mkdir()
    people = min(PEOPLE, slices)
    every_head, heads = rng.normal(size=(8, 8)), rng.normal(size=(people, 8, 8))
    rows = ["id,patient_id"]
    for number in range(slices):
        person = number * people // slices
        coarse = every_head + heads[person] + 0.5 * rng.normal(size=(8, 8))
        smooth = Image.fromarray((128 + 32 * coarse).astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth) + 4 * rng.standard_normal((SIDE, SIDE), np.float32)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        top, left, height, width = rng.integers(4, 28, 4)
        mask[top : top + height, left : left + width] = 255
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{number}.png", compress_level=1)
        Image.fromarray(mask).save(root / "masks" / f"{number}.png", compress_level=1)
        rows.append(f"{number},P{person}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")


def _verified(root: Path, *, called: str) -> list[str]:
    command = [sys.executable, "-m", "brainseg.data", "verify", str(root), "--json"]
    seconds, cpu_seconds, mebibytes = watched(command)
    return [called, f"{seconds:.1f} s", f"{cpu_seconds:.1f} s", f"{mebibytes:.0f} MiB"]


def watched(command: Sequence[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and the peak of MiB of a command and all processes that it starts."""
    begun = time.perf_counter()
    cpu_seconds: dict[int, float] = {}
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as child:
        while child.poll() is None:
            now = 0.0
            for pid in _of_session(child.pid):
                with suppress(OSError, RuntimeError):  # it has ended
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    cpu_seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                    now += resident_mib(pid)
            peak = max(peak, now)
            time.sleep(_SAMPLED_S)
    if child.returncode not in (0, 1):  # 1: it has found errors
        raise subprocess.CalledProcessError(child.returncode, command)
    return time.perf_counter() - begun, sum(cpu_seconds.values()), peak


def _of_session(leader: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError, ValueError):
            if os.getsid(int(name)) == leader:
                found.append(int(name))
    return found


def first_batch(root: Path, size: int, cache: Path) -> tuple[float, float, float]:
    """Seconds and CPU seconds from the checked folder to the first batch of tensors; MiB, once every slice was read."""
    import tensorflow as tf

    from brainseg.config import DataConfig, RunConfig, TrackingConfig
    from brainseg.data.batches import TrainingBatches
    from brainseg.data.load import load_data
    from brainseg.model.runtime import device

    config = RunConfig(
        data=DataConfig(name="folder", root=str(root), image_size=size, split_by="image", cache_dir=str(cache)),
        tracking=TrackingConfig(root=str(cache)),
    )
    tf.constant(0.0)  # TensorFlow starts up at the first tensor
    before = peak_mib()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    data = load_data(config)
    with TrainingBatches(
        data.slices,
        data.split.train,
        batch_size=16,
        augment="none",
        foreground_share=None,
        seed=0,
        epoch=1,
        step=0,
        device=device(),
    ) as batches:
        next(batches)
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    data.slices.images.sum()
    data.slices.masks.sum()
    return seconds, cpu_seconds, peak_mib() - before


if __name__ == "__main__":
    main()
