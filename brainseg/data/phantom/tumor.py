"""The three kinds of tumour that the phantom has, as implicit shapes in a person's head.

Points are (3, height, width) arrays in mm in the head's own coordinates; distances are in mm, negative
inside, as in `phantom_head`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainseg.data.phantom.head import SELLA, Array, Head, coverage, paint, shell, surface_point

# What `Tumor.draw` gives at each pixel; 0 is anything else.
CORE, RIM, OEDEMA = 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Tumor:
    """One tumour: a rough ellipsoid, and how it takes up contrast medium."""

    kind: str  # a key of `KINDS`
    centre: Array  # (3,), mm
    radii: Array  # (3,), mm along the axes of `frame`
    frame: Array  # (3, 3) rotation
    roughness: float  # how far the surface leaves the ellipsoid, as a share of its radius, at most
    lump_mm: float  # voxel size of the noise that shapes the surface
    contrast: float  # brightness of the enhancing part above white matter
    core: float  # brightness of a dead or cystic core relative to white matter
    rim: float  # thickness of the enhancing rim as a share of the radius; 1 and more: no core
    patchiness: float  # in [0, 1]: how unevenly it enhances
    edge_mm: float  # how blurred its border is
    edema_mm: float  # reach of the swelling around it

    @property
    def safe_mm(self) -> float:
        """A plane that passes the centre this closely cuts the tumour over several mm."""
        return 0.75 * float(self.radii.min()) * (1 - self.roughness)

    def distance(self, points: Array, head: Head) -> Array:
        """Distance to the tumour's surface, before the brain's own surface bounds it."""
        level = self._level(points)
        lumps = np.tanh(head.texture("tumor", points, voxel_mm=self.lump_mm))
        rough = (level - 1 - np.float32(self.roughness) * lumps) * self.radii.mean()
        distance: Array = rough.astype(np.float32, copy=False)
        return distance

    def displaced(self, points: Array) -> Array:
        """Where the tissue at each point would be if the tumour had not pushed it away."""
        centre = self.centre.reshape(3, 1, 1)
        pull = np.float32(0.45) * np.exp(-0.4 * self._level(points) ** 2)
        tissue: Array = centre + (points - centre) * (1 - pull)
        return tissue

    def draw(self, image: Array, points: Array, brain: Array, head: Head) -> NDArray[np.uint8]:
        """Paints the tumour and what it does around itself, in place, and returns what each pixel shows of it.

        brain: distance to the brain's surface; a tumour of the brain or its coverings stays inside.
        """
        distance = self.distance(points, head)
        if self.kind != "pituitary":
            distance = np.maximum(distance, brain + (1.0 if self.kind == "glioma" else -1.0))
        noise = head.texture("core", points, voxel_mm=2.2)
        edema = self._edema_distance(points, distance, brain, head)
        paint(image, 0.72 * head.white, 0.8 * coverage(edema, 3.0))
        if self.kind == "meningioma":
            tail = coverage(distance - 9, 4.0) * shell(brain, inner=-2.2, outer=1.0)
            paint(image, head.white + self.contrast, 0.8 * tail)
            paint(image, head.fluid, 0.45 * shell(distance, inner=0.0, outer=1.6) * coverage(brain + 2))
        bright = head.white + self.contrast * (1 + self.patchiness * (0.8 * noise - 0.3))
        paint(image, bright, coverage(distance, self.edge_mm))
        thickness = self.rim * self.radii.mean() * (1 + 0.45 * self.patchiness * noise)
        paint(image, self.core * head.white * (1 + 0.08 * noise), coverage(distance + thickness, 1.2))
        return np.select(
            [(distance < 0) & (distance + thickness < 0), distance < 0, edema < 0], [CORE, RIM, OEDEMA]
        ).astype(np.uint8)

    def _level(self, points: Array) -> Array:
        """1 on the ellipsoid, 0 in its centre."""
        offset = np.tensordot(self.frame, points - self.centre.reshape(3, 1, 1), axes=1)
        level: Array = np.sqrt(((offset / self.radii.reshape(3, 1, 1)) ** 2).sum(axis=0))
        return level

    def _edema_distance(self, points: Array, distance: Array, brain: Array, head: Head) -> Array:
        """Distance to the border of the swollen white matter, which is darker; it follows no shape."""
        if not self.edema_mm:
            return np.full_like(distance, np.inf)
        ragged = distance + 0.5 * self.edema_mm * head.texture("fold_depth", points, voxel_mm=4.0)
        border: Array = np.maximum(ragged - self.edema_mm, brain + 3)
        return border


def random_rotation(rng: np.random.Generator) -> Array:
    """A rotation of any direction, (3, 3)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    rotation: Array = (q * np.sign(np.diag(r))).astype(np.float32)
    return rotation


