"""Which slices and volumes a user means by naming files and folders: image files, without masks and metadata."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brainseg.cli.literal import printable
from brainseg.config import READINGS
from brainseg.data.decode import EXTENSIONS, MaskKind, levels_of, mask_kind, read_mask_file
from brainseg.data.layout import IMAGE_FOLDERS, MASK_ENDING, MASK_FOLDERS
from brainseg.data.names import (
    VOLUMES,
    goes_on_from,
    is_hidden,
    is_image,
    is_utf8,
    is_volume,
    nfc,
    stem,
    unread_ending,
)
from brainseg.errors import DataError

_ENDINGS = ", ".join((*EXTENSIONS, *VOLUMES))
_MAX_LABELS = 16  # a picture has more values; a mask with more has soft edges, which `mask_kind` knows


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """One image that was named, or found in a folder that was."""

    path: Path  # as the user would write it
    id: str  # the path below the folder that all have in common, without its extension; with forward slashes, unique


@dataclass(frozen=True, kw_only=True)
class FoundImages:
    """The images, and what lies between them and isn't taken."""

    files: tuple[ImageFile, ...]  # sorted by id
    notes: tuple[str, ...]  # a line for each kind of file that was passed over, with the remedy


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What lies in the folders that were searched."""

    images: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)  # images of formats that aren't read
    masks: list[Path] = field(default_factory=list)  # of those, by their names and pixels
    no_files: list[Path] = field(default_factory=list)  # pipes, devices, broken links

    @property
    def notes(self) -> tuple[str, ...]:
        unread = Counter(unread_ending(path.name) or "" for path in self.unread)
        masks = Counter(path.name[len(stem(path.name)) :].lower() for path in self.masks)
        lines = [
            f"{_files(count, ending)} passed over; convert them to PNG" for ending, count in sorted(unread.items())
        ]
        lines += [f"{_files(count, ending)} passed over as masks of those" for ending, count in sorted(masks.items())]
        if self.no_files:
            lines.append(f"{len(self.no_files)} were passed over, such as {self.no_files[0]}: no regular files")
        return tuple(lines)


def find_images(named: Sequence[Path]) -> FoundImages:
    """The image files among `named` and below its folders, each once, and what was passed over.

    Folders are searched with their subfolders. Names that begin with a dot are passed over, as are folders of masks
    beside one of images (see `data.layout`) and names that end in `_mask`, unless they are named themselves. Beside
    an image of a format that isn't read, a file of the same name is its copy in a format that is, or its mask: its
    pixels decide, and a mask is passed over. So is a volume whose name goes on from another's. Where two files of one
    folder differ in their extension alone, the ids of that folder keep the extensions.
    named: at least one. Raises DataError for what doesn't exist, for a file of another kind, for a name that isn't
    UTF-8 and for a folder without images.
    """
    found: dict[str, Path] = {}  # absolute path -> path
    notes: list[str] = []
    roots = []
    for path in named:
        if path.is_dir():
            root = _images_of(path)
            inside = _Found()
            _search(root, {os.path.realpath(root)}, inside)
            if not inside.images:
                there = "".join(f"; {note}" for note in inside.notes) or "; name another folder"
                raise DataError(f"{path} holds no image that ends in {_ENDINGS} (masks aside){there}")
            images = inside.images
            notes += inside.notes
        else:
            _check_file(path)
            root, images = path.parent, [path]
        roots.append(os.path.abspath(root))
        for each in images:
            found.setdefault(os.path.abspath(each), each)
    top = os.path.commonpath(roots)
    return FoundImages(
        files=_with_ids({Path(absolute).relative_to(top): path for absolute, path in found.items()}), notes=tuple(notes)
    )


def _check_file(path: Path) -> None:
    """Raises DataError for a path that is named, and no image file."""
    if not path.exists():
        raise DataError(f"{path} doesn't exist; name images, or folders that hold some")
    if not path.is_file():
        raise DataError(f"{path} is no regular file; name images, or folders that hold some")
    if not _is_read(path.name):
        raise DataError(f"{path} doesn't end in {_ENDINGS}; name images, or folders that hold some")
    _check_name(path)


def _with_ids(found: dict[Path, Path]) -> tuple[ImageFile, ...]:
    """found: path below the common folder -> path as the user would write it."""
    stems = Counter(_without_ending(relative) for relative in found)
    ambiguous = {stem.parent for stem, count in stems.items() if count > 1}
    files = [
        ImageFile(path=path, id=(relative if relative.parent in ambiguous else _without_ending(relative)).as_posix())
        for relative, path in found.items()
    ]
    return tuple(sorted(files, key=lambda file: file.id))


def _without_ending(path: Path) -> Path:
    return path.with_name(stem(path.name))


def _is_read(name: str) -> bool:
    return is_image(name) or is_volume(name)


def _images_of(folder: Path) -> Path:
    """Where a data folder has its slices."""
    names = [entry.name for entry in _entries(folder) if entry.is_dir()]
    images = [name for name in names if name.lower() in IMAGE_FOLDERS]
    return folder / images[0] if len(images) == 1 and _masks_beside(names) else folder


def _masks_beside(names: Collection[str]) -> list[str]:
    """The folders of masks, where there is one of images."""
    lower = {name.lower() for name in names}
    return [name for name in names if name.lower() in MASK_FOLDERS] if lower.intersection(IMAGE_FOLDERS) else []


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        raise DataError(f"{folder} can't be listed (permission denied); make it readable") from None


def _search(folder: Path, seen: set[str], found: _Found) -> None:
    """Adds what lies in a folder and its subfolders. seen: folders that were searched, for links that lead back."""
    entries = _entries(folder)
    names = [entry.name for entry in entries]
    masks = _masks_beside(names)
    unread = {nfc(stem(name)) for name in names if unread_ending(name) and not is_hidden(name)}
    volumes = {stem(name) for name in names if is_volume(name)}
    for entry in entries:
        path = folder / entry.name
        if is_hidden(entry.name) or (entry.name in masks and entry.is_dir()):
            continue
        if entry.is_dir():
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                _search(path, seen, found)
        elif not (is_image(entry.name) or unread_ending(entry.name)) or stem(entry.name).endswith(MASK_ENDING):
            continue
        elif not entry.is_file():
            found.no_files.append(path)
        elif not _is_read(entry.name):
            found.unread.append(path)
        elif _belongs_to_another(path, unread, volumes):
            found.masks.append(path)
        else:
            _check_name(path)
            found.images.append(path)


def _belongs_to_another(path: Path, unread: Collection[str], volumes: Collection[str]) -> bool:
    """Whether a file is the mask of another one in its folder: a volume by its name, a picture by its pixels."""
    name = stem(path.name)
    if is_volume(path.name):
        return goes_on_from(name, volumes)
    return nfc(name) in unread and _holds_a_mask(path)


def _holds_a_mask(path: Path) -> bool:
    """Whether the pixels are those of a mask; False for a file that can't be read, which predicting reports."""
    try:
        levels = levels_of(read_mask_file(path, reading=READINGS[-1]).values)
    except DataError:
        return False
    return mask_kind(levels, levels.top) is not MaskKind.OTHER or len(levels.values) <= _MAX_LABELS


def _check_name(path: Path) -> None:
    if not is_utf8(str(path)):
        raise DataError(f"{printable(str(path))} has a name that is not UTF-8; rename it")


def _files(count: int, ending: str) -> str:
    return f"{count} {ending} file{' was' if count == 1 else 's were'}"
