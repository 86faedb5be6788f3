"""Predicts new images of any size. While the model computes, threads read the next images and write the last ones."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.config import DataConfig
from brainseg.data.cache import resize_image
from brainseg.data.decode import read_image
from brainseg.data.encode import write_mask, write_outlined, write_probability
from brainseg.data.image_files import ImageFile
from brainseg.data.training_statistics import TrainingStatistics
from brainseg.errors import DataError
from brainseg.inference.apply import TumorFinding, batch_size, finding_of, masks_of, unlike_training, views_of
from brainseg.inference.postprocess import MaskSettings
from brainseg.inference.prediction import Predictor


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """An image whose pictures are written."""

    file: ImageFile
    finding: TumorFinding


@dataclass(frozen=True, kw_only=True)
class Failed:
    """An image that can't be read."""

    file: ImageFile
    error: str  # one line that names the file


Outcome = Predicted | Failed


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    file: ImageFile
    image: NDArray[np.uint8]  # (height, width, channels)
    resized: NDArray[np.uint8]  # (size, size, channels)
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Where the pictures of an image go: `masks/ID.png`, `overlays/ID.png`, and if asked for `probabilities/ID.png`."""

    folder: Path
    probability_bits: int | None  # 8 or 16; None: no probabilities

    def write(
        self, file: ImageFile, image: NDArray[np.uint8], masks: NDArray[np.bool_], probability: NDArray[np.float32]
    ) -> None:
        """image: (height, width, channels). masks: (height, width, classes). probability: (height, width, outputs).

        Raises OSError if the folder can't be written to.
        """
        name = f"{file.id}.png"
        write_mask(self.folder / "masks" / name, masks[..., 0])
        write_outlined(self.folder / "overlays" / name, image, masks[..., 0])
        if self.probability_bits is not None:
            write_probability(self.folder / "probabilities" / name, probability[..., 0], bits=self.probability_bits)


def predict_images(
    files: Sequence[ImageFile],
    *,
    model: Any,
    data: DataConfig,
    settings: MaskSettings,
    statistics: TrainingStatistics | None,
    pictures: Pictures,
    on_outcome: Callable[[Outcome], None],
) -> None:
    """Predicts each file and writes its pictures; then calls `on_outcome`, in the order of `files`.

    model: a Keras model. data: how it takes images, and its classes. A file that can't be read is an outcome of its
    own, and the others go on. Raises OSError if a picture can't be written.
    """
    predictor = Predictor(model)
    batch = batch_size(len(files))

    def read(file: ImageFile) -> _Read | Failed:
        try:
            image = read_image(file.path, data)
        except DataError as error:
            return Failed(file=file, error=str(error))
        resized = resize_image(image, data.image_size)
        return _Read(file=file, image=image, resized=resized, warnings=unlike_training(image, resized, statistics))

    def finish(item: _Read, views: NDArray[np.float32]) -> Predicted:
        masks, probability = masks_of(views, (item.image.shape[0], item.image.shape[1]), settings, data.labels)
        pictures.write(item.file, item.image, masks, probability)
        finding = finding_of(masks[..., 0], probability[..., 0], warnings=item.warnings)
        return Predicted(file=item.file, finding=finding)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            writing: deque[list[Future[Predicted] | Failed]] = deque()
            for group in _groups(_ahead(pool, read, files, count=2 * batch), batch):
                resized = [item.resized for item in group if isinstance(item, _Read)]
                views = iter(views_of(predictor, resized, batch=batch, settings=settings))
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
    pool: ThreadPoolExecutor, read: Callable[[ImageFile], _Read | Failed], files: Sequence[ImageFile], *, count: int
) -> Iterator[_Read | Failed]:
    """Reads the files in order, `count` of them ahead."""
    reading: deque[Future[_Read | Failed]] = deque()
    for file in files:
        reading.append(pool.submit(read, file))
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