def random_direction(rng: np.random.Generator, *, lowest: float) -> Array:
    """A unit vector, (3,), whose z is above `lowest`."""
    z = rng.uniform(lowest, 1.0)
    turn = rng.uniform(0, 2 * np.pi)
    flat = np.sqrt(1 - z * z)
    return np.array([flat * np.cos(turn), flat * np.sin(turn), z], np.float32)


def _meningioma(rng: np.random.Generator, head: Head, *, hard: bool) -> Tumor:
    """On the dura, round, well bounded, evenly bright."""
    radius = rng.uniform(6, 10) if hard else np.exp(rng.uniform(np.log(10), np.log(26)))
    surface = surface_point(head, random_direction(rng, lowest=-0.25))
    return Tumor(
        kind="meningioma",
        centre=surface * (1 - 0.65 * radius / np.linalg.norm(surface)).astype(np.float32),
        radii=(radius * rng.uniform(0.85, 1.15, 3)).astype(np.float32),
        frame=random_rotation(rng),
        roughness=0.14,
        lump_mm=float(radius * 0.3),
        contrast=float(rng.uniform(0.09, 0.17) if hard else rng.uniform(0.2, 0.42)),
        core=0.5,
        rim=2.0,
        patchiness=float(rng.uniform(0.05, 0.3)),
        edge_mm=float(rng.uniform(0.8, 1.6)),
        edema_mm=float(rng.uniform(4, 12) if rng.uniform() < 0.4 else 0.0),
    )


def _glioma(rng: np.random.Generator, head: Head, *, hard: bool) -> Tumor:
    """Within the brain, ragged; a bright ring round a dead core, patches, or hardly any enhancement."""
    radius = rng.uniform(10, 15) if hard else np.exp(rng.uniform(np.log(13), np.log(29)))
    surface = surface_point(head, random_direction(rng, lowest=-0.15))
    look = "faint" if hard else rng.choice(["ring", "patchy", "dark"], p=[0.67, 0.25, 0.08])
    ring = look == "ring"
    low, high = {"ring": (0.22, 0.42), "patchy": (0.2, 0.36), "faint": (0.1, 0.16), "dark": (-0.22, -0.12)}[str(look)]
    return Tumor(
        kind="glioma",
        centre=surface * np.float32(rng.uniform(0.4, 0.68)),
        radii=(radius * rng.uniform(0.85, 1.2, 3)).astype(np.float32),
        frame=random_rotation(rng),
        roughness=0.3,
        lump_mm=float(radius * 0.28),
        contrast=float(rng.uniform(low, high)),
        core=float(rng.uniform(0.35, 0.7)),
        rim=float(rng.uniform(0.2, 0.45) if ring else rng.uniform(0.7, 1.2)),
        patchiness=float(rng.uniform(0.25, 0.6)),
        edge_mm=float(rng.uniform(1.0, 1.8) if ring else rng.uniform(1.5, 3.0)),
        edema_mm=float(rng.uniform(3, 14)),
    )


def _pituitary(rng: np.random.Generator, head: Head, *, hard: bool) -> Tumor:
    """At the sella in the midline, small, bright; larger ones rise above it."""
    radius = rng.uniform(6.0, 7.5) if hard else np.exp(rng.uniform(np.log(8.0), np.log(16)))
    rise = np.array([rng.normal(0, 1.2), 0, 0.7 * (radius - 5)])
    return Tumor(
        kind="pituitary",
        centre=((np.array(SELLA) + rise) * head.scale).astype(np.float32),
        radii=(radius * np.array([rng.uniform(0.9, 1.15), rng.uniform(0.85, 1.0), rng.uniform(0.9, 1.25)])).astype(
            np.float32
        ),
        frame=np.eye(3, dtype=np.float32),
        roughness=0.15,
        lump_mm=float(radius * 0.35),
        contrast=float(rng.uniform(0.09, 0.17) if hard else rng.uniform(0.18, 0.38)),
        core=0.55,
        rim=float(0.5 if rng.uniform() < 0.2 else 2.0),
        patchiness=float(rng.uniform(0.05, 0.35)),
        edge_mm=float(rng.uniform(0.8, 1.8)),
        edema_mm=0.0,
    )


# How each kind is drawn.
KINDS: Mapping[str, Callable[..., Tumor]] = {"meningioma": _meningioma, "glioma": _glioma, "pituitary": _pituitary}

HARD_SHARE = 0.1  # tumours that are small and hardly stand out


def make_tumor(kind: str, head: Head, rng: np.random.Generator) -> Tumor:
    """Draws a tumour of a kind of `KINDS` in a head."""
    return KINDS[kind](rng, head, hard=bool(rng.uniform() < HARD_SHARE))
