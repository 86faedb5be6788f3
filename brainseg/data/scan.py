"""What lies in a folder, by name and kind; nothing is opened.

What is of no use is a problem, by key of findings.CHECKS. Names that begin with a dot are passed over.
"""

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from brainseg.data.names import is_hidden, is_image, is_utf8, unread_ending
from brainseg.errors import DataError

Problems = dict[str, list[str]]  # check -> paths, relative to the root


def scan(root: Path, folder: str, problems: Problems) -> tuple[list[str], list[str]]:
    """Names of the subfolders and of the regular files in root/folder, sorted. folder: '' for the root itself.

    Links count as what they lead to. Raises PermissionError where the folder can't be listed.
    """
    folders, files = [], []
    with os.scandir(root / folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_hidden(entry.name):
                continue
            if not is_utf8(entry.name):
                problems["undecodable_name"].append(below(folder, entry.name))
            elif entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file():
                files.append(entry.name)
            else:
                problems["not_a_file"].append(below(folder, entry.name))
    return folders, files


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What lies in one folder, sorted."""

    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=lambda: defaultdict(list))
    denied: PermissionError | None = None  # it can't be listed


class Tree:
    """The folders below a root, each listed when it is asked for, once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, Folder] = {}

    def __getitem__(self, folder: str) -> Folder:
        if folder not in self._known:
            self._known[folder] = self._listed(folder)
        return self._known[folder]

    @property
    def denied(self) -> PermissionError | None:
        """Why a folder that was asked for can't be listed; None if all could be."""
        return next((each.denied for each in self._known.values() if each.denied is not None), None)

    def _listed(self, folder: str) -> Folder:
        problems: Problems = defaultdict(list)
        try:
            folders, files = scan(self.root, folder, problems)
        except PermissionError as error:
            return Folder(denied=error)
        return Folder(folders=folders, files=files, problems=problems)


def add_other_files(folder: str, names: list[str], problems: Problems, *, reading: int, volumes: bool = False) -> None:
    """The files that are no image which brainseg reads, as problems."""
    for name in names:
        if not is_image(name, reading=reading, volumes=volumes):
            problems["unread_format" if unread_ending(name) else "ignored_file"].append(below(folder, name))


def add_unused_folder(root: Path, folder: str, problems: Problems, *, volumes: bool = False) -> None:
    """A folder without an image file of its own, as problems: by what it holds, at any depth."""
    unread, deeper = [], []
    for path, folders, names in os.walk(root / folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        inside = Path(path).relative_to(root).as_posix()
        shown = sorted(name for name in names if not is_hidden(name))
        read = [name for name in shown if is_image(name, volumes=volumes)]
        unread += [f"{inside}/{name}" for name in shown if unread_ending(name) and name not in read]
        deeper += [f"{inside}/"] if read else []
    problems["unread_format"] += unread
    problems["nested_patients"] += deeper
    if not unread and not deeper:
        problems["ignored_folder"].append(f"{folder}/")


def cant_be_listed(error: PermissionError) -> DataError:
    """The error of a folder that the user may not list."""
    return DataError(f"{error.filename} can't be listed (permission denied); make it readable")


def below(folder: str, name: str) -> str:
    """The path of what lies in a folder, '' for the root."""
    return f"{folder}/{name}" if folder else name
