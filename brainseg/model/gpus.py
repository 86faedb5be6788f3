"""The GPUs of this machine, as NVIDIA's driver lists them: known before TensorFlow is imported."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

VISIBLE_KEY = "CUDA_VISIBLE_DEVICES"  # of the environment: those that a process may use
_QUERY = "index,uuid,name,memory.total,driver_version"
_TIMEOUT_S = 20


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU that this process may use."""

    id: str  # for CUDA_VISIBLE_DEVICES
    name: str
    memory_mib: int
    driver: str


def gpus(environment: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """The GPUs that a process with this environment may use, in its order; none without NVIDIA's driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run(
            [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
        found = [
            (uuid, Gpu(id=index, name=name, memory_mib=int(memory), driver=driver))
            for index, uuid, name, memory, driver in rows
        ]
    except (OSError, subprocess.SubprocessError, ValueError):  # no driver behind it, or one that says something else
        return ()
    visible = environment.get(VISIBLE_KEY)
    if visible is None:
        return tuple(gpu for _, gpu in found)
    chosen = []
    for item in (item.strip() for item in visible.split(",")):
        gpu = next((gpu for uuid, gpu in found if item and (gpu.id == item or uuid.startswith(item))), None)
        if gpu is None:  # as CUDA does: what stands behind an unknown one is not seen either
            break
        chosen.append(gpu)
    return tuple(chosen)
