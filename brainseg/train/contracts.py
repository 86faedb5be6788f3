"""Whether the parts of plugins do what their kinds ask for: each is tried on a batch of zeros before a run begins."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from brainseg.classes import Labels
from brainseg.config import OptimizerConfig, RunConfig, loss_terms
from brainseg.data.augment import ALGORITHM
from brainseg.errors import ConfigError
from brainseg.keys import one_of
from brainseg.model.models import build_network
from brainseg.model.stock import STOCK
from brainseg.plugins import is_built_in, made

BATCH = 2
KEY = (0, 1)


def check_parts(config: RunConfig, labels: Labels) -> None:
    """Raises ConfigError, which names the part, what it must do and what it did, for one that breaks its contract.

    config: complete, with the channels known. Precision and threads are set.
    """
    size = config.data.image_size
    images, masks = (np.zeros((BATCH, size, size, n), np.float32) for n in (config.data.channel_count, labels.outputs))
    if config.model.own is not None:
        _check_network(config, labels, images)
    for name in loss_terms(config.train.loss):
        if not is_built_in("losses", name):
            _check_loss(f"train.loss={name}", made("losses", name, config.train.loss_options), masks)
    if not is_built_in("augmentations", config.data.augment):
        stored = np.zeros((BATCH, size, size, labels.mask_channels), np.float32)
        _check_augmentation(config.data.augment, config.data.augment_options, images, stored)
    if not is_built_in("optimizers", config.optimizer.name):
        _check_optimizer(config.optimizer)
    for name in config.metrics:
        _check_metric(name, made("metrics", name, config.metric_options))


def _check_network(config: RunConfig, labels: Labels, images: Any) -> None:
    """Made of layers that load without the plugin, of the right shape, and the same again from the same seed."""
    what, size = f"model.name={config.model.name}", config.data.image_size
    network = build_network(config.model, input_shape=images.shape[1:], labels=labels, seed=config.seed)
    for layer in network.model._flatten_layers(include_self=False):
        is_known = type(layer).__module__.startswith("keras.") or type(layer) in STOCK
        if not is_known or isinstance(layer, keras.layers.Lambda):
            raise ConfigError(
                f"{what} must be made of Keras' own layers, so that its model loads without the plugin; its layer "
                f"{layer.name!r} is a {type(layer).__name__}; build that from other layers"
            )
    _check_tensor(what, network.model(images, training=False), (BATCH, size, size, labels.outputs))
    again = build_network(config.model, input_shape=images.shape[1:], labels=labels, seed=config.seed).model
    if not all(np.array_equal(one, other) for one, other in zip(network.model.weights, again.weights, strict=True)):
        raise ConfigError(f"{what} must draw its weights from `seed` alone; give each initializer and Dropout a seed")


def _check_loss(what: str, loss: Any, masks: Any) -> None:
    """A float32 scalar with a gradient."""
    probability = tf.Variable(np.full_like(masks, 0.5))
    with tf.GradientTape() as tape:
        value = loss(tf.constant(masks), probability.value())
    _check_tensor(what, value, ())
    gradient = tape.gradient(value, probability)
    if gradient is None or not np.isfinite(gradient).all():
        raise ConfigError(f"{what} must have a finite gradient; compute it from the probability by TensorFlow alone")


def _check_augmentation(name: str, options: Mapping[str, Any], images: Any, masks: Any) -> None:
    """The same from the same key, traced anew, in the batch's shapes."""
    what = f"data.augment={name}"

    def changed() -> tuple[Any, Any]:
        own = made("augmentations", name, options)
        graph = tf.function(lambda key: own(tf.constant(images), tf.constant(masks), key=key), autograph=False)
        key = tf.random.fold_in(tf.constant(KEY), 0, alg=ALGORITHM)
        _check_random(what, graph.get_concrete_function(key).graph)
        return tuple(graph(key))

    once, again = changed(), changed()
    for given, before in zip(once, (images, masks), strict=True):
        _check_tensor(what, given, before.shape)
    if not all(np.array_equal(one, other) for one, other in zip(once, again, strict=True)):
        raise ConfigError(
            f"{what} must draw from `key` alone, by tf.random.stateless_*; from one key it gave two results"
        )


def _check_optimizer(config: OptimizerConfig) -> None:
    """One of Keras, at the rate that it was given."""
    what = f"optimizer.name={config.name}"
    own = made("optimizers", config.name, config.options)
    optimizer = own.build(learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ConfigError(f"{what} must build a keras.optimizers.Optimizer, got {type(optimizer).__name__}")
    if float(optimizer.learning_rate) != np.float32(config.learning_rate):
        raise ConfigError(f"{what} must have the given learning_rate as a number, which the schedule changes")


def _check_metric(name: str, metric: Any) -> None:
    """A number, or NaN, of two empty masks; with a direction."""
    one_of(f"the direction of metrics={name}", metric.direction, ("maximize", "minimize"))
    value = metric(np.zeros((8, 8), bool), np.zeros((8, 8), bool))
    if not isinstance(value, int | float | np.number):
        raise ConfigError(f"metrics={name} must give a number or NaN, got {type(value).__name__} for two empty masks")


def _check_random(what: str, graph: Any) -> None:
    """TensorFlow's own state isn't in a checkpoint, and a run that goes on would see other slices."""
    for operation in graph.get_operations():
        if operation.op_def is not None and operation.op_def.is_stateful and "Random" in operation.type:
            raise ConfigError(f"{what} must draw from `key` alone, by tf.random.stateless_*; not by {operation.name}")


def _check_tensor(what: str, given: Any, shape: tuple[int, ...]) -> None:
    """Raises ConfigError unless it is a finite float32 tensor of this shape."""
    found, kind = tuple(np.shape(given)), getattr(getattr(given, "dtype", None), "name", type(given).__name__)
    if found != shape or kind != "float32":
        raise ConfigError(f"{what} must give float32 of shape {shape}, got {kind} of {found}")
    if not np.isfinite(given).all():
        raise ConfigError(f"{what} must give finite values for a batch of zeros, got NaN or infinity")
