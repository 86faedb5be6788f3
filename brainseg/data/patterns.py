"""Patterns of paths, such as `images/{patient}/{id}_*.png`, and which files of a folder fit them.

`{id}`, `{patient}` and `{part}` (train, val or test) stand for one or more characters, `{channel}` for a name in
`data.channels`, `*` for any characters; none of them for a slash. `.*` at the end is any extension that is read.
Where a name stands twice, it is the same text. Capitals and small letters are one, in all but a channel's name.
"""

import re
from dataclasses import dataclass

from brainseg.config import DataConfig
from brainseg.data.names import nfc, part_of
from brainseg.data.scan import Tree, below
from brainseg.keys import as_line

_PIECE = re.compile(r"(\{\w+\}|\*)")
ANY_EXTENSION = ".*"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the files of a folder are named: what `data.images` and `data.masks` would say."""

    images: str
    masks: str

    @property
    def line(self) -> str:
        """The overrides to paste."""
        return as_line([f"data.images={self.images}", f"data.masks={self.masks}"])


class Pattern:
    """One pattern, ready to be held against paths below the root."""

    def __init__(self, text: str, data: DataConfig) -> None:
        """text: as `data.images` or `data.masks` has it. data: its channels; with `reading` 1 capitals count."""
        self.text = nfc(text)
        self.names = frozenset(re.findall(r"\{(\w+)\}", text))
        self.letters = len(_PIECE.sub("", text.removesuffix(ANY_EXTENSION)))
        self.takes_several = "*" in text.removesuffix(ANY_EXTENSION)  # files may be parts of one mask
        self._reading, self._volumes = data.reading, data.is_of_volumes
        self._channels = () if data.channels_are_alike else tuple(map(nfc, data.channels))
        segments = self.text.split("/")
        self._folders = [self._compiled(segment) for segment in segments[:-1]]
        self._path = self._compiled(self.text)
        named = [place for place, segment in enumerate(segments) if "{pa" in segment]
        self._whose = named[0] + 1 if named else 0

    def folders(self, tree: Tree) -> list[str]:
        """The folders in which files may fit."""
        found = [""]
        for segment in self._folders:
            found = [
                below(folder, name)
                for folder in found
                for name in tree[folder].folders
                if self._names_in(segment, name) is not None
            ]
        return found

    def fit(self, path: str) -> dict[str, str] | None:
        """What the names in the pattern are in this path, or None where it doesn't fit."""
        return self._names_in(self._path, path)

    def whose_folder(self, path: str) -> str:
        """The folder of a file that fits which names the patient or the part; '' where none does."""
        return "/".join(path.split("/")[: self._whose])

    def _names_in(self, pattern: re.Pattern[str], path: str) -> dict[str, str] | None:
        found = pattern.fullmatch(path if self._reading == 1 else nfc(path))  # version 0.1 took names as they were
        names = None if found is None else found.groupdict()
        return None if names is None or ("part" in names and part_of(names["part"]) is None) else names

    def _compiled(self, text: str) -> re.Pattern[str]:
        any_extension = r"\.nii(?:\.gz)?" if self._volumes else r"\.[^./]+"
        ending = any_extension if text.endswith(ANY_EXTENSION) else ""
        seen: set[str] = set()
        parts = [
            self._piece(piece, seen) for piece in _PIECE.split(text.removesuffix(ANY_EXTENSION) if ending else text)
        ]
        return re.compile("".join(parts) + ending, 0 if self._reading == 1 else re.IGNORECASE)

    def _piece(self, piece: str, seen: set[str]) -> str:
        if not _PIECE.fullmatch(piece):
            return re.escape(piece)
        if piece == "*":
            return "[^/]*"
        name = piece.strip("{}")
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        # The shortest text first: 7_t1_ce is of the channel t1_ce, if there is one, and not of ce.
        anything = "[^/]+?" if name != "channel" else f"(?-i:{'|'.join(map(re.escape, self._channels))})"
        return f"(?P<{name}>{anything})"
