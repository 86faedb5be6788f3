"""Which slices a user means by naming files and folders: image files, without masks and metadata."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainseg.data.decode import EXTENSIONS
from brainseg.data.layout import IMAGES, MASK_ENDING, MASKS, passed_over
from brainseg.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """One image that was named, or found in a folder that was."""

    path: Path  # as the user would write it
    id: str  # the path below the folder that all have in common, without its extension; with forward slashes, unique


def find_images(named: Sequence[Path]) -> tuple[ImageFile, ...]:
    """The image files among `named` and below its folders, sorted by id, each once.

    Folders are searched with their subfolders. Names that begin with a dot are passed over, as are `masks/`
    beside `images/` and names that end in `_mask`, unless they are named themselves. Where two files of one folder
    differ in their extension alone, the ids of that folder keep the extensions.
    named: at least one. Raises DataError for what doesn't exist, for a file of another kind and for a folder
    without images.
    """
    found: dict[str, Path] = {}  # absolute path -> path
    roots = []
    for path in named:
        if path.is_dir():
            root = _images_of(path)
            inside = list(_below(root, {os.path.realpath(root)}))
            if not inside:
                raise DataError(
                    f"{path} holds no image that ends in {', '.join(EXTENSIONS)} (masks aside); name another folder"
                )
        elif not path.exists():
            raise DataError(f"{path} doesn't exist; name images, or folders that hold some")
        elif not path.name.lower().endswith(EXTENSIONS):
            raise DataError(f"{path} doesn't end in {', '.join(EXTENSIONS)}; name images, or folders that hold some")
        else:
            root, inside = path.parent, [path]
        roots.append(os.path.abspath(root))
        for each in inside:
            found.setdefault(os.path.abspath(each), each)
    top = os.path.commonpath(roots)
    return _with_ids({Path(absolute).relative_to(top): path for absolute, path in found.items()})


def _with_ids(found: dict[Path, Path]) -> tuple[ImageFile, ...]:
    """found: path below the common folder -> path as the user would write it."""
    stems = Counter(relative.with_suffix("") for relative in found)
    ambiguous = {stem.parent for stem, count in stems.items() if count > 1}
    files = [
        ImageFile(path=path, id=(relative if relative.parent in ambiguous else relative.with_suffix("")).as_posix())
        for relative, path in found.items()
    ]
    return tuple(sorted(files, key=lambda file: file.id))


def _images_of(folder: Path) -> Path:
    """Where a data folder has its slices."""
    return folder / IMAGES if (folder / IMAGES).is_dir() and (folder / MASKS).is_dir() else folder


def _below(folder: Path, seen: set[str]) -> Iterator[Path]:
    """The image files of a folder and its subfolders. seen: folders that were searched, for links that lead back."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        raise DataError(f"{folder} can't be listed (permission denied); make it readable") from None
    names = {entry.name for entry in entries}
    for entry in entries:
        path = folder / entry.name
        if passed_over(entry.name) or (entry.name == MASKS and IMAGES in names):
            continue
        if entry.is_dir():
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                yield from _below(path, seen)
        elif entry.name.lower().endswith(EXTENSIONS) and not path.stem.endswith(MASK_ENDING):
            yield path
