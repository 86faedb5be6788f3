"""Decoded slices in memory-mapped files: decoded once, then shared by every run and process.

A cache entry is named by the fingerprint of the pixels at their stored size, and by the size that
they were resized to; for patches they stay as they are stored, in flat arrays. A stamp (paths, sizes,
modification times) leads to the fingerprint without reading the files again; where anything changed,
the stamp differs and the slices are decoded anew.

The arrays of an entry are checked whenever they are used: their headers and sizes, and their digests where a file isn't
as it was noted when they were computed. What doesn't fit is decoded anew.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brainseg.classes import IGNORED, Labels
from brainseg.cli.output import disk_or
from brainseg.config import IMAGE_SIZES, DataConfig
from brainseg.data.digests import slice_digest
from brainseg.data.masks import foreground_pixels
from brainseg.data.ragged import Ragged, RaggedFile
from brainseg.data.source import SliceInfo, Source
from brainseg.data.spread import in_threads
from brainseg.errors import DataError
from brainseg.parsing import parse_json

CACHE_SCHEMA = 2
ENTRY = "entry.json"
ARRAYS = ("images.npy", "masks.npy", "sizes.npy")
STORED = "stored"  # the form of an entry whose slices aren't resized
_ENTRY_NAME = re.compile(rf"[0-9a-f]{{16}}-([0-9]+(x[0-9]+)?|{STORED})")

_READ_TOGETHER = 8  # slices at their stored size: what is read ahead stays in memory

Shapes = Mapping[str, tuple[tuple[int, ...], type]]  # file -> shape and type of its array


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceSet:
    """Every slice of a source, decoded, and resized unless patches are cut from it.

    `images[position]` and `masks[position]` are a slice's, (height, width, channels).
    """

    slices: tuple[SliceInfo, ...]  # sorted by id
    images: Any  # uint8 (n, height, width, channels), or `Ragged`, memory-mapped, read-only
    masks: Any  # likewise (n, height, width, mask channels), as `labels` says
    labels: Labels
    channels_are_alike: bool  # colours of one picture; else pictures of their own
    sizes: NDArray[np.int32]  # (n, 2): height and width as stored
    fingerprint: str  # of ids and pixels at their stored size; 64 hexadecimal digits
    source: Source
    notes: tuple[str, ...] = ()  # what the user should know of them, a line each

    def positions(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Where these ids stand in the arrays, shape (len(ids),)."""
        where = {item.id: position for position, item in enumerate(self.slices)}
        return np.array([where[item] for item in ids], dtype=np.intp)


def load_slices(source: Source, data: DataConfig, *, cache_dir: Path, needs_foreground: bool = False) -> SliceSet:
    """The slices of `source`, from the cache or decoded into it: at `data.image_size`, or for patches as stored.

    Two processes may call this at once: one decodes, the other waits. Raises DataError, and leaves nothing behind,
    where a file can't be decoded, nothing can be written to the folder of the cache, or with `needs_foreground` all
    masks are empty; DiskError where its disk is full or broken.
    """
    slices = source.slices()
    key = _key(source, data)
    notes: list[str] = []
    entry = _find(cache_dir, key, len(slices), data, notes)
    if entry is None:
        try:
            with _folder(cache_dir), _locked(cache_dir / f"{key}.lock"):
                entry = _find(cache_dir, key, len(slices), data, []) or _build(
                    source, data, cache_dir, key, needs_foreground
                )
        except OSError as error:
            raise disk_or(DataError, error)(
                f"the cache of decoded slices can't be written to {cache_dir} ({error.strerror or error}); "
                "make room there, or set data.cache_dir to another folder"
            ) from error
    known = _read_entry(entry)
    if needs_foreground:
        _check_foreground(source, known)
    return SliceSet(
        slices=slices,
        images=_pictures(entry, "images.npy"),
        masks=_pictures(entry, "masks.npy"),
        labels=data.labels,
        channels_are_alike=data.channels_are_alike,
        sizes=np.load(entry / "sizes.npy"),
        fingerprint=known["fingerprint"],
        source=source,
        notes=(*notes, *_note_of_emptied(known, data), *_note_of_empty(known, data, len(slices))),
    )


def stored_channels(source: Source, data: DataConfig, *, cache_dir: Path) -> int | None:
    """How many channels the images have that `link` remembered for this source; None if there are none."""
    entry = _entry_of(cache_dir, _key(source, data))
    if entry is None:
        return None
    try:
        return int(_pictures(entry, "images.npy")[0].shape[-1])
    except (OSError, ValueError, EOFError, IndexError):
        return None  # damaged: loading it says so


