"""Reads models from `.keras` files only, in Keras's safe mode, which runs no code that a file carries."""

from pathlib import Path
from typing import Any

from brainseg.errors import InputError


def read_model(path: Path, *, called: str, remedy: str) -> Any:
    """The Keras model of a `.keras` file, in Keras's safe mode; `called` names it in the error.

    Raises InputError for a file that Keras can't load so.
    """
    import keras

    try:
        return keras.saving.load_model(str(path), compile=False, safe_mode=True)
    except Exception as error:  # Keras raises what the damage leads to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{called} can't be loaded ({reason}); {remedy}") from error
