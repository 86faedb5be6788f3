"""A data set made from a seed: slices that look like contrast-enhanced T1 MRI of heads with a tumour.

It needs no download, so that a first run, the tests and the examples work anywhere. It keeps what makes
the real task treacherous: several neighbouring slices of each patient, which are near duplicates; three
orientations whose ids lie apart; people who were scanned twice under two ids; and some tumours that hardly
stand out. It is no substitute for real data, and scores on it say nothing about patients.
"""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from brainseg.classes import BINARY, parse_classes
from brainseg.cli.output import check_new_folder
from brainseg.config import PHANTOM_CLASSES
from brainseg.data.phantom.head import Array, Head, make_head
from brainseg.data.phantom.tumor import CORE, RIM, Tumor, make_tumor
from brainseg.data.source import PATIENT, TUMOR_TYPE, SliceInfo
from brainseg.errors import DataError

PHANTOM_VERSION = 2  # raised whenever a slice changes
STORED_SIZE = 128  # pixels a side
MAX_PATIENTS = 10_000  # ids have four digits
ORIENTATION = "orientation"

# Slices of each type in the figshare data set of Cheng et al. 2015, doi 10.1371/journal.pone.0140381.
TYPE_COUNTS = {"meningioma": 708, "glioma": 1426, "pituitary": 930}

# Axes of head coordinates (0 right, 1 front, 2 top): (image column, image row, across the slice), the
# signs of column and row, and the middle of the picture in mm along each head axis.
VIEWS = {
    "axial": ((0, 1, 2), (1, -1), (0.0, 2.0, 0.0)),
    "coronal": ((0, 2, 1), (1, -1), (0.0, 0.0, -26.0)),
    "sagittal": ((1, 2, 0), (-1, -1), (8.0, 0.0, -26.0)),
}

# What a random stream decides; a stream's seed is (seed, person, stream, ...).
PLAN, HEAD, TUMOR, SCAN, SLICE, TINT = range(6)

# What a colour adds to each of red, green and blue, as a share of the brightness; none changes the luma.
TISSUE = np.array([0.12, -0.08, 0.0972], np.float32)  # pink
LESION = np.array([-0.25, 0.06, 0.3468], np.float32)  # blue


@dataclass(frozen=True, kw_only=True)
class PlannedSlice:
    """Which plane of whose head a slice shows."""

    id: str
    person: int
    scan: int  # 0, or 1 for a repeat
    kind: str  # type of the tumour
    orientation: str
    number: int  # position in the stack, from 0
    stack: int  # number of slices in the stack


