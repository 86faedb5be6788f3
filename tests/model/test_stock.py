"""A saved model holds stock Keras layers alone."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from brainseg.config import ModelConfig
from brainseg.errors import BrainsegError
from brainseg.model import stock as stock_module
from brainseg.model.models import build_model
from brainseg.model.stock import to_stock

# Keras 3.15 copies its variables for a file in a way that NumPy 2 warns of; the values are right.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHAPE = (16, 16, 1)

LOAD_AND_PREDICT = """
import sys
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1], compile=False, safe_mode=True)
np.save(sys.argv[2], np.asarray(model(np.load(sys.argv[3]), training=False)))
assert not any(name.startswith("brainseg") for name in sys.modules)
"""


@pytest.fixture(params=["float32", "mixed_bfloat16"])
def precision(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def images(count=4):
    return np.random.default_rng(5).random((count, *SHAPE), dtype=np.float32)


def trained_model(norm):
    """A small model whose moving statistics have left their starting values."""
    model = build_model(ModelConfig(depth=2, base_filters=4, norm=norm), input_shape=SHAPE, seed=0)
    for _ in range(5):
        model(images(), training=True)
    return model


@pytest.mark.heavy
def test_the_stock_model_has_no_layer_of_brainseg_and_the_same_probabilities(precision):
    model = trained_model("batch")
    stock = to_stock(model)
    assert {type(layer).__module__.partition(".")[0] for layer in stock.layers} == {"keras"}
    assert [layer.name for layer in stock.layers] == [layer.name for layer in model.layers]
    tolerance = 1e-5 if precision == "float32" else 0.02
    np.testing.assert_allclose(stock(images()), model(images()), atol=tolerance)


@pytest.mark.heavy
def test_the_stock_model_keeps_the_precision(precision):
    stock = to_stock(trained_model("batch"))
    names = ("encoder1_conv1", "encoder1_conv1_norm", "head")
    assert [stock.get_layer(name).dtype_policy.name for name in names] == [precision, precision, "float32"]


@pytest.mark.heavy
def test_a_model_in_stock_layers_is_its_own_stock_model():
    model = to_stock(trained_model("none"))
    assert to_stock(model) is model


@pytest.mark.heavy
def test_a_saved_model_loads_in_a_process_without_brainseg(tmp_path):
    model = trained_model("batch")
    path, inputs, outputs = tmp_path / "model.keras", tmp_path / "images.npy", tmp_path / "probabilities.npy"
    to_stock(model).save(path)
    np.save(inputs, images())
    subprocess.run([sys.executable, "-c", LOAD_AND_PREDICT, path, outputs, inputs], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(outputs), model(images(), training=False), atol=1e-4)


@pytest.mark.heavy
def test_a_stock_model_that_disagrees_is_refused(monkeypatch):
    monkeypatch.setitem(stock_module.TOLERANCES, "float32", (0.0, 0.0))
    with pytest.raises(BrainsegError, match=r"must give the probabilities of the trained one within 0.0, got .*"):
        to_stock(trained_model("batch"))
