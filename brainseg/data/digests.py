"""Digests of pixels: of a whole data set, and of each slice, so that two sets can be compared without their images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainseg.data.source import PATIENT, Source
from brainseg.data.spread import in_threads


@dataclass(frozen=True, kw_only=True)
class SliceDigest:
    """What tells whether a slice is the same; 64 hexadecimal digits each, of the shape and the pixels as stored."""

    id: str
    patient_id: str  # empty where unknown
    image: str
    mask: str


def digests_of(source: Source) -> tuple[str, Sequence[SliceDigest]]:
    """The fingerprint of the set, as `SliceSet.fingerprint`, and each slice, in the order of ids; reads every file.

    Raises DataError where one can't be read.
    """

    def digest(place: int) -> tuple[bytes, SliceDigest]:
        info = slices[place]
        image, mask = source.read(info.id)
        return slice_digest(info.id, image, mask), SliceDigest(
            id=info.id, patient_id=info.columns.get(PATIENT, ""), image=_digest_of(image), mask=_digest_of(mask)
        )

    slices = source.slices()
    whole, found = hashlib.sha256(), []
    for of_set, of_slice in in_threads(digest, range(len(slices))):
        whole.update(of_set)
        found.append(of_slice)
    return whole.hexdigest(), found


def slice_digest(slice_id: str, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> bytes:
    """A slice's part of the fingerprint of its set."""
    # Of one channel as (height, width), as by version 0.1.
    image, mask = (each[..., 0] if each.shape[-1] == 1 else each for each in (image, mask))
    digest = hashlib.sha256(f"{slice_id} {image.shape} {mask.shape}".encode())
    digest.update(image.ravel().data)
    digest.update(mask.ravel().data)
    return digest.digest()


def _digest_of(pixels: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(pixels.ravel().data)
    return digest.hexdigest()
