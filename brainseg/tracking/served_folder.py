"""A model that answers images with masks, as the folder that `mlflow models serve` reads.

It is MLflow's python_function in its form of data and code: data files, a module that loads them, and the code of
brainseg as it is now. So it needs no brainseg where it is served, gives the same masks whatever is installed there,
and nothing of it is pickled.
"""

import contextlib
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import brainseg
from brainseg.tracking.model_folder import tensorflow_package

# What the code needs where it is served, TensorFlow aside.
PACKAGES = ("keras", "mlflow", "numpy", "pandas", "pillow", "scipy")


def write_served_folder(folder: Path, *, data: Path, loader: str, example: Sequence[str], run_id: str) -> None:
    """Writes the folder. data: what the module `loader` loads. example: the column `image` of a request."""
    import pandas

    with _pyfunc() as pyfunc, tempfile.TemporaryDirectory(prefix="brainseg-") as temporary:
        from mlflow.models import Model

        code = Path(temporary, "brainseg")
        package = Path(brainseg.__file__).parent
        shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__", "*.yaml"))
        pyfunc.save_model(
            str(folder),
            loader_module=loader,
            data_path=str(data),
            code_paths=[str(code)],
            signature=_signature(),
            input_example=pandas.DataFrame({"image": list(example)}),
            mlflow_model=Model(run_id=run_id),
            pip_requirements=[f"{name}=={version(name)}" for name in sorted((*PACKAGES, tensorflow_package()))],
        )


def try_served_folder(folder: Path, example: Sequence[str]) -> list[dict[str, Any]]:
    """What the folder answers to a request with these images, loaded and asked as MLflow's server does it."""
    import pandas

    before = list(sys.path)
    try:
        with _pyfunc() as pyfunc:
            model = pyfunc.load_model(str(folder))
            answers: list[dict[str, Any]] = model.predict(pandas.DataFrame({"image": list(example)}))
        return answers
    finally:
        sys.path[:] = before  # MLflow puts the folder's code first


@contextlib.contextmanager
def _pyfunc() -> Iterator[Any]:
    """MLflow's module, without its warnings about itself."""
    with warnings.catch_warnings():
        # About the type hints of its own wrapper class, and how it asks pandas for the names of columns.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred", category=UserWarning)
        warnings.filterwarnings("ignore", message="Operation with range is deprecated")
        import mlflow.pyfunc

        logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # it tells of every example that it checks
        yield mlflow.pyfunc


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    def column(name: str, kind: Any, *, required: bool = False) -> ColSpec:
        return ColSpec(kind, name, required=required)

    return ModelSignature(
        inputs=Schema([column("image", DataType.string, required=True)]),
        outputs=Schema(
            [
                column("mask", DataType.string),
                column("width", DataType.long),
                column("height", DataType.long),
                column("area_px", DataType.long),
                column("confidence", DataType.double),
                column("max_probability", DataType.double),
                column("warnings", Array(DataType.string), required=True),
                column("error", DataType.string),
            ]
        ),
    )
