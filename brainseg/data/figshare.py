"""Turns the original Figshare files (Cheng 2017, figshare 1512427) into images, masks and metadata.csv.

Each slice is a MATLAB v7.3 file, which is HDF5 behind a header of 512 bytes, with the group `cjdata`:
`image` int16 and `tumorMask` (both transposed, since MATLAB stores columns first), `label` 1 to 3, and
`PID` as character codes. `cvind.mat`, the authors' folds, is passed over.
"""

import csv
import io
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brainseg.cli.console import OnProgress
from brainseg.cli.output import check_new_folder
from brainseg.data.decode import scale_to_uint8
from brainseg.data.layout import IMAGES, MASKS, METADATA
from brainseg.data.metadata import ID
from brainseg.data.opening import MAX_PIXELS
from brainseg.data.source import PATIENT, TUMOR_TYPE
from brainseg.errors import DataError

TUMOR_TYPES = {1: "meningioma", 2: "glioma", 3: "pituitary"}

# The original archive has 3,064 slices of about 300 KiB, in four archives, 0.9 GiB together.
MAX_MEMBERS = 20_000
MAX_TOTAL_BYTES = 16 * 2**30
MAX_MAT_BYTES = 64 * 2**20
MAX_RATIO = 100  # unpacked to packed; the slices are compressed already, so that theirs is near 1
_RATIO_FROM_BYTES = 2**20  # a small member may shrink a lot and still do no harm
_PNG_LEVEL = 3  # a third of the time of PIL's own 6, for files about a tenth larger


@dataclass(frozen=True, kw_only=True)
class MatFile:
    """A slice's file, on disk or in an archive."""

    name: str  # for messages
    id: str
    read: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class MatSlice:
    """What brainseg keeps of a slice's file."""

    image: NDArray[np.uint8]  # (height, width), scaled from its own min..max
    mask: NDArray[np.uint8]  # {0, 1}, the same shape
    patient_id: str
    tumor_type: str


def import_figshare(src: Path, out: Path, *, progress: OnProgress = lambda what, done, total: None) -> int:
    """Writes images/<id>.png, masks/<id>.png and metadata.csv into `out`; returns the number of slices.

    src: a folder with .mat files at any depth or .zip archives, or one archive. out: new or empty; it
    appears complete or not at all. Raises DataError where a file isn't what it should be.
    """
    out = Path(os.path.abspath(out))  # so that it has a name and a parent, `.` included
    _check_out(out)
    with ExitStack() as archives:
        files = _find(src, archives)
        workplace = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            result = workplace / out.name  # a folder of its own, since mkdtemp's is private to the user
            _write(files, result, progress)
            if out.exists():
                out.rmdir()
            result.rename(out)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
    return len(files)


def read_mat(data: bytes, name: str) -> MatSlice:
    """The slice in the bytes of a .mat file. Raises DataError, naming `name`, where it isn't one."""
    import h5py  # here, so that other commands start without it

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            group = file["cjdata"]
            image, mask = (_read_array(group[key], f"{name}: cjdata/{key}") for key in ("image", "tumorMask"))
            label = int(_read_array(group["label"], f"{name}: cjdata/label").item())
            codes = _read_array(group["PID"], f"{name}: cjdata/PID").ravel()
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{name} has no {_one_line(error)}; is it one of the Figshare slices?") from None
    except Exception as error:  # h5py raises nearly anything for a damaged file
        raise DataError(f"{name} is not a readable MATLAB v7.3 file ({_one_line(error)}); download it again") from error
    patient_id = "".join(chr(code) for code in codes).strip()
    if label not in TUMOR_TYPES:
        raise DataError(f"{name}: cjdata/label must be 1, 2 or 3, got {label}; is it one of the Figshare slices?")
    if not patient_id.isprintable() or not patient_id:
        raise DataError(f"{name}: cjdata/PID must be text, got {patient_id!r}; is it one of the Figshare slices?")
    if image.ndim != 2 or image.shape != mask.shape:
        raise DataError(f"{name}: image and tumorMask must be of one size, got {image.shape} and {mask.shape}")
    if not np.isin(mask, (0, 1)).all():
        raise DataError(f"{name}: cjdata/tumorMask must be 0 or 1, got {mask.min()} to {mask.max()}; download it again")
    return MatSlice(
        image=scale_to_uint8(image.T),
        mask=np.ascontiguousarray(mask.T).astype(np.uint8),
        patient_id=patient_id,
        tumor_type=TUMOR_TYPES[label],
    )


def check_members(members: Sequence[zipfile.ZipInfo], archive: str) -> None:
    """Raises DataError for an archive that may do harm when it is unpacked.

    Nothing is unpacked to a path of the archive's choice here; an archive with such a path is still
    not the one that it should be.
    """
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{archive} has {len(members)} members, at most {MAX_MEMBERS} are read; unpack it yourself")
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL_BYTES:
        raise DataError(f"{archive} unpacks to {total} bytes, at most {MAX_TOTAL_BYTES} are read; unpack it yourself")
    for member in members:
        name = member.filename
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or ".." in PureWindowsPath(name).parts:
            raise DataError(f"{archive} has a member that leaves its folder, {name!r}; download the archive again")
        if member.file_size > _RATIO_FROM_BYTES and member.file_size > MAX_RATIO * member.compress_size:
            raise DataError(
                f"{archive}: {name!r} unpacks to more than {MAX_RATIO} times its size; download the archive again"
            )
        if member.flag_bits & 0x1:
            raise DataError(f"{archive}: {name!r} is encrypted; unpack it yourself")


