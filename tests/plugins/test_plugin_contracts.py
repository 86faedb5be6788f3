"""Parts that break their contract are refused before a run begins, in a line that names them."""

import pytest

from brainseg import compose
from brainseg.classes import BINARY
from brainseg.data.load import source_of
from brainseg.errors import ConfigError, DataError
from brainseg.plugins import BUILT_IN
from brainseg.train.contracts import check_parts

TINY = ["data.image_size=16", "data.channels=grey", "plugins=[mine]"]
CHOSEN = {
    "networks": ["model.name=mine"],
    "losses": ["train.loss=ce+mine", "model.depth=2"],
    "optimizers": ["optimizer.name=mine", "model.depth=2"],
    "metrics": ["metrics=[mine]", "model.depth=2"],
    "augmentations": ["data.augment=mine", "model.depth=2"],
}
BUILD = """
    def size_factor(self): return 1
    def build(self, *, input_shape, outputs, seed):
        import keras
        x = inputs = keras.Input(input_shape)
        {layers}
        return keras.Model(inputs, x)
"""
AUGMENT = """
    def __call__(self, images, masks, *, key):
        import numpy as np, tensorflow as tf
        return {images}, masks
"""
LOSS = """
    def __call__(self, mask, probability):
        import tensorflow as tf
        return {value}
"""


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        (
            "networks",
            BUILD.format(layers="x = keras.layers.Conv2D(2, 1, kernel_initializer='zeros')(x)"),
            "model.name=mine must give float32 of shape (2, 16, 16, 1), got float32 of (2, 16, 16, 2)",
        ),
        (
            "networks",
            BUILD.format(layers="x = keras.layers.Conv2D(1, 1)(x)"),
            "model.name=mine must draw its weights from `seed` alone; give each initializer and Dropout a seed",
        ),
        (
            "networks",
            BUILD.format(layers="x = type('Own', (keras.layers.Layer,), {'call': lambda s, y: y})(name='odd')(x)"),
            "model.name=mine must be made of Keras' own layers and activations, so that its model loads without the "
            "plugin; its layer 'odd' (Own) is not; build that from other layers",
        ),
        (
            "networks",
            BUILD.format(layers="x = keras.layers.Lambda(lambda y: y, name='odd')(x)"),
            "model.name=mine must be made of Keras' own layers and activations, so that its model loads without the "
            "plugin; its layer 'odd' (Lambda) is not; build that from other layers",
        ),
        (
            "networks",
            BUILD.format(layers="x = keras.layers.Conv2D(1, 1, activation=lambda y: y, name='odd')(x)"),
            "model.name=mine must be made of Keras' own layers and activations, so that its model loads without the "
            "plugin; its layer 'odd' (Conv2D) is not; build that from other layers",
        ),
        (
            "losses",
            LOSS.format(value="tf.reduce_mean(probability, axis=-1)"),
            "train.loss=mine must give float32 of shape (), got float32 of (2, 16, 16)",
        ),
        (
            "losses",
            LOSS.format(value="tf.reduce_mean(tf.round(probability)) / tf.reduce_sum(mask)"),
            "train.loss=mine must give finite values for a batch of zeros, got NaN or infinity",
        ),
        (
            "losses",
            LOSS.format(value="tf.reduce_mean(mask)"),
            "train.loss=mine must have a finite gradient; compute it from the probability by TensorFlow alone",
        ),
        (
            "augmentations",
            AUGMENT.format(images="images[:, ::2]"),
            "data.augment=mine must give float32 of shape (2, 16, 16, 1), got float32 of (2, 8, 16, 1)",
        ),
        (
            "augmentations",
            AUGMENT.format(images="images + tf.random.uniform(())"),
            "data.augment=mine must draw from `key` alone, by tf.random.stateless_*; "
            "not by random_uniform/RandomUniform",
        ),
        (
            "augmentations",
            AUGMENT.format(images="images + np.float32(np.random.random())"),
            "data.augment=mine must draw from `key` alone, by tf.random.stateless_*; from one key it gave two results",
        ),
        (
            "losses",
            LOSS.format(value="probability.no_such_thing"),
            "train.loss=mine failed on a batch of zeros: AttributeError: 'tensorflow.python.framework.ops.EagerTensor' "
            "object has no attribute 'no_such_thing' (mine.py, line 10)",
        ),
        (
            "optimizers",
            "def build(self, *, learning_rate, weight_decay): return 'adam'",
            "optimizer.name=mine must build a keras.optimizers.Optimizer, got str",
        ),
        (
            "metrics",
            "unit, direction = 'px', 'up'\n    def __call__(self, mask, predicted): return 0.0",
            "the direction of metrics=mine must be one of maximize, minimize, got 'up'",
        ),
        (
            "metrics",
            "unit, direction = 'px', 'minimize'\n    def __call__(self, mask, predicted): return None",
            "metrics=mine must give a number or NaN, got NoneType for two empty masks",
        ),
    ],
)
def test_a_part_that_breaks_its_contract_is_refused(write, kind: str, body: str, told: str) -> None:
    write(kind, "mine", body)
    with pytest.raises(ConfigError) as error:
        check_parts(compose.freeze([*TINY, *CHOSEN[kind]]), BINARY)
    assert str(error.value) == told


@pytest.mark.heavy
def test_the_examples_keep_their_contracts(example) -> None:
    for name in ("attention", "boundary", "bias", "lion", "objects"):
        example(name)
    config = compose.freeze(
        [
            *("data.image_size=16", "data.channels=grey", "plugins=[attention,boundary,bias,lion,objects]"),
            *("model.name=attention_unet", "train.loss=dice+boundary", "data.augment=bias_field"),
            *("optimizer.name=my_lion", "metrics=[object_f1]"),
        ]
    )
    check_parts(config, BINARY)
    assert {"networks", "losses", "augmentations", "optimizers", "readers", "metrics"} == BUILT_IN.keys() - {
        "samplers",
        "pruners",
    }


OPEN = """
    def open(self, data):
        import numpy as np
        from types import SimpleNamespace as S
        image, mask = np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 1), np.uint8)
        {change}
        return S(name="n", location="l", labels=data.labels, slices=lambda: [S(id=name) for name in ids],
                 read=lambda name: (image, mask), {rest})
"""
REST = "holds_colour=lambda: False, stamp=lambda: ''"


@pytest.mark.parametrize(
    ("change", "rest", "told"),
    [
        (
            "ids = ['a']",
            "stamp=None",
            "must open a Source, and holds_colour is missing; add it",
        ),
        ("ids = ['b', 'a']", REST, "must have slices, each id once and sorted, got b, a"),
        (
            "ids, image = ['a'], image / 255",
            REST,
            "must read uint8 of (height, width, channels) and (height, width, 1), "
            "got float64 of (4, 4, 1) and uint8 of (4, 4, 1)",
        ),
        (
            "ids, mask = ['a'], mask[:2]",
            REST,
            "must read uint8 of (height, width, channels) and (height, width, 1) of one size, "
            "got (4, 4, 1) and (2, 4, 1)",
        ),
    ],
)
def test_a_reader_that_breaks_its_contract_is_refused(write, change: str, rest: str, told: str) -> None:
    write("readers", "mine", OPEN.format(change=change, rest=rest))
    with pytest.raises(DataError) as error:
        source_of(compose.freeze([*TINY, "data.name=mine", "model.depth=2"]))
    assert str(error.value) == f"data.name=mine {told}"
