"""Which model is meant, and where threshold, flips and smallest part come from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brainseg.config import DataConfig, RunConfig
from brainseg.config_file import to_yaml
from brainseg.data.split import Split
from brainseg.data.training_statistics import PERCENTILES, SliceStatistics, TrainingStatistics
from brainseg.errors import InputError
from brainseg.inference.postprocess import MaskSettings
from brainseg.runs.models import Segmenter, load, segmenter_of_file, segmenter_of_run
from brainseg.tracking import MODEL_FILE, MemoryStore

CHOSEN = {"flip": "left-right", "shift": "diagonal", "threshold": 0.4, "min_area_px": 25}
STATISTICS = TrainingStatistics(
    slices=3, measures={name: (1.0,) * len(PERCENTILES) for name in SliceStatistics.__dataclass_fields__}
)


@pytest.fixture
def store(tiny: Callable[..., RunConfig]) -> MemoryStore:
    """One run, memory-1, whose model is no model."""
    made = MemoryStore()
    with made.open_tracker(run_name="made") as tracker:
        tracker.set_tags({"threads": "2"})
        tracker.log_text(to_yaml(tiny()), "config.yaml")
        tracker.log_text(Split(train=("a",), val=("b",)).to_json(), "split.json")
        tracker.files[MODEL_FILE] = b"not a model"
    return made


def evaluated(store: MemoryStore, tmp_path: Path, part: str, **chosen: Any) -> None:
    """Adds what `evaluate` adds, with a choice if there is one."""
    folder = tmp_path / part
    folder.mkdir()
    (folder / "scores.csv").touch()
    if chosen:
        content = {"schema_version": 2, "runs": {"memory-1": {"settings": chosen}}}
        (folder / "choice.json").write_text(json.dumps(content))
    tags = {f"evaluation_{part}": "0.5", f"evaluation_{part}_masks": "as they are"}
    store.add("memory-1", folder, to=f"evaluation/{part}", tags=tags)


def of_run(store: MemoryStore, tmp_path: Path, name: str = "memory-1", **given: Any) -> Segmenter:
    return segmenter_of_run(store, name, root="mlruns", folder=tmp_path / "fetched", given=given)


def test_a_run_says_everything(store: MemoryStore, tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    store.trackers["memory-1"].texts["data_statistics.json"] = STATISTICS.to_json()
    found = of_run(store, tmp_path)
    assert found.run is not None
    assert found.run.id == "memory-1"
    assert found == Segmenter(
        name="run memory-1",
        model_file=tmp_path / "fetched" / "memory-1" / MODEL_FILE,
        remedy=f"restore the artifact {MODEL_FILE} of run memory-1, or train again",
        data=tiny().data,
        threads=2,
        statistics=STATISTICS,
        settings=MaskSettings(),
        settings_from="the defaults",
        run=found.run,
    )


def test_an_alias_leads_to_its_run(store: MemoryStore, tmp_path: Path) -> None:
    store.registered = {"brainseg@champion": "memory-1"}
    assert of_run(store, tmp_path, "champion").name == "brainseg@champion, run memory-1"


def test_a_run_without_statistics_has_none(store: MemoryStore, tmp_path: Path) -> None:
    assert of_run(store, tmp_path).statistics is None


@pytest.mark.parametrize(
    ("parts", "given", "settings", "source"),
    [
        (["val"], {}, MaskSettings(**CHOSEN), "chosen on validation slices, evaluation/val/choice.json"),
        (["test", "data-b"], {}, MaskSettings(**CHOSEN), "chosen on validation slices, evaluation/test/choice.json"),
        (
            ["data-b_masks"],
            {},
            MaskSettings(**CHOSEN),
            "chosen on validation slices, evaluation/data-b_masks/choice.json",
        ),
        ([], {}, MaskSettings(), "the defaults"),
        ([], {"threshold": 0.3}, MaskSettings(threshold=0.3), "--threshold as given, else the defaults"),
        (
            ["val"],
            {"threshold": 0.3, "flip": "none"},
            MaskSettings(shift="diagonal", threshold=0.3, min_area_px=25),
            "--flip, --threshold as given, else chosen on validation slices, evaluation/val/choice.json",
        ),
        (
            ["val"],
            {"threshold": 0.3, "flip": "none", "shift": "none", "min_area_px": 1},
            MaskSettings(threshold=0.3, min_area_px=1),
            "as given",
        ),
    ],
)
def test_settings_are_the_chosen_ones_unless_they_are_given(
    parts: list[str], given: dict[str, Any], settings: MaskSettings, source: str, store: MemoryStore, tmp_path: Path
) -> None:
    evaluated(store, tmp_path, "data-a")  # without a choice
    for part in parts:
        evaluated(store, tmp_path, part, **CHOSEN)
    found = of_run(store, tmp_path, **given)
    assert (found.settings, found.settings_from) == (settings, source)


@pytest.mark.parametrize(
    ("version", "stored", "flip"), [(1, True, "all"), (1, False, "none"), (2, "left-right", "left-right")]
)
def test_a_choice_of_before_left_right_flips_or_shifts_is_read(
    version: int, stored: object, flip: str, store: MemoryStore, tmp_path: Path
) -> None:
    evaluated(store, tmp_path, "val", **CHOSEN)
    settings = {"flip": stored, "threshold": 0.4, "min_area_px": 25}
    content = {"schema_version": version, "runs": {"memory-1": {"settings": settings}}}
    store.trackers["memory-1"].files["evaluation/val/choice.json"] = json.dumps(content).encode()
    assert of_run(store, tmp_path).settings == MaskSettings(flip=flip, threshold=0.4, min_area_px=25)


NO_CHOICE = "evaluation/val/choice.json of run memory-1 can't be read; evaluate the run again with --tune"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"schema_version": 3, "runs": {}}',
        '{"schema_version": 2, "runs": {}}',
        '{"schema_version": 2, "runs": {"memory-1": {"settings": {"treshold": 0.5}}}}',
    ],
)
def test_a_choice_that_can_not_be_read_is_not_passed_over(text: str, store: MemoryStore, tmp_path: Path) -> None:
    evaluated(store, tmp_path, "val", **CHOSEN)
    store.trackers["memory-1"].files["evaluation/val/choice.json"] = text.encode()
    with pytest.raises(InputError) as caught:
        of_run(store, tmp_path)
    assert str(caught.value) == NO_CHOICE


def keras_file(path: Path, *, shape: tuple[int | None, ...], filters: int = 1, activation: str | None = None) -> Path:
    import keras

    keras.Sequential([keras.Input(shape), keras.layers.Conv2D(filters, 1, activation=activation)]).save(path)
    return path


@pytest.mark.parametrize("size", [16, (16, 24)])
def test_a_file_says_its_size(size: int | tuple[int, int], tmp_path: Path) -> None:
    expected = DataConfig(image_size=size, channels="grey")
    path = keras_file(tmp_path / "m.keras", shape=(*expected.size, 1))
    segmenter = segmenter_of_file(path, given={"min_area_px": 9})
    assert (segmenter.name, segmenter.data, segmenter.statistics) == (str(path), None, None)
    assert segmenter.settings_from == "--min-area as given, else the defaults"
    model, data = load(segmenter)
    assert (model.input_shape, data) == ((None, *expected.size, 1), expected)


ANY = "(height, width, 1) or (height, width, 3) into masks of the same size"


@pytest.mark.parametrize(
    ("shape", "filters", "wanted", "turns"),
    [
        ((16, 16, 2), 1, ANY, "(None, 16, 16, 2) into (None, 16, 16, 1)"),
        ((None, None, 1), 1, ANY, "(None, None, None, 1) into (None, None, None, 1)"),
    ],
)
def test_a_model_of_other_shapes_is_refused(
    shape: tuple[int | None, ...], filters: int, wanted: str, turns: str, tmp_path: Path
) -> None:
    path = keras_file(tmp_path / "m.keras", shape=shape, filters=filters)
    with pytest.raises(InputError) as caught:
        load(segmenter_of_file(path, given={}))
    assert str(caught.value) == (
        f"the model of {path} must turn slices of shape {wanted}, but turns {turns}; "
        "name a model that brainseg has trained"
    )


@pytest.mark.parametrize(
    ("filters", "activation", "names", "exclusive"),
    [
        (4, "softmax", ("class 1", "class 2", "class 3"), True),  # and the background
        (2, "sigmoid", ("class 1", "class 2"), False),
    ],
)
def test_a_file_says_how_many_classes_it_has(
    filters: int, activation: str, names: tuple[str, ...], exclusive: bool, tmp_path: Path
) -> None:
    path = keras_file(tmp_path / "m.keras", shape=(16, 16, 3), filters=filters, activation=activation)
    _, data = load(segmenter_of_file(path, given={}))
    assert (data.image_size, data.channels) == (16, "rgb")
    assert (data.labels.names, data.labels.exclusive) == (names, exclusive)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_text("no model")
    with pytest.raises(InputError) as caught:
        load(segmenter_of_file(path, given={}))
    assert str(caught.value).startswith(f"the model of {path} can't be loaded (")
    assert str(caught.value).endswith("); export it again")
