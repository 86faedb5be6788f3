"""Which files of a folder are slices and masks, and which belong together.

    ROOT/images/7.png  ROOT/masks/7.png        two folders: one stem, the extensions may differ
    ROOT/P1/7.tif      ROOT/P1/7_mask.tif      a folder per patient, as in kaggle_3m, or per part of a split
    ROOT/7.tif         ROOT/7_mask.tif         masks beside the images

An image of named channels is a file for each: 7_flair.png and 7_t1.png. Its mask is 7_mask.png or 7_seg.png, and in
masks/ also 7.png.

Ids are compared in one form of Unicode. Names that begin with a dot are passed over; anything else that isn't used is
a problem, by key of findings.CHECKS.

Whose slices a folder holds is known only from its name. One that is named like a part of a split (train, val, test) is
no patient: the patients of its slices are unknown, and those of test/ are left out, so that nobody trains on them by
mistake. Any other is a patient, however few there are; where the name has no number (`anna`, but also `benign`), or
has one behind a word such as class, that is a problem to look at.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brainseg.config import DataConfig
from brainseg.data.annotations.annotated import Annotations
from brainseg.data.decode import EXTENSIONS
from brainseg.data.names import Part, is_image, looks_like_id, nfc, part_of, stem, unread_ending
from brainseg.data.scan import Problems, add_other_files, add_unused_folder, below, image_names, scan
from brainseg.errors import DataError

METADATA = "metadata.csv"
IMAGES, MASKS = "images", "masks"
MASK_ENDING = "_mask"
CHANNELS_MASK_ENDING = "_seg"  # of named channels, as well
_EXPECTED = f"{IMAGES}/7.png with {MASKS}/7.png, or PATIENT/7.tif with PATIENT/7{MASK_ENDING}.tif"
_HINTS = 3  # folders that an error names at most
_HINT_ORDER: Mapping[Part | None, int] = {Part.TRAIN: 0, Part.VAL: 2, Part.TEST: 3}  # others between
# Version 0.1 passed over these without a word, and trained.
_SINCE_READING_2 = ("unread_format", "image_outside", "nested_patients")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One slice on disk; paths are relative to the root, with forward slashes."""

    id: str
    images: tuple[str, ...]  # a file for each named channel, in the order of `data.channels`; else one
    mask: str  # the file; that of the annotations, where they have it
    patient: str | None = None  # the folder's name, where that is a patient
    annotated: str | None = None  # what the annotations call the image, where they have its mask

    @property
    def image(self) -> str:
        """The file, or the first channel's."""
        return self.images[0]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a folder holds, sorted by id; everything but the pairs is a problem, by key of findings.CHECKS."""

    root: Path
    kind: str  # for people
    pairs: tuple[Pair, ...]
    ids: frozenset[str]  # of the pairs and of the files without a partner
    left_out: frozenset[str]  # ids in folders that are named like a test part
    problems: Mapping[str, list[str]]
    annotations: Annotations | None = None  # where they have the masks


@dataclass(kw_only=True)
class _Slice:
    """The files of one id in one folder, while the folder is listed."""

    folder: str  # '' in images/, masks/ and the root
    id: str
    images: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # channel -> paths
    masks: list[str] = field(default_factory=list)


class _Files:
    """What has been found so far."""

    def __init__(self, data: DataConfig) -> None:
        self.reading = data.reading
        self.named = not data.channels_are_alike
        self.channels: tuple[str, ...] = tuple(map(nfc, data.channels)) if self.named else ("",)
        self.slices: dict[tuple[str, str], _Slice] = {}
        self.problems: Problems = defaultdict(list)

    def add_image(self, folder: str, path: str) -> None:
        name = self._stem(path)
        if not self.named:
            self._slice(folder, name).images[""].append(path)
            return
        # The longest name first: 7_t1_ce is of the channel t1_ce, if there is one, and not of ce.
        for channel in sorted(self.channels, key=len, reverse=True):
            if name.endswith(f"_{channel}"):
                self._slice(folder, name.removesuffix(f"_{channel}")).images[channel].append(path)
                return
        self.problems["other_channel"].append(path)

    def add_mask(self, path: str) -> None:
        """A file of masks/."""
        name = self._stem(path)
        self._slice("", name.removesuffix(self._mask_ending(name)) if self.named else name).masks.append(path)

    def add_beside(self, folder: str, names: Iterable[str]) -> None:
        """Images and masks of one folder."""
        for name in names:
            path = below(folder, name)
            ending = self._mask_ending(self._stem(path))
            if ending:
                self._slice(folder, self._stem(path).removesuffix(ending)).masks.append(path)
            else:
                self.add_image(folder, path)

    @property
    def has_masks(self) -> bool:
        return any(each.masks for each in self.slices.values())

    def leave_out(self, folders: Sequence[str]) -> frozenset[str]:
        """Takes the slices of these folders out, and gives their ids."""
        gone: set[str] = set()
        for folder in folders:
            keys = [key for key, each in self.slices.items() if each.folder == folder]
            gone |= {self.slices.pop(key).id for key in keys}
            self.problems["test_left_out"].append(f"{folder}/: {len(keys)} slices")
        return frozenset(gone)

    def _slice(self, folder: str, slice_id: str) -> _Slice:
        return self.slices.setdefault((folder, slice_id), _Slice(folder=folder, id=slice_id))

    def _mask_ending(self, name: str) -> str:
        endings = (MASK_ENDING, CHANNELS_MASK_ENDING) if self.named else (MASK_ENDING,)
        return next((ending for ending in endings if name.endswith(ending)), "")

    def _stem(self, path: str) -> str:
        name = stem(path.rpartition("/")[2])
        return name if self.reading == 1 else nfc(name)  # version 0.1 took names as they were


def list_pairs(root: Path, data: DataConfig) -> Listing:
    """The slices under `root`. Raises DataError where the folder as a whole can't be used.

    data: its `channels` say which files are one image. With `data.reading` 1 every folder is a patient, and what
    version 0.1 passed over is no error.
    """
    if not root.exists():
        raise DataError(f"{root} doesn't exist; name a folder that holds {_EXPECTED}")
    if not root.is_dir():
        raise DataError(f"{root} is a file; name a folder that holds {_EXPECTED}")
    try:
        listing = _recognise(root, data)
        if listing is None:
            raise DataError(f"{root} holds neither {_EXPECTED}{_hint(root, data)}")
    except PermissionError as error:
        raise DataError(f"{error.filename} can't be listed (permission denied); make it readable") from None
    if not listing.ids and listing.left_out:
        raise DataError(
            f"{root} holds only slices that are left out of training ({', '.join(listing.problems['test_left_out'])}); "
            "name that folder itself to use them"
        )
    if not listing.ids:
        unread = listing.problems.get("unread_format", [])
        there = f" ({len(unread)} of formats that aren't read, such as {unread[0]})" if unread else ""
        raise DataError(
            f"{root}: {IMAGES}/ and {MASKS}/ hold no file that ends in {', '.join(EXTENSIONS)}{there}; "
            "add slices and masks"
        )
    return listing


def _recognise(root: Path, data: DataConfig) -> Listing | None:
    if (root / IMAGES).is_dir() and (root / MASKS).is_dir():
        return _list_images_and_masks(root, data)
    return _list_folders(root, data)


def _list_images_and_masks(root: Path, data: DataConfig) -> Listing:
    files = _Files(data)
    for name in image_names(root, IMAGES, files.problems):
        files.add_image("", f"{IMAGES}/{name}")
    for name in image_names(root, MASKS, files.problems):
        files.add_mask(f"{MASKS}/{name}")
    # What lies beside the two folders is no slice, whatever it is.
    folders, names = scan(root, "", files.problems)
    files.problems["ignored_folder"] += [f"{name}/" for name in folders if name not in (IMAGES, MASKS)]
    files.problems["ignored_file"] += [name for name in names if name != METADATA]
    return _listing(root, f"{IMAGES}/ and {MASKS}/", files)


def _list_folders(root: Path, data: DataConfig) -> Listing | None:
    """Images with their masks beside them: in the folders of the root, or in the root itself."""
    files = _Files(data)
    folders, names = scan(root, "", files.problems)
    with_images = []
    for folder in folders:
        here: Problems = defaultdict(list)
        images = image_names(root, folder, here)
        if images:
            with_images.append(folder)
            files.add_beside(folder, images)
        else:
            here = defaultdict(list)
            add_unused_folder(root, folder, here)
        for check, items in here.items():
            files.problems[check] += items
    images_in_root = [name for name in names if is_image(name)]
    add_other_files("", [name for name in names if name != METADATA], files.problems)
    if files.has_masks:
        files.problems["image_outside"] += images_in_root
        parts = {folder: part_of(folder) for folder in with_images} if data.reading > 1 else {}
        kind = "part of a split" if any(parts.values()) else "patient"
        return _listing(root, f"a folder per {kind}", files, parts=parts)
    files.add_beside("", images_in_root)
    return _listing(root, "masks beside the images", files) if files.has_masks else None


def _listing(root: Path, kind: str, files: _Files, *, parts: Mapping[str, Part | None] | None = None) -> Listing:
    """parts: folder -> the part of a split that its name says it is."""
    parts, problems = parts or {}, files.problems
    split_folders = [folder for folder, part in parts.items() if part is not None]
    left_out = files.leave_out([folder for folder in split_folders if parts[folder] is Part.TEST])
    problems["split_folder"] = [f"{folder}/" for folder in split_folders if parts[folder] is not Part.TEST]
    slices = sorted(files.slices.values(), key=lambda each: (each.id, each.folder))
    clashes = _clashes(slices, files.channels)
    problems["duplicate_id"] = sorted(" and ".join(sorted(paths)) for paths in clashes)
    in_clashes = {path for paths in clashes for path in paths}
    pairs = []
    for each in slices:
        paths = [path for of_channel in each.images.values() for path in of_channel]
        missing = [channel for channel in files.channels if channel not in each.images]
        if not each.masks:
            problems["image_without_mask"] += paths
        elif not paths:
            problems["mask_without_image"] += each.masks
        elif missing:
            of_channels = ", ".join(f"{each.id}_{channel}" for channel in missing)
            problems["missing_channel"].append(f"{each.masks[0]}: no {of_channels}")
        elif in_clashes.isdisjoint((*paths, *each.masks)):
            images = tuple(each.images[channel][0] for channel in files.channels)
            patient = each.folder if each.folder and each.folder not in split_folders else None
            pairs.append(Pair(id=each.id, images=images, mask=each.masks[0], patient=patient))
    for check in ("image_without_mask", "mask_without_image"):
        problems[check].sort()
    patients = {pair.patient for pair in pairs if pair.patient is not None}
    problems["folder_as_patient"] = sorted(name for name in patients if not looks_like_id(name))
    if files.reading == 1:
        for check in _SINCE_READING_2:
            problems["ignored_file"] += problems.pop(check, [])
    return Listing(
        root=root,
        kind=kind,
        pairs=tuple(pairs),
        ids=frozenset(each.id for each in slices),
        left_out=left_out,
        problems=problems,
    )


def _clashes(slices: Sequence[_Slice], channels: Sequence[str]) -> list[list[str]]:
    """Files that would be one image or one mask of one id."""
    with_id: dict[str, list[_Slice]] = defaultdict(list)
    for each in slices:
        with_id[each.id].append(each)
    images = [
        [path for each in same for path in each.images.get(channel, ())]
        for same in with_id.values()
        for channel in channels
    ]
    return [paths for paths in (*images, *(each.masks for each in slices)) if len(paths) > 1]


def _hint(root: Path, data: DataConfig) -> str:
    """The likely remedy where no layout was recognised."""
    for present, absent in ((IMAGES, MASKS), (MASKS, IMAGES)):
        if (root / present).is_dir():
            return f"; it has {present}/ but no {absent}/"
    problems: Problems = defaultdict(list)
    folders, names = scan(root, "", problems)
    found = [folder for folder in folders if _recognise(root / folder, data) is not None]
    if found:
        found.sort(key=lambda folder: (_HINT_ORDER.get(part_of(folder), 1), folder))
        more = f" (or one of {len(found) - _HINTS} more)" if len(found) > _HINTS else ""
        return f"; did you mean {' or '.join(str(root / folder) for folder in found[:_HINTS])}{more}?"
    for folder in folders:
        names += scan(root, folder, problems)[1]
    if any(name.lower().endswith((".mat", ".zip")) for name in names):
        return "; MATLAB files are turned into pairs by `python -m brainseg.data import figshare SRC OUT`"
    unread = sorted({ending for name in names if (ending := unread_ending(name))})
    return f"; {', '.join(unread)} files aren't read, convert them to PNG, a file a slice" if unread else ""
