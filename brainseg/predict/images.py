"""Predicts new images of any size. While the model computes, threads read the next images and write the last ones."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.data.training_statistics import TrainingStatistics
from brainseg.errors import DataError
from brainseg.inference.apply import TumorFinding, as_seen, batch_size, findings_of, masks_of, unlike_training, views_of
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import Predictor
from brainseg.predict.inputs import InputImage
from brainseg.predict.pictures import Pictures


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """An image whose pictures are written."""

    image: InputImage
    findings: Mapping[str, TumorFinding]  # class -> what was found of it, in the order of the classes
    warnings: tuple[str, ...]  # how it differs from the training slices


@dataclass(frozen=True, kw_only=True)
class Failed:
    """An image that can't be read."""

    image: InputImage
    error: str  # one line that names the file


Outcome = Predicted | Failed


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    image: InputImage
    pixels: NDArray[np.uint8]  # (height, width, channels)
    seen: NDArray[np.uint8]  # `as_seen`
    warnings: tuple[str, ...]


def predict_images(
    images: Sequence[InputImage],
    *,
    model: Any,
    settings: MaskSettings,
    statistics: TrainingStatistics | None,
    pictures: Pictures,
    on_outcome: Callable[[Outcome], None],
) -> None:
    """Predicts each image and writes its pictures; then calls `on_outcome`, in the order of `images`.

    model: a Keras model, which takes images as `pictures.data` says. An image that can't be read is an outcome of its
    own, and the others go on. Raises OSError if a picture can't be written.
    """
    predictor = Predictor(model)
    batch = batch_size(len(images)) if predictor.windows is None else 1  # windows fill batches of their own
    data = pictures.data

    def read(image: InputImage) -> _Read | Failed:
        try:
            pixels = image.read(data)
        except DataError as error:
            return Failed(image=image, error=str(error))
        seen = as_seen(pixels, predictor, data)
        warnings = unlike_training(pixels, seen, predictor, statistics)
        return _Read(image=image, pixels=pixels, seen=seen, warnings=warnings)

    def finish(item: _Read, views: NDArray[np.float32]) -> Predicted:
        shape = item.pixels.shape[0], item.pixels.shape[1]
        masks, probability = masks_of(views, shape, settings, data.labels)
        pictures.write(item.image, item.pixels, masks, probability)
        findings = findings_of(masks, probability, data.labels, warnings=item.warnings)
        return Predicted(image=item.image, findings=findings, warnings=item.warnings)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            writing: deque[list[Future[Predicted] | Failed]] = deque()
            for group in _groups(_ahead(pool, read, images, count=2 * batch), batch):
                seen = [item.seen for item in group if isinstance(item, _Read)]
                views = iter(views_of(predictor, seen, batch=batch, settings=settings))
                writing.append(
                    [item if isinstance(item, Failed) else pool.submit(finish, item, next(views)) for item in group]
                )
                if len(writing) > 1:  # the batch before was written meanwhile
                    _tell(writing.popleft(), on_outcome)
            for rest in writing:
                _tell(rest, on_outcome)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _ahead(
    pool: ThreadPoolExecutor, read: Callable[[InputImage], _Read | Failed], images: Sequence[InputImage], *, count: int
) -> Iterator[_Read | Failed]:
    """Reads the images in order, `count` of them ahead."""
    reading: deque[Future[_Read | Failed]] = deque()
    for image in images:
        reading.append(pool.submit(read, image))
        if len(reading) > count:
            yield reading.popleft().result()
    while reading:
        yield reading.popleft().result()


def _groups(items: Iterator[_Read | Failed], size: int) -> Iterator[list[_Read | Failed]]:
    group: list[_Read | Failed] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _tell(items: Sequence[Future[Predicted] | Failed], on_outcome: Callable[[Outcome], None]) -> None:
    for item in items:
        on_outcome(item if isinstance(item, Failed) else item.result())