def link(source: Source, data: DataConfig, *, cache_dir: Path, to: Source) -> None:
    """Remembers that `source`, which leaves the channels to the data, is read as `to` is; the cache has its slices."""
    key, entry = _key(source, data), _entry_of(cache_dir, _key(to, data))
    if entry is not None and _entry_of(cache_dir, key) != entry:
        with contextlib.suppress(OSError):  # it will be found out again
            _write_stamp(cache_dir, key, entry)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(height, width, channels) in [0, 255] to (*size, channels): area mean, or bilinear where a side grows.

    An image of that size is given back itself.
    """
    if image.shape[:2] == size:
        return image
    channels = [_resized(Image.fromarray(image[..., place]), size) for place in range(image.shape[-1])]
    return np.stack([np.asarray(channel, dtype=np.uint8) for channel in channels], axis=-1)


def resize_mask(mask: NDArray[np.uint8], size: tuple[int, int], labels: Labels) -> NDArray[np.uint8]:
    """A mask as `labels` says, (height, width, channels), to (*size, channels).

    A pixel becomes what covers the largest part of it; of equal parts, the class with the highest number, and a class
    before the background. Without `labels.exclusive` each class is decided alone: it needs half of the pixel. A mask of
    that size is given back itself.
    """
    if mask.shape[:2] == size:
        return mask
    if not labels.exclusive:
        own = [
            _covering(mask[..., place], size, [1, *([IGNORED] if labels.has_ignored else [])])
            for place in range(mask.shape[-1])
        ]
        return np.stack(own, axis=-1)
    present = [int(value) for value in np.unique(mask) if value]
    return _covering(mask[..., 0], size, present)[..., np.newaxis]


def _covering(mask: NDArray[np.uint8], size: tuple[int, int], values: Sequence[int]) -> NDArray[np.uint8]:
    """The value in {0, *values} that covers the largest part of each pixel, of shape `size`."""
    height, width = mask.shape[0] // size[0], mask.shape[1] // size[1]
    exact = {1, 2, 4, 8}  # PIL rounds other ratios, by where a pixel lies
    if mask.shape != (height * size[0], width * size[1]) or not {height, width} <= exact:
        return _covering_anywhere(mask, size, values)
    result = np.zeros(size, np.uint8)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if len(rows):  # a pixel is a block of the mask, and those around what isn't background stay 0
        top, bottom = rows[0] // height, rows[-1] // height + 1
        left, right = columns[0] // width, columns[-1] // width + 1
        part = mask[top * height : bottom * height, left * width : right * width]
        result[top:bottom, left:right] = _covering_anywhere(part, (bottom - top, right - left), values)
    return result


def _covering_anywhere(mask: NDArray[np.uint8], size: tuple[int, int], values: Sequence[int]) -> NDArray[np.uint8]:
    result = np.zeros(size, np.uint8)
    largest = np.ones(size, np.float32)  # what the background covers
    covered = [np.asarray(_resized(Image.fromarray((mask == value).astype(np.float32)), size)) for value in values]
    for share in covered:
        largest = largest - share
    for value, share in zip(values, covered, strict=True):
        wins = share >= largest
        result[wins], largest = value, np.maximum(share, largest)
    return result


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    shrinks = picture.width >= width and picture.height >= height
    return picture.resize((width, height), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)


def _form(data: DataConfig) -> str:
    """How an entry has its slices: `96`, the height and width `96x128`, or `stored`."""
    if data.patches:
        return STORED
    return "x".join(map(str, data.size if isinstance(data.image_size, tuple) else data.size[:1]))


def _key(source: Source, data: DataConfig) -> str:
    return hashlib.sha256(f"{CACHE_SCHEMA} {_form(data)} {source.stamp()}".encode()).hexdigest()[:32]


def _shapes(count: int, data: DataConfig, sizes: NDArray[np.int32]) -> Shapes:
    """sizes: of the slices as stored."""
    if data.patches:
        pixels = int(sizes.prod(axis=1, dtype=np.int64).sum())
        return {
            "sizes.npy": ((count, 2), np.int32),
            "images.npy": ((pixels * data.channel_count,), np.uint8),
            "masks.npy": ((pixels * data.labels.mask_channels,), np.uint8),
        }
    return {
        "images.npy": ((count, *data.size, data.channel_count), np.uint8),
        "masks.npy": ((count, *data.size, data.labels.mask_channels), np.uint8),
        "sizes.npy": ((count, 2), np.int32),
    }


def _entry_of(cache_dir: Path, key: str) -> Path | None:
    """The entry that a stamp leads to, if there is one."""
    try:
        name = (cache_dir / f"{key}.stamp").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    entry = cache_dir / name
    return entry if _ENTRY_NAME.fullmatch(name) and (entry / ENTRY).is_file() else None


def _find(cache_dir: Path, key: str, count: int, data: DataConfig, notes: list[str]) -> Path | None:
    """The sound entry that a stamp leads to, if there is one. For a damaged one, a line is added to the notes."""
    entry = _entry_of(cache_dir, key)
    if entry is None:
        return None
    try:
        _check_entry(entry, count, data)
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        notes.append(f"the cache's {entry} is damaged ({error}); its slices were decoded anew")
        return None
    return entry


def _pictures(entry: Path, name: str) -> NDArray[np.uint8] | Ragged:
    array: NDArray[np.uint8] = np.load(entry / name, mmap_mode="r")
    return array if array.ndim > 1 else Ragged(array, np.load(entry / "sizes.npy"))


def _check_entry(entry: Path, count: int, data: DataConfig) -> None:
    """Raises ValueError, OSError, EOFError, KeyError or TypeError for an entry that isn't as it was written."""
    known = _read_entry(entry)
    if not known["fingerprint"].startswith(entry.name[:16]):
        raise ValueError(f"{ENTRY} is of another entry")
    for name, (shape, dtype) in _shapes(count, data, np.load(entry / "sizes.npy")).items():
        array = np.load(entry / name, mmap_mode="r")  # too short a file is a ValueError
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{name} is of shape {array.shape} and not {shape}")
    digests, states = known.get("digests"), known.get("states")
    if digests is None or states == _states(entry):  # version 0.1 noted none
        return
    for name in ARRAYS:
        if _digest_of_file(entry / name) != digests[name]:
            raise ValueError(f"{name} has other bytes than were written")
    with contextlib.suppress(OSError):  # they are computed again next time
        _write_entry(entry, known | {"states": _states(entry)})


