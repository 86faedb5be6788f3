"""How long a folder of images and masks takes to give its first batch, cold and from the cache, and in how much memory.

    python -m benchmarks.data --root DIR

Each figure is that of a fresh process, after its imports. Cold: the cache is empty and every file is
decoded. Memory: the most that the process held beyond what it held after the imports; pages of the
memory-mapped cache count as soon as they are touched, and the measurement touches all of them.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


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
        print("| | first batch | memory for the data, all slices read |")
        print("| --- | --- | --- |")
        for name in ("cold", "from the cache", "from the cache"):
            child = subprocess.run([*command, "--cache", folder], capture_output=True, text=True, check=True)
            seconds, mebibytes = json.loads(child.stdout.splitlines()[-1])
            print(f"| {name} | {seconds:.2f} s | {mebibytes:.0f} MiB |")


def first_batch(root: Path, size: int, cache: Path) -> tuple[float, float]:
    """Seconds from the checked folder to the first batch of tensors; MiB, once every slice was read."""
    import tensorflow as tf

    from brainseg.config import DataConfig, RunConfig, TrackingConfig
    from brainseg.data.batches import TrainingBatches
    from brainseg.data.load import load_data

    config = RunConfig(
        data=DataConfig(name="folder", root=str(root), image_size=size, split_by="image", cache_dir=str(cache)),
        tracking=TrackingConfig(root=str(cache)),
    )
    tf.constant(0.0)  # TensorFlow starts up at the first tensor
    before = _peak_mib()
    begun = time.perf_counter()
    data = load_data(config)
    with TrainingBatches(
        data.slices, data.split.train, batch_size=16, augment="none", seed=0, epoch=1, step=0
    ) as batches:
        next(batches)
        seconds = time.perf_counter() - begun
    data.slices.images.sum()
    data.slices.masks.sum()
    return seconds, _peak_mib() - before


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
