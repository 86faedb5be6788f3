"""How many configurations have been scored on the test slices of some data."""

import json

import pytest

from brainseg.runs.select import find_run
from brainseg.runs.tested import configurations_tested, told
from brainseg.tracking.memory import MemoryStore


def record(
    store: MemoryStore,
    *,
    depth: int = 4,
    seed: int = 0,
    data: str = "d",
    val: str = "v",
    test: str = "t",
    scored: bool = True,
) -> None:
    """A finished run, whose parts have a slice each. val, test: the ids of these slices."""
    with store.open_tracker(run_name="run") as tracker:
        tracker.log_params({"model.depth": depth, "seed": seed, "data.root": f"/{seed}", "train.threads": seed})
        tracker.set_tags({"data_fingerprint": data * 64, "split_fingerprint": val + test})
        tracker.log_text(json.dumps({"schema_version": 1, "train": ["a"], "val": [val], "test": [test]}), "split.json")
        if scored:
            tracker.set_tags({"evaluation_test": "0.7"})


def test_configurations_count_once_on_these_slices_of_these_data() -> None:
    store = MemoryStore()
    record(store)
    record(store, seed=1)  # the same configuration
    record(store, depth=5)
    record(store, depth=6, val="w")  # validated on another slice, and tested on the same one
    record(store, depth=7, test="u")
    record(store, depth=8, data="e")
    record(store, depth=9, scored=False)
    assert configurations_tested(store, find_run(store, "memory-1")) == 3
    assert configurations_tested(store, find_run(store, "memory-6")) == 1


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (1, "no other configuration has been scored on these test slices here"),
        (7, "7 configurations have been scored on these test slices here; the best of many is partly luck"),
    ],
)
def test_the_count_stands_beside_the_score(count: int, sentence: str) -> None:
    assert told(count) == sentence
