"""Which files the patterns of `data.images` and `data.masks` name, and which layouts are found without them."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brainseg.compose import expand, for_hydra, freeze, overrides_of, values_in
from brainseg.config import DataConfig
from brainseg.data.__main__ import main
from brainseg.data.folder import FolderSource
from brainseg.data.layout import Listing, list_pairs
from brainseg.data.load import source_of_folder
from brainseg.data.patterns import Layout
from brainseg.data.split import make_split
from brainseg.data.verify import verify
from brainseg.errors import ConfigError, DataError
from brainseg.keys import as_line
from brainseg.sweep.__main__ import main as sweep


def grey(root: Path, *names: str, value: int = 7) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), value).save(path)


def listed(root: Path, **data: Any) -> Listing:
    return list_pairs(root, DataConfig(name="folder", root=str(root), **data))


def paired(root: Path, **data: Any) -> list[tuple[str, ...]]:
    """(id, image, mask, mask, ...) of each slice."""
    return [(pair.id, *pair.images, *pair.masks) for pair in listed(root, **data).pairs]


def by_hand(root: Path, line: str) -> list[tuple[str, ...]]:
    """The pairs that the overrides in a printed line give."""
    config = freeze(["data=folder", f"data.root={root}", *shlex.split(line)])
    return [(pair.id, *pair.images, *pair.masks) for pair in list_pairs(root, config.data).pairs]


@pytest.mark.parametrize(
    ("files", "pair", "line"),
    [
        (
            ("image/1.png", "label/1.png"),
            ("1", "image/1.png", "label/1.png"),
            "'data.images=image/{id}.*' 'data.masks=label/{id}.*'",
        ),
        (
            ("Images/1.PNG", "LABELS/1.TIF"),
            ("1", "Images/1.PNG", "LABELS/1.TIF"),
            "'data.images=Images/{id}.*' 'data.masks=LABELS/{id}.*'",
        ),
        (
            ("imgs/1.2.png", "gt/1.2.bmp"),
            ("1.2", "imgs/1.2.png", "gt/1.2.bmp"),
            "'data.images=imgs/{id}.*' 'data.masks=gt/{id}.*'",
        ),
        (
            ("imagesTr/a_0000.png", "labelsTr/a.png"),
            ("a", "imagesTr/a_0000.png", "labelsTr/a.png"),
            "'data.images=imagesTr/{id}_0000.*' 'data.masks=labelsTr/{id}.*'",
        ),
        (
            ("images/1.jpg", "masks/1_segmentation.png"),
            ("1", "images/1.jpg", "masks/1_segmentation.png"),
            "'data.images=images/{id}.*' 'data.masks=masks/{id}_segmentation.*'",
        ),
        (
            ("21_a.jpg", "21_a_manual1.gif"),
            ("21_a", "21_a.jpg", "21_a_manual1.gif"),
            "'data.images={id}.*' 'data.masks={id}_manual1.*'",
        ),
        (
            ("x.png", "x_mask.png"),
            ("x", "x.png", "x_mask.png"),
            "'data.images={id}.*' 'data.masks={id}_mask.*'",
        ),
        (
            ("P1/x.png", "P1/x_label.png"),
            ("x", "P1/x.png", "P1/x_label.png"),
            "'data.images={patient}/{id}.*' 'data.masks={patient}/{id}_label.*'",
        ),
        (
            ("b/x (1).png", "b/x (1)_mask.png", "b/x (1)_mask_1.png"),
            ("x (1)", "b/x (1).png", "b/x (1)_mask.png", "b/x (1)_mask_1.png"),
            "'data.images={patient}/{id}.*' 'data.masks={patient}/{id}_mask*.*'",
        ),
        (
            ("a/images/a.png", "a/masks/2.png", "a/masks/10.png"),
            ("a", "a/images/a.png", "a/masks/10.png", "a/masks/2.png"),
            "'data.images={id}/images/{id}.*' 'data.masks={id}/masks/*.*'",
        ),
        (
            ("train/images/1.png", "train/labels/1.png"),
            ("1", "train/images/1.png", "train/labels/1.png"),
            "'data.images={part}/images/{id}.*' 'data.masks={part}/labels/{id}.*'",
        ),
        (
            ("image/val/1.png", "label/val/1.png"),
            ("1", "image/val/1.png", "label/val/1.png"),
            "'data.images=image/{part}/{id}.*' 'data.masks=label/{part}/{id}.*'",
        ),
    ],
)
def test_a_common_layout_is_found_and_said_as_the_patterns_that_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: tuple[str, ...], pair: tuple[str, ...], line: str
) -> None:
    grey(tmp_path, *files)
    assert paired(tmp_path) == [pair]
    assert source_of_folder(tmp_path).notes[0].endswith(f", as by {line}")
    main(["verify", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[1] == f"layout   {line}"
    assert by_hand(tmp_path, line) == [pair]


@pytest.mark.parametrize(
    ("files", "one", "other"),
    [
        (
            ("images/1.png", "masks/1.png", "labels/1.png"),
            "data.images=images/{id}.* data.masks=labels/{id}.*",
            "data.images=images/{id}.* data.masks=masks/{id}.*",
        ),
        (
            ("x.png", "x_mask.png", "x_label.png"),
            "data.images={id}.* data.masks={id}_mask.*",
            "data.images={id}.* data.masks={id}_label.*",
        ),
        (
            ("images/21_training.png", "mask/21_training_mask.gif", "1st_manual/21_manual1.gif"),
            "data.images=images/{id}.* data.masks=mask/{id}_mask.*",
            "data.images=images/{id}_training.* data.masks=1st_manual/{id}_manual1.*",
        ),
    ],
)
def test_two_readings_of_a_folder_are_refused_and_each_can_be_pasted(
    tmp_path: Path, files: tuple[str, ...], one: str, other: str
) -> None:
    grey(tmp_path, *files)
    lines = [as_line(line.split(" ")) for line in (one, other)]
    with pytest.raises(DataError) as caught:
        listed(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} can be read by {lines[0]} or by {lines[1]}; add those data.images and data.masks that you mean"
    )
    assert by_hand(tmp_path, lines[0]) != by_hand(tmp_path, lines[1])


def test_what_a_mask_may_be_called_is_no_mask_where_its_own_is_there(tmp_path: Path) -> None:
    grey(tmp_path, "7.png", "7_mask.png", "7_masked.png", "7_masked_mask.png")
    assert paired(tmp_path) == [("7", "7.png", "7_mask.png"), ("7_masked", "7_masked.png", "7_masked_mask.png")]


def test_patterns_name_any_files(tmp_path: Path) -> None:
    grey(tmp_path, "scans/P1/s_7.JPG", "scans/P1/s_8.jpg", "truth/P1-7-v2.gif", "truth/P1-8-v1.gif", "scans/x.png")
    patterns = {"images": "scans/{patient}/s_{id}.jpg", "masks": "truth/{patient}-{id}-*.gif"}
    assert paired(tmp_path, **patterns) == [
        ("7", "scans/P1/s_7.JPG", "truth/P1-7-v2.gif"),
        ("8", "scans/P1/s_8.jpg", "truth/P1-8-v1.gif"),
    ]
    assert {pair.patient for pair in listed(tmp_path, **patterns).pairs} == {"P1"}


def test_a_channel_in_a_pattern_is_a_file_for_each(tmp_path: Path) -> None:
    grey(tmp_path, "t1/7.png", "flair/7.png", "t2/7.png", "seg/7.png")
    data = {"channels": ["flair", "t1"], "images": "{channel}/{id}.png", "masks": "seg/{id}.png"}
    assert paired(tmp_path, **data) == [("7", "flair/7.png", "t1/7.png", "seg/7.png")]


def test_channels_in_one_file_are_found_where_no_file_is_named_like_one(tmp_path: Path) -> None:
    grey(tmp_path, "masks/7.png", value=255)
    pages = [Image.new("L", (8, 8), value) for value in (10, 20)]
    (tmp_path / "images").mkdir()
    pages[0].save(tmp_path / "images" / "7.tif", save_all=True, append_images=pages[1:])
    image, _ = FolderSource(DataConfig(name="folder", root=str(tmp_path), channels=["dapi", "gfp"])).read("7")
    assert image[0, 0].tolist() == [10, 20]
    assert verify(tmp_path, DataConfig(channels=["dapi", "gfp"])).errors == 0
    with pytest.raises(DataError, match=r"7\.tif holds 2 pages: name them by data\.channels=\[NAME,\.\.\.\]"):
        source_of_folder(tmp_path)


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [
        ("data.images=images/{id}.png", "data.images needs data.masks; add data.masks=PATTERN"),
        ("data.images=images/{ID}.png data.masks=m/{id}.png", "data.images must be a path below data.root with {id}"),
        ("data.images=../{id}.png data.masks=m/{id}.png", "data.images must be a path below data.root with {id}"),
        ("data.images=/i/{id}.png data.masks=m/{id}.png", "data.images must be a path below data.root with {id}"),
        ("data.images=i/{id}.png data.masks=m/*.png", "data.masks must be a path below data.root with {id}"),
        ("data.images=i/{id}_{channel}.png data.masks=m/{id}.png", "{channel} is for data.images, with the channels'"),
    ],
)
def test_a_pattern_that_can_fit_nothing_is_refused_with_the_key(typed: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        freeze(["data=folder", "data.root=x", *typed.split(" ")])
    assert str(caught.value).startswith(wrong)


def test_a_pattern_that_no_file_fits_is_named_with_a_file_that_is_there(tmp_path: Path) -> None:
    grey(tmp_path, "a/1.png", "b/1.png")
    with pytest.raises(DataError) as caught:
        listed(tmp_path, images="a/{id}.jpg", masks="b/{id}.png")
    assert str(caught.value) == (
        f"{tmp_path}: no file fits 'data.images=a/{{id}}.jpg' (it holds files such as a/1.png); correct the pattern"
    )


def test_files_that_fit_no_pattern_are_findings(tmp_path: Path) -> None:
    grey(tmp_path, "a/1.png", "a/2.jpg", "b/1.png", "c/1.png", value=255)
    report = verify(tmp_path, DataConfig(images="a/{id}.png", masks="b/{id}.png"))
    found = {finding.check: finding.items for finding in report.findings}
    assert (found["unmatched_file"], found["ignored_folder"]) == (("a/2.jpg",), ("c/",))


TYPED = [
    "images/{id}.jpg",
    "{patient}/{id}, {channel}.png",
    "a b/{id}*.png",
    """it's/"{id}".png""",
    "$HOME/{id}.png",
    "[x]/{id}(1)\\.png",
]


