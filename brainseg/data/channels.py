"""Pictures that are the named channels of one image, put together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brainseg.errors import DataError


def join_channels(channels: Sequence[NDArray[np.uint8]], *, called: Sequence[str]) -> NDArray[np.uint8]:
    """One image, (height, width, channels), of pictures of one channel each, (height, width, 1).

    called: their names in errors. Raises DataError where they differ in size.
    """
    first = channels[0]
    for name, channel in zip(called, channels, strict=True):
        if channel.shape != first.shape:
            sizes = [f"{each.shape[1]}x{each.shape[0]}" for each in (first, channel)]
            raise DataError(
                f"{name} must have the size of {called[0]}, {sizes[0]}, got {sizes[1]}; export all channels at one size"
            )
    return np.concatenate(channels, axis=-1)
