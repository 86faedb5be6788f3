"""A model that was written loads in older versions of Keras too, with the same outputs."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_archives import REFUSED, keys_of, weights_of

from brainseg.classes import BINARY
from brainseg.config import ModelConfig
from brainseg.model.encoders.known import KNOWN
from brainseg.model.keras_file import copy_model, read_model, write_model
from brainseg.model.models import build_model
from brainseg.model.stock import to_stock

SHAPE = (64, 64, 1)
TRIED = ("3.5.0", "3.8.0", "3.10.0", "3.12.0", "3.13.0", "3.14.0", "3.15.1")
SMALL = {"depth": 2, "base_filters": 4}
NETWORKS = {
    "unet": ModelConfig(**SMALL, norm="batch"),
    "unet without normalisation": ModelConfig(**SMALL, norm="none", standardize=True, stem=2),
    **{
        name: ModelConfig(name="encoder_unet", encoder=name, decoder_filters=[8, 8, 4, 4], weights=None)
        for name in KNOWN
    },
}
BFLOAT16 = "unet in bfloat16"


def stock(config: ModelConfig) -> keras.Model:
    return to_stock(build_model(config, input_shape=SHAPE, labels=BINARY, seed=0))


def images() -> np.ndarray:
    return np.random.default_rng(0).random((2, *SHAPE), dtype=np.float32)


def attention() -> keras.Model:
    """Layers that brainseg's own networks don't have and a plugin's may."""
    inputs = keras.Input((4, 8))
    x = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
    return keras.Model(inputs, keras.layers.EinsumDense("abc,cd->abd", (None, 3))(x))


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["unet", "unet without normalisation", "mobilenetv3_large"])
def test_a_written_model_has_no_key_that_older_versions_of_keras_refuse(name: str, tmp_path: Path) -> None:
    model, path = stock(NETWORKS[name]), tmp_path / "m.keras"
    model.save(tmp_path / "by-keras.keras")
    assert keys_of(tmp_path / "by-keras.keras") & REFUSED  # or there is nothing to leave out any more
    write_model(model, path)
    assert not keys_of(path) & REFUSED
    read = read_model(path, called="it", remedy="")
    np.testing.assert_array_equal(read(images(), training=False), model(images(), training=False))


def test_a_copy_has_the_weights_to_the_byte_and_no_key_that_older_versions_of_keras_refuse(tmp_path: Path) -> None:
    before, after = tmp_path / "before.keras", tmp_path / "after.keras"
    stock(NETWORKS["unet"]).save(before)
    copy_model(before, after)
    assert weights_of(after) == weights_of(before)
    assert keys_of(before) - keys_of(after) == REFUSED - {"quantization_config"}  # it has no dense layers


def test_a_key_that_changes_what_a_layer_computes_is_kept(tmp_path: Path) -> None:
    inputs = keras.Input((4, 4, 1))
    renormalised = keras.layers.BatchNormalization(renorm=True, renorm_momentum=0.5)(inputs)
    write_model(keras.Model(inputs, renormalised), tmp_path / "m.keras")
    layer = read_model(tmp_path / "m.keras", called="it", remedy="").layers[-1]
    assert (layer.renorm, layer.renorm_momentum) == (True, 0.5)


def test_layers_of_attention_have_no_key_that_older_versions_of_keras_refuse(tmp_path: Path) -> None:
    write_model(attention(), tmp_path / "m.keras")
    refused = {*REFUSED, "flash_attention", "sliding_window", "use_gate"}
    assert not keys_of(tmp_path / "m.keras") & refused


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every built-in network, and what each makes of random images, in a folder."""
    folder, policy = tmp_path_factory.mktemp("written"), keras.config.dtype_policy()
    models = {name: stock(config) for name, config in NETWORKS.items()} | {"attention": attention()}
    keras.config.set_dtype_policy("mixed_bfloat16")
    models[BFLOAT16] = stock(NETWORKS["unet"])
    keras.config.set_dtype_policy(policy)
    for name, model in models.items():
        write_model(model, folder / f"{name}.keras")
        given = images() if name != "attention" else np.ones((2, 4, 8), np.float32)
        np.savez(folder / f"{name}.npz", given=given, expected=model(given, training=False))
    return folder


# For a process that has that version of Keras, and no brainseg.
LOAD = """
import sys
from pathlib import Path
import keras
import numpy as np
assert keras.__version__ == sys.argv[1], keras.__version__
for path in sorted(Path(sys.argv[2]).glob("*.keras")):
    model = keras.saving.load_model(str(path), compile=False, safe_mode=True)
    kept = np.load(path.with_suffix(".npz"))
    print(path.stem, np.abs(np.asarray(model(kept["given"], training=False)) - kept["expected"]).max(), sep="=")
assert not any(name.startswith("brainseg") for name in sys.modules)
"""


def installed(version: str, folder: Path) -> Path:
    """A folder with that version of Keras alone; skips the test where it can't be had."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*pip, "--target", str(folder), f"keras=={version}"], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        pytest.skip(f"Keras {version} can't be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", TRIED)
def test_every_network_loads_in_this_version_of_keras_with_the_same_outputs(
    version: str, written: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOAD, version, str(written)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed(version, tmp_path / "keras"))},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    differences = dict(line.split("=") for line in done.stdout.splitlines())
    assert differences.keys() == {*NETWORKS, BFLOAT16, "attention"}
    assert max(float(difference) for difference in differences.values()) <= 1e-6
