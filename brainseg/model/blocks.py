"""What networks are made of: standardised images, convolutions, the decoder's levels and the head."""

import functools
import math

import keras
from keras import layers

from brainseg.classes import Labels
from brainseg.config import ModelConfig
from brainseg.model.fast_dropout import FastDropout
from brainseg.model.fused_norm import FusedBatchNormalization
from brainseg.model.network import HEAD, head_bias, layer_seed


def standardized(images: keras.KerasTensor) -> keras.KerasTensor:
    """Each channel of each slice at mean 0 and variance 1: scanners differ in brightness and contrast."""
    return layers.LayerNormalization(axis=(1, 2), center=False, scale=False, name="standardize")(images)


def decoder_level(
    x: keras.KerasTensor, skip: keras.KerasTensor, name: str, filters: int, config: ModelConfig, seed: int
) -> keras.KerasTensor:
    """Twice the pixels a side, by a transposed convolution; then a block over these and the encoder's features."""
    x = layers.Conv2DTranspose(
        filters,
        2,
        strides=2,
        kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(seed, f"{name}_up")),
        name=f"{name}_up",
    )(x)
    x = layers.Concatenate(name=f"{name}_skip")([x, skip])
    return block(x, name, filters, config, seed)


def block(x: keras.KerasTensor, name: str, filters: int, config: ModelConfig, seed: int) -> keras.KerasTensor:
    """Two 3x3 convolutions with dropout between them."""
    x = _convolution(x, f"{name}_conv1", filters, config.norm, seed)
    x = FastDropout(config.dropout, seed=layer_seed(seed, f"{name}_dropout"), name=f"{name}_dropout")(x)
    return _convolution(x, f"{name}_conv2", filters, config.norm, seed)


def head(labels: Labels, *, filters: int, factor: int, config: ModelConfig, seed: int) -> keras.layers.Layer:
    """The layer that makes probabilities for each pixel, of `filters` values for each factor x factor pixels.

    With a bias for an expected share of 0.5, epochs go by until the many empty pixels are near 0.
    """
    kind = layers.Conv2D if factor == 1 else layers.Conv2DTranspose
    return kind(
        labels.outputs,
        factor,
        strides=factor,
        activation=labels.activation,
        # float32 under mixed precision: bfloat16 holds 8 bits, too few for probabilities near 0 and 1.
        dtype="float32",
        kernel_initializer=_head_initializer(labels, filters=filters, factor=factor, seed=seed),
        bias_initializer=head_bias(config, labels),
        name=HEAD,
    )


def _head_initializer(labels: Labels, *, filters: int, factor: int, seed: int) -> keras.initializers.Initializer:
    """Glorot and Bengio 2010, for `filters` values in and labels.outputs out at every pixel.

    Keras would count the whole kernel of a transposed convolution, and start with weights so small that it takes epochs
    until a probability comes near 1.
    """
    if factor == 1:
        return keras.initializers.GlorotUniform(seed=layer_seed(seed, "head"))
    limit = math.sqrt(6.0 / (filters + labels.outputs))
    return keras.initializers.RandomUniform(-limit, limit, seed=layer_seed(seed, "head"))


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
