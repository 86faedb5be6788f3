"""A `.keras` file as an MLflow model folder that loads anywhere, brainseg installed or not."""

import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

TENSORFLOW_PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-intel")


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
        pip_requirements=_requirements(),  # named, or MLflow would start a process to find them out
    )


def _requirements() -> list[str]:
    return [f"{name}=={version(name)}" for name in ("keras", "numpy", tensorflow_package())]


def tensorflow_package() -> str:
    """Under which name TensorFlow is installed."""
    return next(filter(_is_installed, TENSORFLOW_PACKAGES))


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
