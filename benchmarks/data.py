"""Measures time and memory from a folder of slices to its first batch, cold and from the cache.

    python -m benchmarks.data --root DIR

Each figure is that of a fresh process, after its imports. Cold: the cache is empty and every file is
decoded. Memory: the most that the process held beyond what it held after the imports; pages of the
memory-mapped cache count as soon as they are touched, and the measurement touches all of them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import peak_mib, print_table


def main() -> None:
    """Measures three fresh processes on one cache folder and prints a table."""
    parser = argparse.ArgumentParser(description="Time and memory until the first batch.")
    parser.add_argument("--root", type=Path, required=True, help="folder of images and masks")
    parser.add_argument("--size", type=int, default=256, help="pixels a side (default 256)")
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)  # of a child process
    options = parser.parse_args()
    if options.cache is not None:
        print(json.dumps(first_batch(options.root, options.size, options.cache)))
        return
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        command = [sys.executable, "-m", "benchmarks.data", "--root", str(options.root), "--size", str(options.size)]
        rows = []
        for name in ("cold", "from the cache", "from the cache"):
            child = subprocess.run([*command, "--cache", folder], capture_output=True, text=True, check=True)
            seconds, mebibytes = json.loads(child.stdout.splitlines()[-1])
            rows.append([name, f"{seconds:.2f} s", f"{mebibytes:.0f} MiB"])
    print_table(["", "first batch", "memory for the data, all slices read"], rows)


def first_batch(root: Path, size: int, cache: Path) -> tuple[float, float]:
    """Seconds from the checked folder to the first batch of tensors; MiB, once every slice was read."""
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
    begun = time.perf_counter()
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
        seconds = time.perf_counter() - begun
    data.slices.images.sum()
    data.slices.masks.sum()
    return seconds, peak_mib() - before


if __name__ == "__main__":
    main()
