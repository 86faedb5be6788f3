"""Writes models as `.keras` files that older versions of Keras load too, and reads them in Keras's safe mode.

In safe mode Keras runs no code that a file carries.
"""

import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainseg.cli.output import temporary_files_in
from brainseg.errors import InputError

CONFIG = "config.json"  # in a `.keras` file, which is a ZIP archive: the layers and how they are connected
# What Keras has added to the configuration of its own layers since 3.5 -> the value that means what it does without.
# An older Keras refuses a key that it doesn't know, whatever its value.
ADDED_SINCE: Mapping[str, Any] = {
    "flash_attention": None,  # of attention
    "sliding_window": None,
    "use_gate": False,
    "input_axes": None,  # of initializers
    "output_axes": None,
    "quantization_config": None,  # of dense layers and embeddings
    "renorm": False,  # of batch normalisation
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}


def write_model(model: Any, path: Path) -> None:
    """Writes a Keras model, without an optimizer, so that every version of Keras since 3.5 loads it.

    What is written on the way lies beside it, and is gone afterwards.
    """
    with (
        tempfile.TemporaryDirectory(prefix=".brainseg-", dir=path.parent) as folder,
        temporary_files_in(Path(folder)),
    ):
        written = Path(folder, "model.keras")
        model.save(str(written), include_optimizer=False)
        copy_model(written, path)


def copy_model(source: Path, target: Path) -> None:
    """Copies a `.keras` file without the keys that older versions refuse and that change nothing; its weights stay."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for member in before.infolist():
            content = before.read(member)
            after.writestr(member, _for_all(content) if member.filename == CONFIG else content)


def _for_all(config: bytes) -> bytes:
    return json.dumps(json.loads(config, object_hook=_without_added)).encode()


def _without_added(found: dict[str, Any]) -> dict[str, Any]:
    """A JSON object of the configuration, an object of Keras's own without the keys that say nothing."""
    config = found.get("config")
    if not isinstance(config, dict) or str(found.get("module")).partition(".")[0] != "keras":
        return found
    return {**found, "config": {key: value for key, value in config.items() if (key, value) not in ADDED_SINCE.items()}}


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
