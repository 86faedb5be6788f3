"""A run with parts of plugins: what it records, and that its model and record need none of them."""

import keras
import pytest

from brainseg import compose, plugins
from brainseg.config_file import from_yaml
from brainseg.evaluate.evaluation import Task, outcome_of, score, split_of
from brainseg.evaluate.text import sections
from brainseg.model.keras_file import read_model
from brainseg.runs.stored_run import metrics_of, read_run
from brainseg.tracking import MODEL_FILE, MemoryStore
from brainseg.train.experiment import run
from examples import forgotten

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("unrendered")]

NAMES = ("attention", "boundary", "bias", "lion", "objects")
OVERRIDES = [
    *("data.phantom_patients=6", "data.image_size=16", "data.batch_size=4", "train.epochs=1", "train.threads=2"),
    *("train.precision=float32", "tracking.predictions=0", f"plugins=[{','.join(NAMES)}]"),
    *("model.name=attention_unet", "model.options.filters=2", "model.options.depth=1"),
    *("train.loss=dice+boundary", "train.loss_options.boundary_weight=0.1", "data.augment=bias_field"),
    *("optimizer.name=my_lion", "metrics=[object_f1]"),
]


@pytest.fixture(autouse=True)
def dtype_policy():
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


def test_a_run_of_the_examples_is_recorded_and_read_without_them(example, here, slice_cache) -> None:
    files = [example(name) for name in NAMES]
    config = compose.freeze([*OVERRIDES, f"data.cache_dir={slice_cache}"])
    store = MemoryStore()
    result = run(config, store.open_tracker(run_name="one"))
    tracker = store.trackers[result.run_id]

    assert tracker.params["model.options.filters"] == "2"
    assert tracker.params["train.loss_options.boundary_weight"] == "0.1"
    assert tracker.tags["plugins"] == "; ".join(
        f"{key}: {plugins.origin(kind, name)}"
        for key, kind, name in (
            ("data.augment=bias_field", "augmentations", "bias_field"),
            ("model.name=attention_unet", "networks", "attention_unet"),
            ("optimizer.name=my_lion", "optimizers", "my_lion"),
            ("train.loss=boundary", "losses", "boundary"),
            ("metrics=object_f1", "metrics", "object_f1"),
        )
    )
    header, *rows = tracker.texts["val_scores.csv"].splitlines()
    assert header.split(",")[-1] == "object_f1"
    values = [float(row.split(",")[-1]) for row in rows]
    known = [value for value in values if value == value]
    assert result.further == {"object_f1": pytest.approx(sum(known) / len(known))}
    assert tracker.metrics[-1][1]["object_f1"] == result.further["object_f1"]

    read = read_run(store, result.run_id, root=str(here), folder=here / "fetched")
    task = Task(runs=(read,), split=split_of(read, split=None, data=None), settings=None)
    (here / "conf").mkdir()
    (here / "conf" / "config.yaml").write_text("defaults: [brainseg_config, _self_]\nplugins: [objects]\n")
    with forgotten():
        scored = score(task, lambda *_: None)
        assert scored.evaluation.means() == result.further
        (section,) = [each for each in sections(outcome_of([scored])) if each.title == "Metrics of plugins"]
        assert section.rows[0][0] == "object_f1"
    (here / "conf" / "config.yaml").unlink()
    with forgotten():
        assert metrics_of(read.config) == ({}, ["object_f1"])
        assert outcome_of([score(task, lambda *_: None)]).further == {}

    for file in files:
        file.unlink()
    with forgotten():
        stored = read_run(store, result.run_id, root=str(here), folder=here / "fetched")
        assert stored.config.model.options == {"depth": 1, "filters": 2}
        assert from_yaml(tracker.texts["config.yaml"], where="it").train.loss == "dice+boundary"
        model = read_model(store.file(result.run_id, MODEL_FILE, here), called="it", remedy="")
        assert model.output_shape == (None, 16, 16, 1)
