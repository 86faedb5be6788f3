"""How far an exported file is from the model that it was made of, in probabilities and in masks."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import Labels
from brainseg.data.batches import EVALUATION_BATCH
from brainseg.errors import BrainsegError
from brainseg.export.check_slices import CheckSlices
from brainseg.inference.apply import masks_of
from brainseg.inference.postprocess import MaskSettings

# Rounding, with a margin: other programs add up in another order, which usually makes 1e-7 to 1e-6. ONNX Runtime adds
# up the mean of a whole slice (model.standardize) in float32, which makes 2e-4 at 256x256.
ALLOWED = 1e-3  # of a probability
ALLOWED_PX = 4  # of the mask of a slice: pixels that lie on the threshold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deviation:
    """The largest differences over all slices."""

    probability: float
    mask_px: int  # pixels of a slice's mask, at its stored size
    mask_id: str  # of that slice

    @property
    def text(self) -> str:
        """`4.5e-07 in probability, 0 pixels of a mask`."""
        return f"{self.probability:.2g} in probability, {self.mask_px} pixels of a mask"


def probabilities(run: Callable[[NDArray[np.float32]], Any], slices: CheckSlices) -> NDArray[np.float32]:
    """(slices, size, size, outputs), a batch at a time; the first slice alone, as a batch of another size."""
    images = slices.images
    starts = [0, *range(1, len(images), EVALUATION_BATCH)]
    ends = [*starts[1:], len(images)]
    batches = [np.asarray(run(images[start:end])) for start, end in zip(starts, ends, strict=True)]
    return np.concatenate(batches).astype(np.float32)


def difference(
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
    slices: CheckSlices,
    settings: MaskSettings,
    labels: Labels,
) -> Deviation:
    """Of two arrays that `probabilities` gave; masks of one view."""
    plain = dataclasses.replace(settings, flip="none", shift="none")

    def mask(probability: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.bool_]:
        return masks_of(probability[np.newaxis, np.newaxis], shape, plain, labels)[0]

    differing = [
        int(np.count_nonzero(mask(one, shape) != mask(other, shape)))
        for one, other, shape in zip(expected, found, slices.shapes, strict=True)
    ]
    worst = int(np.argmax(differing))
    return Deviation(
        probability=float(np.abs(expected - found).max()), mask_px=differing[worst], mask_id=slices.ids[worst]
    )


def check(found: Deviation, *, called: str) -> None:
    """Raises BrainsegError if the difference is more than rounding explains."""
    problems = []
    if not found.probability <= ALLOWED:  # NaN ends here as well
        problems.append(f"a probability differs by {found.probability:.2g}, and {ALLOWED:g} is allowed")
    if found.mask_px > ALLOWED_PX:
        problems.append(f"the mask of slice {found.mask_id} differs by {found.mask_px} pixels, and {ALLOWED_PX} are")
    if problems:
        raise BrainsegError(
            f"{called} doesn't do what the model does: {'; '.join(problems)}. Nothing was written; please report this"
        )
