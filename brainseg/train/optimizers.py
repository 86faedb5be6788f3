"""What moves the weights, and how fast at each step."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from brainseg.config import OptimizerConfig
from brainseg.keys import key
from brainseg.plugins import made

if TYPE_CHECKING:
    import keras

# Variables whose names hold one of these are not decayed: biases, and a normalisation's scale and offset.
NOT_DECAYED = ("bias", "gamma", "beta")
FIRST = "share of the gradients' running mean that a step keeps"
SECOND = "share of the squared gradients' running mean that a step keeps"
EPSILON = "added to what a step is divided by"


class OptimizerPart(Protocol):
    """What moves the weights, with its options."""

    def build(self, *, learning_rate: float, weight_decay: float) -> "keras.optimizers.Optimizer":
        """The optimizer, of which all variables are saved with a checkpoint: it may keep its state nowhere else.

        weight_decay: decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101): a step takes learning_rate *
        weight_decay of each kernel away. The learning rate is assigned before each step.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class _OfKeras:
    """An optimizer of Keras, whose options the fields are."""

    keras_name: ClassVar[str]

    def build(self, *, learning_rate: float, weight_decay: float) -> "keras.optimizers.Optimizer":
        """As the protocol says."""
        import keras

        kind: type[keras.optimizers.Optimizer] = getattr(keras.optimizers, self.keras_name)
        return kind(learning_rate, weight_decay=weight_decay, **dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class _OfMoments(_OfKeras):
    """One that goes by running means of the gradients and of their squares."""

    beta_1: float = key(0.9, low=0.0, high=0.99999, help=FIRST)
    beta_2: float = key(0.999, low=0.0, high=0.99999, help=SECOND)
    epsilon: float = key(1e-7, low=0.0, high=1.0, exclusive=True, help=EPSILON)


@dataclass(frozen=True, kw_only=True)
class _LikeAdam(_OfMoments):
    amsgrad: bool = key(False, help="divide by the largest running mean so far")


@dataclass(frozen=True, kw_only=True)
class Adam(_LikeAdam):
    """Steps by the gradients' running mean over its size (Kingma and Ba 2015); without weight decay."""

    def build(self, *, learning_rate: float, weight_decay: float) -> "keras.optimizers.Optimizer":
        """`OptimizerConfig` lets no weight decay through."""
        import keras

        return keras.optimizers.Adam(learning_rate, **dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class AdamW(_LikeAdam):
    """Adam with decoupled weight decay."""

    keras_name = "AdamW"


@dataclass(frozen=True, kw_only=True)
class Sgd(_OfKeras):
    """Steps by the gradients, with momentum."""

    keras_name = "SGD"
    momentum: float = key(0.9, low=0.0, high=0.99999, help="share of the step before that a step keeps")
    nesterov: bool = key(False, help="take the gradient as if that had been done already")


@dataclass(frozen=True, kw_only=True)
class Nadam(_OfMoments):
    """Adam with Nesterov's momentum (Dozat 2016)."""

    keras_name = "Nadam"


@dataclass(frozen=True, kw_only=True)
class RmsProp(_OfKeras):
    """Steps by the gradients over their size."""

    keras_name = "RMSprop"
    rho: float = key(0.9, low=0.0, high=0.99999, help=SECOND)
    momentum: float = key(0.0, low=0.0, high=0.99999, help="share of the step before that a step keeps")
    epsilon: float = key(1e-7, low=0.0, high=1.0, exclusive=True, help=EPSILON)
    centered: bool = key(False, help="divide by the gradients' deviation from their mean")


@dataclass(frozen=True, kw_only=True)
class Lion(_OfKeras):
    """Steps of one size, by the sign of the running mean (Chen et al. 2023): a third to a tenth of Adam's rate."""

    keras_name = "Lion"
    beta_1: float = key(0.9, low=0.0, high=0.99999, help="share of the running mean in the step's direction")
    beta_2: float = key(0.99, low=0.0, high=0.99999, help=FIRST)


@dataclass(frozen=True, kw_only=True)
class Lamb(_OfMoments):
    """Adam whose step is in proportion to each kernel's size (You et al. 2020): for large batches."""

    keras_name = "Lamb"


@dataclass(frozen=True, kw_only=True)
class Adafactor(_OfKeras):
    """Steps in proportion to each kernel's size, with little memory (Shazeer and Stern 2018); at most 1/sqrt(step)."""

    keras_name = "Adafactor"
    beta_2_decay: float = key(-0.8, low=-10.0, high=0.0, help="power of the step by which the memory grows longer")
    epsilon_2: float = key(1e-3, low=0.0, high=1.0, help="the least size of a kernel")
    clip_threshold: float = key(1.0, low=0.0, high=1e6, exclusive=True, help="the largest update before the rate")


@dataclass(frozen=True, kw_only=True)
class Muon:
    """Steps of a kernel in all directions alike (Jordan et al. 2024); AdamW for head, biases and depthwise kernels."""

    momentum: float = key(0.95, low=0.0, high=0.99999, help=FIRST)
    nesterov: bool = key(True, help="take the gradient as if that step had been done already")
    ns_steps: int = key(5, low=1, high=20, help="iterations that make the directions alike")
    rms_rate: float = key(0.2, low=0.0, high=10.0, exclusive=True, help="size of a step, of one of Adam's")
    adam_beta_1: float = key(0.9, low=0.0, high=0.99999, help=f"AdamW: {FIRST}")
    adam_beta_2: float = key(0.999, low=0.0, high=0.99999, help=f"AdamW: {SECOND}")
    epsilon: float = key(1e-7, low=0.0, high=1.0, exclusive=True, help=f"AdamW: {EPSILON}")

    def build(self, *, learning_rate: float, weight_decay: float) -> "keras.optimizers.Optimizer":
        """As the protocol says, with one weight decay for all kernels."""
        from brainseg.train.muon import ConvolutionMuon

        options: dict[str, Any] = dataclasses.asdict(self)
        return ConvolutionMuon(learning_rate, weight_decay=weight_decay, adam_weight_decay=weight_decay, **options)


def build_optimizer(config: OptimizerConfig) -> "keras.optimizers.Optimizer":
    """The optimizer that `config.name` names, at `config.learning_rate`.

    The schedule is not in it: the training loop assigns `learning_rate_at` before each step. Raises ConfigError for an
    unknown name.
    """
    part: OptimizerPart = made("optimizers", config.name, config.options)
    optimizer = part.build(learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    # Keras sums gradients over devices, of which there is one, by a custom gradient: TensorFlow registers that for
    # ever, and with it the graph of every model that this process trains.
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
    return optimizer


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
