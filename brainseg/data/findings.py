"""Everything that can be wrong with a data folder, in one table.

`FolderSource` stops at the first error among a folder's findings; `verify` lists them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from brainseg.errors import printable


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
    "undecodable_name": _error("name(s) that are not UTF-8", "rename them"),
    "not_a_file": _error(
        "name(s) without a regular file (a pipe, a device, a broken link)",
        "remove it, or copy the file there",
    ),
    "nested_folder": _error(
        "folder(s) too deep", "move their files up into the folder that holds them, or out of the data folder"
    ),
    "nested_patients": _error(
        "folder(s) of images too deep",
        "move them up, right into the data folder, or out of it",
    ),
    "image_outside": _error("image file(s) in no patient's folder", "move them into one, or out of the data folder"),
    "unread_format": _error(
        "file(s) of a format that isn't read", "convert them to PNG, a file a slice, or remove them"
    ),
    "duplicate_id": _error("id(s) with several files", "rename or remove one, so that every slice has its own name"),
    "image_without_mask": _error("image(s) without a mask", "add the mask, or remove the image"),
    "mask_without_image": _error("mask(s) without an image", "add the image, or remove the mask"),
    "annotation_without_image": _error(
        "annotated image(s) that aren't there", "add the image, or take it out of the annotations"
    ),
    "annotation_of_nothing": _error("annotation(s) of an image that isn't listed", "list the image, or remove them"),
    "unknown_category": _error(
        "annotation(s) of a category that nobody declared", "declare it in the file, or name it in data.classes"
    ),
    "annotation_broken": _error("annotation(s) that can't be drawn", "draw them again, or remove them"),
    "annotation_outside": _error(
        "annotation(s) that lie outside their image", "were they drawn at another size? export them at the image's"
    ),
    "missing_channel": _error(
        "slice(s) without a channel that data.channels names", "add the file, or leave the channel out of data.channels"
    ),
    "metadata_unreadable": _error("problem(s) in the metadata table", "correct metadata.csv or remove it"),
    "metadata_duplicate_id": _error("id(s) with several metadata rows", "keep one row a slice in metadata.csv"),
    "metadata_other_spelling": _error(
        "metadata row(s) whose id is spelt otherwise than the file",
        "write it as the file's name without its extension; a spreadsheet keeps leading zeros in a column of texts",
    ),
    "metadata_unknown_id": _error(
        "metadata row(s) without a slice", "remove the row; an id is a file's name without its extension"
    ),
    "metadata_missing_row": _error("slice(s) without a metadata row", "add the row, or remove image and mask"),
    "unreadable_file": _error("file(s) that can't be read", "copy or export them again"),
    "size_mismatch": _error("mask(s) of another size than the image", "export both at one size"),
    "mask_elsewhere": _error(
        "mask(s) whose header puts them elsewhere than the image", "resample the mask to the image's grid"
    ),
    "mask_not_binary": _error(
        "mask(s) of more than two values", "name the values by data.classes, or write 0 for background and 255"
    ),
    "mask_not_of_classes": _error("mask(s) that data.classes doesn't fit", "name every value there or in data.ignore"),
    "no_foreground": _error(
        "mask(s) without foreground, and none with any", "export them again; is the mask in the alpha channel?"
    ),
    "absent_class": _warning("class(es) that no mask has", "correct its values in data.classes, or leave it out"),
    "soft_mask": _warning("mask(s) with soft edges", "they are cut at half of their maximum"),
    "empty_mask": _warning("mask(s) without foreground", "right where the image shows none"),
    "full_mask": _warning("mask(s) that are all foreground", "look at them: is the mask in the alpha channel?"),
    "constant_image": _warning("image(s) of one single value", "look at them, and remove image and mask"),
    "colour_not_read": _warning("image(s) whose colours aren't read", "data.channels=rgb reads them"),
    "equal_slices": _warning("group(s) of slices with equal pixels", "keep one of each, or give them one patient id"),
    "near_copies": _warning(
        "pair(s) of near duplicates in different patients", "if they are one scan, give them one patient id"
    ),
    "several_ids": _warning(
        "people with several patient ids",
        "data.split_by=patient keeps them together, data.split_by=image does not; other people need other ids",
    ),
    "folder_as_patient": _warning(
        "folder(s) taken for patients, though the name is no id",
        "if it is no patient, add metadata.csv with id,patient_id or use data.split_by=image",
    ),
    "split_folder": _warning(
        "folder(s) named like a part of a split, and taken for no patient",
        "add metadata.csv with id,patient_id, or use data.split_by=folder or data.split_by=image",
    ),
    "test_left_out": _warning(
        "folder(s) left out of training, since they are named like a test part",
        "data.split_by=folder makes them the test part; data.root, or --data of brainseg.evaluate, may name that "
        "folder",
    ),
    "no_patient_id": _warning(
        "slice(s) without a patient id", "data.split_by=patient needs metadata.csv with id,patient_id"
    ),
    "image_not_annotated": _warning(
        "image(s) that the annotations don't list, and left out", "annotate them; without an object: list them alone"
    ),
    "annotation_cut": _warning("annotation(s) that reach beyond their image", "they are cut at its border"),
    "annotation_without_area": _warning("annotation(s) without an area", "they are left out"),
    "control_character": _warning(
        "id(s), columns or values with a line break or another control character",
        "rename the file, or correct metadata.csv: other programs take it for the end of a row",
    ),
    "metadata_column": _warning("column(s) of metadata.csv with a name of another spelling", "rename the column"),
    "unmatched_file": _warning(
        "image file(s) that fit neither data.images nor data.masks", "they are ignored; correct the patterns"
    ),
    "derived_volume": _warning(
        "volume(s) without a mask, whose names go on from another's", "they are left out, as made from that one"
    ),
    "voxel_sizes": _warning(
        "voxel side(s) that differ by more than a factor of 1.5 between volumes", "resample them to one voxel size"
    ),
    "orientation": _warning(
        "volume(s) stored in another orientation than most, so that their slices are turned or cut otherwise",
        "store all in one orientation",
    ),
    "several_frames": _warning("file(s) that move (GIF or WebP)", "the first picture of each is read"),
    "overlapping_masks": _warning(
        "slice(s) whose masks overlap with different classes", "the later one, by its name, covers the earlier one"
    ),
    "other_channel": _warning("image(s) of a channel that data.channels doesn't name", "they are ignored"),
    "ignored_folder": _warning("folder(s) that hold no slices", "they are ignored"),
    "ignored_file": _warning("file(s) that are no slice", "they are ignored"),
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
    """A finding for every check with items, in the order of CHECKS; items keep their order, each on one line."""
    return tuple(
        Finding(check=check, items=tuple(map(printable, items_of[check]))) for check in CHECKS if items_of.get(check)
    )
