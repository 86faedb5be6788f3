"""The two folders that MLflow loads models from: a run's Keras model, and the registered model that answers images.

The registered one is MLflow's python_function in its form of data and code: data files, a module that loads them, and
the code of brainseg as it is now. So it needs no brainseg where it is served, gives the same masks whatever is
installed there, and nothing of it is pickled.
"""

import contextlib
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import brainseg

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

TENSORFLOW_PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-intel")
# What the code needs where it is served, TensorFlow aside.
PACKAGES = ("keras", "mlflow", "numpy", "pandas", "pillow", "scipy")


def write_model_folder(keras_file: Path, folder: Path, *, model: "LoggedModel", run_id: str) -> None:
    """Writes the folder that MLflow's keras flavour reads, with a float32 signature of any number of slices.

    The file is loaded without its optimizer and in Keras's safe mode, which runs no code from it.
    Raises ValueError for a file that Keras can't load so.
    """
    import keras
    import numpy as np

    with warnings.catch_warnings():
        # About the type hints of its own wrapper class; users would see it at the end of each run.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred", category=UserWarning)
        import mlflow.keras
        import mlflow.pyfunc  # else it is imported, and warns, in the middle of saving
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    network = keras.saving.load_model(str(keras_file), compile=False, safe_mode=True)

    def schema(shape: tuple[int | None, ...]) -> Schema:
        return Schema([TensorSpec(np.dtype("float32"), (-1, *(-1 if size is None else size for size in shape[1:])))])

    mlflow.keras.save_model(
        network,
        str(folder),
        signature=ModelSignature(inputs=schema(network.input_shape), outputs=schema(network.output_shape)),
        mlflow_model=Model(artifact_path=model.artifact_location, run_id=run_id, model_id=model.model_id),
        # Named, or MLflow would start a process to find them out.
        pip_requirements=[f"{name}=={version(name)}" for name in ("keras", "numpy", tensorflow_package())],
    )
    # As it was recorded: MLflow has written it anew, with what older versions of Keras refuse.
    shutil.copyfile(keras_file, folder / "data" / "model.keras")


def write_served_folder(
    folder: Path, *, data: Path, loader: str, example: Mapping[str, Sequence[str]], has_classes: bool, run_id: str
) -> None:
    """Writes the folder. data: what the module `loader` loads. example: the columns of a request.

    has_classes: whether an answer has what was found of each class.
    """
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
            signature=_signature(list(example), has_classes=has_classes),
            input_example=pandas.DataFrame(dict(example)),
            mlflow_model=Model(run_id=run_id),
            pip_requirements=[f"{name}=={version(name)}" for name in sorted((*PACKAGES, tensorflow_package()))],
        )


def try_served_folder(folder: Path, example: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """What the folder answers to a request with these columns, loaded and asked as MLflow's server does it."""
    import pandas

    before = list(sys.path)
    try:
        with _pyfunc() as pyfunc:
            model = pyfunc.load_model(str(folder))
            answers: list[dict[str, Any]] = model.predict(pandas.DataFrame(dict(example)))
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


def _signature(columns: Sequence[str], *, has_classes: bool) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Map, Object, Property

    def column(name: str, kind: Any, *, required: bool = False) -> ColSpec:
        return ColSpec(kind, name, required=required)

    facts = {"area_px": DataType.long, "confidence": DataType.double, "max_probability": DataType.double}
    of_class = {"value": DataType.long, "mask": DataType.string, **facts}
    classes = Map(Object([Property(name, kind, required=False) for name, kind in of_class.items()]))
    found = {"classes": classes} if has_classes else facts
    return ModelSignature(
        inputs=Schema([column(name, DataType.string, required=True) for name in columns]),
        outputs=Schema(
            [
                column("mask", DataType.string),
                column("width", DataType.long),
                column("height", DataType.long),
                *(column(name, kind) for name, kind in found.items()),
                column("warnings", Array(DataType.string), required=True),
                column("error", DataType.string),
            ]
        ),
    )


def tensorflow_package() -> str:
    """Under which name TensorFlow is installed."""
    return next(filter(_is_installed, TENSORFLOW_PACKAGES))


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
