"""Which class the pixels of each class are taken for."""

import copy

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import BACKGROUND, Labels


class Confusion:
    """Counts pixels of exclusive classes, a slice at a time."""

    def __init__(self, labels: Labels) -> None:
        self.names = (BACKGROUND, *labels.names)
        self.pixels = np.zeros((len(self.names), len(self.names)), np.int64)  # true class, predicted class

    def add(self, masks: NDArray[np.bool_], predicted: NDArray[np.bool_], ignored: NDArray[np.bool_] | None) -> None:
        """Counts the pixels of a slice that aren't ignored. masks, predicted: (height, width, classes)."""
        # A pixel without a class is background.
        truth, found = (np.where(each.any(axis=-1), each.argmax(axis=-1) + 1, 0) for each in (masks, predicted))
        if ignored is not None:
            truth, found = truth[~ignored], found[~ignored]
        count = len(self.names)
        counted = np.bincount(truth.ravel() * count + found.ravel(), minlength=count * count)
        self.pixels += counted.reshape(count, count)

    def merged(self, other: "Confusion") -> "Confusion":
        """The pixels of both."""
        both = copy.copy(self)
        both.pixels = self.pixels + other.pixels
        return both

    def shares(self) -> NDArray[np.float64]:
        """Of the pixels of each true class, the share that is taken for each class; a row of zeros without pixels."""
        shares: NDArray[np.float64] = self.pixels / np.maximum(self.pixels.sum(axis=1, keepdims=True), 1)
        return shares
