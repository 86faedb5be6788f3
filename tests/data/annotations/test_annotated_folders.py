"""A COCO file or LabelMe's files are the masks of a folder, and their categories its classes."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brainseg import config_file
from brainseg.compose import freeze
from brainseg.config import DataConfig
from brainseg.data.folder import FolderSource
from brainseg.data.load import load_data, source_of_folder
from brainseg.data.split import Split
from brainseg.data.verify import verify
from brainseg.errors import DataError
from brainseg.evaluate.evaluation import split_of
from brainseg.inference.prediction import Predictor
from brainseg.runs.stored_run import StoredRun
from brainseg.scoring.evaluation import evaluate

WIDTH, HEIGHT = 6, 5
CATEGORIES = [{"id": 7, "name": "car"}, {"id": 3, "name": "road"}]
# Outlines of pixels 0 to 2, 2 to 4 and 4 to 5 across, and 0 to 1 down.
LEFT, MIDDLE, RIGHT = ([x, 0, x + width, 0, x + width, 2, x, 2] for x, width in ((0, 3), (2, 3), (4, 2)))


def image(*paths: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng([number, *path.name.encode()]).integers(0, 256, size[::-1], dtype=np.uint8)
        Image.fromarray(values).save(path)


def coco(
    root: Path, *annotations: dict[str, Any], images: tuple[str, ...] = ("1.png",), file: str = "annotations.json"
) -> None:
    """A COCO file, in which image n has the id n from 1 on; an annotation is of image 1 unless it says so."""
    listed = [
        {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH} for number, name in enumerate(images, 1)
    ]
    numbered = [{"id": number, "image_id": 1, **each} for number, each in enumerate(annotations, 1)]
    content = {"images": listed, "annotations": numbered, "categories": CATEGORIES}
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))


def labelme(file: Path, *shapes: dict[str, Any], **more: Any) -> None:
    content = {"version": "5.4.1", "imagePath": f"{file.stem}.png", "imageData": None, "imageHeight": HEIGHT}
    file.write_text(json.dumps({**content, "imageWidth": WIDTH, "shapes": shapes, **more}))


def source(root: Path, **keys: Any) -> FolderSource:
    return FolderSource(DataConfig(name="folder", root=str(root), channels="grey", **keys))


def mask(root: Path, slice_id: str = "1", **keys: Any) -> list[str]:
    """The mask's rows: `.` background, a digit for each class, `x` ignored."""
    values = source(root, **keys).read(slice_id)[1]
    return ["".join({0: ".", 255: "x"}.get(value, str(value)) for value in row) for row in values[..., 0].tolist()]


