"""The model of a registered version behind MLflow's scoring server: an image in, a mask out, as by `brainseg.predict`.

MLflow imports this module from the version's own copy of brainseg, and calls `_load_pyfunc`. It needs TensorFlow,
Keras, NumPy, SciPy and Pillow; nothing of it is pickled.
"""

import base64
import binascii
import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.config import FIRST_READING, DataConfig
from brainseg.data.channels import join_channels
from brainseg.data.decode import decode_image
from brainseg.data.encode import image_png, label_image, label_png, mask_png
from brainseg.data.masks import label_values
from brainseg.data.opening import pixels_of
from brainseg.data.training_statistics import STATISTICS_FILE, TrainingStatistics, parse_statistics
from brainseg.errors import DataError, InputError
from brainseg.inference.apply import MIN_BATCH, TumorFinding, as_seen, findings_of, masks_of, unlike_training, views_of
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import Predictor
from brainseg.model.keras_file import copy_model, read_model

LOADER = __name__  # what MLflow imports
SERVED_SCHEMA = 3  # 2 read grey images as version 0.1 did
MODEL_NAME = "model.keras"
SETTINGS_NAME = "served.json"
IMAGE = "image"  # the column that a request has, unless channels have names
FACTS = ("area_px", "confidence", "max_probability")  # of a mask, in an answer
MAX_ROWS = 128  # of a request
MAX_PIXELS = 2**25  # of all images of a request: 128 of 512x512, or one of 5792x5792
# One shape for every request: its graph is built before the first one comes, and by one thread.
BATCH = MIN_BATCH

Files = dict[str, bytes]  # what an image is called for people, or each of its channels -> the content of its file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """How a served model makes masks."""

    run_id: str
    data: DataConfig  # how images are read, at which size, and what the classes are
    threads: int | None  # of TensorFlow in the training, if known: they decide the last digits
    settings: MaskSettings


