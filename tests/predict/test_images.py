"""Images are read, predicted and written at once; the order, the batch and broken files make no difference."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainseg.config import DataConfig
from brainseg.data.cache import resize_image
from brainseg.data.image_files import find_images
from brainseg.data.training_statistics import CONSTANT, TrainingStatistics
from brainseg.inference.apply import batch_size
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.resize import resize_probability
from brainseg.model.names import OF_WINDOWS
from brainseg.predict.images import Failed, Predicted, predict_images
from brainseg.predict.inputs import input_images
from brainseg.predict.pictures import Pictures

SIZE = 8


class Brightness:
    """A model that takes the grey level for the probability. Counts how often a graph is built from it."""

    def __init__(self, name="whole"):
        self.name, self.input_shape = name, (None, SIZE, SIZE, 1)
        self.shapes = []

    def __call__(self, images, training):
        self.shapes.append(tuple(images.shape))
        return images


GREY = DataConfig(image_size=SIZE, channels="grey")


def predicted(folder, out, *, model=None, bits=None, settings=None, data=GREY, statistics=None):
    outcomes = []
    predict_images(
        input_images(find_images([folder]).files, data),
        model=model or Brightness(),
        settings=settings or MaskSettings(),
        statistics=statistics,
        pictures=Pictures(folder=out, data=data, probability_bits=bits),
        on_outcome=outcomes.append,
    )
    return outcomes


def noise(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.fixture
def images(tmp_path):
    """35 images of all sizes: two batches of 16 would leave one of 3."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(35):
        Image.fromarray(noise(number, 5 + number, 20)).save(folder / f"{number:02d}.png")
    return folder


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_each_image_is_predicted_at_its_own_size(images, tmp_path):
    outcomes = predicted(images, tmp_path / "out", bits=16)
    assert [item.image.id for item in outcomes] == [f"{number:02d}" for number in range(35)]
    for number, item in enumerate(outcomes):
        image = noise(number, 5 + number, 20)
        small = resize_image(image[..., None], (SIZE, SIZE)) / np.float32(255)
        probability = resize_probability(small, image.shape)[..., 0]
        mask = probability >= 0.5
        assert isinstance(item, Predicted)
        (finding,) = item.findings.values()
        assert (finding.width, finding.height, finding.area_px) == (20, 5 + number, mask.sum())
        assert finding.confidence == pytest.approx(probability[mask].mean(), abs=1e-6)
        assert finding.max_probability == pytest.approx(probability.max(), abs=1e-6)
        name = f"{number:02d}.png"
        np.testing.assert_array_equal(pixels(tmp_path / "out" / "masks" / name), mask * 255)
        assert pixels(tmp_path / "out" / "overlays" / name).shape == (*image.shape, 3)
        levels = pixels(tmp_path / "out" / "probabilities" / name)
        np.testing.assert_allclose(levels / 65535, probability, atol=1 / 65535)


def test_one_graph_is_built_whatever_the_number_of_images(images, tmp_path):
    (images / "17.png").write_bytes(b"broken")  # its place stays empty
    model = Brightness()
    predicted(images, tmp_path / "out", model=model)
    assert model.shapes == [(12, SIZE, SIZE, 1)]


def test_a_large_image_is_unusual_only_where_it_is_resized(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(0, 30, 40)).save(tmp_path / "in" / "large.png")
    of_all = {"width": (10, 10), "height": (10, 10), "aspect": (1, 1), "brightness": (0, 255), "contrast": (0, 255)}
    measures = {name: (low,) * 4 + (high,) * 5 for name, (low, high) in of_all.items()}
    statistics = TrainingStatistics(slices=9, measures=measures)
    (resized,) = predicted(tmp_path / "in", tmp_path / "resized", statistics=statistics)
    assert resized.warnings == ("size 40x30 (10x10 in training)", "width/height 1.33 (1.00 in training)")
    model = Brightness(f"unet{OF_WINDOWS}")
    (windowed,) = predicted(tmp_path / "in", tmp_path / "windowed", model=model, statistics=statistics)
    assert windowed.warnings == ()


def test_a_broken_image_is_told_of_in_its_place_and_the_others_go_on(images, tmp_path):
    whole = predicted(images, tmp_path / "whole")
    content = (images / "03.png").read_bytes()
    (images / "03.png").write_bytes(content[:60])
    (images / "34.png").write_bytes(b"")
    outcomes = predicted(images, tmp_path / "out")
    assert [isinstance(item, Failed) for item in outcomes] == [number in (3, 34) for number in range(35)]
    assert outcomes[3].error.startswith(f"{images / '03.png'} is damaged or cut off (")
    assert outcomes[34].error == f"{images / '34.png'} is empty (0 bytes); copy or export it again"
    assert [item for item in outcomes if isinstance(item, Predicted)] == [
        item for number, item in enumerate(whole) if number not in (3, 34)
    ]
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 33


def test_nothing_is_predicted_where_every_image_is_broken(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").write_bytes(b"text")
    model = Brightness()
    (item,) = predicted(tmp_path / "in", tmp_path / "out", model=model)
    assert isinstance(item, Failed)
    assert model.shapes == []
    assert not (tmp_path / "out").exists()


def test_flips_shifts_and_small_parts_are_those_of_the_settings(tmp_path):
    (tmp_path / "in").mkdir()
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[1, 1] = image[4:6, 4:6] = 255
    Image.fromarray(image).save(tmp_path / "in" / "x.png")
    (item,) = predicted(
        tmp_path / "in", tmp_path / "out", settings=MaskSettings(flip="all", shift="diagonal", min_area_px=2)
    )
    found = item.findings[""]
    assert (found.area_px, found.confidence, found.max_probability) == (4, 1.0, 1.0)
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "masks" / "x.png")[4:6, 4:6], 255)


def test_an_image_of_one_value_is_pointed_out_without_any_statistics(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("L", (9, 9), 40).save(tmp_path / "in" / "x.png")
    (item,) = predicted(tmp_path / "in", tmp_path / "out")
    found = item.findings[""]
    assert (item.warnings, found.warnings, found.area_px, found.confidence) == ((CONSTANT,), (CONSTANT,), 0, None)


def test_a_disk_that_is_full_ends_it(images, tmp_path, monkeypatch):
    written = []

    def write(path: Path, mask):
        if len(written) == 20:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)

    monkeypatch.setattr("brainseg.predict.pictures.write_mask", write)
    with pytest.raises(OSError, match="No space left on device"):
        predicted(images, tmp_path / "out")


@pytest.mark.parametrize(
    ("files", "size"), [(1, 2), (2, 2), (3, 3), (16, 16), (17, 9), (32, 16), (33, 11), (35, 12), (1000, 16)]
)
def test_a_batch_leaves_few_places_empty(files, size):
    assert batch_size(files) == size


def test_a_tiff_holds_all_named_channels_where_no_file_is_named_like_one(tmp_path: Path) -> None:
    pages = [Image.new("L", (4, 4), value) for value in (10, 20)]
    pages[0].save(tmp_path / "7.tif", save_all=True, append_images=pages[1:])
    data = DataConfig(channels=["dapi", "gfp"])
    (image,) = input_images(find_images([tmp_path]).files, data)
    assert (image.id, image.read(data)[0, 0].tolist()) == ("7", [10, 20])
