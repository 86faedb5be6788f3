"""HD95 and the surface Dice, by hand, by brute force, and beside two other implementations."""

import warnings

import numpy as np
import pytest
from medpy.metric.binary import hd95
from scipy.spatial.distance import cdist

from brainseg.scoring.surfaces import border_distances, surface_scores


def square(top, left, side, shape=(40, 50)):
    mask = np.zeros(shape, np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


def blob(rng, shape=(37, 52)):
    """Some overlapping discs, often with holes, parts of one pixel and contact to the edges."""
    rows, columns = np.indices(shape)
    mask = np.zeros(shape, np.bool_)
    for _ in range(rng.integers(1, 5)):
        row, column, radius = rng.integers(0, shape[0]), rng.integers(0, shape[1]), rng.integers(1, 12)
        mask ^= (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    mask[rng.integers(0, shape[0]), rng.integers(0, shape[1])] = True
    return mask


def border(mask):
    """Pixels with a direct neighbour outside the mask, or outside the slice, one by one."""
    found = []
    for row, column in zip(*np.nonzero(mask), strict=True):
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        if any(not (0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c]) for r, c in around):
            found.append((row, column))
    return np.array(found)


def brute_force(mask, predicted):
    distances = cdist(border(mask), border(predicted))
    return np.concatenate([distances.min(axis=1), distances.min(axis=0)])


@pytest.mark.parametrize("seed", range(60))
def test_distances_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    mask, predicted = blob(rng), blob(rng)
    expected = brute_force(mask, predicted)
    found = np.concatenate(border_distances(mask, predicted))
    np.testing.assert_allclose(np.sort(found), np.sort(expected), rtol=0, atol=1e-12)
    assert surface_scores(mask, predicted)[1] == pytest.approx(np.percentile(expected, 95), abs=1e-12)
    for tolerance in (0.0, 1.0, 2.0, 5.0):
        assert surface_scores(mask, predicted, tolerance=tolerance)[0] == (expected <= tolerance).mean()


@pytest.mark.parametrize("seed", range(60))
def test_hd95_is_that_of_medpy(seed):
    rng = np.random.default_rng(100 + seed)
    mask, predicted = blob(rng), blob(rng)
    assert surface_scores(mask, predicted)[1] == hd95(predicted, mask, connectivity=1)


def surface_dice_of_deepmind(mask, predicted, tolerance, spacing=(1, 1)):
    import surface_distance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it asks SciPy for names that have moved
        distances = surface_distance.compute_surface_distances(mask, predicted, spacing_mm=spacing)
    return surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)


@pytest.mark.parametrize(
    ("mask", "predicted", "expected"),
    [
        (square(10, 10, 12), square(10, 10, 12), 1.0),
        (square(10, 10, 12), square(12, 10, 12), 1.0),  # moved by the tolerance
        (square(5, 5, 30), square(10, 10, 20), 0.0),  # 5 pixels all around
        (square(2, 2, 9) | square(25, 30, 9), square(2, 2, 9), 2 / 3),  # one of two equal parts is missed
    ],
    ids=["the same", "moved", "inside", "a part missed"],
)
def test_surface_dice_is_that_of_deepmind_where_borders_are_pixels_or_elements_alike(mask, predicted, expected):
    assert surface_scores(mask, predicted)[0] == pytest.approx(expected)
    assert surface_dice_of_deepmind(mask, predicted, 2) == pytest.approx(expected)


def test_a_moved_square_by_hand():
    # Squares of 3 have 8 border pixels each; moved 2 to the right they share a column. Of the left one's 8 pixels,
    # the right column lies on the other's border, the middle two are 1 away, the left column 2.
    mask, predicted = square(10, 10, 3), square(10, 12, 3)
    left, right = border_distances(mask, predicted)
    assert sorted(left) == sorted(right) == [0, 0, 0, 1, 1, 2, 2, 2]
    assert surface_scores(mask, predicted, tolerance=1)[0] == 10 / 16
    assert surface_scores(mask, predicted, tolerance=0)[0] == 6 / 16
    assert surface_scores(mask, predicted)[1] == 2.0


def test_a_mask_that_reaches_the_edge_has_its_border_there():
    mask = square(0, 0, 5, shape=(5, 5))
    predicted = square(2, 2, 1, shape=(5, 5))
    left, right = border_distances(mask, predicted)
    assert len(left) == 16
    assert max(left) == pytest.approx(np.sqrt(8))
    assert list(right) == [2.0]


def test_empty_masks_score_by_the_rule():
    empty, full = np.zeros((30, 40), np.bool_), square(3, 3, 5, shape=(30, 40))
    assert surface_scores(empty, empty) == (1.0, 0.0)
    for one, other in ((empty, full), (full, empty)):
        assert surface_scores(one, other) == (0.0, 50.0)
    with pytest.raises(ValueError, match="an empty mask has no border"):
        border_distances(empty, full)


SPACINGS = [(1.0, 1.0, 1.0), (3.0, 0.5, 0.7), (0.4, 2.5, 1.0)]


def ball(rng, shape=(12, 20, 17)):
    """Some overlapping balls, some of which reach the edges."""
    places = np.indices(shape)
    mask = np.zeros(shape, np.bool_)
    for _ in range(rng.integers(1, 4)):
        centre = [rng.integers(0, side) for side in shape]
        mask ^= sum((axis - at) ** 2 for axis, at in zip(places, centre, strict=True)) < rng.integers(2, 8) ** 2
    mask[tuple(rng.integers(0, side) for side in shape)] = True
    return mask


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(10))
def test_hd95_of_a_volume_is_that_of_medpy_in_mm(seed, spacing):
    rng = np.random.default_rng(200 + seed)
    mask, predicted = ball(rng), ball(rng)
    expected = hd95(predicted, mask, voxelspacing=spacing, connectivity=1)
    assert surface_scores(mask, predicted, spacing_mm=spacing)[1] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_surface_dice_of_a_volume_is_near_that_of_deepmind(spacing):
    mask, predicted = np.zeros((2, 24, 24, 24), np.bool_)
    mask[4:20, 4:20, 4:20] = True
    predicted[4:20, 4:20, 7:20] = True
    expected = surface_dice_of_deepmind(mask, predicted, 1.5, spacing=spacing)
    found = surface_scores(mask, predicted, spacing_mm=spacing, tolerance=1.5)[0]
    assert found == pytest.approx(expected, abs=0.06)  # voxels in place of areas


def test_sides_of_voxels_count_in_distances_and_diagonals():
    mask, predicted = np.zeros((2, 4, 5, 6), np.bool_)
    assert surface_scores(mask, predicted, spacing_mm=(3, 1, 2)) == (1.0, 0.0)
    mask[1, 2, 3] = True
    assert surface_scores(mask, predicted, spacing_mm=(3, 1, 2)) == (0.0, np.sqrt(12**2 + 5**2 + 12**2))
    predicted[2, 2, 5] = True  # one slice of 3 mm and two columns of 2 mm away
    assert surface_scores(mask, predicted, spacing_mm=(3, 1, 2)) == (0.0, 5.0)
    assert surface_scores(mask, predicted, spacing_mm=(3, 1, 2), tolerance=5) == (1.0, 5.0)
