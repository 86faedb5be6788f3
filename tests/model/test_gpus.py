"""The GPUs that a process may use, as the driver's program lists them."""

from pathlib import Path

import pytest

from brainseg.model.gpus import Gpu, gpus

pytestmark = pytest.mark.heavy  # starts a program

LISTED = "0, GPU-aa11, NVIDIA A, 24576, 555.42\n1, GPU-bb22, NVIDIA B, 81920, 555.42\n"
FIRST = Gpu(id="0", name="NVIDIA A", memory_mib=24576, driver="555.42")
SECOND = Gpu(id="1", name="NVIDIA B", memory_mib=81920, driver="555.42")


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, *, prints: str, code: int = 0) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{prints}END\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, (FIRST, SECOND)),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, (SECOND, FIRST)),
        ({"CUDA_VISIBLE_DEVICES": "GPU-bb"}, (SECOND,)),
        ({"CUDA_VISIBLE_DEVICES": "0,7,1"}, (FIRST,)),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ()),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
    ],
)
def test_the_environment_says_which_gpus_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], found: tuple[Gpu, ...]
) -> None:
    driver(tmp_path, monkeypatch, prints=LISTED)
    assert gpus(environment) == found


@pytest.mark.parametrize(("prints", "code"), [("", 9), ("no devices were found\n", 0), ("", 0)])
def test_a_driver_that_lists_none_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str, code: int
) -> None:
    driver(tmp_path, monkeypatch, prints=prints, code=code)
    assert gpus({}) == ()


def test_without_a_driver_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus({}) == ()
