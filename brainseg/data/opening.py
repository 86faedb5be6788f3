"""The one door for image files from outside: it opens, bounds and decodes them.

PNG, JPEG, TIFF, BMP, GIF or WebP, recognised by content. What a header claims is checked before any pixel is decoded.
Every failure is one line that names the file and the remedy.
"""

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

from brainseg.errors import DataError

LFS_POINTER = b"version https://git-lfs"  # what a repository holds in a file's place
MAX_PIXELS = 12_288 * 12_288  # above any slice, far below what a decompression bomb asks for, and what PIL refuses
# Resizing first stretches the width, at the full height: a picture of one column would become gigabytes.
MAX_SIDE = 32_768
MAX_SCANS = 100  # of a JPEG, each as long as decoding it once; encoders write about ten

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
_MOVING = ("GIF", "WEBP")  # of several frames, the first is the picture
# What a file of these formats begins with.
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"GIF8", b"RIFF")
_DESCRIPTION = 270  # the tag of a TIFF
_START_OF_SCAN = b"\xff\xda"  # never inside a scan: there, a byte 0xff is followed by 0 or a restart marker
_CHUNK_BYTES = 2**20
_AT_ONCE_BYTES = 2**26
# Control characters, line ends, and the surrogates that stand for bytes that aren't UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# `warnings.catch_warnings` swaps process-wide state, so that only one thread may be inside.
_warnings_lock = threading.Lock()


def load_file(path: Path, *, reading: int) -> Image.Image:
    """The one frame of an image file, its pixels in memory. Raises DataError.

    reading: from 2 on it is turned as its EXIF orientation says (PIL turns a TIFF in any case), and refused where PIL
    would drop half of its bits.
    """
    with _opened(path) as file:
        # At once: a thread that reads piece by piece inside `_open` holds up all others there.
        is_small = os.fstat(file.fileno()).st_size <= _AT_ONCE_BYTES
        return _loaded(path, io.BytesIO(file.read()) if is_small else file, reading=reading)


def load_pages(path: Path) -> list[Image.Image]:
    """Every page of a TIFF, or the one frame of another file, in their order. Raises DataError."""
    with _opened(path) as file, _explained(path, file):
        image = _open(path, file, reading=2, pages=True)
        pages = []
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in range(getattr(image, "n_frames", 1) if image.format == "TIFF" else 1):
                image.seek(number)
                _check_side(path, image.size)
                pages.append(image.copy())
    return pages


def moves(path: Path) -> bool:
    """Whether a file is a GIF or WebP of several frames. Raises DataError."""
    with _opened(path) as file, _explained(path, file):
        image = _open(path, file)
        return image.format in _MOVING and getattr(image, "n_frames", 1) > 1


def load_content(content: bytes, *, called: str, reading: int) -> Image.Image:
    """As `load_file`, of a file's content; `called` names it in errors."""
    return _loaded(called, io.BytesIO(content), reading=reading)


def mode_of_file(path: Path) -> str:
    """How pixels are stored, as PIL calls it (`L`, `RGB`), by the header alone. Raises DataError."""
    with _opened(path) as file, _explained(path, file):
        return _open(path, file).mode


def pixels_of(content: bytes) -> int:
    """How many pixels a file's content has, by its header alone; 0 where that can't be read."""
    with _warnings_lock, warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        width, height = Image.open(io.BytesIO(content), formats=_FORMATS).size
        return width * height
    return 0


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if _UNPRINTABLE.search(str(path)):
        raise DataError(f"{str(path)!a} has a name that can't be shown (bytes that aren't UTF-8, line ends); rename it")
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise DataError(f"{path} is a folder, not an image; move it out of the data folder")
        if not stat.S_ISREG(kind):  # reading a pipe would wait for ever
            raise DataError(f"{path} is a pipe, socket or device, not an image; remove it")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path} doesn't exist; restore it, or remove its partner") from None
    except PermissionError:
        raise DataError(f"{path} can't be opened (permission denied); make it readable") from None
    except OSError as error:
        raise _damaged(path, error) from error


def _loaded(name: Path | str, file: IO[bytes], *, reading: int) -> Image.Image:
    with _explained(name, file):
        image = _open(name, file, reading=reading)
        image.load()
        if reading > 1 and image.format != "TIFF":
            _turn(image)
    return image


