"""A person's head as an implicit 3-D model: brightness at any point, before the scanner adds its own.

Everything is a function of points, so that only the plane of a slice is ever evaluated. Points are
(3, ...) arrays in mm: x to the right, y to the front, z to the top, the origin in the middle of the
brain. A shape is a distance in mm, roughly, negative inside. Brightness is relative: 0 is air, about 0.4
white matter and 1 the brightest fat. What a surface coil, a pulse sequence and contrast medium do is
imitated by eye: nothing here is a physical simulation.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]

AIR = 0.02
SCALP_MM = 13.0  # from the brain's surface to the skin
SELLA = (0.0, 24.0, -37.0)  # where the pituitary gland lies

TEXTURE_SIDE = 48  # voxels a side of the periodic noise volume
TEXTURE_SIGMA = 1.6  # its smoothing in voxels

# One offset into the noise volume for each use, so that uses are independent of each other.
FIELDS = (
    "warp_x",
    "warp_y",
    "warp_z",
    "fold",
    "fold_depth",
    "vessel",
    "soft_tissue",
    "marrow",
    "grain",
    "tumor",
    "core",
)


@dataclass(frozen=True)
class Texture:
    """Smooth periodic noise of zero mean and unit variance, made once for a person."""

    volume: Array
    offsets: dict[str, Array]

    def __call__(self, field: str, points: Array, *, voxel_mm: float) -> Array:
        """The noise of a field of `FIELDS` at points; it changes sign about every 7 voxels along a line."""
        offset = self.offsets[field].reshape(3, *[1] * (points.ndim - 1))
        values: Array = ndimage.map_coordinates(self.volume, points / voxel_mm + offset, order=1, mode="grid-wrap")
        return values


def make_texture(rng: np.random.Generator) -> Texture:
    """Draws a noise volume and the offsets of its fields."""
    white = rng.standard_normal((TEXTURE_SIDE,) * 3, dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, TEXTURE_SIGMA, mode="wrap")
    offsets = rng.uniform(0, TEXTURE_SIDE, (len(FIELDS), 3)).astype(np.float32)
    return Texture((smooth - smooth.mean()) / smooth.std(), dict(zip(FIELDS, offsets, strict=True)))


def coverage(distance: Array, edge_mm: float = 1.0) -> Array:
    """Share of a pixel inside a shape, in [0, 1]: 1/2 on its surface, a ramp of `edge_mm` to either side."""
    share: Array = np.clip(0.5 - distance / (2 * edge_mm), 0, 1)
    return share


def shell(distance: Array, *, inner: float, outer: float, edge_mm: float = 1.0) -> Array:
    """Coverage of the layer between two distances from a surface."""
    return coverage(np.maximum(inner - distance, distance - outer), edge_mm)


def paint(image: Array, value: Array | float, alpha: Array) -> None:
    """Lays `value` over the image, in place, as opaque as `alpha` in [0, 1]."""
    image += (value - image) * alpha


def smooth_union(a: Array, b: Array, blend_mm: float) -> Array:
    """The union of two shapes with a rounded seam (Quilez's polynomial smooth minimum)."""
    h = np.clip(0.5 + 0.5 * (b - a) / blend_mm, 0, 1)
    union: Array = b + (a - b) * h - blend_mm * h * (1 - h)
    return union


def ellipsoid(points: Array, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Array:
    """First-order distance to an axis-aligned ellipsoid."""
    x, y, z = ((points[axis] - centre[axis]) / radii[axis] for axis in range(3))
    level = np.sqrt(x * x + y * y + z * z) + np.float32(1e-6)
    slope = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2) + np.float32(1e-6)
    distance: Array = level * (level - 1) / slope
    return distance


def tube(points: Array, path: tuple[tuple[float, float, float], ...], radius_mm: float) -> Array:
    """Distance to a tube along a polyline."""
    distance = np.full(points.shape[1:], np.inf, np.float32)
    for start, end in pairwise(path):
        axis = np.subtract(end, start).astype(np.float32)
        offset = [points[k] - np.float32(start[k]) for k in range(3)]
        along = np.clip((offset[0] * axis[0] + offset[1] * axis[1] + offset[2] * axis[2]) / (axis @ axis), 0, 1)
        square = sum((offset[k] - along * axis[k]) ** 2 for k in range(3))
        np.minimum(distance, np.sqrt(square), out=distance)
    return distance - np.float32(radius_mm)


def mirrored(points: Array) -> Array:
    """Points with both halves of the head folded onto x >= 0."""
    folded = points.copy()
    np.abs(folded[0], out=folded[0])
    return folded


@dataclass(frozen=True, kw_only=True)
class Head:
    """One person's anatomy, without the tumour."""

    texture: Texture
    scale: Array  # (3,): size relative to the model head, about 1
    ventricle_mm: float  # radius of the lateral ventricles
    sulcus_mm: float  # half the width of a sulcus: more in older people
    fold_depth_mm: float  # mean depth of the folds
    white: float  # brightness of white matter
    grey: float
    fluid: float  # cerebrospinal fluid
    fat: float
    vessel: float  # brightness of enhanced blood
    enhancement: float  # how far the dura has taken up contrast medium, in [0, 1]

    def warp(self, points: Array) -> Array:
        """How far the tissue at points, (3, ...), lies from its place in the symmetric model head, in mm."""
        warp = [self.texture(f"warp_{axis}", points, voxel_mm=26.0) for axis in "xyz"]
        return np.float32(2.2) * np.stack(warp)

    def model_points(self, points: Array) -> Array:
        """Points of this head, (3, ...), in the coordinates of the model head."""
        return self._scaled(points) + self.warp(points)

    def _scaled(self, points: Array) -> Array:
        scaled: Array = points / self.scale.reshape(3, *[1] * (points.ndim - 1))
        return scaled

    def brain_distance(self, model: Array) -> Array:
        """Distance to the surface of the brain with its fluid: the inside of the dura."""
        folded = mirrored(model)
        # Below the middle the ellipsoid is flat; stretching z there keeps the distance continuous.
        below = model[2] < 0
        cerebrum = ellipsoid(np.stack([*model[:2], np.where(below, 2.1 * model[2], model[2])]), (0, 0, 0), (66, 84, 66))
        temporal = ellipsoid(folded, (37, 8, -22), (26, 38, 22))
        posterior = ellipsoid(model, (0, -40, -32), (57, 40, 31))
        canal = tube(model, ((0, -14, -20), (0, -24, -60), (0, -34, -160)), 10.0)
        distance = smooth_union(smooth_union(cerebrum, temporal, 10.0), posterior, 16.0)
        return smooth_union(distance, canal, 6.0)

    def skin_distance(self, model: Array, brain: Array) -> Array:
        """Distance to the surface of the head: skull and scalp round the brain, face, nose and neck."""
        skull = smooth_union(brain - np.float32(SCALP_MM), ellipsoid(model, (0, -4, -12), (77, 94, 70)), 10.0)
        face = ellipsoid(model, (0, 42, -60), (60, 52, 66))
        nose = ellipsoid(model, (0, 92, -60), (12, 20, 22))
        chin = ellipsoid(model, (0, 66, -112), (36, 26, 22))
        neck = np.hypot(model[0] / 58, (model[1] + 22) / 60) * 58 - 58
        neck = np.maximum(neck, model[2] + np.float32(40))
        front = smooth_union(smooth_union(face, nose, 14.0), chin, 16.0)
        return smooth_union(smooth_union(skull, front, 14.0), neck, 18.0)

    def render(self, points: Array, displaced: Array) -> tuple[Array, Array]:
        """Brightness and the distance to the brain's surface at points, each (height, width).

        displaced: where the tissue at each point would be without the tumour that pushes it; bone stays.
        """
        warp = self.warp(points)
        model = self._scaled(points) + warp
        brain = self.brain_distance(model)
        image = np.full(brain.shape, AIR, np.float32)
        self._paint_soft_tissue(image, model, brain)
        self._paint_face(image, model, brain)
        self._paint_skull(image, model, brain)
        # A third of the picture, and the costliest to make.
        within = brain < 1.0
        pushed = self._scaled(displaced[:, within]) + warp[:, within]
        tissue = image[within]
        paint(tissue, self._intracranial(pushed, brain[within]), coverage(brain[within], 0.8))
        image[within] = tissue
        self._paint_sinuses(image, model, brain)
        return image, brain

    def _paint_soft_tissue(self, image: Array, model: Array, brain: Array) -> None:
        """Muscle and fat up to the skin; the scalp is mostly fat."""
        skin = self.skin_distance(model, brain)
        # Muscles run up and down, with fat between them.
        fibres = model * np.array([1.0, 1.0, 0.45], np.float32).reshape(3, 1, 1)
        noise = self.texture("soft_tissue", fibres, voxel_mm=1.5)
        strands = self.texture("marrow", fibres, voxel_mm=0.9)
        fat = np.clip(0.5 + 1.6 * (np.abs(noise) - 0.2 * strands - 1.1), 0, 1)
        tissue = 0.27 + 0.05 * strands + (0.62 * self.fat - 0.27) * fat
        paint(image, tissue, coverage(skin))
        lining = 7.0 + 2.0 * noise
        paint(image, self.fat * (0.94 + 0.06 * noise), coverage(np.maximum(-lining - skin, skin + np.float32(1.2))))
        paint(image, 0.42, shell(skin, inner=-1.4, outer=0.2))
        paint(image, 0.32, coverage(tube(model, ((0, -18, -66), (0, -20, -170)), 11.0)))
        disc = np.abs((model[2] % 17.0) - 8.5) - 7.0
        paint(image, 0.12, coverage(np.maximum(disc * -1, tube(model, ((0, -6, -66), (0, -14, -170)), 9.0))))

    def _paint_face(self, image: Array, model: Array, brain: Array) -> None:
        """Orbits with eyes, the air of nose, sinuses and mouth, the bones of the base."""
        folded = mirrored(model)
        noise = self.texture("marrow", model, voxel_mm=2.0)
        orbit = np.maximum(ellipsoid(folded, (29, 58, -31), (17, 28, 16)), 2.5 - brain)
        paint(image, 0.85 * self.fat, coverage(orbit))
        paint(image, 0.36, coverage(tube(folded, ((16, 36, -33), (29, 62, -31)), 2.2)))
        eye = ellipsoid(folded, (30, 70, -31), (12, 12, 12))
        paint(image, 0.45, coverage(eye))
        paint(image, 0.13, coverage(eye + np.float32(1.8)))
        cavity = ellipsoid(model, (0, 62, -62), (15, 30, 26)) + 2.5 * noise
        paint(image, AIR + 0.22 * (noise > 0.5), coverage(cavity))
        sphenoid = np.maximum(ellipsoid(model, (0, 34, -52), (14, 13, 10)) + noise, 2.0 - brain)
        paint(image, AIR + 0.02, coverage(sphenoid))
        paint(image, AIR, coverage(ellipsoid(folded, (27, 56, -66), (12, 16, 14)) + 2 * noise))
        paint(image, 0.34 + 0.1 * noise, coverage(ellipsoid(model, (0, 44, -104), (22, 34, 17))))
        paint(image, AIR, coverage(tube(model, ((0, 16, -64), (0, 2, -100), (0, 2, -160)), 6.0)))
        mastoid = np.maximum(ellipsoid(folded, (55, -22, -48), (14, 18, 18)), 1.5 - brain)
        paint(image, AIR + 0.2 * np.clip(noise, 0, 1), coverage(mastoid))
        paint(image, 0.30 + 0.08 * noise, coverage(tube(model, ((0, 12, -48), (0, -4, -66)), 6.0)))

    def _paint_skull(self, image: Array, model: Array, brain: Array) -> None:
        """Two dark plates with marrow between them, thinner towards the base."""
        marrow = self.texture("marrow", model, voxel_mm=5.0)
        thickness = np.clip(7.0 + 0.05 * model[2], 3.0, 8.5)
        alpha = coverage(np.maximum(0.8 - brain, brain - thickness))
        paint(image, 0.05, alpha)
        layer = np.maximum(2.6 - brain, brain - thickness + np.float32(1.8))
        paint(image, np.clip(0.30 + 0.12 * marrow, 0.05, 0.6), 0.8 * coverage(layer))

    def _intracranial(self, model: Array, brain: Array) -> Array:
        """Brightness of everything inside the dura."""
        depth = np.maximum(-brain, 0)
        image = self._cerebrum(model, depth)
        self._paint_deep(image, model)
        self._paint_posterior_fossa(image, model, depth)
        grain = self.texture("grain", model, voxel_mm=1.6)
        image *= 1 + np.float32(0.025) * grain
        return image

    def _cerebrum(self, model: Array, depth: Array) -> Array:
        """Folded cortex over white matter: sulci are the sheets on which a noise field is zero."""
        # Stretched along the radius, the sheets stand upright on the surface.
        radius = np.sqrt((model**2).sum(axis=0)) + np.float32(1e-3)
        upright: Array = (model * (radius / 70) ** np.float32(-0.55)).astype(np.float32, copy=False)
        fold = self.texture("fold", upright, voxel_mm=1.75)
        reach = self.fold_depth_mm + 6 * self.texture("fold_depth", model, voxel_mm=5.0)
        sheet = 2.2 * np.abs(fold) + 0.6 * np.maximum(depth - reach, 0)
        middle = np.abs(model[0] + 0.6 * fold) + 2 * np.maximum(-ellipsoid(model, (0, 4, 2), (30, 46, 25)), 0)
        edge = np.minimum(np.minimum(sheet, depth - 2.0), middle - 0.4)
        image = np.full(depth.shape, self.white, np.float32)
        paint(image, self.grey, coverage(edge - self.sulcus_mm - 2.8, 1.0))
        paint(image, self.fluid, coverage(edge - self.sulcus_mm, 0.9))
        paint(image, 0.5 * self.vessel * self.enhancement, 0.7 * coverage(middle - 0.7, 0.7) * (depth < 40))
        branch = self.texture("vessel", upright, voxel_mm=4.0)
        thread = 2.2 * np.sqrt(fold**2 + branch**2) - 0.5 + 0.1 * np.maximum(depth - 16, 0)
        paint(image, self.vessel, 0.55 * coverage(thread.astype(np.float32, copy=False), 0.8))
        return image

    def _paint_deep(self, image: Array, model: Array) -> None:
        """Basal ganglia, ventricles with choroid plexus, cisterns, the arteries of the base, the gland."""
        folded = mirrored(model)
        nuclei = np.minimum(ellipsoid(folded, (12, -10, 2), (9, 15, 10)), ellipsoid(folded, (26, 6, 0), (6, 20, 12)))
        paint(image, 0.35 * self.white + 0.65 * self.grey, coverage(nuclei, 1.5))
        size = self.ventricle_mm
        horns = tube(folded, ((13, 34, 6), (9, 14, 15), (12, -14, 18), (23, -34, 9), (25, -54, 5)), size)
        wing = tube(folded, ((18, 26, 12), (17, 4, 20), (21, -20, 18)), 0.6 * size)  # the roof slopes outwards
        horns = smooth_union(horns, wing, 4.0)
        temporal = tube(folded, ((22, -34, 9), (32, -18, -12), (33, 4, -20)), 0.45 * size)
        third = np.maximum(np.abs(model[0]) - 0.35 * size, ellipsoid(model, (0, -4, 0), (30, 18, 13)))
        paint(image, self.fluid, coverage(np.minimum(np.minimum(horns, temporal), third)))
        plexus = tube(folded, ((13, -16, 17), (22, -33, 8)), 0.35 * size)
        paint(image, 0.8 * self.vessel, 0.8 * coverage(plexus))
        cistern = np.minimum(ellipsoid(model, (0, 18, -26), (15, 12, 7)), ellipsoid(model, (0, -26, -8), (14, 6, 8)))
        paint(image, self.fluid, coverage(cistern, 1.5))
        arteries = np.minimum(
            tube(folded, ((11, 18, -42), (9, 20, -29), (20, 16, -23), (38, 12, -20), (46, 2, -8)), 1.5),
            tube(model, ((0, -3, -60), (0, 4, -26)), 1.7),
        )
        paint(image, self.vessel, coverage(arteries, 0.8))
        vein = tube(model, ((0, 8, 12), (0, -22, 8), (0, -36, 12), (0, -66, 0)), 1.4)
        paint(image, self.vessel, coverage(vein, 0.8))

    def _paint_posterior_fossa(self, image: Array, model: Array, depth: Array) -> None:
        """Brain stem, fourth ventricle, and the cerebellum with its fine folia under the tentorium."""
        cerebellum = ellipsoid(model, (0, -44, -37), (46, 31, 23))
        paint(image, 0.55 * self.vessel * self.enhancement, shell(cerebellum, inner=0.8, outer=2.6) * (model[2] < -6))
        arc = np.sqrt((model[1] + 26) ** 2 + 1.6 * (model[2] + 34) ** 2 + 0.2 * model[0] ** 2)
        folia = np.sin(1.3 * arc + 1.2 * self.texture("fold", model, voxel_mm=2.5))
        core = coverage(cerebellum + 13 + 3 * folia, 2.0)
        tissue = self.grey - 0.035 * (folia > 0.35) + (self.white - self.grey) * core
        paint(image, tissue, coverage(np.maximum(cerebellum, 1.5 - depth)))
        stem = tube(model, ((0, -13, -19), (0, -13, -34), (0, -24, -60), (0, -34, -160)), 9.0)
        stem = smooth_union(stem, ellipsoid(model, (0, -8, -32), (15, 12, 13)), 4.0)
        paint(image, self.fluid, shell(stem, inner=0.0, outer=2.6) * (np.abs(model[0]) < 17) * (cerebellum > -4))
        paint(image, 0.96 * self.white, coverage(stem))
        paint(image, self.fluid, coverage(ellipsoid(model, (0, -31, -36), (6, 4.5, 10))))

    def _paint_sinuses(self, image: Array, model: Array, brain: Array) -> None:
        """Enhanced blood outside the brain (venous sinuses, carotids), the dura, and the pituitary gland."""
        folded = mirrored(model)
        paint(image, 0.6 * self.vessel, self.enhancement * shell(brain, inner=-0.6, outer=0.9, edge_mm=0.8))
        sagittal = np.maximum(np.hypot(model[0], brain + 1.0) - 3.6, 12 - model[2] - 0.4 * np.abs(model[1]))
        sagittal = np.where(model[1] < 62, sagittal, 10.0)
        transverse = np.maximum(
            np.hypot(model[2] + 16 - 0.06 * folded[0], brain + 0.5) - 3.4, model[1] + np.float32(20)
        )
        cavernous = ellipsoid(folded, (11, 20, -39), (4, 9, 5))
        gland = ellipsoid(model, SELLA, (6.5, 4.5, 3.6))
        paint(image, self.vessel, coverage(np.minimum(sagittal, transverse)))
        paint(image, 0.75 * self.vessel, coverage(cavernous))
        paint(image, 0.7 * self.vessel, coverage(gland))


def make_head(rng: np.random.Generator) -> Head:
    """Draws a person."""
    age = rng.uniform()  # older: wider sulci and ventricles
    scale = rng.normal(1.0, 0.035, 3).clip(0.92, 1.08).astype(np.float32)
    white = rng.uniform(0.36, 0.44)
    return Head(
        texture=make_texture(rng),
        scale=scale * np.float32(rng.uniform(0.95, 1.03)),
        ventricle_mm=float(3.8 + 5.0 * age * rng.uniform(0.4, 1.0)),
        sulcus_mm=float(0.4 + 1.1 * age),
        fold_depth_mm=float(rng.uniform(11, 17)),
        white=float(white),
        grey=float(white * rng.uniform(0.72, 0.84)),
        fluid=float(rng.uniform(0.10, 0.17)),
        fat=float(rng.uniform(0.75, 1.0)),
        vessel=float(rng.uniform(0.62, 0.85)),
        enhancement=float(rng.uniform(0.25, 0.8)),
    )


def surface_point(head: Head, direction: Array) -> Array:
    """The point, (3,), where a ray from the origin leaves the brain."""
    steps = np.linspace(0, 120, 481, dtype=np.float32)
    points = (direction[:, None] * steps)[:, None, :]
    outside = head.brain_distance(head.model_points(points))[0] > 0
    point: Array = direction * steps[int(np.argmax(outside))]
    return point