@pytest.mark.parametrize("text", TYPED)
def test_what_is_typed_behind_a_pattern_is_text(text: str) -> None:
    override = f"data.images={text}"
    assert values_in([override]) == {"data.images": text}
    assert values_in(for_hydra([override])) == {"data.images": text}
    assert expand([override, "seed=1,2"]) == [[*for_hydra([override]), f"seed={seed}"] for seed in (1, 2)]


@pytest.mark.heavy
def test_a_study_takes_patterns_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    study = Path(__file__).parents[2] / "sweeps" / "ablation.yaml"
    typed = ["data=folder", "data.root=x", "data.images=images/{id}, a.jpg", "data.masks=gt/{id}.png"]
    assert sweep(["plan", str(study), *typed]) == 0
    assert "can be trained" in capsys.readouterr().out


@pytest.mark.heavy
def test_what_is_printed_to_paste_survives_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text(
        "defaults: [folder]\nroot: x y\nimages: img/{id}, *.jpg\nmasks: 'it''s/{id}.png'\n"
    )
    monkeypatch.chdir(tmp_path)
    config = freeze(["data=mine"])
    assert (config.data.images, config.data.masks) == ("img/{id}, *.jpg", "it's/{id}.png")
    typed = [f"data.images={text}" for text in TYPED]
    words = [*typed, *for_hydra(typed), *shlex.split(Layout(images=TYPED[0], masks=TYPED[1]).line)]
    line = f"printf '%s\\n' {as_line([*words, *overrides_of(config)])}"
    printed = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed[: len(words)] == words
    assert freeze(printed[len(words) :]) == config


