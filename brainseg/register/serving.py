"""The model of a registered version behind MLflow's scoring server: an image in, a mask out, as by `brainseg.predict`.

MLflow imports this module from the version's own copy of brainseg, and calls `_load_pyfunc`. It needs TensorFlow,
Keras, NumPy, SciPy and Pillow; nothing of it is pickled.
"""

import base64
import binascii
import contextlib
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.config import FIRST_READING, DataConfig
from brainseg.data.cache import resize_image
from brainseg.data.decode import decode_image
from brainseg.data.encode import image_png, mask_png
from brainseg.data.training_statistics import STATISTICS_FILE, TrainingStatistics, parse_statistics
from brainseg.errors import DataError, InputError
from brainseg.inference.apply import MIN_BATCH, finding_of, masks_of, unlike_training, views_of
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import Predictor
from brainseg.model.keras_file import read_model

LOADER = __name__  # what MLflow imports
SERVED_SCHEMA = 3  # 2 read grey images as version 0.1 did
MODEL_NAME = "model.keras"
SETTINGS_NAME = "served.json"
IMAGE = "image"  # the column that a request has
# One shape for every request: its graph is built before the first one comes, and by one thread.
BATCH = MIN_BATCH


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
    shutil.copyfile(model_file, folder / MODEL_NAME)
    content = {"schema_version": SERVED_SCHEMA} | dataclasses.asdict(served)
    content["data"] = {"image_size": served.data.image_size, **served.data.reading_keys}
    (folder / SETTINGS_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if statistics is not None:
        (folder / STATISTICS_FILE).write_text(statistics.to_json(), encoding="utf-8")


def example_request(data: DataConfig) -> list[str]:
    """The column `image` of a request that shows the form: one image of the model's size."""
    row = np.linspace(0, 255, data.image_size)
    image = np.rint(np.minimum.outer(row, row)).astype(np.uint8)
    image = np.repeat(image[..., np.newaxis], data.channel_count, axis=-1)
    return [base64.b64encode(image_png(image)).decode("ascii")]


class ServedModel:
    """The model that MLflow calls, from any number of threads."""

    def __init__(self, served: Served, model: Any, statistics: TrainingStatistics | None) -> None:
        self._served = served
        self._statistics = statistics
        self._predictor = Predictor(model)
        blank = np.zeros((*(served.data.image_size,) * 2, served.data.channel_count), np.uint8)
        # Builds the graph here: AutoGraph goes wrong if two threads convert at once.
        views_of(self._predictor, [blank], batch=BATCH, settings=served.settings)

    def predict(self, requested: Any) -> list[dict[str, Any]]:
        """One answer for each row of a table whose column `image` holds PNG, JPEG or TIFF files in base64.

        An image that can't be read gets an answer with `error`, and the others go on.
        """
        texts = list(requested[IMAGE])
        answers: list[dict[str, Any]] = []
        for first in range(0, len(texts), BATCH):
            answers += self._answers(texts[first : first + BATCH], first=first)
        return answers

    def _answers(self, texts: Sequence[str], *, first: int) -> list[dict[str, Any]]:
        """Answers for at most `BATCH` images; the first is number `first`, from 0."""
        decoded = [self._decode(text, called=f"image {number}") for number, text in enumerate(texts, start=first + 1)]
        images = [image for image in decoded if not isinstance(image, str)]
        resized = [resize_image(image, self._served.data.image_size) for image in images]
        views = views_of(self._predictor, resized, batch=BATCH, settings=self._served.settings)
        found = iter([self._found(*item) for item in zip(images, resized, views, strict=True)])
        return [_answer(error=image) if isinstance(image, str) else next(found) for image in decoded]

    def _decode(self, text: str, *, called: str) -> NDArray[np.uint8] | str:
        """The image, (height, width, channels), or the error in words."""
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            return f"{called} is not base64 ({error}); send a PNG, JPEG or TIFF file in base64, without line breaks"
        try:
            return decode_image(content, self._served.data, called=called)
        except DataError as error:
            return str(error)

    def _found(
        self, image: NDArray[np.uint8], resized: NDArray[np.uint8], views: NDArray[np.float32]
    ) -> dict[str, Any]:
        labels = self._served.data.labels
        masks, probability = masks_of(views, (image.shape[0], image.shape[1]), self._served.settings, labels)
        mask, probability = masks[..., 0], probability[..., 0]
        warnings = unlike_training(image, resized, self._statistics)
        found = dataclasses.asdict(finding_of(mask, probability, warnings=warnings)) | {"warnings": list(warnings)}
        return _answer(mask=base64.b64encode(mask_png(mask)).decode("ascii"), **found)


def _answer(**known: Any) -> dict[str, Any]:
    """What a request is answered for one image.

    known: `mask`, a PNG of 0 and 255 in base64 of the image's size, with the fields of `TumorFinding`; or `error`, why
    there is no mask.
    """
    names = ("mask", "width", "height", "area_px", "confidence", "max_probability")
    return dict.fromkeys(names) | {"warnings": [], "error": None} | known


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
