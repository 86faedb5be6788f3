"""What a plan reads from a set, what it chooses, and the experiment that it writes."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainseg import compose
from brainseg.classes import Labels
from brainseg.config import BUILT_IN_NETWORKS, RunConfig
from brainseg.data.load import load_data, source_of_folder
from brainseg.data.overview import Overview, overview_of
from brainseg.plan.__main__ import main
from brainseg.plan.choices import choices_for, split_choices
from brainseg.train.cost import Cost
from brainseg.train.progress import time_text

GREY = RunConfig(data=dataclasses.replace(RunConfig().data, channels="grey"))


def write_slice(root: Path, name: str, *, height: int, width: int, mask: np.ndarray, grey: int | None = None) -> None:
    """grey: of the image; else its rows are dark at the top and bright at the bottom, in red."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(10, 200, height, dtype=np.uint8)[:, np.newaxis]
    if grey is not None:
        image = np.full((height, width), grey, np.uint8)
        image[0, 0] = 0
    Image.fromarray(image).save(root / "images" / f"{name}.png")
    Image.fromarray(mask).save(root / "masks" / f"{name}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four slices of two people, 40 pixels high and 90 wide; one is empty, and three have a square of 12 pixels."""
    root = tmp_path / "set"
    for number in range(4):
        mask = np.zeros((40, 90), np.uint8)
        if number:
            mask[10:22, 20:32] = 255
        write_slice(root, f"s{number}", height=40, width=90, mask=mask, grey=50 + number)
    (root / "metadata.csv").write_text("id,patient_id\ns0,a\ns1,a\ns2,b\ns3,b\n")
    return root


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """No step is timed: an epoch takes 12 s. What would have been timed."""
    asked: list[RunConfig] = []

    def cost(config: RunConfig, source: object, split: object, *, stored_px: tuple[int, int]) -> Cost:
        asked.append(config)
        return Cost(
            config=config,
            slices=4,
            side_px=stored_px,
            split=split,  # type: ignore[arg-type]
            parameters=2**20,
            seconds_per_step=12.0,
            seconds_per_val_slice=0.0,
            memory_mib=1234.0,
        )

    monkeypatch.setattr("brainseg.train.cost.measure", cost)
    return asked


def overview(**changes: object) -> Overview:
    """300 grey slices of 128x128 pixels of 60 people, 2 % foreground, small objects of an eighth of the side."""
    made = Overview(
        slices=300,
        people=60,
        channels=1,
        height=128,
        width=128,
        foreground=(0.0204,),
        empty=0.1,
        small_object=0.125,
        upright=0.9,
    )
    return dataclasses.replace(made, **changes)


def chosen(found: Overview, config: RunConfig = GREY, *, train: int = 240) -> dict[str, object]:
    choices = (*split_choices(found), *choices_for(found, config, train=train))
    return {each.key: each.value for each in choices}


def test_an_overview_counts_what_a_set_holds(folder: Path) -> None:
    found = overview_of(source_of_folder(folder), progress=lambda *_: None)
    assert (found.slices, found.people, found.channels, found.height, found.width) == (4, 2, 1, 40, 90)
    assert found.foreground == pytest.approx([3 * 144 / (4 * 3600)])
    assert found.empty == 0.25
    assert found.small_object == pytest.approx(12 / 60)  # the side of a square of 3,600 pixels is 60
    assert found.side == 60


def test_each_object_counts_alone_and_a_set_without_one_has_no_size(tmp_path: Path) -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[2:5, 2:5] = mask[5, 5] = 255  # ten pixels that touch, the last at a corner
    mask[20:28, 20:28] = 255
    mask[0, 0] = 255  # one of 75 pixels: no 5 %
    for number in range(2):
        write_slice(tmp_path / "two", f"s{number}", height=30, width=30, mask=mask, grey=99)
    found = overview_of(source_of_folder(tmp_path / "two"), progress=lambda *_: None)
    assert found.small_object == pytest.approx(4 * 10 / (12 + 4) / 30)
    assert overview_of(source_of_folder(tmp_path / "two"), progress=lambda *_: None).people == 0


def test_a_vessel_is_small_however_long_it_is(tmp_path: Path) -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[3:5, 4:24] = 255
    write_slice(tmp_path / "set", "s", height=30, width=30, mask=mask, grey=99)
    found = overview_of(source_of_folder(tmp_path / "set"), progress=lambda *_: None)
    assert found.small_object == pytest.approx(4 * 40 / 44 / 30)


def test_pictures_with_a_top_and_a_bottom_are_upright_and_noise_is_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    mask = np.zeros((48, 48), np.uint8)
    mask[4:9, 4:9] = 255
    for number in range(12):
        write_slice(tmp_path / "sky", f"s{number}", height=48, width=48, mask=mask)
        write_slice(tmp_path / "noise", f"s{number}", height=48, width=48, mask=mask, grey=9)
        noise = random.integers(0, 256, (48, 48), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "noise" / "images" / f"s{number}.png")
    sky, noise_set = (
        overview_of(source_of_folder(tmp_path / name), progress=lambda *_: None) for name in ("sky", "noise")
    )
    assert sky.upright == pytest.approx(1.0)
    assert noise_set.upright < 0.5
    assert chosen(sky)["data.augment"] == "light"
    assert chosen(noise_set)["data.augment"] == "standard"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # 16 pixels at 128: 2 pixels at an eighth.
        ({}, {"data.image_size": 128, "model.depth": 3, "model.stem": 1}),
        ({"small_object": 0.25}, {"model.depth": 3, "model.stem": 2}),
        # 80 pixels at 256: a stem of 4 leaves 20, and 3 levels below it 2.5.
        ({"height": 900, "width": 900, "small_object": 0.3125}, {"data.image_size": 256, "model.stem": 4}),
        ({"height": 900, "width": 900, "small_object": 0.3125}, {"model.depth": 3, "data.batch_size": 8}),
        ({"small_object": 0.01}, {"model.depth": 3, "model.stem": 1}),
        ({"height": 30, "width": 30}, {"data.image_size": 64}),
        # 0.75 of 256x256 pixels of area: 222 and 296, to the nearest 32.
        ({"height": 360, "width": 480, "small_object": 0.2}, {"data.image_size": [224, 288]}),
        # Of 600x600 pixels, 12 wide: resizing to 256 would leave 5, and the crops are about the area.
        ({"height": 600, "width": 600, "small_object": 0.02}, {"data.image_size": 256, "data.patches": 6}),
        ({"height": 600, "width": 600, "small_object": 0.02}, {"data.foreground_share": 0.5, "model.depth": 3}),
        ({"small_object": None}, {"model.depth": 5, "model.stem": 2}),
        ({"people": 0}, {"data.split_by": "image"}),
        ({"people": 1}, {"data.split_by": "image"}),
        ({"people": 2}, {"data.split_by": "patient", "data.val_fraction": 0.5}),
        ({"people": 0, "slices": 4}, {"data.val_fraction": 0.25}),
        ({}, {"data.split_by": "patient", "model.foreground_prior": 0.02, "model.standardize": True}),
        ({"channels": 3}, {"model.standardize": False, "data.augment": "light"}),
        ({"empty": 0.6}, {"data.foreground_share": 0.5}),
        ({"foreground": (1e-6,)}, {"model.foreground_prior": 0.001}),
    ],
)
def test_a_set_is_answered_with_what_suits_it(changes: dict[str, object], expected: dict[str, object]) -> None:
    assert expected.items() <= chosen(overview(**changes)).items()


