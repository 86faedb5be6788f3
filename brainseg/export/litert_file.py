"""LiteRT (TensorFlow Lite): converted by TensorFlow through Keras, run by ai-edge-litert."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

METADATA = "brainseg"  # the name of the file's metadata entry: a JSON object of texts


def write_litert(model: Any, path: Path, description: Mapping[str, str]) -> None:
    """Writes the model in LiteRT's own operations, its description as metadata; the batch may have any size."""
    import tensorflow as tf

    # No operations of TensorFlow's: a program would need all of it.
    operations = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    model.export(str(path), format="litert", verbose=False, target_spec=operations)
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    written = flatbuffer_utils.read_model(str(path))
    content = schema.BufferT()
    content.data = np.frombuffer(json.dumps(dict(description)).encode("utf-8"), dtype=np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA, len(written.buffers)
    written.buffers.append(content)
    written.metadata = [*(written.metadata or []), entry]
    flatbuffer_utils.write_model(written, str(path))


class LitertRunner:
    """Runs the file on the processor."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path))
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (batch, size, size, outputs) of a batch (batch, size, size, channels)."""
        self._interpreter.resize_tensor_input(self._input["index"], images.shape)
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input["index"], images)
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._output["index"]), dtype=np.float32)