def parts(root: Path, **files: str) -> DataConfig:
    """Slices in folders: train='12' makes train/images/1.png and train/images/2.png, with their masks."""
    for part, ids in files.items():
        grey(root, *(f"{part}/{kind}/{name}.png" for kind in ("images", "masks") for name in ids), value=255)
    return DataConfig(name="folder", root=str(root), split_by="folder")


def test_the_folders_are_the_split_where_that_is_asked_for(tmp_path: Path) -> None:
    data = parts(tmp_path, train="12", val="3", test="45")
    source = FolderSource(data)
    split = make_split(source.slices(), data)
    assert (split.train, split.val, split.test) == (("1", "2"), ("3",), ("4", "5"))
    assert [item.id for item in source_of_folder(tmp_path).slices()] == ["1", "2", "3"]  # not asked for


def test_without_a_folder_val_it_is_drawn_from_train(tmp_path: Path) -> None:
    data = parts(tmp_path, training="12345678", test="9")
    split = make_split(FolderSource(data).slices(), data)
    assert (len(split.val), split.test) == (2, ("9",))  # a fifth of 8, rounded


def test_slices_of_two_parts_with_one_name_are_told_apart(tmp_path: Path) -> None:
    data = parts(tmp_path, train="12", val="1", test="1")
    split = make_split(FolderSource(data).slices(), data)
    assert (split.train, split.val, split.test) == (("train_1", "train_2"), ("val_1",), ("test_1",))