@contextmanager
def _explained(name: Path | str, file: IO[bytes]) -> Iterator[None]:
    """What PIL raises becomes a DataError."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{name} {_unidentified(file)}") from None
    except Exception as error:  # a damaged file can raise nearly anything inside a decoder
        raise _damaged(name, error) from error


def _open(name: Path | str, file: IO[bytes], *, reading: int = 1, pages: bool = False) -> Image.Image:
    """Checks the header before any pixel is decoded.

    reading: as in `load_file`. pages: whether a TIFF may have several.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the size is checked here, and odd tags don't matter
        try:
            image = Image.open(file, formats=_FORMATS)
        except Image.DecompressionBombError:
            raise DataError(_too_large(name)) from None
        _check_side(name, image.size)
        frames = getattr(image, "n_frames", 1)  # only the formats that can hold several have it
        if frames > 1 and image.format == "TIFF" and not (pages and _pages_of(image) != "slices"):
            raise DataError(f"{name} {_told_of_pages(image, frames)}")
        if frames > 1 and image.format not in ("TIFF", *_MOVING):
            raise DataError(f"{name} holds {frames} frames; export each slice to a file of its own")
        if image.format == "JPEG":
            _check_scans(name, file)
        if reading > 1:
            _check_depth(name, image)
        if image.format == "TIFF":
            image.load()  # TIFF tags can warn as late as here; PNG and JPEG only warn on opening
    return image


def _check_side(name: Path | str, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise DataError(_too_large(name))
    if max(width, height) > MAX_SIDE:
        raise DataError(f"{name} is {width}x{height}, and no side may be above {MAX_SIDE}; cut it into parts")
    if not width or not height:
        raise DataError(f"{name} has no pixels ({width}x{height}); export it again")


def _check_depth(name: Path | str, image: Image.Image) -> None:
    """Raises DataError for several samples a pixel of 16 bits each: PIL gives the upper 8 of them."""
    raw = str(getattr(image, "tile", ())[:1])  # as PIL names what it decodes: RGB;16B
    if image.format in ("PNG", "TIFF") and ";16" in raw and not image.mode.startswith("I"):
        raise DataError(
            f"{name} has several samples of 16 bits a pixel, which aren't read; export 8 bits a sample, or a file of "
            "16-bit grey for each channel"
        )


def _pages_of(image: Image.Image) -> str | None:
    """`slices` or `channels`, where ImageJ or OME has written in a TIFF what its pages are."""
    about = str(getattr(image, "tag_v2", {}).get(_DESCRIPTION, ""))
    for kind, names in (("slices", "slices|SizeZ"), ("channels", "channels|SizeC")):
        found = re.search(rf"\b(?:{names})=\"?(\d+)", about)
        if found and int(found[1]) > 1:
            return kind
    return None


def _told_of_pages(image: Image.Image, frames: int) -> str:
    """What a TIFF of several pages is, and what to do; follows its name."""
    kind = _pages_of(image)
    if kind == "slices":
        return f"is a volume of {frames} slices, as its header says, and volumes aren't read; export a file a slice"
    if kind == "channels":
        return f"holds {frames} channels, as its header says; name them all by data.channels=[NAME,...]"
    return (
        f"holds {frames} pages: name them by data.channels=[NAME,...] if they are channels; slices of a volume aren't "
        "read, export a file a slice"
    )


def _check_scans(name: Path | str, file: IO[bytes]) -> None:
    """Raises DataError for a JPEG that would be decoded over and over; a preview inside counts as well."""
    place = file.tell()
    file.seek(0)
    scans = sum(chunk.count(_START_OF_SCAN) for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""))
    file.seek(place)
    if scans > MAX_SCANS:
        raise DataError(f"{name} is a JPEG of {scans} scans, at most {MAX_SCANS} are read; export it again")


def _turn(image: Image.Image) -> None:
    """Turns the image as its EXIF orientation says. What can't be read there names no orientation."""
    with _warnings_lock, warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        ImageOps.exif_transpose(image, in_place=True)


def _damaged(name: Path | str, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{name} is damaged or cut off ({reason}); copy or export it again")


def _too_large(name: Path | str) -> str:
    return f"{name} has more than {MAX_PIXELS} pixels; if it is a slice, export it at 12288x12288 or less"


def _unidentified(file: IO[bytes]) -> str:
    file.seek(0)
    begins = file.read(len(LFS_POINTER))
    if begins == LFS_POINTER:
        return "is a pointer of Git LFS, not the file; fetch it by `git lfs pull`"
    if not begins:
        return "is empty (0 bytes); copy or export it again"
    if begins.startswith(_SIGNATURES):  # a TIFF's directory may lie at its end
        return "is damaged or cut off (no readable header); copy or export it again"
    return "is not a PNG, JPEG, TIFF, BMP, GIF or WebP image; export it as PNG"
