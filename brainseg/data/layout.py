"""Which files of a folder are slices and masks, and which belong together.

Two patterns say so: those that `data.images` and `data.masks` name, or a row of `LAYOUTS`, which are found by
themselves. Where a folder fits two of them, and they mean other files, it is refused.

Ids are compared in one form of Unicode. Names that begin with a dot are passed over; anything else that isn't used is
a problem, by key of findings.CHECKS.

Whose slices a folder holds is known only from its name. One that is named like a part of a split (train, val, test) is
no patient: the patients of its slices are unknown, and those of test/ are left out, so that nobody trains on them by
mistake, unless `data.split_by=folder` asks for that split. Any other that stands for `{patient}` is one, however few
there are; where the name has no number (`anna`, but also `benign`), or has one behind a word such as class, that is a
problem to look at.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainseg.config import DataConfig
from brainseg.data.annotations.annotated import Annotations
from brainseg.data.decode import EXTENSIONS
from brainseg.data.names import VOLUMES, Part, goes_on_from, is_image, looks_like_id, part_of, unread_ending
from brainseg.data.patterns import Layout, Pattern
from brainseg.data.reading import Reading, SliceFiles, missing_channels
from brainseg.data.scan import Tree, below, cant_be_listed
from brainseg.errors import DataError
from brainseg.keys import as_line

METADATA = "metadata.csv"
IMAGES, MASKS = "images", "masks"
MASK_ENDING = "_mask"
_EXPECTED = f"{IMAGES}/7.png with {MASKS}/7.png, or PATIENT/7.tif with PATIENT/7{MASK_ENDING}.tif"
_EXPECTED_VOLUMES = f"CASE/t2.nii.gz with CASE/t2{MASK_ENDING}.nii.gz, or imagesTr/7_0000.nii.gz with labelsTr/7.nii.gz"
_HINTS = 3  # folders that an error names at most
_HINT_ORDER: Mapping[Part | None, int] = {Part.TRAIN: 0, Part.VAL: 2, Part.TEST: 3}  # others between
# Version 0.1 passed over these without a word, and trained.
_SINCE_READING_2 = ("unread_format", "image_outside", "nested_patients")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One slice on disk; paths are relative to the root, with forward slashes."""

    id: str
    images: tuple[str, ...]  # a file for each named channel, in the order of `data.channels`; else one
    masks: tuple[str, ...]  # one file; or several, sorted, that show an object each; or the file of the annotations
    patient: str | None = None  # the folder's name, where that is a patient
    part: Part | None = None  # where a folder is named like a part of a split
    annotated: str | None = None  # what the annotations call the image, where they have its mask

    @property
    def image(self) -> str:
        """The file, or the first channel's."""
        return self.images[0]

    @property
    def mask(self) -> str:
        """The file, or the first one."""
        return self.masks[0]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a folder holds, sorted by id; everything but the pairs is a problem, by key of findings.CHECKS."""

    root: Path
    kind: str  # for people
    layout: Layout | None  # None if brainseg draws the masks from annotations
    pairs: tuple[Pair, ...]
    ids: frozenset[str]  # of the pairs and of the files without a partner
    left_out: frozenset[str]  # ids in folders that are named like a test part
    problems: Mapping[str, list[str]]
    annotations: Annotations | None = None  # where they have the masks


# What is found by itself: patterns of images and of masks, and what people call it. <images> and <masks> are any names
# of such folders that a root has, <ending> any ending of a mask's name; the first of two that mean the same counts.
IN_FOLDERS, BESIDE = "{images}/ and {masks}/", "masks beside the images"
A_FOLDER_EACH = "a folder per {whose}"
LAYOUTS = (
    ("<images>/{id}.*", "<masks>/{id}<ending>.*", IN_FOLDERS),
    ("<images>/{id}_0000.*", "<masks>/{id}.*", IN_FOLDERS),  # the first channel, as nnU-Net calls it
    ("<images>/{id}_training.*", "<masks>/{id}_manual1.*", IN_FOLDERS),  # DRIVE
    ("{part}/<images>/{id}.*", "{part}/<masks>/{id}<ending>.*", IN_FOLDERS),
    ("<images>/{part}/{id}.*", "<masks>/{part}/{id}<ending>.*", IN_FOLDERS),
    ("{id}/<images>/{id}.*", "{id}/<masks>/*.*", "a folder per image, its masks merged"),
    ("{patient}/{id}.*", "{patient}/{id}<ending>.*", A_FOLDER_EACH),
    ("{id}.*", "{id}<ending>.*", BESIDE),
)
_FIRST_LAYOUTS = (  # those of version 0.1; the first that a folder had counted
    (f"{IMAGES}/{{id}}.*", f"{MASKS}/{{id}}.*", IN_FOLDERS),
    ("{patient}/{id}.*", f"{{patient}}/{{id}}{MASK_ENDING}.*", A_FOLDER_EACH),
    ("{id}.*", f"{{id}}{MASK_ENDING}.*", BESIDE),
)
OLD_LAYOUTS = tuple(Layout(images=images, masks=masks) for images, masks, _ in _FIRST_LAYOUTS)
PLAIN = OLD_LAYOUTS[0]
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "imagestr")  # in lower case, as are the next
MASK_FOLDERS = ("masks", "mask", "labels", "label", "gt", "labelstr", "segmentations", "annotations", "1st_manual")
_FOLDERS = {"<images>": IMAGE_FOLDERS, "<masks>": MASK_FOLDERS}
_ENDINGS = ("", "_mask", "_mask_*", "_mask*", "_segmentation", "_label", "_seg", "_seg-manual", "_manual1", "_gt")


def list_pairs(root: Path, data: DataConfig) -> Listing:
    """The slices under `root`. Raises DataError where the folder as a whole can't be used.

    data: its patterns, and its `channels`, which say which files are one image. With `data.reading` 1 every folder is a
    patient, and what version 0.1 passed over is no error.
    """
    expected = _EXPECTED_VOLUMES if data.is_of_volumes else _EXPECTED
    if not root.exists():
        raise DataError(f"{root} doesn't exist; name a folder that holds {expected}")
    if not root.is_dir():
        raise DataError(f"{root} is a file; name a folder that holds {expected}")
    tree = Tree(root)
    reading = _recognised(tree, data)
    if reading is None:
        if tree.denied is not None:
            raise cant_be_listed(tree.denied)
        raise DataError(f"{root} holds neither {expected}{_hint(tree, data)}")
    listing = _listing(reading)
    if not listing.ids and listing.left_out:
        raise DataError(
            f"{root} holds only slices that are left out of training ({', '.join(listing.problems['test_left_out'])}); "
            "name that folder itself to use them"
        )
    if not listing.ids:
        unread = listing.problems.get("unread_format", [])
        endings = VOLUMES if data.is_of_volumes else EXTENSIONS
        there = f" ({len(unread)} of formats that aren't read, such as {unread[0]})" if unread else ""
        raise DataError(
            f"{root}: {listing.kind} hold no file that ends in {', '.join(endings)}{there}; add slices and masks"
        )
    return listing


def _recognised(tree: Tree, data: DataConfig) -> Reading | None:
    """How the folder is read. Raises DataError where it could be read in several ways."""
    if data.images is not None and data.masks is not None:
        return _as_told(Layout(images=data.images, masks=data.masks), tree, data)
    incomplete = None
    for rows in _rows(tree, data):
        found, meant = _readings(rows, tree, data)
        if found:
            _check_meaning(found, data)
            return found[0]
        incomplete = incomplete or meant
    return incomplete


def _check_meaning(found: Sequence[Reading], data: DataConfig) -> None:
    """Raises DataError where they mean other files; version 0.1 took the first."""
    first = found[0]
    other = next((each for each in found[1:] if each.pairing != first.pairing), None)
    if other is not None and data.reading > 1:
        raise DataError(
            f"{first.tree.root} can be read by {first.layout.line} or by {other.layout.line}; "
            "add those data.images and data.masks that you mean"
        )


def _readings(
    rows: Sequence[tuple[str, str, str]], tree: Tree, data: DataConfig
) -> tuple[list[Reading], Reading | None]:
    """The readings that leave least over in their two folders; and the first without a pair that would be meant."""
    best: dict[tuple[str, str], list[Reading]] = {}  # images' folder and masks' folder -> those with the least left
    incomplete = None
    for layout, kind in (
        (layout, kind) for images, masks, kind in rows for layout in _spelt(images, masks, tree, data)
    ):
        folders = (layout.images.rpartition("/")[0], layout.masks.rpartition("/")[0])
        left_over = best[folders][0].left_over if folders in best else math.inf
        if not left_over or (folders == ("", "") and best.keys() - {folders}):
            continue
        reading = Reading(layout, tree, data, kind)
        if not reading.has_pairs:  # what lacks its partner is a finding
            incomplete = incomplete or (reading if _is_meant(reading) else None)
        elif reading.left_over <= left_over:
            best[folders] = [*(best[folders] if reading.left_over == left_over else []), reading]
    return [reading for same in best.values() for reading in same], incomplete


def _is_meant(reading: Reading) -> bool:
    """Whether a layout that gives no pair is the one that is meant, by its two folders or by an ending `_mask`."""
    folder, _, name = reading.layout.masks.rpartition("/")
    if "{" in folder or not folder:
        return reading.has_masks and name == f"{{id}}{MASK_ENDING}.*"
    return name == "{id}.*"


def _as_told(layout: Layout, tree: Tree, data: DataConfig) -> Reading:
    """By the patterns that the user has typed. Raises DataError where no file fits one of them."""
    reading = Reading(layout, tree, data, "data.images and data.masks")
    slices = reading.slices.values()
    fit = {"images": any(each.images for each in slices), "masks": any(each.masks for each in slices)}
    for name, fits in fit.items():
        if not fits:
            there = _some_image(tree, data)
            such = f" (it holds files such as {there})" if there else ""
            typed = as_line([f"data.{name}={getattr(layout, name)}"])
            raise DataError(f"{tree.root}: no file fits {typed}{such}; correct the pattern")
    return reading


def _rows(tree: Tree, data: DataConfig) -> Iterator[Sequence[tuple[str, str, str]]]:
    """The rows of LAYOUTS that count: first those with a file for each channel, where channels are named."""
    if not data.channels_are_alike:
        whole, of_channel = "{id}.*", "{id}_{channel}.*"
        yield [(images.replace(whole, of_channel), masks, kind) for images, masks, kind in LAYOUTS if whole in images]
    if data.reading > 1:
        yield LAYOUTS
    elif {IMAGES, MASKS} <= {*tree[""].folders}:
        yield _FIRST_LAYOUTS[:1]
    else:
        yield from ([row] for row in _FIRST_LAYOUTS[1:])


def _spelt(images: str, masks: str, tree: Tree, data: DataConfig) -> Iterator[Layout]:
    """A row of LAYOUTS with the folders and endings that are there."""
    for image_folder in _named(images, "<images>", tree):
        for mask_folder in _named(masks, "<masks>", tree):
            of_images, of_masks = images.replace("<images>", image_folder), masks.replace("<masks>", mask_folder)
            for ending in _endings(of_masks, tree, data):
                if of_images.rpartition("/")[0] != of_masks.rpartition("/")[0] or ending:
                    yield Layout(images=of_images, masks=of_masks.replace("<ending>", ending))


def _named(pattern: str, sort: str, tree: Tree) -> list[str]:
    """The folders at this place of the pattern that have one of the names, each spelling of a name once."""
    if sort not in pattern:
        return [""]
    level = pattern.split("/").index(sort)
    places = [""] if level == 0 else tree[""].folders
    names = {name.lower(): name for place in places for name in tree[place].folders if name.lower() in _FOLDERS[sort]}
    return sorted(names.values())


def _endings(masks: str, tree: Tree, data: DataConfig) -> Sequence[str]:
    """Those that a file has where masks are; any one where the row has none to choose."""
    if "<ending>" not in masks:
        return _ENDINGS[1:2]
    folders = Pattern(masks.replace("<ending>", ""), data).folders(tree)
    names = [name.lower() for folder in folders for name in tree[folder].files]
    return [each for each in _ENDINGS if not each or any(each.rstrip("_*") in name for name in names)]


def _listing(reading: Reading) -> Listing:
    data, tree, layout = reading.data, reading.tree, reading.layout
    problems = reading.problems_around(METADATA)
    in_parts = {each.folder: each.part for each in reading.slices.values() if each.part is not None}
    left_out: set[str] = set()
    if data.split_by != "folder":
        for folder in sorted(folder for folder, part in in_parts.items() if part is Part.TEST):
            gone = [key for key, each in reading.slices.items() if each.folder == folder]
            left_out |= {reading.slices.pop(key).id for key in gone}
            problems["test_left_out"].append(f"{folder}/: {len(gone)} slices")
        problems["split_folder"] = sorted(f"{folder}/" for folder, part in in_parts.items() if part is not Part.TEST)
    if data.is_of_volumes:
        problems["derived_volume"] = _without_derived(reading.slices, layout)
    _tell_apart(reading.slices.values(), data)
    slices = sorted(reading.slices.values(), key=lambda each: (each.id, each.folder))
    clashes = _clashes(slices, reading)
    problems["duplicate_id"] = sorted(" and ".join(sorted(paths)) for paths in clashes)
    in_clashes = {path for paths in clashes for path in paths}
    pairs = []
    for each in slices:
        paths = [path for of_channel in each.images.values() for path in of_channel]
        missing = missing_channels(each.id, each.images, reading.channels)
        if not each.masks:
            problems["image_without_mask"] += paths
        elif not paths:
            problems["mask_without_image"] += each.masks
        elif missing:
            problems["missing_channel"].append(f"{each.masks[0]}: no {missing}")
        elif in_clashes.isdisjoint((*paths, *each.masks)):
            images = tuple(each.images[channel][0] for channel in reading.channels)
            pairs.append(
                Pair(id=each.id, images=images, masks=tuple(sorted(each.masks)), patient=each.patient, part=each.part)
            )
    for check in ("image_without_mask", "mask_without_image"):
        problems[check].sort()
    patients = {pair.patient for pair in pairs if pair.patient is not None}
    problems["folder_as_patient"] = sorted(name for name in patients if not looks_like_id(name))
    if data.reading == 1:
        for check in _SINCE_READING_2:
            problems["ignored_file"] += problems.pop(check, [])
    whose = "part of a split" if in_parts else "patient"
    folders = {name: getattr(layout, name).rpartition("/")[0] for name in ("images", "masks")}
    return Listing(
        root=tree.root,
        kind=reading.kind.format(whose=whose, **folders),
        layout=layout,
        pairs=tuple(pairs),
        ids=frozenset(each.id for each in slices),
        left_out=frozenset(left_out),
        problems=problems,
    )


def _without_derived(slices: dict[tuple[str, ...], SliceFiles], layout: Layout) -> list[str]:
    """Takes out the volumes that were made from another one, and gives their paths: `t2_labels` beside `t2`.

    These have no mask, and their names go on from one that has.
    """
    if layout.images.rpartition("/")[0] != layout.masks.rpartition("/")[0]:
        return []
    whole: dict[str, set[str]] = defaultdict(set)
    for each in slices.values():
        if each.masks and each.images:
            whole[each.folder].add(each.id)
    gone = [key for key, each in slices.items() if not each.masks and goes_on_from(each.id, whole[each.folder])]
    return sorted(path for key in gone for paths in slices.pop(key).images.values() for path in paths)


def _tell_apart(slices: Collection[SliceFiles], data: DataConfig) -> None:
    """Gives slices of a split's parts the part's name in their ids, as in `train_1`, where `1` is in several parts.

    Volumes likewise get their patient's: most sets call them alike in each folder.
    """
    of_parts = [each for each in slices if each.part is not None or (data.is_of_volumes and each.patient)]
    if len({each.id for each in of_parts}) < len(of_parts):
        for each in of_parts:
            each.id = f"{each.named}_{each.id}"


def _clashes(slices: Sequence[SliceFiles], reading: Reading) -> list[list[str]]:
    """Files that would be one image or one mask of one id."""
    with_id: dict[str, list[SliceFiles]] = defaultdict(list)
    for each in slices:
        with_id[each.id].append(each)
    images = [
        [path for each in same for path in each.images.get(channel, ())]
        for same in with_id.values()
        for channel in reading.channels
    ]
    masks = [] if reading.masks.takes_several else [each.masks for each in slices]
    return [paths for paths in (*images, *masks) if len(paths) > 1]


def _some_image(tree: Tree, data: DataConfig) -> str | None:
    """An image file of the root, or of a folder in it or in one of those."""
    folders = ["", *tree[""].folders]
    folders += [below(folder, name) for folder in folders[1:] for name in tree[folder].folders]
    files = (below(folder, name) for folder in folders for name in tree[folder].files)
    return next((path for path in files if is_image(path, volumes=data.is_of_volumes)), None)


def _hint(tree: Tree, data: DataConfig) -> str:
    """The likely remedy where no layout was recognised."""
    root, folders = tree.root, tree[""].folders
    for present, absent in ((IMAGES, MASKS), (MASKS, IMAGES)):
        if present in folders and absent not in folders:
            return f"; it has {present}/ but no {absent}/"
    found = [folder for folder in folders if _is_recognised(root / folder, data)]
    if found:
        found.sort(key=lambda folder: (_HINT_ORDER.get(part_of(folder), 1), folder))
        more = f" (or one of {len(found) - _HINTS} more)" if len(found) > _HINTS else ""
        return f"; did you mean {' or '.join(str(root / folder) for folder in found[:_HINTS])}{more}?"
    names = [name for folder in ("", *folders) for name in tree[folder].files]
    if any(name.lower().endswith((".mat", ".zip")) for name in names):
        return "; MATLAB files are turned into pairs by `python -m brainseg.data import figshare SRC OUT`"
    unread = sorted({ending for name in names if (ending := unread_ending(name))})
    if set(unread) & {*VOLUMES} and not data.is_of_volumes:
        return "; data=nifti reads volumes of NIfTI"
    if unread and not data.is_of_volumes:
        return f"; {', '.join(unread)} files aren't read, convert them to PNG, a file a slice"
    there = _some_image(tree, data)
    return f"; name files such as {there} by data.images=PATTERN data.masks=PATTERN" if there else ""


def _is_recognised(folder: Path, data: DataConfig) -> bool:
    try:
        return _recognised(Tree(folder), data) is not None
    except DataError:  # in two ways
        return True
