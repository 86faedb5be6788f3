"""A run on a GPU, as far as that can be seen without one: the lists of devices are stubs."""

import importlib
import json
import os
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from processes import Command, Server

import brainseg
from brainseg.config import flatten
from brainseg.errors import Interrupted
from brainseg.model import runtime
from brainseg.model.gpus import Gpu
from brainseg.tracking import MemoryTracker
from brainseg.train import environment, experiment, loop
from brainseg.train.experiment import prepare, run
from brainseg.train.progress import Silent
from brainseg.train.signals import StopRequest
from brainseg.train.step_sums import StepSums

A = Gpu(id="0", name="NVIDIA A", memory_mib=24576, driver="555.42")
B = Gpu(id="1", name="NVIDIA B", memory_mib=81920, driver="555.42")


class Listener(Silent):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture
def gpus(monkeypatch):
    """Sets the GPUs that the driver lists, and those of them that TensorFlow sees."""

    def listed(found, *, seen):
        monkeypatch.setattr(environment, "gpus", lambda: found)
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: seen)
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"device_name": gpu.name})
        environment.machine.cache_clear()

    yield listed
    environment.machine.cache_clear()


@pytest.mark.parametrize(
    ("found", "seen", "device", "notes"),
    [
        ((), [], "the CPU", []),
        ((B,), [B], "NVIDIA B", []),
        ((B, A), [B, A], "NVIDIA B, the first of 2 GPUs", []),
        (
            (A,),
            [],
            "the CPU",
            ["the GPU (NVIDIA A); pip install 'tensorflow[and-cuda]' adds what it needs"],
        ),
    ],
)
def test_a_run_says_which_device_it_computes_on_and_records_what_the_driver_lists(
    tiny, monkeypatch, gpus, found, seen, device, notes
):
    gpus(found, seen=seen)

    def ended(*_, **__):
        raise Interrupted(15)

    monkeypatch.setattr(experiment, "Trainer", ended)  # all is said before
    listener, tracker = Listener(), MemoryTracker()
    with pytest.raises(Interrupted):
        run(tiny(), tracker, reporter=listener)
    assert listener.said[1].endswith(f", float32, 2 threads, on {device}")
    assert [line.removeprefix("note: TensorFlow doesn't see ") for line in listener.said if "GPU (" in line] == notes
    recorded = {
        (): None,
        (A,): "NVIDIA A, 24576 MiB, driver 555.42",
        (B,): "NVIDIA B, 81920 MiB, driver 555.42",
        (B, A): "NVIDIA B, 81920 MiB, driver 555.42; NVIDIA A, 24576 MiB, driver 555.42",
    }
    assert json.loads(tracker.texts["environment/machine.json"]).get("gpus") == recorded[found]


@pytest.mark.parametrize(("set_to", "expected"), [(None, "true"), ("false", "false")])
def test_whatever_imports_brainseg_takes_a_gpus_memory_as_it_needs_it_unless_that_is_switched_off(
    monkeypatch, set_to, expected
):
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "")
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH")
    if set_to is not None:
        monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", set_to)
    importlib.reload(brainseg)
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == expected


def test_the_first_gpu_computes_and_without_one_the_cpu(monkeypatch):
    devices = {"CPU": [tf.config.LogicalDevice("/device:CPU:0", "CPU")], "GPU": []}
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: devices[kind])
    assert runtime.device() == "/device:CPU:0"
    devices["GPU"] = [tf.config.LogicalDevice(f"/device:GPU:{number}", "GPU") for number in range(2)]
    assert runtime.device() == "/device:GPU:0"


class Touches(Silent):
    """Tells by what each step has waited for the device, or has made it wait."""

    def __init__(self, monkeypatch):
        self.steps = []  # of each step
        self._touched = []
        for owner, name in ((StepSums, "begin"), (StepSums, "read"), (keras.Variable, "assign")):
            monkeypatch.setattr(owner, name, self._noted(getattr(owner, name)))

    def _noted(self, original):
        def call(*arguments, **options):
            if tf.executing_eagerly():  # not while a graph is made
                self._touched.append(original.__name__)
            return original(*arguments, **options)

        return call

    def begin(self, **_):
        self._touched.clear()

    def step(self, **_):
        self.steps.append(tuple(self._touched))
        self._touched.clear()

    def epoch(self, epoch, metrics):
        self._touched.clear()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("every_s", "steps"),
    [
        pytest.param(1e9, [("begin",), (), ("read",)], id="in the second of the last reading"),
        pytest.param(0.0, [("begin", "read"), ("read",), ("read",)], id="later"),
    ],
)
def test_a_step_waits_for_the_device_only_to_draw_the_bar_and_at_the_end_of_an_epoch(tiny, monkeypatch, every_s, steps):
    monkeypatch.setattr(loop, "READ_EVERY_S", every_s)
    touches = Touches(monkeypatch)
    # 30 slices; the rate of each step differs, and goes into its graph with the batch.
    config = tiny(**{"optimizer.schedule": "cosine", "data.batch_size": 10, "model.depth": 1, "train.epochs": 1})
    data = prepare(config).data
    trainer = loop.Trainer(data.config, data.slices, data.split)
    trainer.fit(stop=StopRequest(), reporter=touches, on_epoch=lambda: None)
    assert touches.steps == steps


# Two devices of one processor: the second one is said to be the only one, as a GPU would be the first.
ON_TWO_DEVICES = """
import json
from pathlib import Path
import tensorflow as tf
from brainseg.config import from_flat
from brainseg.data.batches import TrainingBatches
from brainseg.tracking import MemoryTracker
from brainseg.train.experiment import run
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
listed, taken = tf.config.list_logical_devices, TrainingBatches.__next__
tf.config.list_logical_devices = lambda kind: [] if kind == "GPU" else listed(kind)[1:]
def shown(batches):
    print([tensor.device[-5:] for tensor in taken(batches)])
    raise SystemExit
TrainingBatches.__next__ = shown
run(from_flat(json.loads(Path("keys.json").read_text())), MemoryTracker())
"""


def test_a_batch_is_on_the_device_when_its_step_comes(tiny, tmp_path: Path, process_server: Server):
    (tmp_path / "keys.json").write_text(json.dumps(flatten(tiny(**{"data.augment": "standard"}))))
    pid = process_server.start("-c", ON_TWO_DEVICES, folder=tmp_path, output=tmp_path / "output.txt")
    command = Command(pid, tmp_path / "output.txt", process_server)
    command.exit_code()
    assert command.text.splitlines() == ["['CPU:1', 'CPU:1']"]
