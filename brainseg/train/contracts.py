"""Whether the parts of plugins do what their kinds ask for: each is tried on a batch of zeros before a run begins."""

from collections.abc import Callable
from functools import partial
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
from brainseg.plugins import in_one_line, is_built_in, made

BATCH = 2
KEY = (0, 1)


def check_parts(config: RunConfig, labels: Labels) -> None:
    """Raises ConfigError, which names the part, what it must do and what it did, for one that breaks its contract.

    config: complete, with the channels known. Precision and threads are set.
    """
    size = config.data.size
    images, masks = (np.zeros((BATCH, *size, n), np.float32) for n in (config.data.channel_count, labels.outputs))
    stored = np.zeros((BATCH, *size, labels.mask_channels), np.float32)
    data, losses = config.data, loss_terms(config.train.loss)
    tried: dict[str, Callable[[str], None]] = {}  # a part as it was chosen -> what tries it
    if config.model.own is not None:
        tried[f"model.name={config.model.name}"] = lambda what: _check_network(what, config, labels, images)
    for name in (each for each in losses if not is_built_in("losses", each)):
        tried[f"train.loss={name}"] = partial(_check_loss, made("losses", name, config.train.loss_options), masks)
    if not is_built_in("augmentations", data.augment):
        own = partial(made, "augmentations", data.augment, data.augment_options)
        tried[f"data.augment={data.augment}"] = partial(_check_augmentation, own, images, stored)
    if not is_built_in("optimizers", config.optimizer.name):
        tried[f"optimizer.name={config.optimizer.name}"] = partial(_check_optimizer, config.optimizer)
    for name in config.metrics:
        tried[f"metrics={name}"] = partial(_check_metric, made("metrics", name, config.metric_options))
    for what, check in tried.items():
        with in_one_line(f"{what} failed on a batch of zeros"):
            check(what)


def _check_network(what: str, config: RunConfig, labels: Labels, images: Any) -> None:
    """Made of layers that load without the plugin, of the right shape, and the same again from the same seed."""
    network = build_network(config.model, input_shape=images.shape[1:], labels=labels, seed=config.seed)
    for layer in network.model._flatten_layers(include_self=False):
        code = (type(layer), getattr(layer, "activation", None) or type(layer))
        is_known = all(each.__module__.startswith("keras.") or each in STOCK for each in code)
        if not is_known or isinstance(layer, keras.layers.Lambda):
            raise ConfigError(
                f"{what} must be made of Keras' own layers and activations, so that its model loads without the "
                f"plugin; its layer {layer.name!r} ({type(layer).__name__}) is not; build that from other layers"
            )
    _check_tensor(what, network.model(images, training=False), (BATCH, *config.data.size, labels.outputs))
    again = build_network(config.model, input_shape=images.shape[1:], labels=labels, seed=config.seed).model
    if not all(np.array_equal(one, other) for one, other in zip(network.model.weights, again.weights, strict=True)):
        raise ConfigError(f"{what} must draw its weights from `seed` alone; give each initializer and Dropout a seed")


def _check_loss(loss: Any, masks: Any, what: str) -> None:
    """A float32 scalar with a gradient."""
    probability = tf.Variable(np.full_like(masks, 0.5))
    with tf.GradientTape() as tape:
        value = loss(tf.constant(masks), probability.value())
    _check_tensor(what, value, ())
    gradient = tape.gradient(value, probability)
    if gradient is None or not np.isfinite(gradient).all():
        raise ConfigError(f"{what} must have a finite gradient; compute it from the probability by TensorFlow alone")


def _check_augmentation(make: Callable[[], Any], images: Any, masks: Any, what: str) -> None:
    """The same from the same key, traced anew, in the batch's shapes."""

    def changed() -> tuple[Any, Any]:
        own = make()
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


def _check_optimizer(config: OptimizerConfig, what: str) -> None:
    """One of Keras, at the rate that it was given."""
    own = made("optimizers", config.name, config.options)
    optimizer = own.build(learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ConfigError(f"{what} must build a keras.optimizers.Optimizer, got {type(optimizer).__name__}")
    if float(optimizer.learning_rate) != np.float32(config.learning_rate):
        raise ConfigError(f"{what} must have the given learning_rate as a number, which the schedule changes")


def _check_metric(metric: Any, what: str) -> None:
    """A number, or NaN, of two empty masks; with a direction."""
    one_of(f"the direction of {what}", metric.direction, ("maximize", "minimize"))
    value = metric(np.zeros((8, 8), bool), np.zeros((8, 8), bool))
    if not isinstance(value, int | float | np.number):
        raise ConfigError(f"{what} must give a number or NaN, got {type(value).__name__} for two empty masks")


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
