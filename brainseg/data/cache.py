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

from brainseg.config import IMAGE_CHANNELS, MASK_CHANNELS
from brainseg.data.source import SliceInfo, Source
from brainseg.errors import DataError

CACHE_SCHEMA = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceSet:
    """Every slice of a source, decoded and resized."""

    slices: tuple[SliceInfo, ...]  # sorted by id
    images: NDArray[np.uint8]  # (n, size, size, channels), memory-mapped, read-only
    masks: NDArray[np.uint8]  # (n, size, size, channels), {0, 1}, memory-mapped, read-only
    sizes: NDArray[np.int32]  # (n, 2): height and width as stored
    fingerprint: str  # of ids and pixels at their stored size; 64 hexadecimal digits
    source: Source

    def positions(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Where these ids stand in the arrays, shape (len(ids),)."""
        where = {item.id: position for position, item in enumerate(self.slices)}
        return np.array([where[item] for item in ids], dtype=np.intp)


def load_slices(source: Source, *, image_size: int, cache_dir: Path) -> SliceSet:
    """The slices of `source` at `image_size` pixels a side, from the cache or decoded into it.

    Two processes may call this at once: one decodes, the other waits. Raises DataError, and leaves
    nothing behind, where a file can't be decoded or the cache can't be written.
    """
    slices = source.slices()
    key = hashlib.sha256(f"{CACHE_SCHEMA} {image_size} {source.stamp()}".encode()).hexdigest()[:32]
    entry = _find(cache_dir, key)
    if entry is None:
        try:
            with _folder(cache_dir), _locked(cache_dir / f"{key}.lock"):
                entry = _find(cache_dir, key) or _build(source, slices, image_size, cache_dir, key)
        except OSError as error:
            raise DataError(
                f"the cache of decoded slices can't be written to {cache_dir} ({error.strerror or error}); "
                "make room there, or set data.cache_dir to another folder"
            ) from error
    return SliceSet(
        slices=slices,
        images=np.load(entry / "images.npy", mmap_mode="r"),
        masks=np.load(entry / "masks.npy", mmap_mode="r"),
        sizes=np.load(entry / "sizes.npy"),
        fingerprint=json.loads((entry / "entry.json").read_text())["fingerprint"],
        source=source,
    )


def resize_image(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(height, width) in [0, 255] to (size, size): area mean where it shrinks, bilinear where it grows."""
    return np.asarray(_resized(Image.fromarray(image), size), dtype=np.uint8)


def resize_mask(mask: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(height, width) in {0, 1} to (size, size): 1 where at least half of the pixel is covered."""
    covered = np.asarray(_resized(Image.fromarray(mask.astype(np.float32)), size))
    return (covered >= 0.5).astype(np.uint8)


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


def _build(source: Source, slices: tuple[SliceInfo, ...], size: int, cache_dir: Path, key: str) -> Path:
    """Decodes every slice into a folder beside the entry, then renames it; called under the lock."""
    building = cache_dir / f"{key}.building"
    shutil.rmtree(building, ignore_errors=True)  # of a process that was killed: we hold its lock
    try:
        building.mkdir()
        images = _reserve(building / "images.npy", (len(slices), size, size, IMAGE_CHANNELS))
        masks = _reserve(building / "masks.npy", (len(slices), size, size, MASK_CHANNELS))
        sizes = np.empty((len(slices), 2), dtype=np.int32)

        def decode(position: int) -> bytes:
            image, mask = source.read(slices[position].id)
            images[position, :, :, 0] = resize_image(image, size)
            masks[position, :, :, 0] = resize_mask(mask, size)
            sizes[position] = image.shape
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