def _build(source: Source, data: DataConfig, cache_dir: Path, key: str, needs_foreground: bool) -> Path:
    """Decodes every slice into a folder beside the entry, then moves it there; called under the lock."""
    building = cache_dir / f"{key}.building"
    shutil.rmtree(building, ignore_errors=True)  # of a process that was killed: we hold its lock
    try:
        building.mkdir()
        known = _decode_stored(source, building) if data.patches else _decode(source, data, building)
        if needs_foreground:
            _check_foreground(source, known)
        states = _states(building)  # a move keeps them
        digests = dict(zip(ARRAYS, in_threads(lambda name: _digest_of_file(building / name), ARRAYS), strict=True))
        _write_entry(building, {"schema_version": CACHE_SCHEMA, **known, "digests": digests, "states": states})
        entry = cache_dir / f"{known['fingerprint'][:16]}-{_form(data)}"
        try:
            building.rename(entry)
        except OSError:  # not empty: damaged, or decoded from another place
            for name in (*ARRAYS, ENTRY):
                os.replace(building / name, entry / name)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    _write_stamp(cache_dir, key, entry)
    return entry


def _decode(source: Source, data: DataConfig, folder: Path) -> dict[str, Any]:
    """Writes the arrays into a folder; gives what an entry says of them."""
    slices, size, labels = source.slices(), data.size, data.labels
    sizes = np.empty((len(slices), 2), dtype=np.int32)
    shapes = _shapes(len(slices), data, sizes)
    images, masks = (_reserve(folder / name, shapes[name][0]) for name in ("images.npy", "masks.npy"))
    # How many times the size keeps a mask: 1 where this size does; 0 where it is empty as it is stored.
    kept_at = np.zeros(len(slices), dtype=int)

    def decode(position: int) -> bytes:
        image, mask = source.read(slices[position].id)
        images[position] = resize_image(image, size)
        masks[position] = resized = resize_mask(mask, size, labels)
        sizes[position] = image.shape[:2]
        if _has_foreground(mask):
            kept_at[position] = 1 if _has_foreground(resized) else _times_to_keep(mask, size, labels)
        return slice_digest(slices[position].id, image, mask)

    whole = hashlib.sha256()
    for digest in in_threads(decode, range(len(slices))):
        whole.update(digest)
    images.flush()
    masks.flush()
    np.save(folder / "sizes.npy", sizes)
    return {
        "fingerprint": whole.hexdigest(),
        "with_foreground": int((kept_at > 0).sum()),  # masks, at the stored size
        "emptied": [item.id for item, kept in zip(slices, kept_at, strict=True) if kept > 1],  # by resizing
        "image_size_to_keep": _image_size(_times(size, int(kept_at.max()))),
    }