def test_few_slices_get_small_batches_and_many_epochs() -> None:
    few = chosen(overview(), train=11)
    assert (few["data.batch_size"], few["train.epochs"]) == (2, 84)  # 6 steps an epoch, 500 in all
    assert chosen(overview(), train=2)["train.epochs"] == 200
    many = chosen(overview(), train=3000)
    assert (many["data.batch_size"], many["train.epochs"]) == (16, 24)


def test_classes_share_the_prior_unless_a_pixel_may_have_several() -> None:
    shares = (0.02, 0.04)
    apart = dataclasses.replace(
        GREY, data=dataclasses.replace(GREY.data, name="folder", root=".", classes={"a": 1, "b": 2})
    )
    regions = {"whole": [1, 2], "core": 2}
    nested = dataclasses.replace(GREY, data=dataclasses.replace(GREY.data, name="folder", root=".", classes=regions))
    assert chosen(overview(foreground=shares), apart)["model.foreground_prior"] == 0.06
    assert chosen(overview(foreground=shares), nested)["model.foreground_prior"] == 0.03


def test_what_is_given_decides_the_rest() -> None:
    wide = dataclasses.replace(GREY, data=dataclasses.replace(GREY.data, image_size=(64, 512), batch_size=4))
    choices = choices_for(overview(), wide, train=240, given=["data.image_size", "data.batch_size"])
    values = {each.key: each.value for each in choices}
    assert (values["model.stem"], values["model.depth"]) == (1, 3)  # 23 pixels, of which 2.8 are left
    assert values["train.epochs"] == 24  # of 60 steps