def test_a_slice_outside_of_the_parts_is_named(tmp_path: Path) -> None:
    data = parts(tmp_path, train="1", fold1="2")
    with pytest.raises(DataError, match=r"folder named train, val or test, and slice 2 is in a fold; move it"):
        make_split(FolderSource(data).slices(), data)
    with pytest.raises(ConfigError, match=r"data\.split_by=folder has the test part that lies in test/"):
        DataConfig(split_by="folder", test_fraction=0.2)


def test_a_part_may_be_named_anywhere_in_a_pattern(tmp_path: Path) -> None:
    grey(tmp_path, *(f"{kind}_{part}/{part}.png" for kind in ("img", "ann") for part in ("train", "test")), value=255)
    patterns = {"images": "img_{part}/{id}.png", "masks": "ann_{part}/{id}.png"}
    assert [pair.part for pair in listed(tmp_path, split_by="folder", **patterns).pairs] == ["test", "train"]
    listing = listed(tmp_path, **patterns)
    assert [pair.id for pair in listing.pairs] == ["train"]
    assert listing.problems["test_left_out"] == ["img_test/: 1 slices"]


def objects(root: Path, *masks: list[list[int]]) -> None:
    """One image, and a mask for each object."""
    grey(root, "a/images/a.png")
    (root / "a" / "masks").mkdir()
    for number, mask in enumerate(masks):
        whole = np.zeros((8, 8), np.uint8)
        whole[:2, :3] = mask
        Image.fromarray(whole).save(root / "a" / "masks" / f"{number}.png")


def test_masks_of_one_object_each_are_merged(tmp_path: Path) -> None:
    objects(tmp_path, [[255, 255, 0], [0, 0, 0]], [[0, 255, 0], [0, 0, 255]])
    _, mask = source_of_folder(tmp_path).read("a")
    assert mask[:2, :3, 0].tolist() == [[1, 1, 0], [0, 0, 1]]
    report = verify(tmp_path)
    assert (report.classes, report.errors) == ({"foreground": 3 / 64}, 0)


def test_of_two_classes_the_later_mask_covers_the_earlier_one_and_that_is_a_finding(tmp_path: Path) -> None:
    objects(tmp_path, [[1, 1, 0], [0, 0, 0]], [[0, 2, 2], [0, 0, 0]])
    data = DataConfig(name="folder", root=str(tmp_path), classes={"core": 1, "rim": 2})
    _, mask = FolderSource(data).read("a")
    assert mask[0, :3, 0].tolist() == [1, 2, 2]
    found = {finding.check: finding.items for finding in verify(tmp_path, data).findings}
    assert found["overlapping_masks"] == ("a/images/a.png",)


def test_masks_of_two_sizes_are_no_mask_of_one_slice(tmp_path: Path) -> None:
    objects(tmp_path, [[255, 0, 0], [0, 0, 0]])
    Image.new("L", (5, 8), 255).save(tmp_path / "a" / "masks" / "1.png")
    with pytest.raises(DataError, match=r"1\.png must have the size of a/masks/0\.png, 8x8, got 5x8"):
        source_of_folder(tmp_path).read("a")
    found = {finding.check: finding.items for finding in verify(tmp_path).findings}
    assert found["size_mismatch"] == ("a/masks/1.png: 5x8, a/masks/0.png 8x8",)


def test_what_moves_is_a_finding(tmp_path: Path) -> None:
    grey(tmp_path, "masks/1.png", value=255)
    (tmp_path / "images").mkdir()
    frames = [Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) + value) for value in (0, 99)]
    frames[0].save(tmp_path / "images" / "1.gif", save_all=True, append_images=frames[1:])
    found = {finding.check: finding.items for finding in verify(tmp_path).findings}
    assert found["several_frames"] == ("images/1.gif",)


def test_the_cache_of_the_layouts_of_version_01_stays_and_other_patterns_have_their_own(tmp_path: Path) -> None:
    grey(tmp_path, "images/1_x.png", "masks/1_x.png", value=255)
    data = DataConfig(name="folder", root=str(tmp_path))
    plain = FolderSource(data).stamp()
    stamps = [
        FolderSource(replace(data, images=f"images/{text}", masks=f"masks/{text}")).stamp()
        for text in ("{id}.*", "{id}_x.png")
    ]
    assert [stamp == plain for stamp in stamps] == [True, False]
