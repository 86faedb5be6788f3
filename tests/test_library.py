"""What `import brainseg` offers: beside Hydra, MLflow and an event loop, and as the manual and the notebook show it."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import keras
import mlflow
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from processes import Command, Server
from tiny_run import TINY

import brainseg as bs
from brainseg import compose
from brainseg.config import RunConfig
from brainseg.data.phantom.source import PhantomSource
from brainseg.scoring.predictions import load_predictions
from brainseg.tracking import open_store
from brainseg.tracking.mlflow.connection import connect

ROOT = Path(__file__).parent.parent
IMPORTED = "import sys; before = {*sys.modules}; import brainseg; print(*{*sys.modules} - before)"


@pytest.fixture(scope="module")
def outcome(
    tmp_path_factory: pytest.TempPathFactory, tiny_in: Callable[..., RunConfig], empty_store: Path
) -> dict[str, Any]:
    """A training in an event loop, below an open run of MLflow's; where it is, and what it has left of the process."""
    folder = tmp_path_factory.mktemp("library")
    uri = f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"
    (folder / "mlruns").mkdir()
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    mlflow.set_tracking_uri(uri)
    signals, policy = signal.getsignal(signal.SIGINT), keras.config.dtype_policy()

    async def cell() -> Any:
        return bs.fit(tiny_in(folder, **{"train.precision": "mixed_bfloat16", "tracking.uri": uri}), quiet=True)

    with mlflow.start_run() as parent:
        result = asyncio.run(cell())
        still_open = mlflow.active_run()
    mlflow.set_tracking_uri(None)  # that of the environment counts again
    return {
        "folder": folder,
        "result": result,
        "parent": parent.info.run_id,
        "is_kept": still_open is not None
        and still_open.info.run_id == parent.info.run_id
        and signal.getsignal(signal.SIGINT) == signals
        and keras.config.dtype_policy() == policy,
        "run": bs.load_run(result.run_id, root=str(folder / "mlruns"), uri=uri),
        "uri": uri,
    }


@pytest.mark.heavy
def test_importing_it_imports_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = {name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert modules == {"brainseg"}


def test_a_public_name_is_no_part_of_the_package() -> None:
    parts = {path.stem for path in (ROOT / "brainseg").iterdir()}
    assert not parts & set(bs.__all__)
    assert {*bs.__all__, "__version__"} == set(dir(bs))
    assert all(getattr(bs, name).__name__ == name for name in bs.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = bs.trian


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.dropout=0.2", "run_name='a, b: c=d'", "train.patience=3"],
        ["data=folder", "data.root=some dir", "data.classes={car: 1, wet road: [2, 3]}", "data.ignore=255"],
        ["data=folder", "data.root=dir", "data.channels=[t1, flair]"],
        ["optimizer=sgd", "optimizer.options.momentum=0.5", "train.loss=ce+focal"],
        ["tracking.tags.note='true'", "tracking.uri=http://h:5000", "seed=4"],
    ],
)
def test_a_configuration_is_recorded_as_the_line_that_composes_it(overrides: list[str]) -> None:
    config = bs.configure(*overrides)
    line = compose.overrides_of(config)
    assert len(line) <= len(overrides)
    assert compose.freeze(line) == config


def test_a_mistake_is_the_line_that_the_command_prints() -> None:
    with pytest.raises(bs.BrainsegError, match=r"model\.dropuot is not a configuration key; did you mean"):
        bs.configure("model.dropuot=0.2")


def test_a_hydra_that_is_initialised_is_as_it_was_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, value in (("theirs", 1), ("conf", 2)):  # brainseg looks into ./conf, and theirs doesn't
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "app.yaml").write_text(f"value: {value}\n")
    with hydra.initialize_config_dir(config_dir=str(tmp_path / "theirs"), version_base="1.2"):
        assert bs.configure("seed=3").seed == 3
        assert VersionBase.instance().getbase().minor == 2
        assert hydra.compose("app") == {"value": 1}
    assert not GlobalHydra.instance().is_initialized()
    with hydra.initialize_config_dir(config_dir=str(tmp_path / "theirs"), version_base="1.2"):
        assert hydra.compose("app") == {"value": 1}


def test_a_training_leaves_the_process_as_it_was(outcome: dict[str, Any]) -> None:
    assert outcome["is_kept"]


