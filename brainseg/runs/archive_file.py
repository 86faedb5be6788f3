"""A zip of texts. What comes from elsewhere is checked before it is read: names, sizes, and how it is packed."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from brainseg.cli.output import replacing, writing
from brainseg.errors import InputError
from brainseg.tracking.rules import checked_name

ZIP_ENDING = ".zip"
MAX_MEMBERS = 200_000
MAX_BYTES = 2**30  # of all members once they are unpacked
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DATE = (1980, 1, 1, 0, 0, 0)  # the same content gives the same file
_ENCRYPTED = 0x1


def is_archive(word: str) -> bool:
    """Whether a word on a command line names such a file."""
    return "=" not in word and word.endswith(ZIP_ENDING)


def write_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Writes a member for each text: the whole file, or none. Raises InputError where it can't be written."""
    with writing(path), replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name in sorted(texts):
            member = zipfile.ZipInfo(name, date_time=_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, texts[name])


def read_texts(path: Path) -> dict[str, str]:
    """Name of each member -> its text; nothing is written. Raises InputError for what `write_texts` can't have made."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = _checked(path, archive.infolist())
            return {member.filename: archive.read(member).decode("utf-8") for member in files}
    except FileNotFoundError:
        raise InputError(f"{path} isn't there; name a file that sweep export has written") from None
    # What zipfile raises for a file that is none, is cut off, or is packed in a way that it doesn't know.
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error, struct.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} can't be read as a zip archive ({reason}); copy it or ask for it again") from error


def _checked(path: Path, members: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The files among the members. Raises InputError for members that no export has."""
    if len(members) > MAX_MEMBERS:
        raise _refused(path, f"it has {len(members)} members, and at most {MAX_MEMBERS} are read")
    total = sum(member.file_size for member in members)
    if total > MAX_BYTES:
        raise _refused(path, f"it unpacks to {total / 2**20:.0f} MiB, and at most {MAX_BYTES // 2**20} MiB are read")
    seen: set[str] = set()
    for member in members:
        name = member.filename
        if not _is_inside(name):
            raise _refused(path, f"its member {name!a} has a name that leads outside")
        if name in seen:
            raise _refused(path, f"its member {name!a} is there twice")
        if stat.S_ISLNK(member.external_attr >> 16) or member.flag_bits & _ENCRYPTED:
            raise _refused(path, f"its member {name!a} is a link or encrypted")
        if member.compress_type not in _METHODS:
            raise _refused(path, f"its member {name!a} is packed by method {member.compress_type}")
        seen.add(name)
    return [member for member in members if not member.is_dir()]


def _is_inside(name: str) -> bool:
    """Whether it is a relative path below the archive, in one spelling."""
    try:
        return checked_name(name) == name.removesuffix("/") and not any(each in name for each in "\\:\0")
    except ValueError:
        return False


def _refused(path: Path, why: str) -> InputError:
    return InputError(f"{path} isn't read: {why}; ask for a file that sweep export has written")