def _decode_stored(source: Source, folder: Path) -> dict[str, Any]:
    """As `_decode`, of slices at their stored size."""
    ids = [item.id for item in source.slices()]
    whole, sizes, with_foreground = hashlib.sha256(), [], 0
    with RaggedFile(folder / "images.npy") as images, RaggedFile(folder / "masks.npy") as masks:
        for first in range(0, len(ids), _READ_TOGETHER):
            group = ids[first : first + _READ_TOGETHER]
            for slice_id, (image, mask) in zip(group, in_threads(source.read, group), strict=True):
                images.add(image)
                masks.add(mask)
                sizes.append(image.shape[:2])
                whole.update(slice_digest(slice_id, image, mask))
                with_foreground += _has_foreground(mask)
    np.save(folder / "sizes.npy", np.array(sizes, np.int32))
    return {"fingerprint": whole.hexdigest(), "with_foreground": with_foreground}


def _times_to_keep(mask: NDArray[np.uint8], size: tuple[int, int], labels: Labels) -> int:
    """How many times `size`, by doublings, doesn't empty this mask."""
    times = 2
    while not _has_foreground(resize_mask(mask, _times(size, times), labels)):
        times *= 2  # it stays divisible by what the model needs
    return times


def _image_size(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else [*size]


def _times(size: tuple[int, int], times: int) -> tuple[int, int]:
    return times * size[0], times * size[1]


def _check_foreground(source: Source, known: Mapping[str, Any]) -> None:
    """Raises DataError where every mask is empty. Entries of version 0.1 don't say, and pass."""
    if known.get("with_foreground") == 0:
        raise DataError(
            f"{source.location}: no mask of the set holds any foreground, and nothing can be learnt from it; "
            "write 255 for foreground and 0 for background, or name the values by data.classes"
        )


def _note_of_emptied(known: Mapping[str, Any], data: DataConfig) -> Iterator[str]:
    """A line if resizing has emptied masks. known: what the entry says."""
    emptied = known.get("emptied")
    if emptied:
        size = known["image_size_to_keep"]
        remedy = f"data.image_size={size} keeps them".replace(", ", ",")
        if np.max(size) > IMAGE_SIZES[1]:
            remedy = f"data.patches=8 cuts patches of {data.size_text} from the images instead"
        yield (
            f"resizing to {data.size_text} empties {len(emptied)} of {known['with_foreground']} masks with "
            f"foreground, first: {emptied[0]}; {remedy}"
        )


def _note_of_empty(known: Mapping[str, Any], data: DataConfig, count: int) -> Iterator[str]:
    """A line if slices of volumes have no foreground. known: what the entry says. count: of slices."""
    empty = count - known["with_foreground"] if data.is_of_volumes else 0
    if empty:
        yield f"{empty} of {count} slices have no foreground; they are used as they are, with empty masks"


def _reserve(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """A new `.npy` file with its space allocated: a full disk is an OSError here, not a crash on writing."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _has_foreground(mask: NDArray[np.uint8]) -> bool:
    return bool(foreground_pixels(mask).any())


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _states(entry: Path) -> dict[str, list[int]]:
    """File -> size, modification time and inode: while they stay, the bytes are those that were written."""
    states = {name: (entry / name).stat() for name in ARRAYS}
    return {name: [state.st_size, state.st_mtime_ns, state.st_ino] for name, state in states.items()}


def _read_entry(entry: Path) -> dict[str, Any]:
    known: dict[str, Any] = parse_json((entry / ENTRY).read_text())
    return known


def _write_entry(entry: Path, known: Mapping[str, Any]) -> None:
    _replace_text(entry / ENTRY, json.dumps(known))


def _write_stamp(cache_dir: Path, key: str, entry: Path) -> None:
    _replace_text(cache_dir / f"{key}.stamp", entry.name)


def _replace_text(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


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
