"""Everything that can be wrong with a data folder, in one table.

`FolderSource` stops at the first error among a folder's findings; `verify` lists them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"  # training would stop, or learn from wrong masks
    WARNING = "warning"  # training works; the user should know


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one check looks for; `title` follows a count: `3 images without a mask`."""

    severity: Severity
    title: str
    remedy: str


def _error(title: str, remedy: str) -> Check:
    return Check(severity=Severity.ERROR, title=title, remedy=remedy)


def _warning(title: str, remedy: str) -> Check:
    return Check(severity=Severity.WARNING, title=title, remedy=remedy)


CHECKS: Mapping[str, Check] = {
    "nested_folder": _error("folder(s) too deep", "move the files one level up, or the folder out of the set"),
    "duplicate_id": _error("id(s) with several files", "rename or remove one, so that every slice has its own name"),
    "image_without_mask": _error("image(s) without a mask", "add the mask, or remove the image"),
    "mask_without_image": _error("mask(s) without an image", "add the image, or remove the mask"),
    "metadata_unreadable": _error("problem(s) in the metadata table", "correct metadata.csv or remove it"),
    "metadata_duplicate_id": _error("id(s) with several metadata rows", "keep one row a slice in metadata.csv"),
    "metadata_unknown_id": _error(
        "metadata row(s) without a slice", "remove the row; an id is a file's name without its extension"
    ),
    "metadata_missing_row": _error("slice(s) without a metadata row", "add the row, or remove image and mask"),
    "unreadable_file": _error("file(s) that can't be read", "copy or export them again"),
    "size_mismatch": _error("mask(s) of another size than the image", "export both at one size"),
    "mask_not_binary": _error("mask(s) that are not of two classes", "write 0 for background and 255 for tumour"),
    "soft_mask": _warning("mask(s) with soft edges", "they are cut at half of their maximum"),
    "empty_mask": _warning("mask(s) without tumour", "right for healthy slices; two empty masks score a Dice of 1"),
    "full_mask": _warning("mask(s) that are all tumour", "look at them: is the mask in the alpha channel?"),
    "constant_image": _warning("image(s) of one single value", "look at them, and remove image and mask"),
    "equal_slices": _warning("group(s) of slices with equal pixels", "keep one of each, or give them one patient id"),
    "near_copies": _warning(
        "pair(s) of near duplicates in different patients", "if they are one scan, give them one patient id"
    ),
    "several_ids": _warning(
        "people with several patient ids", "data.split_by=patient keeps them together, data.split_by=image does not"
    ),
    "no_patient_id": _warning(
        "slice(s) without a patient id", "data.split_by=patient needs metadata.csv with id,patient_id"
    ),
    "ignored_file": _warning("file(s) that are no image", "they are ignored; PNG, JPEG and TIFF are read"),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The slices or files in which one check found something; `items` is never empty."""

    check: str  # a key of CHECKS
    items: tuple[str, ...]

    @property
    def severity(self) -> Severity:
        return CHECKS[self.check].severity

    @property
    def title(self) -> str:
        return CHECKS[self.check].title

    @property
    def remedy(self) -> str:
        return CHECKS[self.check].remedy


def collect(items_of: Mapping[str, list[str]]) -> tuple[Finding, ...]:
    """A finding for every check with items, in the order of CHECKS; items keep their order."""
    return tuple(Finding(check=check, items=tuple(items_of[check])) for check in CHECKS if items_of.get(check))
