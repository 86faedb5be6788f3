"""What moves the weights, and how fast at each step."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from brainseg.config import OptimizerConfig
from brainseg.plugins import is_built_in, made, part

if TYPE_CHECKING:
    import keras

SGD_MOMENTUM = 0.9

# Variables whose names hold one of these are not decayed: biases, and a normalisation's scale and offset.
NOT_DECAYED = ("bias", "gamma", "beta")


def build_optimizer(config: OptimizerConfig) -> "keras.optimizers.Optimizer":
    """The optimizer that `config.name` names, at `config.learning_rate`; the rest as in Keras.

    The weight decay is decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101): a step takes
    learning_rate * weight_decay of each kernel away. The schedule is not in it: the training loop
    assigns `learning_rate_at` before each step. Raises ConfigError for an unknown name.
    """
    if is_built_in("optimizers", config.name):
        optimizer = part("optimizers", config.name)(config)
    else:
        own = made("optimizers", config.name, config.options)
        optimizer = own.build(learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    # Keras sums gradients over devices, of which there is one, by a custom gradient: TensorFlow registers that for
    # ever, and with it the graph of every model that this process trains.
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
    return optimizer


def adam(config: OptimizerConfig) -> "keras.optimizers.Optimizer":
    """Kingma and Ba 2015, arXiv:1412.6980; without weight decay."""
    import keras

    return keras.optimizers.Adam(config.learning_rate)


def adamw(config: OptimizerConfig) -> "keras.optimizers.Optimizer":
    """Adam with decoupled weight decay."""
    import keras

    return keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)


def sgd(config: OptimizerConfig) -> "keras.optimizers.Optimizer":
    """Steps along the gradient, with momentum."""
    import keras

    return keras.optimizers.SGD(config.learning_rate, momentum=SGD_MOMENTUM, weight_decay=config.weight_decay)


@contextlib.contextmanager
def moving_at(rate: float, variables: Sequence["keras.Variable"]) -> Iterator[None]:
    """Inside, a step of the optimizer moves these variables `rate` times as far, its weight decay included.

    Scaled gradients would do nothing under Adam, which divides by their size.
    """
    if rate == 1.0:
        yield
        return
    before = [variable.value + 0.0 for variable in variables]  # a copy: the variable is changed in its place
    yield
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value + rate * (variable.value - value))


def learning_rate_at(config: OptimizerConfig, *, step: int, steps_per_epoch: int, epochs: int) -> float:
    """The learning rate of one step, in [0, config.learning_rate].

    step: counted from 0 over the whole training. steps_per_epoch, epochs: at least 1.
    The rate rises by equal amounts to its highest value at the last step of the warm-up, so that the
    first step moves already. Then it stays, or falls along half a cosine that would reach 0 one step
    after the last; only steps past the last one get 0.
    """
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    return config.learning_rate * SCHEDULES[config.schedule](
        step - warmup_steps, steps_per_epoch * epochs - warmup_steps
    )


def _constant(step: int, steps: int) -> float:
    return 1.0


def _cosine(step: int, steps: int) -> float:
    if step >= steps:
        return 0.0
    return 0.5 * (1.0 + math.cos(math.pi * step / steps))


# Each takes the steps since the warm-up and the steps after it, and gives the share of the highest rate.
SCHEDULES: dict[str, Callable[[int, int], float]] = {"constant": _constant, "cosine": _cosine}
