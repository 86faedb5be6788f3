"""Measures where the time of a training step goes, by TensorFlow's profiler.

The trace has the begin and end of every operation. Its format is read with a module that TensorFlow
itself installs, so that no other package is needed.
"""

import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.speed.own_loop import make_trainer, train_to_the_end
from benchmarks.speed.task import Task
from brainseg.train.progress import Silent

# An operation in the trace, like unet_1/encoder1_conv1_1/convolution:_MklNativeFusedConv2D.
OPERATION = re.compile(r"[^:\s]+:_?[A-Z]\w*")
REST = "loss, score and input pipeline"
# Kind -> pattern; the first that is found in an operation decides. What matches none is outside of the network: REST.
# Keras appends _1 and so on to a layer's name.
KINDS: Mapping[str, re.Pattern[str]] = {
    kind: re.compile(pattern)
    for kind, pattern in {
        "optimizer": r"^(adam|adamw|sgd)(_\d+)?/",
        "dropout": r"_dropout(_\d+)?/",
        "normalisation, with ReLU forward": r"_norm(_\d+)?/",
        "transposed convolution, forward": r"^unet.*_up(_\d+)?/",
        "transposed convolution, backward": r"_up(_\d+)?/",
        "pooling": r"_pool(_\d+)?/",
        "concatenation": r"_skip(_\d+)?/",
        "ReLU, backward": r"ReluGrad",
        "casts between float32 and bfloat16": r"unet.*:Cast$",
        "convolution, gradient of the weights": r"Conv2DBackpropFilter",
        "convolution, gradient of the inputs": r"Conv2DBackpropInput",
        "convolution, forward": r"Conv2D",
        "network, the rest": r"unet",
    }.items()
}


@dataclass(frozen=True, kw_only=True)
class StepProfile:
    """Means over the traced steps."""

    step_s: float
    operations_s: Mapping[str, float]  # kind -> seconds a step, summed over operations that run at once


def profile_steps(task: Task, *, policy: str) -> StepProfile:
    """Trains two epochs and traces all steps of the second but its first. For a process of its own."""
    trainer = make_trainer(task, policy=policy, epochs=2)
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        tracer = _Tracer(Path(folder))
        train_to_the_end(trainer, reporter=tracer)
        totals_s: dict[str, float] = dict.fromkeys((*KINDS, REST), 0.0)
        for operation, seconds in _operations(Path(folder)):
            totals_s[kind_of(operation)] += seconds
    return StepProfile(
        step_s=tracer.traced_s / tracer.traced_steps,
        operations_s={kind: seconds / tracer.traced_steps for kind, seconds in totals_s.items()},
    )


def kind_of(operation: str) -> str:
    """The kind that an operation of the trace, NAME:TYPE, belongs to."""
    return next((kind for kind, pattern in KINDS.items() if pattern.search(operation)), REST)


class _Tracer(Silent):
    """Traces the second epoch from the end of its first step to the end of its last one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._steps = 0
        self._begun = 0.0
        self.traced_s = 0.0

    @property
    def traced_steps(self) -> int:
        return self._steps - 1

    def begin(self, *, epoch: int, epochs: int, steps: int) -> None:
        if steps < 2:
            raise ValueError("a profile needs two training steps a round; try more --images")
        self._steps = steps

    def step(self, *, epoch: int, step: int, dice: float, images_per_second: float) -> None:
        if epoch == 2 and step == 1:
            tf.profiler.experimental.start(str(self._folder))
            self._begun = time.perf_counter()
        elif epoch == 2 and step == self._steps:
            self.traced_s = time.perf_counter() - self._begun
            tf.profiler.experimental.stop()


def _operations(folder: Path) -> Iterator[tuple[str, float]]:
    """Each operation of the trace as NAME:TYPE, with its seconds."""
    for path in folder.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            for event in (event for line in plane.lines for event in line.events):
                name = plane.event_metadata[event.metadata_id].name
                if OPERATION.fullmatch(name):
                    yield name, event.duration_ps / 1e12