class PhantomSource:
    """A `Source` made from a seed.

    A slice depends only on the seed, its patient and its number: the first patients of a larger phantom are
    those of a smaller one. Every tenth person has a second scan, under the same id with the letter B.
    """

    def __init__(self, patients: int = 70, seed: int = 0, *, kind: str = "binary", channels: str = "auto") -> None:
        """patients: people in the phantom, 1 to `MAX_PATIENTS`; seed: 0 or more. Raises DataError otherwise.

        kind: see `data.phantom_kind`. channels: grey, rgb, or auto for what the kind has.
        """
        if not 1 <= patients <= MAX_PATIENTS:
            raise DataError(f"data.phantom_patients must be between 1 and {MAX_PATIENTS}, got {patients}; try 70")
        if seed < 0:
            raise DataError(f"data.phantom_seed must be at least 0, got {seed}; try 0")
        self.patients = patients
        self.seed = seed
        self.kind = kind
        self._in_rgb = self.holds_colour() if channels == "auto" else channels == "rgb"
        classes = PHANTOM_CLASSES[kind]
        self.name = "phantom"
        self.labels = BINARY if classes is None else parse_classes(classes).labels(has_ignored=False)
        self.location = f"phantom of {patients} patients, seed {seed}" + ("" if kind == "binary" else f", {kind}")
        planned = (item for person in range(patients) for item in plan_person(seed, person))
        self._planned = {item.id: item for item in sorted(planned, key=lambda item: item.id)}

    def slices(self) -> tuple[SliceInfo, ...]:
        """Every slice, sorted by id; nothing is rendered."""
        return tuple(
            SliceInfo(
                id=item.id,
                columns={PATIENT: patient_id(item), TUMOR_TYPE: item.kind, ORIENTATION: item.orientation},
            )
            for item in self._planned.values()
        )

    def read(self, slice_id: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image in [0, 255] and mask of one channel, both uint8 of STORED_SIZE; see `Source.read`.

        Every mask has tumour. Raises DataError for an id that `slices` doesn't give.
        """
        if slice_id not in self._planned:
            raise DataError(f"{self.location}: there is no slice {slice_id!r}; `slices` lists them")
        image, mask = render(self.seed, self._planned[slice_id], in_colour=self.holds_colour())
        if not self.labels.are_named:
            mask = np.isin(mask, (CORE, RIM)).astype(np.uint8)
        picture = Image.fromarray(image).convert("RGB" if self._in_rgb else "L")
        return np.asarray(picture).reshape(STORED_SIZE, STORED_SIZE, -1), mask[..., np.newaxis]

    def holds_colour(self) -> bool:
        """Whether the images are coloured."""
        return self.kind == "colour"

    def stamp(self) -> str:
        """A digest of the phantom's version, seed, number of patients, and what else its slices follow from."""
        form = "" if self.kind == "binary" and not self._in_rgb else f" {self.kind} {self._in_rgb}"
        return hashlib.sha256(f"phantom {PHANTOM_VERSION} {self.seed} {self.patients}{form}".encode()).hexdigest()


def patient_id(item: PlannedSlice) -> str:
    """PH0007, or PH0007B for the repeat scan of the same person."""
    return f"PH{item.person:04d}" + ("B" if item.scan else "")


def plan_person(seed: int, person: int) -> Iterator[PlannedSlice]:
    """The slices of one person: 3 to 7 over two or three orientations, and 3 of a repeat scan."""
    kind = tumor_kind(seed, person)
    has_repeat = person % 10 == 7
    for scan in range(2 if has_repeat else 1):
        rng = np.random.default_rng([seed, person, PLAN, scan])
        orientations = rng.permutation(list(VIEWS))[: int(rng.integers(2, 4))]
        total = 3 if scan else int(rng.integers(3, 8))
        for place, orientation in enumerate(orientations):
            stack = len(range(place, total, len(orientations)))
            for number in range(stack):
                letter = "b" if scan else "a"
                yield PlannedSlice(
                    id=f"{orientation}-{person:04d}{letter}-{number}",
                    person=person,
                    scan=scan,
                    kind=kind,
                    orientation=str(orientation),
                    number=number,
                    stack=stack,
                )


def tumor_kind(seed: int, person: int) -> str:
    """The type of a person's tumour; any run of people has about the shares of `TYPE_COUNTS`."""
    # Multiples of the golden ratio, modulo 1, are spread evenly however many there are.
    start = np.random.default_rng([seed, PLAN]).uniform()
    place = (start + person * 0.6180339887498949) % 1 * sum(TYPE_COUNTS.values())
    bounds = np.cumsum(list(TYPE_COUNTS.values()))
    return list(TYPE_COUNTS)[int(np.searchsorted(bounds, place, side="right"))]


@lru_cache(maxsize=4)
def make_person(seed: int, person: int, kind: str) -> tuple[Head, Tumor]:
    """A person's head and tumour at the first scan; cached, since slices are often read patient by patient."""
    head = make_head(np.random.default_rng([seed, person, HEAD]))
    return head, make_tumor(kind, head, np.random.default_rng([seed, person, TUMOR]))


def render(seed: int, item: PlannedSlice, *, in_colour: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image, and what each pixel shows of the tumour (see `Tumor.draw`), both (STORED_SIZE, STORED_SIZE).

    in_colour: the image is (STORED_SIZE, STORED_SIZE, 3), and its luma that of a head without a tumour.
    """
    head, tumor = make_person(seed, item.person, item.kind)
    if item.scan:
        tumor = replace(tumor, radii=tumor.radii * np.float32(1.12))  # it has grown
    scanner = np.random.default_rng([seed, item.person, SCAN, item.scan, list(VIEWS).index(item.orientation)])
    points = slice_points(item, tumor, scanner)
    image, brain = head.render(points, points if in_colour else tumor.displaced(points))
    mask = tumor.draw(image.copy() if in_colour else image, points, brain, head)
    noise = np.random.default_rng(
        [seed, item.person, SLICE, item.scan, list(VIEWS).index(item.orientation), item.number]
    )
    scanned = scan_image(image, scanner, noise)
    if in_colour:
        strength = np.random.default_rng([seed, item.person, TINT, item.scan]).uniform(0.6, 1.2)
        scanned = tinted(scanned, np.isin(mask, (CORE, RIM)), strength)
    return scanned, mask


def tinted(grey: NDArray[np.uint8], lesion: NDArray[np.bool_], strength: float) -> NDArray[np.uint8]:
    """The image (height, width) in colour, (height, width, 3); the lesion differs in hue, and not in luma."""
    share = ndimage.gaussian_filter(lesion.astype(np.float32), 0.6)[..., np.newaxis]
    colour = 1 + np.float32(strength) * (TISSUE + (LESION - TISSUE) * share)
    # Darker than in grey, so that no channel is cut off at 255.
    levels: NDArray[np.uint8] = np.rint(np.float32(0.7) * grey[..., np.newaxis] * colour).astype(np.uint8)
    return levels


def slice_points(item: PlannedSlice, tumor: Tumor, rng: np.random.Generator) -> Array:
    """Head coordinates in mm of every pixel, (3, STORED_SIZE, STORED_SIZE).

    The slices of a stack lie up to 6 mm apart, and all of them cut the tumour. The head lies a little askew.
    """
    (column, row, across), (column_sign, row_sign), middle = VIEWS[item.orientation]
    field_mm = rng.uniform(205, 248)
    shift = rng.normal(0, 4, 3)
    pose = small_rotation(rng.normal(0, np.radians(4), 3))
    spread = rng.uniform(-1, 1)
    gap_mm = min(6.0, 2 * tumor.safe_mm / max(item.stack - 1, 1))
    slack_mm = tumor.safe_mm - gap_mm * (item.stack - 1) / 2
    offset_mm = spread * slack_mm + gap_mm * (item.number - (item.stack - 1) / 2)

    ramp = ((np.arange(STORED_SIZE) + 0.5) / STORED_SIZE - 0.5) * field_mm
    grid = np.empty((3, STORED_SIZE, STORED_SIZE), np.float32)
    grid[column] = (column_sign * ramp + middle[column] + shift[column])[None, :]
    grid[row] = (row_sign * ramp + middle[row] + shift[row])[:, None]
    grid[across] = (pose.T @ tumor.centre)[across] + offset_mm
    return np.tensordot(pose.astype(np.float32), grid, axes=1)


def small_rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns about x, then y, then z by angles in radians, (3, 3)."""
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    return rotation


def scan_image(image: Array, scanner: np.random.Generator, noise: np.random.Generator) -> NDArray[np.uint8]:
    """What the scanner makes of brightness: uneven coils, blur, Rician noise, and 8 bits.

    scanner: the same for every slice of a stack; noise: a slice's own.
    """
    coarse = scanner.normal(0, 1, (4, 4))
    bias = 1 + 0.12 * ndimage.zoom(coarse, STORED_SIZE / 4, order=3, mode="nearest", grid_mode=True)
    blur_px = scanner.uniform(0.35, 0.75)
    sigma = scanner.uniform(0.010, 0.026)
    gain = scanner.uniform(0.72, 1.0)
    seen = ndimage.gaussian_filter(image * bias, blur_px)
    real, imaginary = sigma * noise.standard_normal((2, *image.shape))
    levels = 255 * gain * np.hypot(seen + real, imaginary)
    eight_bit: NDArray[np.uint8] = levels.clip(0, 255).astype(np.uint8)
    return eight_bit


def write_phantom(source: PhantomSource, folder: Path) -> None:
    """Writes images/<id>.png, masks/<id>.png and metadata.csv into a new or empty folder.

    Masks have the values of the classes, or 0 and 255 where there are none.

    Raises InputError where the folder has something in it, or is a file.
    """
    check_new_folder(folder)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    slices = source.slices()
    for item in slices:
        image, mask = source.read(item.id)
        Image.fromarray(image.squeeze()).save(folder / "images" / f"{item.id}.png")
        values = mask if source.labels.are_named else mask * np.uint8(255)
        Image.fromarray(values[..., 0]).save(folder / "masks" / f"{item.id}.png")
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", PATIENT, TUMOR_TYPE, ORIENTATION])
        table.writerows(
            [item.id, *(item.columns[key] for key in (PATIENT, TUMOR_TYPE, ORIENTATION))] for item in slices
        )