def test_another_network_keeps_its_own_depth() -> None:
    encoder = dataclasses.replace(GREY, model=dataclasses.replace(GREY.model, name="encoder_unet"))
    assert "encoder_unet" in BUILT_IN_NETWORKS
    assert not {"model.depth", "model.stem"} & chosen(overview(), encoder).keys()


@pytest.mark.usefixtures("unmeasured")
def test_the_experiment_is_what_hydra_composes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "it's ${here}"
    here.mkdir()
    monkeypatch.chdir(here)
    moved = folder.rename(here / "a set")
    asked = ["optimizer=sgd", "train.loss=dice", "data.image_size=64"]
    assert main([str(moved), *asked[:1], "-o", "conf/experiment/mine.yaml", *asked[1:]]) == 0
    assert "train it with python -m brainseg.train experiment=mine\n" in capsys.readouterr().out
    text = Path("conf/experiment/mine.yaml").read_text()
    assert "# time    12 seconds an epoch, 40 minutes for 200" in text  # an epoch of one step
    assert "split_by: patient  # 2 people, each in one part alone\n" in text
    assert "image_size: 64\n" in text  # as it was given: no reason
    compose.register_local_conf()
    config = compose.freeze(["experiment=mine"])
    assert config.data.root == str(moved)
    assert (config.data.name, config.data.channels, config.data.image_size) == ("folder", "grey", 64)
    assert (config.optimizer.name, config.train.loss, config.model.standardize) == ("sgd", "dice", True)
    assert config.train.epochs == 200


def labelled(root: Path) -> None:
    """Four images with LabelMe's files: a car and a region to ignore in each, and a road in none but the first."""
    root.mkdir()
    for number in range(4):
        Image.fromarray(np.eye(40, dtype=np.uint8) * (50 + number)).save(root / f"{number}.png")
        shapes = [
            {"label": label, "shape_type": "rectangle", "points": [[start, 0], [start + 9, 20]]}
            for label, start in (("__ignore__", 30), ("car", 5 + number), ("road", 20))[: 2 + (number == 0)]
        ]
        content = {"shapes": shapes, "imagePath": f"{number}.png", "imageHeight": 40, "imageWidth": 40}
        (root / f"{number}.json").write_text(json.dumps(content))


def with_dataset_json(root: Path) -> None:
    """Four slices whose masks hold 0 to 3, and nnU-Net's names for these."""
    for number in range(4):
        mask = np.zeros((40, 40), np.uint8)
        mask[:10], mask[10:20], mask[20:30] = 1, 2, 3
        write_slice(root, f"s{number}", height=40, width=40, mask=mask, grey=50 + number)
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "road": 1, "car": 2, "ignore": 3}}
    (root / "dataset.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("write", "annotations", "classes", "ignore"),
    [
        (labelled, "labelme", {"car": 1, "road": 2}, 255),
        (with_dataset_json, None, {"background": 0, "road": 1, "car": 2}, 3),
    ],
)
def test_what_a_folder_says_of_its_masks_stands_in_the_experiment_and_is_timed(
    write: Callable[[Path], None],
    annotations: str | None,
    classes: dict[str, int],
    ignore: int,
    unmeasured: list[RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "set")
    assert main(["set", "-o", "conf/experiment/mine.yaml"]) == 0
    compose.register_local_conf()
    planned = compose.freeze(["experiment=mine"]).data
    assert (planned.annotations, planned.classes, planned.ignore) == (annotations, classes, ignore)
    (timed,) = unmeasured
    names = tuple(name for name in classes if name != "background")
    assert planned.labels == timed.data.labels == Labels(names=names, exclusive=True, has_ignored=True)
    assert load_data(compose.freeze(["experiment=mine"])).config.data.labels == timed.data.labels


@pytest.mark.usefixtures("unmeasured")
def test_without_a_file_the_experiment_is_printed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out.startswith("# @package _global_\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["set", "data.imagesize=64"], "data.image_size"),
        (["set", "model.depth=1,2"], "gives several values"),
        (["nowhere"], "doesn't exist"),
        (["set", "-o", "taken.yaml"], "taken.yaml exists"),
        (["set", "data.image_size=70"], "must be divisible"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    arguments: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.yaml").write_text("mine")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "taken.yaml"]
    assert Path("taken.yaml").read_text() == "mine"


def test_a_time_is_told_in_the_unit_that_suits_it() -> None:
    assert [time_text(seconds) for seconds in (40.2, 90, 5399, 5400)] == [
        "40 seconds",
        "2 minutes",
        "90 minutes",
        "1.5 hours",
    ]
