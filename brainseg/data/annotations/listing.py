"""The images of a folder whose masks annotations have: in images/, or else in the root and its folders."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from brainseg.config import DataConfig
from brainseg.data.annotations.annotated import Annotations
from brainseg.data.layout import IMAGES, METADATA, Listing, Pair
from brainseg.data.names import Part, is_image, looks_like_id, nfc, part_of, stem
from brainseg.data.reading import missing_channels
from brainseg.data.scan import Problems, add_other_files, add_unused_folder, below, cant_be_listed, scan
from brainseg.errors import DataError


@dataclass(kw_only=True)
class _Slice:
    """The files of one id, while the folder is listed."""

    folder: str
    names: list[str]  # that annotations may have for it
    images: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # channel -> paths


def list_annotated(root: Path, data: DataConfig, annotations: Annotations) -> Listing:
    """The slices under `root`. Raises DataError where the annotations have none of its images.

    A folder is a patient, or a part of a split, as where masks are files. One that holds all images is a patient only
    if it is named like one.
    """
    problems: Problems = defaultdict(list, {check: [*items] for check, items in annotations.problems.items()})
    try:
        paths = [*_image_paths(root, annotations, problems, reading=data.reading)]
    except PermissionError as error:
        raise cant_be_listed(error) from None
    folders = {folder for folder, _ in paths}
    parts = {folder: part_of(folder) for folder in sorted(folders) if data.reading > 1 and folder}
    left = [] if data.split_by == "folder" else [folder for folder, part in parts.items() if part is Part.TEST]
    tested = [(folder, path) for folder, path in paths if folder in left]
    left_out = {nfc(stem(path.rpartition("/")[2])) for _, path in tested}
    slices, found = _slices([each for each in paths if each[0] not in left], data, annotations, problems)
    for folder, part in parts.items():
        if folder in left:
            count = sum(folder == each for each, _ in tested)
            problems["test_left_out"].append(f"{folder}/: {count} slices")
        elif part is not None and data.split_by != "folder":
            problems["split_folder"].append(f"{folder}/")
    there = found | left_out
    problems["annotation_without_image"] += [
        f"{image.file}: {name}" for name, image in annotations.images.items() if name not in there
    ]
    if not slices:
        raise DataError(f"{root}: {annotations.about} has none of its images; are they in another folder?")
    patients = {
        folder for folder in folders if folder and not parts.get(folder) and (len(folders) > 1 or looks_like_id(folder))
    }
    problems["folder_as_patient"] = sorted(folder for folder in patients if not looks_like_id(folder))
    return Listing(
        root=root,
        kind=annotations.about,
        layout=None,
        pairs=tuple(_pairs(slices, data, annotations, patients, problems)),
        ids=frozenset(slices),
        left_out=frozenset(left_out),
        problems=problems,
        annotations=annotations,
    )


def _image_paths(
    root: Path, annotations: Annotations, problems: Problems, *, reading: int
) -> Iterator[tuple[str, str]]:
    """Folder ('' for images/ and the root) and path of each image. What else is there goes to the problems."""
    used = {METADATA, *annotations.files}
    folders, names = scan(root, "", problems)
    has_images = IMAGES in folders
    for folder in ("", *folders):
        deeper, inside = scan(root, folder, problems) if folder else ([], names)
        others = [name for name in inside if below(folder, name) not in used]
        images = [] if has_images and folder != IMAGES else [name for name in inside if is_image(name, reading=reading)]
        yield from (("" if has_images else folder, below(folder, name)) for name in images)
        if images or not (folder or has_images):
            add_other_files(folder, others, problems, reading=reading)
            problems["nested_folder"] += [f"{below(folder, name)}/" for name in deeper]
        elif not folder or len(others) < len(inside):
            problems["ignored_file"] += [below(folder, name) for name in others]
        elif has_images:
            problems["ignored_folder"].append(f"{folder}/")
        else:
            add_unused_folder(root, folder, problems)


def _slices(
    paths: list[tuple[str, str]], data: DataConfig, annotations: Annotations, problems: Problems
) -> tuple[dict[str, _Slice], set[str]]:
    """The slices by id, and the names in the annotations that have an image."""
    slices: dict[str, _Slice] = {}
    named = not data.channels_are_alike
    # The longest name first: 7_t1_ce is of the channel t1_ce, if there is one, and not of ce.
    endings = sorted((f"_{nfc(channel)}" for channel in data.channels), key=len, reverse=True) if named else [""]
    for folder, path in paths:
        name = nfc(stem(path.rpartition("/")[2]))
        ending = next((ending for ending in endings if name.endswith(ending)), None)
        if ending is None:
            problems["other_channel"].append(path)
            continue
        slice_id = name.removesuffix(ending)
        each = slices.setdefault(slice_id, _Slice(folder=folder, names=[slice_id]))
        each.names.append(name)
        each.images[ending.removeprefix("_")].append(path)
    found = {name for each in slices.values() for name in each.names if name in annotations.images}
    without = [slice_id for slice_id, each in slices.items() if found.isdisjoint(each.names)]
    for slice_id in without:
        problems["image_not_annotated"] += [path for paths in slices.pop(slice_id).images.values() for path in paths]
    return slices, found


def _pairs(
    slices: dict[str, _Slice], data: DataConfig, annotations: Annotations, patients: set[str], problems: Problems
) -> Iterator[Pair]:
    channels = ("",) if data.channels_are_alike else tuple(map(nfc, data.channels))
    for slice_id, each in sorted(slices.items()):
        several = [paths for paths in each.images.values() if len(paths) > 1]
        missing = missing_channels(slice_id, each.images, channels)
        if several:
            problems["duplicate_id"] += [" and ".join(sorted(paths)) for paths in several]
        elif missing:
            problems["missing_channel"].append(f"{slice_id}: no {missing}")
        else:
            name = next(name for name in each.names if name in annotations.images)
            yield Pair(
                id=slice_id,
                images=tuple(each.images[channel][0] for channel in channels),
                masks=(annotations.images[name].file,),
                patient=each.folder if each.folder in patients else None,
                part=part_of(each.folder) if each.folder and each.folder not in patients else None,
                annotated=name,
            )
