"""A U-Net whose encoder is a network for the classification of images, which may have seen ImageNet."""

import keras

from brainseg.classes import Labels
from brainseg.config import ModelConfig
from brainseg.model.blocks import decoder_level, head, standardized
from brainseg.model.encoders.known import KNOWN
from brainseg.model.network import Network


def build(
    config: ModelConfig, *, input_shape: tuple[int, int, int], labels: Labels, seed: int, windows: bool
) -> Network:
    """The encoder `config.encoder`, and a decoder level of `config.decoder_filters` for each size of its features.

    input_shape: (height, width, channels), both sides divisible by `config.size_factor`. The encoder's features of a
    32nd of the size are the bottleneck; the head parts what the last level gives, of a half or a quarter of the size.
    The encoder sees images as it is trained on: on ImageNet's scale, or each channel of a slice standardised by itself.
    The output is float32 in [0, 1] of shape (batch, height, width, labels.outputs).
    """
    encoder = KNOWN[config.encoder]
    inputs = keras.Input(input_shape, name="image")
    if config.standardize:
        x = inputs if windows else standardized(inputs)
    else:
        x = encoder.scale.layer(input_shape[-1])(inputs)
    *skips, features = encoder.features(x, seed=seed)
    encoding = keras.Model(x, [*skips, features], name="encoder")

    levels = []
    for level, filters in zip(range(len(skips), 0, -1), config.decoder_filters, strict=False):
        features = decoder_level(features, skips[level - 1], f"decoder{level}", filters, config, seed)
        levels.append(features)

    *coarse, finest = levels
    factor = input_shape[0] // finest.shape[1]
    masks = head(labels, filters=finest.shape[-1], factor=factor, config=config, seed=seed)(finest)
    model = keras.Model(inputs, masks, name="encoder_unet")
    return Network(model=model, coarse=tuple(reversed(coarse)), encoder=encoding)
