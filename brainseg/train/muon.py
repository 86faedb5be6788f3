"""Muon for convolutions."""

import math

import keras
from keras import ops

from brainseg.model.network import HEAD


class ConvolutionMuon(keras.optimizers.Muon):  # type: ignore[misc]  # keras ships no types
    """Takes a convolution's kernel for a matrix: its outputs by all that each is made from.

    (Jordan et al. 2024, kellerjordan.github.io/posts/muon.) Keras's own takes AdamW's step for everything that isn't
    two-dimensional, and so for all of a convolutional network.
    """

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        rows, columns = _matrix_of(variable.shape)
        return min(rows, columns) == 1 or f"{HEAD}/" in variable.path  # a bias is a row

    def zeropower_via_newtonschulz5(self, x: keras.KerasTensor, steps: int) -> keras.KerasTensor:
        """Of the matrix."""
        return ops.reshape(super().zeropower_via_newtonschulz5(ops.reshape(x, _matrix_of(x.shape)), steps), x.shape)

    def lr_adjust(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """By the sizes of the matrix."""
        return ops.reshape(super().lr_adjust(ops.reshape(x, _matrix_of(x.shape))), x.shape)


def _matrix_of(shape: tuple[int, ...]) -> tuple[int, int]:
    return math.prod(shape[:-1]), math.prod(shape[-1:])
