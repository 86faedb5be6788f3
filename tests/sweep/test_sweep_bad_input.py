"""What is wrong is said in one line, with exit code 2, and nothing is written."""

from pathlib import Path

import pytest
from refusal import exit_code

from brainseg.sweep.__main__ import main

STUDY = """
metric: val_dice_image
direction: maximize
trials: 2
space: {model.dropout: {type: float, low: 0.0, high: 0.4}}
"""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "BRAINSEG_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "small.yaml").write_text(STUDY)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["run", "smal"],
            "there is no study 'smal' in sweeps/; known are ablation, folds, quick, reference, small; did you mean",
        ),
        (["run", "none.yaml"], "none.yaml: there is no such file; give the path of a study file, or a study's name"),
        (
            ["run", "small", "model.droput=0.1"],
            "model.droput is not a configuration key; did you mean",
        ),
        (["run", "small", "data=folder", "data.root=nowhere"], "nowhere doesn't exist; name a folder that holds "),
        (["run", "small", "model.dropout=0.1"], "model.dropout is in the space and fixed by 'model.dropout=0.1'"),
        (["run", "small", "--trials", "0"], "trials must be between 1 and 100000, got 0"),
        (["run", "small", "--storage", "sqlite:///study.db"], "--storage must be a path or a postgresql:// URL, got "),
        (["run", "small", "tracking.uri=ftp://host"], "tracking.uri must start with one of sqlite://, "),
        (["run", "small", "--trails", "3"], "--trails is no option of run"),
        (["status", "small"], "no study 'small' in "),
        (["worker", "small"], "no study 'small' in "),
        (["add", "small", "model.dropout=0.1"], "no study 'small' in "),
        (
            ["worker", "small", "model.depth=3"],
            "worker takes tracking.*, data.root, data.cache_dir and plugins alone, got model.depth=3",
        ),
        (["status", "small", "data.root=here"], "status takes tracking.* alone, got data.root=here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = exit_code(main, arguments)
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert told in line
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["small.yaml", "sweeps"]
