"""The U-Net of Ronneberger et al. 2015 (arXiv:1505.04597), with padded convolutions."""

import keras
from keras import layers

from brainseg.classes import Labels
from brainseg.config import ModelConfig
from brainseg.model.blocks import block, decoder_level, head, standardized
from brainseg.model.network import Network, layer_seed


def build(
    config: ModelConfig, *, input_shape: tuple[int, int, int], labels: Labels, seed: int, windows: bool
) -> Network:
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

    x = standardized(inputs) if config.standardize and not windows else inputs
    if config.stem > 1:
        initializer = keras.initializers.HeNormal(seed=layer_seed(seed, "stem"))
        x = layers.Conv2D(
            config.base_filters, config.stem, strides=config.stem, kernel_initializer=initializer, name="stem"
        )(x)
    skips = []
    for level, filters in enumerate(widths, start=1):
        x = block(x, f"encoder{level}", filters, config, seed)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder{level}_pool")(x)

    x = block(x, "bottleneck", config.base_filters * 2**config.depth, config, seed)

    levels = []
    for level in range(config.depth, 0, -1):
        x = decoder_level(x, skips[level - 1], f"decoder{level}", widths[level - 1], config, seed)
        levels.append(x)

    *coarse, finest = levels
    masks = head(labels, filters=config.base_filters, factor=config.stem, config=config, seed=seed)(finest)
    return Network(model=keras.Model(inputs, masks, name="unet"), coarse=tuple(reversed(coarse)))
