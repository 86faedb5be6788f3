"""Decoded slices in memory-mapped files: decoded once, then shared by every run and process.

A cache entry is named by the fingerprint of the pixels at their stored size, and by the size that
they were resized to. A stamp (paths, sizes, modification times) leads to the fingerprint without
reading the files again; where anything changed, the stamp differs and the slices are decoded anew.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brainseg.classes import IGNORED, Labels
from brainseg.config import DataConfig
from brainseg.data.source import SliceInfo, Source
from brainseg.errors import DataError

CACHE_SCHEMA = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceSet:
    """Every slice of a source, decoded and resized."""

    slices: tuple[SliceInfo, ...]  # sorted by id
    images: NDArray[np.uint8]  # (n, size, size, channels), memory-mapped, read-only
    masks: NDArray[np.uint8]  # (n, size, size, mask channels), as `labels` says, memory-mapped, read-only
    labels: Labels
    channels_are_alike: bool  # colours of one picture; else pictures of their own
    sizes: NDArray[np.int32]  # (n, 2): height and width as stored
    fingerprint: str  # of ids and pixels at their stored size; 64 hexadecimal digits
    source: Source

    def positions(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Where these ids stand in the arrays, shape (len(ids),)."""
        where = {item.id: position for position, item in enumerate(self.slices)}
        return np.array([where[item] for item in ids], dtype=np.intp)


def load_slices(source: Source, data: DataConfig, *, cache_dir: Path) -> SliceSet:
    """The slices of `source` at `data.image_size` pixels a side, from the cache or decoded into it.

    Two processes may call this at once: one decodes, the other waits. Raises DataError, and leaves
    nothing behind, where a file can't be decoded or the cache can't be written.
    """
    slices = source.slices()
    key = hashlib.sha256(f"{CACHE_SCHEMA} {data.image_size} {source.stamp()}".encode()).hexdigest()[:32]
    entry = _find(cache_dir, key)
    if entry is None:
        try:
            with _folder(cache_dir), _locked(cache_dir / f"{key}.lock"):
                entry = _find(cache_dir, key) or _build(source, data, cache_dir, key)
        except OSError as error:
            raise DataError(
                f"the cache of decoded slices can't be written to {cache_dir} ({error.strerror or error}); "
                "make room there, or set data.cache_dir to another folder"
            ) from error
    return SliceSet(
        slices=slices,
        images=np.load(entry / "images.npy", mmap_mode="r"),
        masks=np.load(entry / "masks.npy", mmap_mode="r"),
        labels=data.labels,
        channels_are_alike=data.channels_are_alike,
        sizes=np.load(entry / "sizes.npy"),
        fingerprint=json.loads((entry / "entry.json").read_text())["fingerprint"],
        source=source,
    )


def resize_image(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(height, width, channels) in [0, 255] to (size, size, channels): area mean, or bilinear where it grows."""
    channels = [_resized(Image.fromarray(image[..., place]), size) for place in range(image.shape[-1])]
    return np.stack([np.asarray(channel, dtype=np.uint8) for channel in channels], axis=-1)


def resize_mask(mask: NDArray[np.uint8], size: int, labels: Labels) -> NDArray[np.uint8]:
    """A mask as `labels` says, (height, width, channels), to (size, size, channels).

    A pixel becomes what covers the largest part of it; of equal parts, the class with the highest number, and a class
    before the background. Without `labels.exclusive` each class is decided alone: it needs half of the pixel.
    """
    if not labels.exclusive:
        own = [
            _covering(mask[..., place], size, [1, *([IGNORED] if labels.has_ignored else [])])
            for place in range(mask.shape[-1])
        ]
        return np.stack(own, axis=-1)
    present = [int(value) for value in np.unique(mask) if value]
    return _covering(mask[..., 0], size, present)[..., np.newaxis]


def _covering(mask: NDArray[np.uint8], size: int, values: Sequence[int]) -> NDArray[np.uint8]:
    """The value in {0, *values} that covers the largest part of each pixel, (size, size)."""
    result = np.zeros((size, size), np.uint8)
    largest = np.ones((size, size), np.float32)  # what the background covers
    covered = [np.asarray(_resized(Image.fromarray((mask == value).astype(np.float32)), size)) for value in values]
    for share in covered:
        largest = largest - share
    for value, share in zip(values, covered, strict=True):
        wins = share >= largest
        result[wins], largest = value, np.maximum(share, largest)
    return result


def _resized(picture: Image.Image, size: int) -> Image.Image:
    if picture.size == (size, size):
        return picture
    shrinks = min(picture.size) >= size
    return picture.resize((size, size), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)


def _find(cache_dir: Path, key: str) -> Path | None:
    """The complete entry that a stamp leads to, if there is one."""
    try:
        entry = cache_dir / (cache_dir / f"{key}.stamp").read_text().strip()
    except OSError:
        return None
    return entry if (entry / "entry.json").is_file() else None


def _build(source: Source, data: DataConfig, cache_dir: Path, key: str) -> Path:
    """Decodes every slice into a folder beside the entry, then renames it; called under the lock."""
    slices, size, labels = source.slices(), data.image_size, data.labels
    building = cache_dir / f"{key}.building"
    shutil.rmtree(building, ignore_errors=True)  # of a process that was killed: we hold its lock
    try:
        building.mkdir()
        images = _reserve(building / "images.npy", (len(slices), size, size, data.channel_count))
        masks = _reserve(building / "masks.npy", (len(slices), size, size, labels.mask_channels))
        sizes = np.empty((len(slices), 2), dtype=np.int32)

        def decode(position: int) -> bytes:
            image, mask = source.read(slices[position].id)
            images[position] = resize_image(image, size)
            masks[position] = resize_mask(mask, size, labels)
            sizes[position] = image.shape[:2]
            return _digest(slices[position].id, image, mask)

        whole = hashlib.sha256()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for digest in pool.map(decode, range(len(slices))):
                    whole.update(digest)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        images.flush()
        masks.flush()
        np.save(building / "sizes.npy", sizes)
        fingerprint = whole.hexdigest()
        (building / "entry.json").write_text(json.dumps({"schema_version": CACHE_SCHEMA, "fingerprint": fingerprint}))
        entry = cache_dir / f"{fingerprint[:16]}-{size}"
        try:
            building.rename(entry)
        except OSError:  # not empty: the same pixels have been decoded from another place
            if not (entry / "entry.json").is_file():
                raise
            os.replace(building / "sizes.npy", entry / "sizes.npy")  # an entry of schema 1 has none
    finally:
        shutil.rmtree(building, ignore_errors=True)
    stamp = cache_dir / f"{key}.stamp"
    stamp.with_suffix(".stamp.tmp").write_text(entry.name)
    stamp.with_suffix(".stamp.tmp").replace(stamp)
    return entry


def _reserve(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """A new `.npy` file with its space allocated: a full disk is an OSError here, not a crash on writing."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _digest(slice_id: str, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> bytes:
    # Of one channel as (height, width), as by version 0.1.
    image, mask = (each[..., 0] if each.shape[-1] == 1 else each for each in (image, mask))
    digest = hashlib.sha256(f"{slice_id} {image.shape} {mask.shape}".encode())
    digest.update(image.tobytes())
    digest.update(mask.tobytes())
    return digest.digest()


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Makes the folder; those that it had to make are removed again on an error, if they stayed empty."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock file, once no other process does, and deletes it at the end."""
    while True:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink == 0:
                continue  # its holder has deleted it: the lock is a new file of this name now
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
