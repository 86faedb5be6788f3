"""The package of examples/residual: its parts are there once it is installed, and no key names it.

Of the tests that are no long form, this one alone starts the real `python -m brainseg.train` and lets it train.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from brainseg.config import TrackingConfig
from brainseg.tracking import open_store

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
OVERRIDES = (
    *("data.phantom_patients=6", "data.image_size=16", "data.batch_size=4", "train.epochs=1"),
    *("model.name=residual_unet", "model.options.filters=2", "model.options.depth=2", "train.loss=ce+log_dice"),
    *("train.deep_supervision=0.5", "tracking.predictions=0"),
)


def test_the_parts_of_an_installed_package_are_chosen_by_name(tmp_path: Path, empty_store: Path) -> None:
    # The build writes beside pyproject.toml.
    package = tmp_path / "residual"
    for file in (ROOT / "examples" / "residual").rglob("*"):
        if file.suffix in (".py", ".toml"):
            copy = package / file.relative_to(ROOT / "examples" / "residual")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    site = tmp_path / "site"
    subprocess.run([*install, "--target", str(site), str(package)], check=True, capture_output=True, timeout=300)

    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = os.pathsep.join([str(site), str(ROOT)])
    command = [sys.executable, "-m", "brainseg.train", *OVERRIDES]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=580)
    assert (done.returncode, done.stderr) == (0, "")

    store = open_store(TrackingConfig(root=str(tmp_path / "mlruns")))
    (run_id,) = store.find({})
    record = store.read(run_id)
    assert record.tags["plugins"] == (
        "model.name=residual_unet: brainseg-residual 0.1.0; train.loss=log_dice: brainseg-residual 0.1.0"
    )
    assert record.params["train.loss_options.log_gamma"] == "0.3"
    assert record.params["plugins"] == "()"
