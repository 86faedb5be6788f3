"""The benchmark of other grey levels, on a few pixels counted by hand."""

import numpy as np

from benchmarks.brightness import changed


def test_grey_levels_are_scaled_moved_rounded_and_cut_off():
    levels = np.array([[0, 3, 100, 255]], np.uint8)
    assert changed(levels, gain=1.0, offset=0.0).tolist() == [[0, 3, 100, 255]]
    assert changed(levels, gain=0.5, offset=64.0).tolist() == [[64, 66, 114, 192]]  # 65.5 and 191.5: to even
    assert changed(levels, gain=2.0, offset=-10.0).tolist() == [[0, 0, 190, 255]]
