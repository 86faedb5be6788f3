"""The card of a model of several classes."""

from pathlib import Path

from made_classes import add_class_run
from made_runs import NASTY

from brainseg.config_file import from_yaml
from brainseg.data.split import Split
from brainseg.inference.postprocess import MaskSettings
from brainseg.register.model_card import model_card, scores_of, version_tags
from brainseg.runs.models import Segmenter
from brainseg.runs.stored_run import StoredRun
from brainseg.tracking import MemoryStore


def test_the_card_and_the_tags_say_what_the_classes_are_and_how_well_each_is_found(tmp_path: Path) -> None:
    store = MemoryStore()
    run_id = add_class_run(store, tmp_path / "slices", name="classes")
    record = store.read(run_id)
    config = from_yaml(store.text(run_id, "config.yaml"), where="config.yaml")
    run = StoredRun(
        id=run_id,
        name="classes",
        config=config,
        split=Split(train=("a",), val=("c1", "c2")),
        fingerprint="d" * 64,
        threads=2,
        model_file=tmp_path / "model.keras",
        evaluated=(),
    )
    segmenter = Segmenter(
        name="made",
        model_file=run.model_file,
        remedy="",
        settings=MaskSettings(),
        settings_from="the defaults",
        data=config.data,
        run=run,
    )
    scores = scores_of(store, record)
    # Cars: 0.75 and 0.5. Roads: 1 on the one slice that has one.
    assert {name: dice.value for name, dice in scores.by_class.items()} == {"car": 0.625, NASTY: 1.0}
    assert (scores.slices, scores.empty, scores.dice.value) == (2, 0, 0.8125)
    tags = version_tags(record, scores)
    assert tags["final_dice_car"].startswith("0.6250")
    card = model_card(record, segmenter, scores, name="brainseg")
    shown = "&lt;script>alert(1)&lt;/script>"
    assert NASTY not in card
    assert f"It marks car, {shown} on single slices, for research." in card
    assert f"| classes | car, {shown}; a pixel has one at most |" in card
    assert f"Anything but car, {shown}: other" in card
    assert "| channels | red, green and blue |" in card
    assert "the image's own 0.5th and 99.5th percentile" in card
    assert "EXIF orientation applied |" in card
    assert (
        "Dice on 2 validation slices: mean over slices where either mask has the class, then over classes, at" in card
    )
    assert "| car | 0.6250" in card
    assert "tumour" not in card