def test_a_training_is_listed_below_the_open_run(outcome: dict[str, Any]) -> None:
    run = connect(outcome["uri"]).get_run(outcome["result"].run_id)
    assert run.data.tags["mlflow.parentRunId"] == outcome["parent"]
    assert run.data.tags["mlflow.source.name"].startswith("python -m brainseg.train data.phantom_patients=8 ")


def test_a_training_is_found_with_its_score(outcome: dict[str, Any]) -> None:
    where = {"root": str(outcome["folder"] / "mlruns"), "uri": outcome["uri"]}
    found = bs.find_runs("model.depth=2", experiment="Default", **where)
    assert [*found.run_id] == [outcome["result"].run_id]
    assert found.final_dice[0] == pytest.approx(outcome["result"].final_dice)
    with pytest.raises(bs.BrainsegError, match=r"no run in experiment 'Default' has model\.depth=5"):
        bs.find_runs("model.depth=5", experiment="Default", **where)


def test_a_run_has_its_scores(outcome: dict[str, Any]) -> None:
    scores = outcome["run"].scores
    assert scores.dice.mean() == pytest.approx(outcome["result"].final_dice)
    assert {"id", "patient_id", "tumor_type", "area_px", "dice", "iou"} <= set(scores.columns)


def test_a_run_is_evaluated_as_its_training_was_scored(outcome: dict[str, Any]) -> None:
    scores = outcome["run"].evaluate()
    assert (scores.split, scores.masks) == ("val", "no flips, threshold 0.5, nothing removed")
    assert scores.dice == pytest.approx(outcome["result"].final_dice)
    assert [*scores.slices.id] == [*outcome["run"].scores.id]
    assert scores.slices.hd95_px.notna().all()


def test_a_run_predicts_the_mask_that_its_training_has_recorded(outcome: dict[str, Any], tmp_path: Path) -> None:
    store = open_store(outcome["run"].config.tracking)
    recorded = load_predictions(store.file(outcome["run"].id, "val_predictions.npz", tmp_path))
    slice_id, mask = max(recorded.items(), key=lambda item: item[1].sum())
    image = PhantomSource(patients=TINY["data.phantom_patients"], seed=0).read(slice_id)[0]
    predicted = outcome["run"].predict(image)
    assert mask.any()
    assert (predicted.mask == mask[..., 0]).mean() > 0.999  # another batch has other last digits
    assert (predicted.mask == (predicted.probability >= 0.5)).all()
    assert (predicted.classes, predicted.warnings) == ((), ())
    assert outcome["run"].predict(np.zeros((20, 30), np.uint8)).warnings == ("every pixel has the same value",)


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((8, 8), np.float32), r"float32 of shape \(8, 8\)"),
        (np.zeros((8, 8, 3), np.uint8), r"uint8 of shape \(8, 8, 3\)"),
        (np.zeros((2, 8, 8, 1), np.uint8), r"uint8 of shape \(2, 8, 8, 1\)"),
    ],
    ids=["type", "channels", "several"],
)
def test_an_array_that_is_no_image_of_the_run_is_refused(outcome: dict[str, Any], image: Any, got: str) -> None:
    with pytest.raises(bs.BrainsegError, match=rf"must be uint8 \(0 to 255\) of shape \(height, width, 1\), got {got}"):
        outcome["run"].predict(image)


def test_an_unknown_run_is_refused(outcome: dict[str, Any]) -> None:
    with pytest.raises(bs.BrainsegError, match="'nobody' is no run and no alias"):
        bs.load_run("nobody", root=str(outcome["folder"] / "mlruns"), uri=outcome["uri"])


def shown_in_the_manual() -> str:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    return "".join(re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL))


def shown_in_the_notebook() -> str:
    cells = json.loads((ROOT / "examples" / "brainseg.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shown", [shown_in_the_manual, pytest.param(shown_in_the_notebook, marks=pytest.mark.slow)])
def test_what_is_shown_runs(
    shown: Callable[[], str], tmp_path: Path, process_server: Server, empty_store: Path
) -> None:
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")
    output = tmp_path / "printed.txt"
    command = Command(process_server.start("-c", shown(), folder=tmp_path, output=output), output, process_server)
    assert command.exit_code() == 0, command.text
    assert "Dice  " in command.text
