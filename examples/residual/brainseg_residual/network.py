"""A U-Net whose blocks add what they were given: Zhang et al. 2018, arXiv:1711.10684."""

from dataclasses import dataclass

from brainseg.plugins import key


@dataclass(frozen=True, kw_only=True)
class ResidualUnet:
    """Each block has two convolutions, and a third one of 1x1 for what goes around them."""

    depth: int = key(3, low=1, high=6, help="encoder levels before the bottleneck")
    filters: int = key(16, low=2, high=128, help="filters of the first level; each level doubles them")

    def size_factor(self):
        """What the sides of an image must be divisible by."""
        return 2**self.depth

    def coarse(self):
        """The layers with the decoder's coarser features, the finest first."""
        return [f"decoder{level}" for level in range(2, self.depth + 1)]

    def build(self, *, input_shape, outputs, seed):
        """Logits of shape (height, width, outputs)."""
        import keras
        from keras import layers

        initializer = keras.initializers.HeNormal(seed=seed)

        def convolution(x, filters, size, **options):
            return layers.Conv2D(filters, size, padding="same", kernel_initializer=initializer, **options)(x)

        def block(x, filters, name):
            changed = convolution(convolution(x, filters, 3, activation="relu"), filters, 3)
            return layers.ReLU(name=name)(layers.Add()([changed, convolution(x, filters, 1)]))

        x, skips = (inputs := keras.Input(input_shape)), []
        for level in range(1, self.depth + 1):
            x = block(x, self.filters * 2 ** (level - 1), f"encoder{level}")
            skips.append(x)
            x = layers.MaxPooling2D()(x)
        x = block(x, self.filters * 2**self.depth, "bottleneck")
        for level in range(self.depth, 0, -1):
            x = layers.Concatenate()([layers.UpSampling2D()(x), skips[level - 1]])
            x = block(x, self.filters * 2 ** (level - 1), f"decoder{level}")
        return keras.Model(inputs, convolution(x, outputs, 1))
