"""The U-Net of Ronneberger et al. 2015 (arXiv:1505.04597), with padded convolutions."""

import functools
import math

import keras
from keras import layers

from brainseg.classes import Labels
from brainseg.config import ModelConfig
from brainseg.model.fast_dropout import FastDropout
from brainseg.model.fused_norm import FusedBatchNormalization
from brainseg.model.network import Network, head_bias, layer_seed


def build(config: ModelConfig, *, input_shape: tuple[int, int, int], labels: Labels, seed: int) -> Network:
    """A U-Net with `config.depth` levels on each side of the bottleneck.

    input_shape: (height, width, channels), both sides divisible by `config.size_factor`.
    Level k (from 1) has base_filters * 2**(k-1) filters, the bottleneck base_filters * 2**depth.
    With a stem above 1 a first convolution joins stem x stem pixels into one of base_filters channels, and the
    head parts each again: the levels work at a fraction of the size, in about 1/stem**2 of the time.
    The output is float32 in [0, 1] of shape (batch, height, width, labels.outputs). Of the decoder's levels, the second
    is the first coarse one; level k has 2**(k-1) times fewer pixels a side than the first.
    """
    widths = [config.base_filters * 2**level for level in range(config.depth)]
    inputs = keras.Input(input_shape, name="image")

    x = inputs
    if config.standardize:
        # Over all pixels of a slice, each channel by itself: scanners differ in brightness and contrast.
        x = layers.LayerNormalization(axis=(1, 2), center=False, scale=False, name="standardize")(x)
    if config.stem > 1:
        initializer = keras.initializers.HeNormal(seed=layer_seed(seed, "stem"))
        x = layers.Conv2D(
            config.base_filters, config.stem, strides=config.stem, kernel_initializer=initializer, name="stem"
        )(x)
    skips = []
    for level, filters in enumerate(widths, start=1):
        x = _block(x, f"encoder{level}", filters, config, seed)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder{level}_pool")(x)

    x = _block(x, "bottleneck", config.base_filters * 2**config.depth, config, seed)

    levels = []
    for level in range(config.depth, 0, -1):
        name, filters = f"decoder{level}", widths[level - 1]
        x = layers.Conv2DTranspose(
            filters,
            2,
            strides=2,
            kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(seed, f"{name}_up")),
            name=f"{name}_up",
        )(x)
        x = layers.Concatenate(name=f"{name}_skip")([x, skips[level - 1]])
        x = _block(x, name, filters, config, seed)
        levels.append(x)

    *coarse, finest = levels
    model = keras.Model(inputs, _head(config, labels, seed)(finest), name="unet")
    return Network(model=model, coarse=tuple(reversed(coarse)))


def _head(config: ModelConfig, labels: Labels, seed: int) -> keras.layers.Layer:
    """The layer that makes probabilities for each pixel of what the last level gives.

    With a bias for an expected share of 0.5, epochs go by until the many empty pixels are near 0.
    """
    kind = layers.Conv2D if config.stem == 1 else layers.Conv2DTranspose
    return kind(
        labels.outputs,
        config.stem,
        strides=config.stem,
        activation=labels.activation,
        # float32 under mixed precision: bfloat16 holds 8 bits, too few for probabilities near 0 and 1.
        dtype="float32",
        kernel_initializer=_head_initializer(config, labels, seed),
        bias_initializer=head_bias(config, labels),
        name="head",
    )


def _head_initializer(config: ModelConfig, labels: Labels, seed: int) -> keras.initializers.Initializer:
    """Glorot and Bengio 2010, for base_filters values in and labels.outputs out at every pixel.

    With a stem Keras would count the whole kernel, and start with weights so small that it takes epochs until a
    probability comes near 1.
    """
    if config.stem == 1:
        return keras.initializers.GlorotUniform(seed=layer_seed(seed, "head"))
    limit = math.sqrt(6.0 / (config.base_filters + labels.outputs))
    return keras.initializers.RandomUniform(-limit, limit, seed=layer_seed(seed, "head"))


def _block(x: keras.KerasTensor, name: str, filters: int, config: ModelConfig, seed: int) -> keras.KerasTensor:
    """Two 3x3 convolutions with dropout between them."""
    x = _convolution(x, f"{name}_conv1", filters, config.norm, seed)
    x = FastDropout(config.dropout, seed=layer_seed(seed, f"{name}_dropout"), name=f"{name}_dropout")(x)
    return _convolution(x, f"{name}_conv2", filters, config.norm, seed)


def _convolution(x: keras.KerasTensor, name: str, filters: int, norm: str, seed: int) -> keras.KerasTensor:
    """A 3x3 convolution and ReLU, with the normalisation between them that `norm` names."""
    initializer = keras.initializers.HeNormal(seed=layer_seed(seed, name))
    convolution = functools.partial(layers.Conv2D, filters, 3, padding="same", kernel_initializer=initializer)
    if norm == "none":
        # One layer, as convolution, bias and ReLU then run as one kernel.
        return convolution(activation="relu", name=name)(x)
    # No bias: the normalisation would subtract it again.
    x = convolution(use_bias=False, name=name)(x)
    x = FusedBatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