def refusal(root: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as refused:
        source(root, **keys).read("1")
    text = str(refused.value)
    assert "\n" not in text
    return text.replace(str(root), "ROOT")


def findings(root: Path, **keys: Any) -> dict[str, tuple[str, ...]]:
    report = verify(root, DataConfig(name="folder", root=str(root), channels="grey", **keys))
    return {each.check: each.items for each in report.findings if each.check not in ("no_patient_id", "no_foreground")}


def test_later_annotations_of_a_coco_file_lie_over_earlier_ones(tmp_path: Path) -> None:
    image(tmp_path / "images" / "1.png")
    coco(
        tmp_path,
        {"category_id": 7, "segmentation": [LEFT]},
        {"category_id": 3, "segmentation": [MIDDLE, [0, 4, 6, 4, 6, 5, 0, 5]]},
    )
    assert mask(tmp_path) == ["11222.", "11222.", "......", "......", "222222"]
    assert source(tmp_path).data.classes == {"car": 1, "road": 2}


def test_both_kinds_of_run_lengths_are_read_and_a_crowd_is_ignored(tmp_path: Path) -> None:
    image(tmp_path / "1.png")
    size = [HEIGHT, WIDTH]
    coco(
        tmp_path,
        {"category_id": 7, "segmentation": {"size": size, "counts": "4112109NI"}},
        {"category_id": 3, "iscrowd": 1, "segmentation": {"size": size, "counts": [15, 10, 5]}},
    )
    assert mask(tmp_path) == ["...xx1", ".11xx.", ".11xx.", ".11xx.", "1..xx."]
    assert source(tmp_path).data.ignore == 255


def test_every_kind_of_labelme_shape_with_an_area_is_drawn(tmp_path: Path) -> None:
    image(*(tmp_path / f"{number}.png" for number in range(1, 5)))
    pasted = io.BytesIO()
    Image.fromarray(np.array([[True, False], [True, True]])).save(pasted, format="PNG")
    pairs = [[x, y] for x, y in zip(RIGHT[::2], RIGHT[1::2], strict=True)]
    labelme(tmp_path / "1.json", {"label": "b", "points": pairs, "shape_type": "polygon"})
    labelme(tmp_path / "2.json", {"label": "a", "points": [[3, 2], [1, 0]], "shape_type": "rectangle"})
    labelme(tmp_path / "3.json", {"label": "b", "points": [[3, 2], [3, 3.6]], "shape_type": "circle"})
    text = base64.b64encode(pasted.getvalue()).decode()
    labelme(tmp_path / "4.json", {"label": "b", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": text})
    assert mask(tmp_path, "1") == ["....22", "....22", "......", "......", "......"]
    assert mask(tmp_path, "2") == [".11...", ".11...", "......", "......", "......"]
    assert mask(tmp_path, "3") == ["..22..", ".2222.", ".2222.", "..22..", "......"]
    assert mask(tmp_path, "4") == ["2.....", "22....", "......", "......", "......"]


def test_labels_of_labelme_for_background_and_ignored_pixels_are_no_classes(tmp_path: Path) -> None:
    image(tmp_path / "1.png")
    corners = {"shape_type": "rectangle"}
    labelme(
        tmp_path / "1.json",
        {"label": "car", "points": [[0, 0], [6, 2]], **corners},
        {"label": "_background_", "points": [[1, 0], [3, 1]], **corners},
        {"label": "__ignore__", "points": [[4, 0], [6, 1]], **corners},
    )
    assert mask(tmp_path) == ["1..1xx", "111111", "......", "......", "......"]
    assert source(tmp_path).data.classes == {"car": 1}


def test_an_image_that_coco_lists_without_annotations_is_background_and_others_are_left_out(tmp_path: Path) -> None:
    image(*(tmp_path / f"{number}.png" for number in (1, 2, 3)))
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]}, images=("1.png", "2.png"))
    assert mask(tmp_path, "2") == ["......"] * HEIGHT
    assert [item.id for item in source(tmp_path).slices()] == ["1", "2"]
    assert findings(tmp_path) == {
        "image_not_annotated": ("3.png",),
        "empty_mask": ("2.png",),
        "absent_class": ("road",),
    }
    assert any(
        "1 image(s) that the annotations don't list, and left out, first: 3.png" in note
        for note in source(tmp_path).notes
    )


def test_everything_wrong_with_annotations_is_found_in_one_pass(tmp_path: Path) -> None:
    image(tmp_path / "images" / "1.png", tmp_path / "images" / "2.png", tmp_path / "images" / "3.png")
    image(tmp_path / "images" / "3.png", size=(WIDTH + 1, HEIGHT))
    coco(
        tmp_path,
        {"category_id": 7, "segmentation": [LEFT]},
        {"category_id": 3, "image_id": 2, "segmentation": [RIGHT]},
        {"category_id": 7, "segmentation": [[9, 0, 11, 0, 11, 2, 9, 2]]},
        {"category_id": 7, "segmentation": [[4, 0, 8, 0, 8, 2, 4, 2]]},
        {"category_id": 9, "segmentation": [LEFT]},
        {"category_id": 7, "image_id": 17, "segmentation": [LEFT]},
        {"category_id": 7, "segmentation": [[1, 1, 2, 2]]},
        {"category_id": 7, "bbox": [0, 0, 3, 2]},
        {"category_id": 7, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [3]}},
        {"category_id": 7, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [3, [4, 5]]}},
        {"category_id": 7, "segmentation": {"size": [WIDTH, HEIGHT], "counts": "1"}},
        images=("1.png", "2.png", "3.png", "gone.png"),
    )
    called = "annotations.json: annotation"
    assert findings(tmp_path) == {
        "annotation_without_image": ("annotations.json: gone",),
        "annotation_of_nothing": (f"{called} 6 has the image_id 17",),
        "unknown_category": (f"{called} 5 has the category_id 9",),
        "annotation_outside": (f"{called} 3 of image 1 spans x 9 to 11, y 0 to 2, and the image is 6x5",),
        "annotation_cut": (f"{called} 4 of image 1",),
        "annotation_broken": (
            f"{called} 7 of image 1 has a polygon of less than three points",
            f"{called} 8 of image 1 has no segmentation; a box alone is no mask",
            f"{called} 9 of image 1 has run lengths that don't add up to 6x5 pixels",
            f"{called} 10 of image 1 has run lengths that aren't whole numbers",
            f"{called} 11 of image 1 has run lengths of [height, width] [6, 5], and the image is 6x5",
        ),
        "size_mismatch": ("annotations.json: 6x5, image 3 7x5",),
        "empty_mask": ("images/3.png",),
    }
    assert refusal(tmp_path).startswith(
        "ROOT: 1 annotated image(s) that aren't there, first: annotations.json: gone; add the image"
    )


def test_an_error_that_only_drawing_shows_stops_a_training(tmp_path: Path) -> None:
    image(tmp_path / "1.png")
    coco(tmp_path, {"category_id": 7, "segmentation": [[9, 0, 11, 0, 11, 2, 9, 2]]})
    assert refusal(tmp_path) == (
        "ROOT/annotations.json: annotation 1 of image 1 spans x 9 to 11, y 0 to 2, and the image is 6x5; "
        "were they drawn at another size? export them at the image's"
    )


def test_broken_labelme_files_and_shapes_are_findings(tmp_path: Path) -> None:
    image(*(tmp_path / f"{number}.png" for number in (1, 2, 3)))
    labelme(
        tmp_path / "1.json",
        {"label": "car", "points": [[0, 0], [2, 2]], "shape_type": "rectangle"},
        {"label": "car", "points": [[0, 0], ["x", 2]], "shape_type": "rectangle"},
        {"label": "car", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "no picture"},
        {"label": "car", "points": [[0, 0], [1, 1]], "shape_type": ["star"]},
        {"label": "way\n", "points": [[0, 0], [1, 1]], "shape_type": "line"},
    )
    labelme(tmp_path / "2.json", {"label": "car", "points": [[0, 0], [2, 2]], "shape_type": "rectangle"}, imageWidth=9)
    (tmp_path / "3.json").write_text('{"shapes": [')
    labelme(tmp_path / "gone.json", {"label": "car", "points": [[0, 0], [2, 2]], "shape_type": "rectangle"})
    (tmp_path / "notes.json").write_text("{}")
    found = findings(tmp_path)
    assert [item[:41] for item in found.pop("unreadable_file")] == ["3.json is not JSON, or cut off (Expecting"]
    assert found == {
        "image_not_annotated": ("3.png",),
        "ignored_file": ("notes.json",),
        "annotation_without_image": ("gone.json: gone",),
        "annotation_without_area": ("1.json: a line (way\\n)",),
        "annotation_broken": (
            "1.json: shape 2 (car) of image 1 has points that aren't pairs of numbers",
            "1.json: shape 3 (car) of image 1 has a mask that is no picture in base64",
            "1.json: shape 4 (car) of image 1 is a ['star'], and only these are read: polygon, oriented_rectangle, "
            "rectangle, circle, mask",
        ),
        "size_mismatch": ("2.json: 9x5, image 2 6x5",),
    }


def test_a_label_that_data_classes_does_not_name_is_an_error(tmp_path: Path) -> None:
    image(tmp_path / "1.png")
    labelme(tmp_path / "1.json", {"label": "car", "points": [[0, 0], [2, 2]], "shape_type": "rectangle"})
    keys = {"classes": {"bus": 1}}
    assert findings(tmp_path, **keys)["unknown_category"] == ("1.json: shape 1 (car) of image 1 is of 'car'",)
    assert "declare it in the file, or name it in data.classes" in refusal(tmp_path, **keys)


