"""The classes of a mask: what may be written, and what a mask in memory and a network then hold."""

import pytest

from brainseg.classes import BINARY
from brainseg.compose import freeze
from brainseg.config import DataConfig
from brainseg.data.masks import label_values
from brainseg.errors import ConfigError

FOLDER = ["data=folder", "data.root=DIR"]
RULE = (
    "data.classes.car must be whole numbers from 0 to 65535, colours such as '#ff0000' or categories of annotations, "
    "got "
)


def labels(*overrides):
    return freeze([*FOLDER, *overrides]).data.labels


def test_without_classes_a_mask_is_binary():
    assert labels() == BINARY
    assert (BINARY.outputs, BINARY.mask_channels, BINARY.activation, BINARY.are_named) == (1, 1, "sigmoid", False)


def test_values_that_do_not_overlap_are_a_softmax_with_a_background():
    found = labels("data.classes={car: 1, road: [2, 3]}")
    assert (found.names, found.activation, found.outputs, found.mask_channels) == (("car", "road"), "softmax", 3, 1)


def test_values_that_overlap_are_a_sigmoid_each():
    found = labels("data.classes={whole: [1, 2, 4], core: [1, 4], enhancing: 4}")
    assert (found.activation, found.outputs, found.mask_channels) == ("sigmoid", 3, 3)


def test_the_background_is_0_unless_0_is_a_class():
    assert DataConfig(classes={"car": 1}).mask_classes.background == (0,)
    without = DataConfig(classes={"sky": 0, "car": 1})
    assert (without.mask_classes.background, without.labels.outputs, without.labels.has_background) == ((), 2, False)
    named = DataConfig(classes={"background": [0, 7], "car": 1})
    assert (named.mask_classes.background, named.labels.names) == ((0, 7), ("car",))


def test_colours_are_read_as_numbers():
    found = freeze([*FOLDER, 'data.classes={car: "#ff0000", road: "#00FF0a"}']).data.mask_classes
    assert found.are_colours
    assert dict(found.values) == {"car": (0xFF0000,), "road": (0x00FF0A,)}


def test_categories_of_annotations_are_numbered_as_they_are_named():
    found = freeze([*FOLDER, "data.classes={vehicle: [car, bus], plant: tree, background: road}"]).data.mask_classes
    assert dict(found.values) == {"vehicle": (1, 2), "plant": (3,)}
    assert (found.background, found.categories) == ((4,), ("car", "bus", "tree", "road"))
    assert found.exclusive
    assert DataConfig(classes={"whole": ["rim", "core"], "core": "core"}).labels.activation == "sigmoid"
    written = label_values(DataConfig(classes={"plant": "tree", "background": "road"}))
    assert (written.classes, written.background) == ((1,), 0)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"car": 1.5}, RULE + "1.5"),
        ({"car": True}, RULE + "True"),
        ({"car": ""}, RULE + "''"),
        ({"car": -1}, RULE + "-1"),
        ({"car": [1, 1]}, "data.classes.car names a value twice, in [1, 1]; name it once"),
        ({"car": []}, "data.classes.car has no value; name one, as in {car: 1}"),
        (
            {"car": 1, "road": "#ff0000"},
            "data.classes must be of one kind for all classes, got colours and numbers; write one kind",
        ),
        ({"background": 0}, "data.classes must name a class beside the background; add one, as in {tumour: 1}"),
        (
            {"background": [0, 1], "car": 1},
            "data.classes names 1 for the background and for a class; name it once",
        ),
        (
            {"background": "tree", "car": ["van", "tree"]},
            "data.classes names tree for the background and for a class; name it once",
        ),
        ({" ": 1}, "data.classes must have texts for names, got ' '; write {tumour: 1}"),
        ({"a\nb": 1}, "data.classes must have texts for names, got 'a\\nb'; write {tumour: 1}"),
    ],
)
def test_what_is_no_class_is_refused(classes, message):
    with pytest.raises(ConfigError) as refused:
        DataConfig(classes=classes)
    assert str(refused.value) == message


def test_an_ignored_value_is_no_class():
    with pytest.raises(
        ConfigError, match=r"data.ignore must be no value of a class or the background, got 1; leave one"
    ):
        freeze([*FOLDER, "data.classes={car: 1}", "data.ignore=1"])
