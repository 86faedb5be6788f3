"""What the contenders train on, how busy they keep it, and how much of its memory is held meanwhile."""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from brainseg.model.gpus import Gpu, gpus
from brainseg.train.environment import machine

SAMPLE_S = 0.2

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Of the device, while something ran."""

    busy: float  # percent: of the time in which the GPU computed, or of its threads' time in which the process did
    memory_mib: int | None  # the most of the GPU's that all processes held; None without a GPU


def device() -> str:
    """The first GPU that a process may use, or the processor."""
    gpu = _gpu()
    return f"CPU, {machine().processor}" if gpu is None else f"{gpu.name}, {gpu.memory_mib} MiB, driver {gpu.driver}"


def watched(work: Callable[[], _T], *, pid: int, threads: int) -> tuple[_T, Usage]:
    """Does the work, in which a process trains on so many threads; what it gives, and how the device was used."""
    gpu = _gpu()
    if gpu is None:
        begun, used_s = time.perf_counter(), _cpu_s(pid)
        done = work()
        seconds = threads * (time.perf_counter() - begun)
        return done, Usage(busy=100 * (_cpu_s(pid) - used_s) / seconds, memory_mib=None)
    samples: list[tuple[int, int]] = []
    ended = threading.Event()
    thread = threading.Thread(target=_sample, args=(gpu, samples, ended), daemon=True)
    thread.start()
    try:
        done = work()
    finally:
        ended.set()
        thread.join()
    return done, Usage(busy=statistics.mean(busy for busy, _ in samples), memory_mib=max(held for _, held in samples))


def _gpu() -> Gpu | None:
    return next(iter(gpus()), None)


def _sample(gpu: Gpu, samples: list[tuple[int, int]], ended: threading.Event) -> None:
    query = ["nvidia-smi", f"--id={gpu.id}", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
    while True:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
        busy, memory = done.stdout.split(",")
        samples.append((int(busy), int(memory)))
        if ended.wait(SAMPLE_S):
            return


def _cpu_s(pid: int) -> float:
    """Seconds that all threads of the process have computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime
