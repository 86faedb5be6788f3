"""ONNX: converted by tf2onnx through Keras, run by ONNX Runtime."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainseg.errors import InputError
from brainseg.export.description import BATCH, INPUT, OUTPUT


def write_onnx(model: Any, path: Path, description: Mapping[str, str]) -> None:
    """Writes the model with its description as `metadata_props`; the batch may have any size.

    Raises InputError for a network that ONNX can't hold.
    """
    with warnings.catch_warnings():
        # Keras looks for a name that NumPy has given up.
        warnings.filterwarnings("ignore", message=".*np.object", category=FutureWarning)
        model.export(str(path), format="onnx", verbose=False)
    import onnx

    written = onnx.load(str(path))
    graph = written.graph
    _rename(graph, {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT})
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    written.producer_name = "brainseg"
    onnx.helper.set_model_props(written, dict(description))
    try:
        onnx.checker.check_model(written, full_check=True)
    except onnx.checker.ValidationError as error:
        said = str(error).strip().splitlines()[0]
        raise InputError(f"the network has what ONNX doesn't know ({said}); take --format litert or keras") from error
    onnx.save(written, str(path))


class OnnxRunner:
    """Runs the file on the processor."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (batch, size, size, outputs) of a batch (batch, size, size, channels)."""
        (found,) = self._session.run([OUTPUT], {INPUT: images})
        return np.asarray(found, dtype=np.float32)


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    """Gives inputs and outputs of the graph the names that its users see."""
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for ends in (node.input, node.output):
            for place, name in enumerate(ends):
                ends[place] = names.get(name, name)
