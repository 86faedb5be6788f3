"""What the name of a file or folder says, and which names are one in two spellings."""

import re
import unicodedata
from collections.abc import Collection
from enum import StrEnum
from pathlib import PurePath

from brainseg.data.decode import EXTENSIONS, FIRST_EXTENSIONS

VOLUMES = (".nii.gz", ".nii")
# Images and volumes that brainseg doesn't read.
UNREAD = (
    *(".dib", ".jp2", ".jfif", ".heic", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".exr"),
    *(".dcm", ".dicom", ".ima", *VOLUMES, ".mha", ".mhd", ".nrrd", ".mgz", ".hdr", ".img"),
    *(".npy", ".npz", ".mat", ".h5", ".hdf5", ".svs", ".czi"),
)


class Part(StrEnum):
    """The part of a split that a folder's name says it is."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    FOLD = "fold"


_PARTS = {
    Part.TRAIN: "train|training",
    Part.VAL: "val|valid|validation|dev",
    Part.TEST: "test|testing|holdout",
    Part.FOLD: "fold",
}
_PART = re.compile(
    f"(?:{'|'.join(f'(?P<{part}>{words})' for part, words in _PARTS.items())})"
    r"[ _-]?(?:set|data|images|split)?[ _-]?\d*",
    re.IGNORECASE,
)
# `class2` and `site 3` have a digit, and are no patient.
_GROUP = re.compile(r"(?:class|category|grade|group|label|site|stage|type)[ _-]?\d+", re.IGNORECASE)
# A number with nothing but a word before it: in `1.01` and `2020_01` a zero may mean something.
_NUMBERED = re.compile(r"(\D*?)0*(\d+)")
_WHOLE_FLOAT = re.compile(r"(\d+)\.0+")  # as a spreadsheet or pandas writes a whole number


def nfc(text: str) -> str:
    """The text in Unicode's composed form: an `ä` is one character, on whatever system it was typed."""
    return unicodedata.normalize("NFC", text)


def is_hidden(name: str) -> bool:
    """Whether the name begins with a dot: the system's own, and none of ours."""
    return name.startswith(".")


def is_utf8(name: str) -> bool:
    """Whether a name on disk is valid UTF-8; Python carries other bytes as surrogates, which can't be printed."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def breaks_lines(text: str) -> bool:
    """Whether it holds a control character or a line break of any kind, which other programs take for a row's end."""
    return not text.isprintable() and any(unicodedata.category(each) in ("Cc", "Zl", "Zp") for each in text)


def is_image(name: str, *, reading: int = 2, volumes: bool = False) -> bool:
    """Whether brainseg reads a file with this ending as image or mask. reading: 1 for the endings of version 0.1."""
    images = EXTENSIONS if reading > 1 else FIRST_EXTENSIONS
    return name.lower().endswith(VOLUMES if volumes else images)


def is_volume(name: str) -> bool:
    """Whether a file has the ending of a volume."""
    return is_image(name, volumes=True)


def unread_ending(name: str) -> str | None:
    """`.jp2` for an image or volume of a format that brainseg doesn't read, else None."""
    return max((ending for ending in UNREAD if name.lower().endswith(ending)), key=len, default=None)


def stem(name: str) -> str:
    """The name without its extension; it may hold further dots."""
    ending = unread_ending(name)
    return name[: -len(ending)] if ending else PurePath(name).stem


def goes_on_from(name: str, others: Collection[str]) -> bool:
    """Whether a name is one of these with more behind an underscore: `t2_labels` of `t2`."""
    return any(name[:place] in others for place, sign in enumerate(name) if sign == "_")


def part_of(folder: str) -> Part | None:
    """`train` for `Training` and `train_set`; None for a folder that isn't named like a part of a split."""
    found = _PART.fullmatch(folder)
    return Part(next(part for part in _PARTS if found[part])) if found else None


def looks_like_id(folder: str) -> bool:
    """Whether a folder is named like a patient: with a number (`P1`, `TCGA_CS_4941_19960909`), but not `class 2`.

    `benign` and `anna` both look like no id: nothing tells a patient from a class there.
    """
    return any(each.isdigit() for each in folder) and not _GROUP.fullmatch(folder)


def same_spelling(name: str) -> str:
    """What the spellings of one id have in common: `p1` for `P1`, `P01` and ` p1 `, `1` for `1.0` and `001`."""
    text = nfc(name).strip().casefold()
    whole = _WHOLE_FLOAT.fullmatch(text)
    text = whole[1] if whole else text
    numbered = _NUMBERED.fullmatch(text)
    return numbered[1] + numbered[2] if numbered else text