def test_classes_can_join_categories_and_leave_some_to_the_background(tmp_path: Path) -> None:
    image(tmp_path / "1.png")
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]}, {"category_id": 3, "segmentation": [RIGHT]})
    assert mask(tmp_path, classes={"thing": ["car", "road"]})[0] == "111.11"
    assert mask(tmp_path, classes={"thing": "road", "background": "car"})[0] == "....11"
    assert mask(tmp_path, classes={"road": 4, "car": 9})[0] == "222.11"  # by their names, whatever the numbers
    regions = source(tmp_path, classes={"whole": ["car", "road"], "inner": "road"}).read("1")[1]
    assert regions[0].tolist() == [[1, 0]] * 3 + [[0, 0]] + [[1, 1]] * 2


def test_a_category_called_background_is_no_class(tmp_path: Path) -> None:
    image(tmp_path / "1.png")
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]}, {"category_id": 3, "segmentation": [MIDDLE]})
    file = tmp_path / "annotations.json"
    file.write_text(file.read_text().replace('"car"', '"background"'))
    assert mask(tmp_path)[0] == "..111."
    assert source(tmp_path).data.classes == {"road": 1}


def test_categories_of_annotations_are_no_values_of_mask_files(tmp_path: Path, folder: Any) -> None:
    folder.add("1")
    assert refusal(folder.root, classes={"thing": "car"}) == (
        "ROOT has masks in files, and data.classes names categories of annotations (car); "
        "name the values of the masks, as in data.classes={tumour: 1}"
    )


def test_a_run_records_the_classes_and_the_file_that_it_took_them_from(tmp_path: Path) -> None:
    root = tmp_path / "set"
    image(*(root / f"{number}.png" for number in range(1, 7)))
    names = tuple(f"{number}.png" for number in range(1, 7))
    every = [{"category_id": 7, "image_id": number, "segmentation": [LEFT]} for number in range(1, 7)]
    coco(root, *every, images=names)
    given = ["data=folder", f"data.root={root}", "data.image_size=32", f"data.cache_dir={tmp_path / 'cache'}"]
    data = load_data(freeze([*given, "data.split_by=image"]))
    recorded = data.config.data
    assert (recorded.annotations, recorded.classes, recorded.score_by) == (
        "annotations.json",
        {"car": 1, "road": 2},
        "case",
    )
    assert data.notes == (f"{root}: masks are drawn from annotations.json (COCO); classes car, road",)
    again = config_file.from_yaml(config_file.to_yaml(data.config), where="the run")
    (root / "annotations.json").write_text((root / "annotations.json").read_text().replace('"road"', '"street"'))
    assert load_data(again).slices.labels.names == ("car", "road")


def test_a_changed_annotation_is_read_anew(tmp_path: Path) -> None:
    image(tmp_path / "1.png")
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]})
    before = source(tmp_path).stamp()
    assert source(tmp_path).stamp() == before
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]}, {"category_id": 7, "segmentation": [RIGHT]})
    assert source(tmp_path).stamp() != before


def test_a_model_is_scored_on_annotations_of_its_own_classes_alone(tmp_path: Path) -> None:
    image(tmp_path / "1.png")
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]}, {"category_id": 3, "segmentation": [RIGHT]})
    run = DataConfig(
        name="folder", root="elsewhere", channels="grey", annotations="labelme", classes={"road": 1, "car": 2}
    )
    assert source_of_folder(tmp_path, run).read("1")[1][0, :, 0].tolist() == [2, 2, 2, 0, 1, 1]
    binary = DataConfig(name="folder", root="elsewhere", channels="grey", annotations="masks")
    with pytest.raises(DataError, match=r"annotations.json has the classes car, road, and the run no classes; name a"):
        source_of_folder(tmp_path, binary)