def _check_out(out: Path) -> None:
    check_new_folder(out)
    if not out.parent.is_dir():
        raise DataError(f"{out.parent} is not a folder; create it first")


def _find(src: Path, archives: ExitStack) -> list[MatFile]:
    """Every slice's file under `src`, in the order of ids; archives stay open until the stack closes."""
    if not src.exists():
        raise DataError(f"{src} doesn't exist; name a folder with .mat or .zip files, or one .zip file")
    paths = sorted(path for path in src.rglob("*") if path.is_file()) if src.is_dir() else [src]
    files: dict[str, MatFile] = {}
    for path in paths:
        for file in _files_of(path, archives):
            if file.id in files:
                raise DataError(f"slice {file.id} is in {files[file.id].name} and in {file.name}; remove one of them")
            files[file.id] = file
    if not files:
        raise DataError(f"{src} holds no .mat file and no .zip archive with one; name the folder of the download")
    return sorted(files.values(), key=lambda file: (not file.id.isdecimal(), len(file.id), file.id))


def _files_of(path: Path, archives: ExitStack) -> Iterator[MatFile]:
    if path.suffix.lower() == ".zip":
        yield from _files_in_archive(path, str(path), archives, nested=False)
    elif _is_slice(path.name):
        yield MatFile(name=str(path), id=path.stem, read=partial(_read_file, path))


def _files_in_archive(source: Path | IO[bytes], name: str, archives: ExitStack, *, nested: bool) -> Iterator[MatFile]:
    try:
        archive = archives.enter_context(zipfile.ZipFile(source))
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{name} is not a readable zip archive ({_one_line(error)}); download it again") from error
    members = archive.infolist()
    check_members(members, name)
    for member in members:
        inner = PurePosixPath(member.filename)
        if "__MACOSX" in inner.parts or member.is_dir():
            continue
        if _is_slice(inner.name):
            yield MatFile(name=f"{name}/{inner}", id=inner.stem, read=partial(_read_member, archive, member, name))
        elif inner.suffix.lower() == ".zip" and not nested:  # the download of the whole article is a zip of zips
            copy = archives.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
            with _opened(archive, member, name) as packed:
                shutil.copyfileobj(packed, copy)
            yield from _files_in_archive(copy, f"{name}/{inner}", archives, nested=True)


def _is_slice(name: str) -> bool:
    lower = name.lower()
    return lower.endswith(".mat") and lower != "cvind.mat" and not lower.startswith(".")


def _read_file(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_MAT_BYTES:
        raise DataError(f"{path} has {size} bytes, a slice has at most {MAX_MAT_BYTES}; is it one of the slices?")
    return path.read_bytes()


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bytes:
    if member.file_size > MAX_MAT_BYTES:
        raise DataError(
            f"{name}/{member.filename} has {member.file_size} bytes, a slice has at most {MAX_MAT_BYTES}; "
            "is it one of the slices?"
        )
    with _opened(archive, member, name) as packed:
        return packed.read()


@contextmanager
def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Iterator[IO[bytes]]:
    """A member for reading; what is wrong with it becomes a DataError."""
    try:
        with archive.open(member) as packed:
            yield packed
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{name}/{member.filename} can't be unpacked ({_one_line(error)}); download it again"
        ) from error


def _read_array(dataset: Any, name: str) -> NDArray[Any]:
    """A numeric dataset of at most MAX_PIXELS values; its size is checked before anything is read."""
    if not hasattr(dataset, "shape") or dataset.dtype.kind not in "biuf":
        raise DataError(f"{name} must be an array of numbers; is it one of the Figshare slices?")
    if dataset.size > MAX_PIXELS:
        raise DataError(f"{name} has {dataset.size} values, at most {MAX_PIXELS} are read; is it one of the slices?")
    return np.asarray(dataset[()])


def _write(files: Sequence[MatFile], folder: Path, progress: OnProgress) -> None:
    for name in (IMAGES, MASKS):
        (folder / name).mkdir(parents=True)
    with open(folder / METADATA, "w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow([ID, PATIENT, TUMOR_TYPE])
        for done, file in enumerate(files, start=1):
            item = read_mat(file.read(), file.name)
            Image.fromarray(item.image).save(folder / IMAGES / f"{file.id}.png", compress_level=_PNG_LEVEL)
            Image.fromarray(item.mask * np.uint8(255)).save(folder / MASKS / f"{file.id}.png")
            writer.writerow([file.id, item.patient_id, item.tumor_type])
            progress("importing", done, len(files))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
