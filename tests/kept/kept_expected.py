"""What brainseg 0.1 itself has made of the kept set, and how nearly a later version has to meet it."""

import lzma
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from kept_set import ARRAYS, EXPECTED, made_with, read_json
from numpy.typing import NDArray


class Expected:
    """What 0.1 has made of the set, and how nearly it has to be met here."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = read_json(EXPECTED)
        with lzma.open(ARRAYS) as file, np.load(file) as stored:
            self._arrays = {name: stored[name] for name in stored.files}
        # Other instructions, or another TensorFlow, sum in another order.
        self.is_exact = made_with() == self.facts["made_with"]

    def assert_facts(self, found: Any, expected: Any) -> None:
        """The same, to the last bit on a processor like the one where 0.1 ran."""
        if self.is_exact:
            assert found == expected
        else:
            assert_close(found, expected)

    def assert_arrays(self, found: Mapping[str, NDArray[Any]], prefix: str) -> None:
        """The same arrays under the same names; likewise."""
        start = f"{prefix}/"
        expected = {key.removeprefix(start): array for key, array in self._arrays.items() if key.startswith(start)}
        assert found.keys() == expected.keys()
        assert expected
        for name, array in expected.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
            if self.is_exact or array.dtype.kind in "US":
                assert np.array_equal(found[name], array), name
            elif array.dtype.kind == "f":
                np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-4, err_msg=name)
            else:  # masks, of which a pixel at the threshold may fall on either side
                assert np.mean(found[name] != array) < 0.05, name


def assert_close(found: Any, expected: Any) -> None:
    """Numbers are nearly the same, digests are let be, all else is equal."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if not key.endswith("_sha256"):
                assert_close(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=0.02, abs=0.02)
    else:
        assert found == expected