def test_a_model_is_scored_on_the_annotations_that_are_named_without_their_ignored_pixels(tmp_path: Path) -> None:
    image(tmp_path / "set" / "1.png")
    crowd = {"category_id": 7, "iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [15, 15]}}
    coco(tmp_path / "set", {"category_id": 7, "segmentation": [LEFT]}, crowd, file="val.json")
    coco(tmp_path / "set", file="train.json")
    keys = ["data.root=elsewhere", "data.channels=grey", "data.classes={car: 1, road: 2}", "data.image_size=32"]
    run = StoredRun(
        id="r1",
        name="",
        config=freeze(["data=folder", *keys, f"tracking.root={tmp_path}"]),
        split=Split(train=(), val=()),
        fingerprint="",
        threads=None,
        model_file=tmp_path,
        evaluated=(),
    )
    with pytest.raises(DataError, match="has several annotations"):
        split_of(run, split=None, data=tmp_path / "set")
    named = {"annotations": "val.json"}
    with pytest.raises(DataError, match=r"other\.json can't be read"):
        split_of(run, split=None, data=tmp_path / "set", named={"annotations": "other.json"})
    found = split_of(run, split=None, data=tmp_path / "set", named=named)
    assert found.ids == ("1",)
    assert found.slices.notes[-1] == (
        f"{tmp_path / 'set'} has pixels to ignore, unlike the data of run r1; they are left out of the scores"
    )
    cars_everywhere = np.array([0.0, 1.0, 0.0], np.float32)
    predictor = Predictor(lambda images, training: 0 * images + cars_everywhere)
    car, _ = evaluate(predictor, found.slices, found.ids, score_by="case").scores
    assert (car.class_name, car.dice) == ("car", 2 * 6 / (6 + 15))  # 15 of the 30 pixels are ignored


def test_a_folder_with_masks_in_two_ways_is_refused_until_one_is_chosen(folder: Any) -> None:
    folder.add("1", image=np.eye(HEIGHT, WIDTH, dtype=np.uint8), mask=np.eye(HEIGHT, WIDTH, dtype=np.uint8))
    coco(folder.root, {"category_id": 7, "segmentation": [LEFT]})
    assert refusal(folder.root) == (
        "ROOT has masks in images/ and masks/ and in annotations.json (COCO); "
        "choose by data.annotations=masks or data.annotations=annotations.json"
    )
    assert mask(folder.root, annotations="masks")[1] == ".1...."
    assert mask(folder.root, annotations="annotations.json")[1] == "111..."


def test_several_annotations_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    image(tmp_path / "images" / "1.png")
    for name in ("a b", "c"):
        coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]}, file=f"annotations/{name}.json")
    assert refusal(tmp_path) == (
        "ROOT has several annotations (annotations/a b.json, annotations/c.json); "
        "choose by 'data.annotations=annotations/a b.json'"
    )
    assert mask(tmp_path, annotations="annotations/c.json")[0] == "111..."
    absolute = {"annotations": str(tmp_path / "annotations" / "c.json")}
    assert mask(tmp_path, **absolute)[0] == "111..."
    assert len(source(tmp_path, **absolute).stamp()) == 64
    typed = freeze(["data=folder", "data.root=DIR", "data.annotations=annotations/a b.json"])
    assert typed.data.annotations == "annotations/a b.json"


def test_a_part_of_a_split_with_annotations_of_its_own_is_named(tmp_path: Path) -> None:
    for part in ("test", "train", "valid"):
        image(tmp_path / part / "1.png")
        coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]}, file=f"{part}/_annotations.coco.json")
    assert refusal(tmp_path).endswith("; ROOT/train has annotations: name it by data.root")
    assert mask(tmp_path / "train")[0] == "111..."


def test_folders_of_annotated_images_are_patients_or_parts_of_a_split(tmp_path: Path) -> None:
    image(tmp_path / "P1" / "1.png", tmp_path / "P2" / "2.png", tmp_path / "test" / "3.png", tmp_path / "val" / "4.png")
    each = [{"category_id": 7, "image_id": number, "segmentation": [LEFT]} for number in range(1, 5)]
    coco(tmp_path, *each, images=("P1/1.png", "P2\\2.png", "3.png", "4.jpg"))
    found = source(tmp_path)
    assert [(item.id, item.columns.get("patient_id")) for item in found.slices()] == [
        ("1", "P1"),
        ("2", "P2"),
        ("4", None),
    ]
    assert findings(tmp_path) == {
        "split_folder": ("val/",),
        "test_left_out": ("test/: 1 slices",),
        "absent_class": ("road",),
    }


