"""What a model was trained on, in percentiles, and what is said of a slice that is unlike it."""

import numpy as np
import pytest

from brainseg.classes import BINARY
from brainseg.data.cache import SliceSet
from brainseg.data.source import SliceInfo
from brainseg.data.training_statistics import (
    SliceStatistics,
    TrainingStatistics,
    measure_slice,
    parse_statistics,
    statistics_of,
)
from brainseg.errors import DataError

# 100 and 200 pixels wide and high, brightness 20 to 60, contrast 30.
TRAINED = TrainingStatistics(
    slices=5,
    measures={
        "width": (100, 100, 100, 100, 150, 200, 200, 200, 200),
        "height": (100, 100, 100, 100, 150, 200, 200, 200, 200),
        "aspect": (1,) * 9,
        "brightness": (0, 20, 30, 35, 40, 45, 50, 60, 90),
        "contrast": (30,) * 9,
    },
)


def measures(*, width=150, height=150, brightness=40, contrast=30):
    return SliceStatistics(width=width, height=height, aspect=width / height, brightness=brightness, contrast=contrast)


def made_slices(count):
    """Slice k: half of the pixels at k, the others at k + 100; k + 1 pixels wide, 10 high."""
    images = np.zeros((count, 4, 4, 1), np.uint8)
    images += np.arange(count, dtype=np.uint8)[:, None, None, None]
    images[:, :2] += 100
    sizes = np.array([[10, number + 1] for number in range(count)], np.int32)
    infos = tuple(SliceInfo(id=f"{number:03d}") for number in range(count))
    return SliceSet(
        slices=infos,
        images=images,
        masks=images % 2,
        labels=BINARY,
        channels_are_alike=True,
        sizes=sizes,
        fingerprint="f",
        source=None,
    )


def test_a_slice_is_measured_at_the_models_size_and_by_its_own():
    image = np.array([[0, 100], [100, 0]], np.uint8)
    assert measure_slice(image, stored=(10, 30)) == SliceStatistics(
        width=30, height=10, aspect=3.0, brightness=50.0, contrast=50.0
    )


def test_percentiles_are_over_the_slices_that_are_named():
    found = statistics_of(made_slices(120), [f"{number:03d}" for number in range(101)])
    assert found.slices == 101
    assert found.measures["brightness"] == (50, 51, 55, 75, 100, 125, 145, 149, 150)
    assert found.measures["contrast"] == (50,) * 9
    assert found.measures["width"] == (1, 2, 6, 26, 51, 76, 96, 100, 101)
    assert found.measures["height"] == (10,) * 9
    assert found.measures["aspect"] == pytest.approx((0.1, 0.2, 0.6, 2.6, 5.1, 7.6, 9.6, 10.0, 10.1))


def test_what_is_stored_is_read_back():
    found = statistics_of(made_slices(7), ["002", "005", "001"])
    assert parse_statistics(found.to_json(), where="it") == found


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (measures(), []),
        (measures(brightness=10.5), []),  # a quarter of the range of 40 below 20
        (measures(brightness=9), ["brightness 9 (20 to 60 in training)"]),
        (measures(brightness=71), ["brightness 71 (20 to 60 in training)"]),
        (measures(contrast=5), ["contrast 5 (30 in training)"]),
        (measures(width=50, height=50), []),  # half
        (measures(width=49, height=49), ["size 49x49 (100x100 to 200x200 in training)"]),
        (measures(width=401, height=400), ["size 401x400 (100x100 to 200x200 in training)"]),
        (measures(width=164), []),
        (measures(width=170), ["width/height 1.13 (1.00 in training)"]),
        (
            measures(width=100, height=600, brightness=200),
            [
                "size 100x600 (100x100 to 200x200 in training)",
                "width/height 0.17 (1.00 in training)",
                "brightness 200 (20 to 60 in training)",
            ],
        ),
    ],
)
def test_a_slice_beyond_the_usual_range_is_unlike(found, said):
    assert TRAINED.differences(found, with_size=True) == said


def test_where_sizes_do_not_count_the_rest_does():
    found = measures(width=100, height=600, brightness=200)
    assert TRAINED.differences(found, with_size=False) == ["brightness 200 (20 to 60 in training)"]


BROKEN = "it can't be read; restore the artifact that the run recorded"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", BROKEN),
        ("[]", BROKEN),
        ("{}", BROKEN),
        (TRAINED.to_json().replace('"contrast"', '"contrst"'), BROKEN),
        (TRAINED.to_json().replace("[\n  30,", "[\n "), BROKEN),
        (
            TRAINED.to_json().replace('"schema_version": 1', '"schema_version": 2'),
            "it has schema_version 2, and this brainseg reads 1; "
            "use the brainseg version in the run's environment/packages.txt",
        ),
    ],
)
def test_what_brainseg_did_not_write_is_refused(text, message):
    with pytest.raises(DataError) as caught:
        parse_statistics(text, where="it")
    assert str(caught.value) == message
