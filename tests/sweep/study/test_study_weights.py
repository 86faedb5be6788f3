"""A study whose trials can't get the weights that they start from doesn't begin."""

from pathlib import Path

import pytest
from study_files import made_study, write_study

from brainseg.sweep.__main__ import main
from brainseg.sweep.study.weights import check_weights

pytestmark = pytest.mark.heavy


def test_weights_that_are_gone_are_one_line_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_study(tmp_path)
    assert main(["run", str(file), "model.weights=gone.keras"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "error: gone.keras isn't there; name a .keras file, or the id of a run\n"
    assert [path.name for path in tmp_path.rglob("*")] == [file.name]


def test_every_choice_of_the_space_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr("brainseg.sweep.study.weights.ProcessPoolExecutor", lambda *_, **__: InThisProcess(asked))
    space = {"model.weights": {"type": "categorical", "choices": [None, "a.keras", "b.keras"]}}
    check_weights(made_study(tmp_path, space=space, baseline={"model.weights": None}))
    assert asked == ["a.keras", "b.keras"]
    asked.clear()
    check_weights(made_study(tmp_path))
    assert asked == []


class InThisProcess:
    """Notes what is asked for."""

    def __init__(self, asked: list[str | None]) -> None:
        self._asked = asked

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, _: object, run: object) -> "InThisProcess":
        self._asked.append(run.model.weights)  # type: ignore[attr-defined]
        return self

    def result(self) -> None:
        pass