def test_nothing_beside_annotated_images_is_passed_over_in_silence(tmp_path: Path) -> None:
    image(tmp_path / "P1" / "1.png", tmp_path / "P1" / "old" / "9.png", tmp_path / "other" / "deep" / "8.png")
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]}, file="annotations/a.json")
    (tmp_path / "annotations" / "notes.txt").touch()
    (tmp_path / "P1" / "1.nii.gz").touch()
    beside = {"nested_patients": ("other/deep/",), "unread_format": ("P1/1.nii.gz",), "nested_folder": ("P1/old/",)}
    assert findings(tmp_path) == {**beside, "absent_class": ("road",), "ignored_file": ("annotations/notes.txt",)}
    image(tmp_path / "images" / "1.png", tmp_path / "x.png")
    assert findings(tmp_path) == {
        "absent_class": ("road",),
        "ignored_folder": ("P1/", "other/"),
        "ignored_file": ("x.png", "annotations/notes.txt"),
    }


def test_named_channels_share_the_annotations_of_one_of_them(tmp_path: Path) -> None:
    image(tmp_path / "7_flair.png", tmp_path / "7_t1.png", tmp_path / "8_t1.png")
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]}, images=("7_flair.png", "8.png"))
    data = DataConfig(name="folder", root=str(tmp_path), channels=["flair", "t1"])
    report = verify(tmp_path, data)
    assert [each.items for each in report.findings if each.check == "missing_channel"] == [("8: no 8_flair",)]
    (tmp_path / "8_t1.png").unlink()
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]}, images=("7_flair.png",))
    picture, drawn = FolderSource(data).read("7")
    assert picture.shape == (HEIGHT, WIDTH, 2)
    assert drawn[0, :, 0].tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON, or cut off (Expecting value: line 1 column 1 (char 0)); export it again"),
        ("[" * 100_000, "is not JSON, or cut off (nested too deeply); export it again"),
        (
            r'{"a": "\ud800"}',
            r"is not JSON, or cut off ('utf-8' codec can't encode character '\ud800' in position 0: surrogates not "
            "allowed); export it again",
        ),
        ('{"a": NaN}', "is not JSON, or cut off (it holds NaN, which is no number); export it again"),
        ("[1]", "is no COCO file, it lacks a list of images, annotations, categories; export it again as COCO"),
        (
            "version https://git-lfs.github.com/spec/v1",
            "is a pointer of Git LFS, not the file; fetch it by `git lfs pull`",
        ),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    image(tmp_path / "1.png")
    (tmp_path / "a.json").write_text(content)
    assert refusal(tmp_path, annotations="a.json") == f"ROOT/a.json {message}"


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("categories", [{"id": 7}], "category None needs a name, and an id of its own"),
        ("categories", [{"id": [], "name": "car"}], "category {'id': [], 'name': 'car'} is no object with an id"),
        ("categories", CATEGORIES * 2, "category 'car' needs a name, and an id of its own"),
        ("images", [{"id": 1}], "image None needs a file_name, and an id of its own"),
        ("images", [7], "image 7 is no object with an id"),
        ("annotations", [[]], "annotation [] is no object with an id"),
    ],
)
def test_a_coco_file_of_another_form_is_one_line(tmp_path: Path, part: str, value: Any, message: str) -> None:
    image(tmp_path / "1.png")
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]})
    content = json.loads((tmp_path / "annotations.json").read_text())
    (tmp_path / "annotations.json").write_text(json.dumps(content | {part: value}))
    assert refusal(tmp_path) == f"ROOT/annotations.json: {message}; export it again as COCO"


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "1.png")
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]})
    monkeypatch.setattr("brainseg.data.annotations.json_file.MAX_BYTES", 100)
    assert refusal(tmp_path, annotations="annotations.json").startswith(
        "ROOT/annotations.json is above 0 MiB; split it"
    )


def test_annotations_of_another_folder_are_refused(tmp_path: Path) -> None:
    image(tmp_path / "9.png")
    coco(tmp_path, {"category_id": 7, "segmentation": [LEFT]})
    assert refusal(tmp_path) == ("ROOT: annotations.json (COCO) has none of its images; are they in another folder?")


def test_other_json_beside_images_is_left_alone(folder: Any) -> None:
    folder.add("1")
    (folder.root / "images" / "1.json").write_text('{"EchoTime": 0.03}')
    (folder.root / "info.json").write_text("{")
    assert source(folder.root).data.annotations == "masks"
    assert findings(folder.root) == {"ignored_file": ("images/1.json", "info.json")}