def write_served(folder: Path, served: Served, *, model_file: Path, statistics: TrainingStatistics | None) -> None:
    """Writes what `_load_pyfunc` reads into a new folder."""
    folder.mkdir()
    copy_model(model_file, folder / MODEL_NAME)
    content = {"schema_version": SERVED_SCHEMA} | dataclasses.asdict(served)
    seen = {"patches": served.data.patches} if served.data.patches else {}
    content["data"] = {"image_size": served.data.image_size, **seen, **served.data.reading_keys}
    (folder / SETTINGS_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if statistics is not None:
        (folder / STATISTICS_FILE).write_text(statistics.to_json(), encoding="utf-8")


def request_columns(data: DataConfig) -> tuple[str, ...]:
    """The columns of a request, each with files: `image`, or those of the named channels."""
    return (IMAGE,) if data.channels_are_alike else tuple(data.channels)


def example_request(data: DataConfig) -> dict[str, list[str]]:
    """A request that shows the form, column by column: one image of the model's size."""
    picture = np.rint(np.minimum.outer(*(np.linspace(0, 255, side) for side in data.size))).astype(np.uint8)
    image = np.repeat(picture[..., np.newaxis], 3 if data.channels == "rgb" else 1, axis=-1)
    return {name: [_as_text(image_png(image))] for name in request_columns(data)}


class ServedModel:
    """The model that MLflow calls, from any number of threads."""

    def __init__(self, served: Served, model: Any, statistics: TrainingStatistics | None) -> None:
        self._served = served
        self._statistics = statistics
        self._predictor = Predictor(model)
        blank = np.zeros((*served.data.size, served.data.channel_count), np.uint8)
        # Builds the graph here: AutoGraph goes wrong if two threads convert at once.
        views_of(self._predictor, [blank], batch=BATCH, settings=served.settings)

    def predict(self, requested: Any) -> list[dict[str, Any]]:
        """One answer for each row of a table whose `request_columns` hold PNG, JPEG or TIFF files in base64.

        An image that can't be read gets an answer with `error`, and the others go on. Raises InputError for more than
        `MAX_ROWS` rows or `MAX_PIXELS` pixels, before an image is decoded.
        """
        rows = list(zip(*(requested[column] for column in request_columns(self._served.data)), strict=True))
        if len(rows) > MAX_ROWS:
            raise InputError(f"a request of {len(rows)} rows, at most {MAX_ROWS} are answered; send several requests")
        files = [self._files(row, number=number) for number, row in enumerate(rows, start=1)]
        _check_pixels([each for each in files if not isinstance(each, str)])
        answers: list[dict[str, Any]] = []
        for first in range(0, len(files), BATCH):
            answers += self._answers(files[first : first + BATCH])
        return answers

    def _answers(self, files: Sequence[Files | str]) -> list[dict[str, Any]]:
        """Answers for at most `BATCH` images: their files, or why there are none."""
        decoded = [each if isinstance(each, str) else self._decode(each) for each in files]
        images = [image for image in decoded if not isinstance(image, str)]
        seen = [as_seen(image, self._predictor, self._served.data) for image in images]
        views = views_of(self._predictor, seen, batch=BATCH, settings=self._served.settings)
        found = iter([self._found(*item) for item in zip(images, seen, views, strict=True)])
        return [self._answer(error=image) if isinstance(image, str) else next(found) for image in decoded]

    def _files(self, row: Sequence[object], *, number: int) -> Files | str:
        """The files of one image by their names for people, or the error in words.

        row: a file in base64, or one for each named channel. number: of the row, from 1.
        """
        columns, called = request_columns(self._served.data), f"image {number}"
        names = [called] if len(row) == 1 else [f"{called}, {channel}" for channel in columns]
        try:
            return {name: _content(text, called=name) for name, text in zip(names, row, strict=True)}
        except DataError as error:
            return str(error)

    def _decode(self, files: Files) -> NDArray[np.uint8] | str:
        """The image, (height, width, channels), or the error in words."""
        try:
            pictures = [decode_image(content, self._served.data, called=name) for name, content in files.items()]
            return pictures[0] if len(pictures) == 1 else join_channels(pictures, called=list(files))
        except DataError as error:
            return str(error)

    def _found(self, image: NDArray[np.uint8], seen: NDArray[np.uint8], views: NDArray[np.float32]) -> dict[str, Any]:
        labels = self._served.data.labels
        masks, probability = masks_of(views, (image.shape[0], image.shape[1]), self._served.settings, labels)
        warnings = unlike_training(image, seen, self._predictor, self._statistics)
        findings = findings_of(masks, probability, labels, warnings=warnings)
        pngs = [_as_text(mask_png(mask)) for mask in np.moveaxis(masks, -1, 0)]
        size = {"width": image.shape[1], "height": image.shape[0], "warnings": list(warnings)}
        if not labels.are_named:
            return self._answer(mask=pngs[0], **size, **_facts(findings[""]))
        mask, values = self._label_image(masks)
        classes = {
            name: {"value": value, "mask": png} | _facts(found)
            for (name, found), png, value in zip(findings.items(), pngs, values, strict=True)
        }
        return self._answer(mask=mask, **size, classes=classes)

    def _label_image(self, masks: NDArray[np.bool_]) -> tuple[str | None, Sequence[int | None]]:
        """The label image and the values of the classes in it; there is none of classes that may overlap."""
        data = self._served.data
        if not data.labels.exclusive:
            return None, [None] * masks.shape[-1]
        values = label_values(data)
        image = label_image(masks, values.classes, background=values.background)
        return _as_text(label_png(image, values.classes)), values.classes

    def _answer(self, **known: Any) -> dict[str, Any]:
        """What a request is answered for one image.

        known: `mask`, a PNG in base64 of the image's size, of 0 and 255 with the fields of `TumorFinding`, or a label
        image with these of each class; or `error`, why there is no mask.
        """
        facts = ("classes",) if self._served.data.labels.are_named else FACTS
        return dict.fromkeys(("mask", "width", "height", *facts)) | {"warnings": [], "error": None} | known


def _check_pixels(images: Sequence[Files]) -> None:
    pixels = sum(pixels_of(content) for files in images for content in files.values())
    if pixels > MAX_PIXELS:
        raise InputError(f"images of {pixels} pixels in all, at most {MAX_PIXELS} are answered; send several requests")


def _facts(found: TumorFinding) -> dict[str, Any]:
    return {name: value for name, value in vars(found).items() if name in FACTS}


def _as_text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _content(text: object, *, called: str) -> bytes:
    """The file that a text holds. Raises DataError."""
    if not isinstance(text, str):  # null, or left out: then NaN stands there
        raise DataError(f"{called} is missing; send a PNG, JPEG or TIFF file in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(
            f"{called} is not base64 ({error}); send a PNG, JPEG or TIFF file in base64, without line breaks"
        ) from None


def _load_pyfunc(path: str) -> ServedModel:
    """Called by MLflow with what `write_served` wrote. Raises InputError for a model that can't be loaded."""
    folder = Path(path)
    content = json.loads((folder / SETTINGS_NAME).read_text(encoding="utf-8"))
    version = content.pop("schema_version")
    if version == 2:
        content["data"] = {"image_size": content.pop("image_size"), **FIRST_READING}
    elif version != SERVED_SCHEMA:
        raise InputError(
            f"{SETTINGS_NAME} has schema_version {version}, and this brainseg reads {SERVED_SCHEMA}; "
            "serve it without brainseg on the Python path: the model brings its own"
        )
    data, settings = DataConfig(**content["data"]), MaskSettings.stored(content["settings"])
    served = Served(**content | {"data": data, "settings": settings})
    file = folder / STATISTICS_FILE
    _use_threads(served.threads)
    return ServedModel(
        served,
        read_model(folder / MODEL_NAME, called=f"the model of run {served.run_id}", remedy="register the run again"),
        parse_statistics(file.read_text(encoding="utf-8"), where=STATISTICS_FILE) if file.exists() else None,
    )


def _use_threads(threads: int | None) -> None:
    import tensorflow as tf

    if threads is None:
        return
    with contextlib.suppress(RuntimeError):  # TensorFlow computes already in this process
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
