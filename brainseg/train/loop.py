"""The training loop: steps, validation, and the progress that a checkpoint keeps."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from brainseg.config import RunConfig
from brainseg.data.batches import TrainingBatches, evaluation_batches, steps_per_epoch, targets
from brainseg.data.cache import SliceSet
from brainseg.data.masks import as_file_name
from brainseg.data.split import Split
from brainseg.errors import Interrupted
from brainseg.inference.postprocess import hard_masks
from brainseg.inference.prediction import Predictor
from brainseg.model.encoders.weights import Weights, start_from
from brainseg.model.losses import dice_coefficient, loss_of
from brainseg.model.models import build_network
from brainseg.model.runtime import device
from brainseg.scoring.ranking import SliceDices
from brainseg.train.average import WeightAverage
from brainseg.train.checkpoint import TrainingProgress, TrainingState
from brainseg.train.deep_supervision import DeepSupervision
from brainseg.train.finite import check_finite
from brainseg.train.optimizers import build_optimizer, learning_rate_at, moving_at
from brainseg.train.progress import Reporter
from brainseg.train.record import MAX_CLASS_METRICS
from brainseg.train.signals import StopRequest
from brainseg.train.step_sums import StepSums

# Reading the sums of the steps empties a GPU's queue.
READ_EVERY_S = 1.0
# Called after each epoch, when the progress is at the start of the next one.
EpochEnd = Callable[[], None]


def _check_fit(arrays: Sequence[NDArray[Any]], variables: Sequence[keras.Variable], *, called: str) -> None:
    """Raises ValueError unless each variable has an array of its shape and type."""
    if len(arrays) != len(variables):
        raise ValueError(f"it has {len(arrays)} {called}, and the training {len(variables)}")
    for number, (array, variable) in enumerate(zip(arrays, variables, strict=True)):
        found, wanted = (array.dtype.name, array.shape), (variable.dtype, tuple(variable.shape))
        if found != wanted:
            raise ValueError(f"of its {called}, number {number} is {found[0]} {found[1]}, not {wanted[0]} {wanted[1]}")


def _copied(variables: Sequence[keras.Variable]) -> list[NDArray[Any]]:
    return [np.array(variable) for variable in variables]


class Trainer:
    """A model, its optimizer, and how far they have come. Precision and threads are set before it is made."""

    def __init__(self, config: RunConfig, slices: SliceSet, split: Split, *, weights: Weights | None = None) -> None:
        """weights: what the network starts from; None: drawn from the seed, or about to be restored."""
        self._config = config
        self._slices = slices
        self._split = split
        self._samples = len(split.train) * max(1, config.data.patches)  # of an epoch
        self._steps = steps_per_epoch(self._samples, batch_size=config.data.batch_size)
        size = config.data.size
        self.progress = TrainingProgress()
        self._labels = slices.labels
        channels = config.data.channel_count
        network = build_network(
            config.model,
            input_shape=(*size, channels),
            labels=self._labels,
            seed=config.seed,
            windows=config.data.patches > 0,
        )
        self.model = network.model
        self._predictor = Predictor(self.model)
        # What stays as it was drawn, for people.
        self.anew = "" if weights is None else start_from(weights, network, self._labels)
        self._encoder = () if network.encoder is None else network.encoder.trainable_variables
        self._optimizer = build_optimizer(config.optimizer)
        self._deep = DeepSupervision(
            network, config.model, self._labels, weight=config.train.deep_supervision, seed=config.seed
        )
        self._trained = [*self.model.trainable_variables, *self._deep.trainable_variables]
        self._optimizer.build(self._trained)
        self._average = WeightAverage(self.model, decay=config.train.ema_decay)
        self._best: Sequence[NDArray[Any]] = []  # the model's variables, averaged, after its best epoch
        self._loss = loss_of(config.train, self._labels)
        self._sums = StepSums()
        self._read_at = 0.0  # when the sums were read last, of `time.perf_counter`
        self._shown_dice = 0.0  # mean of the epoch's steps, when they were read last
        # With the channels: where they are unknown, Keras leaves the first convolution to XLA, which is slower
        # and keeps the whole graph in memory for ever.
        batch = tuple(tf.TensorSpec((None, *size, n), tf.float32) for n in (channels, self._labels.outputs))
        rate = tf.TensorSpec((), tf.float32)
        self._train_step = tf.function(self._step, input_signature=(*batch, rate), autograph=False)
        self._evaluate_step = tf.function(self._evaluate, input_signature=batch, autograph=False)

    def state(self) -> TrainingState:
        """All that decides how the training goes on, copied."""
        return TrainingState(progress=self.progress, variables=_copied(self._variables()), best=self._best)

    def restore(self, state: TrainingState) -> None:
        """Goes back to where `state` was taken. Raises ValueError, with nothing changed, for one that doesn't fit."""
        if state.progress.step > self._steps:
            raise ValueError(f"step {state.progress.step} of an epoch of {self._steps}")
        _check_fit(state.variables, self._variables(), called="arrays")
        if state.progress.best_epoch:
            _check_fit(state.best, self.model.variables, called="arrays of the best epoch")
        for variable, value in zip(self._variables(), state.variables, strict=True):
            variable.assign(value)
        self.progress = state.progress
        self._best = state.best

    def _variables(self) -> tuple[keras.Variable, ...]:
        heads = self._deep.trainable_variables
        return (*self.model.variables, *self._optimizer.variables, *self._average.variables, *heads)

    def best_model(self) -> keras.Model:
        """The model as it was after its best epoch; training can't go on afterwards."""
        for variable, value in zip(self.model.variables, self._best, strict=True):
            variable.assign(value)
        return self.model

    def fit(self, *, stop: StopRequest, reporter: Reporter, on_epoch: EpochEnd) -> None:
        """Trains from where `progress` stands to the last epoch, or until patience ends.

        Raises NonFiniteError as soon as a loss or score isn't finite, and Interrupted, with the progress
        between two steps, when a signal has come.
        """
        if self.is_done():
            return
        reporter.begin(epoch=self.progress.epoch, epochs=self._config.train.epochs, steps=self._steps)
        batches = TrainingBatches(
            self._slices,
            self._split.train,
            batch_size=self._config.data.batch_size,
            augment=self._config.data.augment,
            augment_options=self._config.data.augment_options,
            foreground_share=self._config.data.foreground_share,
            seed=self._config.seed,
            epoch=self.progress.epoch,
            step=self.progress.step,
            device=device(),
            patches=self._config.data.patches,
            size=self._config.data.size,
            standardize=self._config.model.standardize and self._config.data.patches > 0,
        )
        try:
            with batches:
                while not self.is_done():
                    with stop.deferred():
                        self._train_epoch(batches, stop, reporter)
                        self._end_epoch(stop, reporter, on_epoch)
                    stop.check()  # the last epoch has no next step that would
        finally:
            reporter.end()

    def is_done(self) -> bool:
        """Whether the last epoch is over, or patience has ended."""
        finished = len(self.progress.history)
        patience = self._config.train.patience
        waited = finished - self.progress.best_epoch
        return finished >= self._config.train.epochs or (patience is not None and waited >= patience)

    def _train_epoch(self, batches: TrainingBatches, stop: StopRequest, reporter: Reporter) -> None:
        """Runs the epoch's remaining steps."""
        progress = self.progress
        self._sums.begin(steps=progress.step, loss_sum=progress.loss_sum, dice_sum=progress.dice_sum)
        while self.progress.step < self._steps:
            self._stop_between_steps(stop)
            begun = time.perf_counter()
            images, masks = next(batches)
            self._train_step(images, masks, self._learning_rate())
            done = self.progress.step + 1
            self.progress = dataclasses.replace(self.progress, step=done)
            if done == self._steps or begun - self._read_at >= READ_EVERY_S:
                self._read_sums()
            seconds = self.progress.seconds + time.perf_counter() - begun
            self.progress = dataclasses.replace(self.progress, seconds=seconds)
            reporter.step(
                epoch=self.progress.epoch,
                step=done,
                dice=self._shown_dice,
                images_per_second=self._images(done) / seconds,
            )

    def _read_sums(self) -> None:
        """Takes the sums of the steps so far into `progress`; waits for the device. Raises NonFiniteError."""
        loss_sum, dice_sum = self._sums.read(epoch=self.progress.epoch)
        self.progress = dataclasses.replace(self.progress, loss_sum=loss_sum, dice_sum=dice_sum)
        self._shown_dice = dice_sum / self.progress.step
        self._read_at = time.perf_counter()

    def _stop_between_steps(self, stop: StopRequest) -> None:
        """Raises Interrupted if a signal has come, with `progress` complete for a checkpoint."""
        try:
            stop.check()
        except Interrupted:
            if self.progress.step:
                self._read_sums()
            raise

    def _end_epoch(self, stop: StopRequest, reporter: Reporter, on_epoch: EpochEnd) -> None:
        """Validates, moves `progress` to the next epoch and calls `on_epoch`."""
        epoch = self.progress.epoch
        with self._average.applied():
            metrics = {
                "train_loss": self.progress.loss_sum / self._steps,
                "train_dice": self.progress.dice_sum / self._steps,
                **self._validate(stop),
                "learning_rate": self._learning_rate(step=self._steps - 1),
                "seconds": self.progress.seconds,
                "images_per_second": self._images(self._steps) / self.progress.seconds,
            }
            check_finite(metrics, epoch=epoch)
            score = metrics["val_dice_image"]
            is_best = score > self.progress.best_score
            if is_best:
                self._best = _copied(self.model.variables)
        self.progress = TrainingProgress(
            epoch=epoch + 1,
            history=(*self.progress.history, metrics),
            best_epoch=epoch if is_best else self.progress.best_epoch,
            best_score=score if is_best else self.progress.best_score,
        )
        on_epoch()
        reporter.epoch(epoch, metrics)

    def _validate(self, stop: StopRequest) -> dict[str, float]:
        """val_loss and val_dice, means over batches, with patches over slices; val_dice_image, as `SliceDices.mean`."""
        losses: list[float] = []
        dices: list[float] = []
        scores = SliceDices(score_by=self._config.data.score_by)
        for loss, dice, masks, probability in self._whole() if self._config.data.patches else self._in_batches():
            stop.check()
            losses.append(float(loss))
            dices.append(float(dice))
            scores.add(*hard_masks(masks.numpy(), probability.numpy(), self._labels))
        return {
            "val_loss": float(np.mean(losses)),
            "val_dice": float(np.mean(dices)),
            "val_dice_image": scores.mean(),
            **self._class_metrics(scores),
        }

    def _in_batches(self) -> Iterator[tuple[tf.Tensor, ...]]:
        """Loss, soft Dice, targets and probabilities of the validation slices, a batch after the other."""
        for images, masks in evaluation_batches(self._slices, self._split.val):
            loss, dice, probability = self._evaluate_step(images, masks)
            yield loss, dice, masks, probability

    def _whole(self) -> Iterator[tuple[tf.Tensor, ...]]:
        """As `_in_batches`, of one slice after the other at its stored size, as its windows give it."""
        for position in self._slices.positions(sorted(self._split.val)):
            masks = targets(self._slices.masks[position][np.newaxis], self._labels)
            found = self._predictor.windowed(self._slices.images[position], flip="none", shift="none")[0]
            probability = tf.constant(found)
            dice = dice_coefficient(masks, probability, labels=self._labels)
            yield self._loss(masks, probability), dice, masks, probability

    def _class_metrics(self, scores: SliceDices) -> dict[str, float]:
        """val_dice_image of each class, where there are few; a class without a slice that counts has none."""
        names = self._labels.names
        if not self._labels.are_named or len(names) > MAX_CLASS_METRICS:
            return {}
        found = zip(names, scores.by_class(), strict=True)
        return {f"val_dice_image_{as_file_name(name)}": dice for name, dice in found if not math.isnan(dice)}

    def _learning_rate(self, step: int | None = None) -> float:
        """The rate of a step of this epoch; by default the next one."""
        return learning_rate_at(
            self._config.optimizer,
            step=(self.progress.epoch - 1) * self._steps + (self.progress.step if step is None else step),
            steps_per_epoch=self._steps,
            epochs=self._config.train.epochs,
        )

    def _images(self, steps: int) -> int:
        """How many slices or patches so many steps of an epoch train on."""
        return min(steps * self._config.data.batch_size, self._samples)

    def _step(self, images: tf.Tensor, masks: tf.Tensor, rate: tf.Tensor) -> None:
        self._optimizer.learning_rate.assign(rate)  # in the graph: from outside, it would wait for the step before
        with tf.GradientTape() as tape:
            probability, coarser = self._deep(images)
            loss = self._loss(masks, probability)
            whole = loss + self._deep.loss(self._loss, masks, coarser)
        step = tf.identity(self._optimizer.iterations.value)
        gradients = tape.gradient(whole, [weight.value for weight in self._trained])
        with moving_at(self._config.optimizer.encoder_rate, self._encoder):
            self._optimizer.apply(gradients, self._trained)
        self._average.update(step)
        self._sums.add(loss, dice_coefficient(masks, probability, labels=self._labels))

    def _evaluate(self, images: tf.Tensor, masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        probability = self.model(images, training=False)
        dice = dice_coefficient(masks, probability, labels=self._labels)
        return self._loss(masks, probability), dice, probability
