"""Reliability bins and the calibration error, by hand and beside scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from brainseg.scoring.calibration import BINS, Calibration


def counted(probability, mask):
    calibration = Calibration()
    calibration.add(np.array(probability, np.float32), np.array(mask, np.bool_))
    return calibration


def test_a_model_that_knows_how_sure_it_is_has_no_error():
    found = counted([[0.75] * 4, [0.25] * 4], [[1, 1, 1, 0], [1, 0, 0, 0]]).all_pixels
    assert found.error == 0.0
    assert sum(found.pixels) == 8
    assert found.probability[3] == found.tumor_share[3] == 0.25  # 0.25 * 15 = 3.75
    assert found.probability[11] == found.tumor_share[11] == 0.75  # 11.25
    assert found.probability[0] is None


def test_the_error_weighs_each_bin_by_its_pixels():
    # 3 pixels said 1 and 2 were; 1 pixel said 0.5 and wasn't.
    found = counted([[1.0, 1.0, 1.0, 0.5]], [[1, 1, 0, 0]]).all_pixels
    assert found.pixels[BINS - 1] == 3
    assert found.error == pytest.approx((3 * (1 / 3) + 1 * 0.5) / 4)


def test_near_a_tumour_are_the_mask_and_what_is_suspected():
    probability = [[0.0, 0.0, 0.01, 0.02, 1.0, 0.0]]
    found = counted(probability, [[0, 0, 0, 0, 1, 1]])
    assert sum(found.all_pixels.pixels) == 6
    assert sum(found.near_tumor.pixels) == 3  # 0.02, and both pixels of the mask
    assert found.near_tumor.error == pytest.approx((abs(0.02 / 2 - 1 / 2) * 2) / 3)


def test_the_curve_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    probability = rng.random((50, 50)).astype(np.float32)
    mask = rng.random((50, 50)) < probability**2
    found = counted(probability, mask).all_pixels
    share, said = calibration_curve(mask.ravel(), probability.ravel(), n_bins=BINS)
    np.testing.assert_allclose(found.tumor_share, share, atol=1e-12)
    np.testing.assert_allclose(found.probability, said, atol=1e-6)


def test_slices_add_up_in_any_order():
    rng = np.random.default_rng(0)
    parts = [(rng.random((5, 4)).astype(np.float32), rng.random((5, 4)) < 0.5) for _ in range(3)]
    together, first, second = Calibration(), Calibration(), Calibration()
    for probability, mask in parts:
        together.add(probability, mask)
    first.add(*parts[2])
    second.add(*parts[0])
    second.add(*parts[1])
    first.merge(second)
    assert first.all_pixels.pixels == together.all_pixels.pixels
    assert first.near_tumor.error == pytest.approx(together.near_tumor.error)


def test_no_pixels_have_no_error():
    assert Calibration().all_pixels.error == 0.0
