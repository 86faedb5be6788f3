"""The files of a folder, read by one layout: what is a slice, and what lies around."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from brainseg.config import DataConfig
from brainseg.data.names import Part, is_image, nfc, part_of
from brainseg.data.patterns import Layout, Pattern
from brainseg.data.scan import Problems, Tree, add_other_files, add_unused_folder, below, cant_be_listed


@dataclass(kw_only=True)
class SliceFiles:
    """The files of one id in one folder, while the folder is listed."""

    id: str
    folder: str = ""  # the one that names a patient or a part, if there is one
    named: str = ""  # how it does
    patient: str | None = None
    part: Part | None = None
    images: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # channel -> paths
    masks: list[str] = field(default_factory=list)


def missing_channels(slice_id: str, images: Collection[str], channels: Sequence[str]) -> str:
    """What the files would be called that a slice lacks, as in `7_t1, 7_ce`. images: the channels that it has."""
    return ", ".join(f"{slice_id}_{channel}" for channel in channels if channel not in images)


class Reading:
    """The files of a folder, read by one layout."""

    def __init__(self, layout: Layout, tree: Tree, data: DataConfig, kind: str) -> None:
        self.layout, self.tree, self.data, self.kind = layout, tree, data, kind
        self.images, self.masks = Pattern(layout.images, data), Pattern(layout.masks, data)
        self.channels = tuple(map(nfc, data.channels)) if "channel" in self.images.names else ("",)
        self.folders = sorted({*self.images.folders(tree), *self.masks.folders(tree)})
        self._endings: Any = {"reading": data.reading, "volumes": data.is_of_volumes}
        self.slices: dict[tuple[str, ...], SliceFiles] = {}
        self.unmatched: list[str] = []
        shared = [name for name in ("part", "patient", "id") if name in self.images.names & self.masks.names]
        for folder in self.folders:
            for name in tree[folder].files:
                if self._is_read(name):
                    self._add(below(folder, name), shared)

    def _is_read(self, name: str) -> bool:
        return is_image(name, **self._endings)

    def _add(self, path: str, shared: Sequence[str]) -> None:
        image, mask = self.images.fit(path), self.masks.fit(path)
        # What both fit is of the one that says more: 7_mask.png fits {id}.png, too.
        if mask is not None and (image is None or self.masks.letters >= self.images.letters):
            self._slice(mask, path, self.masks, shared).masks.append(path)
        elif image is not None:
            self._slice(image, path, self.images, shared).images[image.get("channel", "")].append(path)
        else:
            self.unmatched.append(path)

    def _slice(self, names: Mapping[str, str], path: str, pattern: Pattern, shared: Sequence[str]) -> SliceFiles:
        found = self.slices.setdefault(tuple(names[name] for name in shared), SliceFiles(id=names["id"]))
        named = names.get("part") or names.get("patient")
        if named is not None:
            found.folder, found.named, part = pattern.whose_folder(path), named, part_of(named)
            found.part = part if self.data.reading > 1 else None
            found.patient = names.get("patient") if found.part is None or "part" in names else None
        return found

    @property
    def has_masks(self) -> bool:
        return any(each.masks for each in self.slices.values())

    @property
    def has_pairs(self) -> bool:
        return any(each.masks and each.images for each in self.slices.values())

    @property
    def pairing(self) -> set[tuple[str, ...]]:
        """Which files are one slice."""
        return {
            (*sorted(path for paths in each.images.values() for path in paths), "", *sorted(each.masks))
            for each in self.slices.values()
        }

    @property
    def left_over(self) -> int:
        """How many images or masks have no partner."""
        return len(self.unmatched) + sum(not (each.masks and each.images) for each in self.slices.values())

    def problems_around(self, metadata: str) -> Problems:
        """What the folders hold beside the files that fit. metadata: a file of the root that is no problem."""
        tree, told = self.tree, self.data.images is not None
        problems: Problems = defaultdict(list)
        for folder in self.folders:
            if (denied := tree[folder].denied) is not None:
                raise cant_be_listed(denied)
        by_patient = self.layout.images.startswith("{patient}/") and not told
        used = {folder for folder in self.folders if not by_patient or any(map(self._is_read, tree[folder].files))}
        above = {"", *(folder[:place] for folder in used for place, sign in enumerate(folder) if sign == "/")}
        named = "other_channel" if "channel" in self.images.names else "unmatched_file"
        problems[named] += self.unmatched
        for folder in sorted(used | above, key=lambda folder: (not folder, folder)):  # the root last
            inside = tree[folder]
            if inside.denied is not None:
                raise cant_be_listed(inside.denied)
            for check, items in inside.problems.items():
                problems[check] += items
            deeper = [below(folder, name) for name in inside.folders if below(folder, name) not in used | above]
            others = [name for name in inside.files if name != metadata or folder]
            for name in deeper:
                if (by_patient and not folder) or (self.layout.images == "{id}.*" and not told):
                    add_unused_folder(tree.root, name, problems, volumes=self.data.is_of_volumes)
                else:
                    problems["nested_folder" if folder in used and not told else "ignored_folder"].append(f"{name}/")
            if folder in used:
                add_other_files(folder, others, problems, **self._endings)
            elif by_patient:
                problems["image_outside"] += filter(self._is_read, others)
                add_other_files(folder, others, problems, **self._endings)
            else:
                problems["ignored_file"] += [below(folder, name) for name in others]
        return problems
