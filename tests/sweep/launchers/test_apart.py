"""An engine in a process of its own: its answers, and what becomes of a process that hangs or is ended."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from brainseg.errors import ConfigError
from brainseg.sweep.launchers import apart
from brainseg.sweep.launchers.apart import Apart
from brainseg.sweep.launchers.engine import RUNNING, Study, Task
from brainseg.tracking.mlflow.connection import UnreachableError

pytestmark = pytest.mark.heavy


class Library:
    """A scheduler whose library does what the study's name says."""

    name = "Ray"

    def tasks(self, study: Study) -> list[Task]:
        """It may answer, be gone, or take its process with it."""
        if study.name == "hangs":
            time.sleep(1000)
        if study.name == "ends":
            os._exit(1)
        if study.name == "refused":
            raise ConfigError("launcher.gpus must be whole, got 1.5; take 1")
        print("a word that nobody reads")
        return [Task(job=f"{os.getcwd()} {os.getpid()}", number=1, state=RUNNING)]


@pytest.fixture
def library() -> Any:
    return Apart(Library())  # type: ignore[arg-type]


def process_of(library: Apart) -> int:
    """The number of the process in which it answers."""
    (task,) = library.tasks(Study(name="answers", id="1"))
    return int(task.job.split()[1])


def test_an_engine_answers_from_one_process_of_its_own_in_the_folder_of_who_asks(
    library: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (task,) = library.tasks(Study(name="answers", id="1"))
    assert task == Task(job=f"{tmp_path} {process_of(library)}", number=1, state=RUNNING)
    assert process_of(library) != os.getpid()
    with pytest.raises(ConfigError, match=r"^launcher\.gpus must be whole, got 1\.5; take 1$"):
        library.tasks(Study(name="refused", id="1"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("what", ["hangs", "ends"])
def test_one_that_hangs_or_ends_its_process_is_away_and_asked_again_in_a_new_one(
    library: Apart, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    first = process_of(library)
    with monkeypatch.context() as patch:
        patch.setattr(apart, "ANSWER_S", 0.5)
        with pytest.raises(UnreachableError, match=r"^Ray doesn't answer; ask again later$"):
            library.tasks(Study(name=what, id="1"))
    assert not Path(f"/proc/{first}").exists()
    assert process_of(library) not in (first, os.getpid())
