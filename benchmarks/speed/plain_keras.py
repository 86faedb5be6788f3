"""What a notebook does: float32, all slices in two arrays, `model.compile` and `model.fit`, in Keras' own layers."""

import time

import keras
import numpy as np

from benchmarks.speed.arithmetic import forward_multiply_adds
from benchmarks.speed.task import EndRound, Round, Task
from brainseg.classes import BINARY
from brainseg.config import TrainConfig
from brainseg.model import runtime as precision
from brainseg.model.losses import dice_coefficient, loss_of
from brainseg.model.models import build_model
from brainseg.model.stock import to_stock


class PlainKeras:
    """A contender; the loss, the metric, the optimizer and the batch size are the task's."""

    def __init__(self, task: Task) -> None:
        precision.apply("float32", task.threads)
        slices, ids = task.load()
        positions = slices.positions(ids)
        self._images = slices.images[positions].astype(np.float32) / 255.0
        self._masks = slices.masks[positions].astype(np.float32)
        self._batch_size = task.config.data.batch_size
        self._model = to_stock(build_model(task.config.model, input_shape=self._images.shape[1:], seed=0))
        optimizer = keras.optimizers.Adam(task.config.optimizer.learning_rate)
        self._model.compile(optimizer, loss=loss_of(TrainConfig(loss="dice"), BINARY), metrics=[dice_coefficient])
        self.parameters = self._model.count_params()
        self.multiply_adds = forward_multiply_adds(self._model)

    def train(self, end_round: EndRound) -> None:
        """Calls `fit` once a round, and times it from the first step's begin to the last step's end."""
        times: list[float] = []
        clock = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: times.append(time.perf_counter()),
            on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()),
        )
        while True:
            times.clear()
            self._model.fit(
                self._images, self._masks, batch_size=self._batch_size, verbose=0, callbacks=[clock], shuffle=True
            )
            end_round(Round(images_per_second=len(self._images) / (times[-1] - times[0])))
