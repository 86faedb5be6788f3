"""`dataset.json` of nnU-Net: the labels and channels of a folder whose masks are image files.

Version 2 has `labels: {liver: 1}` and `channel_names: {0: T1}`, version 1 `labels: {1: liver}` and `modality: {0: T1}`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from brainseg.config import DataConfig
from brainseg.data.annotations.json_file import read_json
from brainseg.errors import ConfigError, DataError, printable

DATASET_JSON = "dataset.json"
_IGNORE = "ignore"  # a label of this name is no class
_CHANNELS = ("channel_names", "modality")


def of_dataset_json(root: Path, data: DataConfig) -> tuple[DataConfig, str | None]:
    """The configuration with what nnU-Net's file in this folder says where it is left out, and what that is.

    Channels are named as the files are: `0000`, `0001`, where there are several; along a fourth axis of volumes, as
    `dataset.json` does. Raises DataError.
    """
    path = root / DATASET_JSON
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        return data, None
    channels = next((content[name] for name in _CHANNELS if isinstance(content.get(name), dict)), None)
    if channels is None:
        return data, None  # another program's
    told = []
    try:
        if data.classes is None:
            labels = dict(_label(*item) for item in content["labels"].items())
            ignore = labels.pop(_IGNORE, None)
            data = replace(data, classes=labels, ignore=ignore if data.ignore is None else data.ignore)
            told.append(f"classes {', '.join(data.labels.names)}")
            told += [f"data.ignore={ignore}"] if ignore is not None else []
        several = data.channels == "auto" and len(channels) > 1
        if several and any(root.glob("*/*_0001.*")):
            endings = {f"{number:04}": name for number, name in enumerate(channels.values())}
            data = replace(data, channels=[*endings])
            told.append(
                f"channels {', '.join(f'{ending} ({printable(str(name))})' for ending, name in endings.items())}"
            )
        elif several and data.is_of_volumes:  # along a fourth axis; else colours of one file
            data = replace(data, channels=[*map(str, channels.values())])
            told.append(f"channels {', '.join(map(printable, data.channels))}")
    except (ConfigError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} can't be used ({error}); correct it, or leave it out by data.annotations=masks"
        ) from None
    return data, "; ".join([f"{DATASET_JSON} (nnU-Net)", *told]) if told else None


def _label(name: str, value: Any) -> tuple[str, Any]:
    return (value, int(name)) if isinstance(value, str) else (name, value)
