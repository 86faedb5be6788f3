"""`dataset.json` of nnU-Net: the labels and channels of a folder whose masks are image files.

Version 2 has `labels: {liver: 1}` and `channel_names: {0: T1}`, version 1 `labels: {1: liver}` and `modality: {0: T1}`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from brainseg.config import DataConfig
from brainseg.data.annotations.json_file import read_json
from brainseg.errors import ConfigError, DataError

DATASET_JSON = "dataset.json"
_IGNORE = "ignore"  # a label of this name is no class
_CHANNELS = ("channel_names", "modality")


def of_dataset_json(root: Path, data: DataConfig) -> DataConfig:
    """The configuration with what nnU-Net's file in this folder says where it is left out; without one, as it is.

    Channels are named as the files are: `0000`, `0001`, where there are several. Raises DataError.
    """
    path = root / DATASET_JSON
    if not path.is_file():
        return data
    content = read_json(path)
    if not isinstance(content, dict) or not any(isinstance(content.get(name), dict) for name in ("labels", *_CHANNELS)):
        return data  # another program's
    try:
        if data.classes is None:
            labels = dict(_label(*item) for item in content.get("labels", {}).items())
            ignore = labels.pop(_IGNORE, None)
            data = replace(data, classes=labels or None, ignore=ignore if data.ignore is None else data.ignore)
        channels: dict[str, str] = next((content[name] for name in _CHANNELS if name in content), {})
        if data.channels == "auto" and len(channels) > 1 and any(root.glob("*/*_0001.*")):  # else colours of one file
            data = replace(data, channels=[f"{number:04}" for number in range(len(channels))])
    except (ConfigError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} can't be used ({error}); correct it, or leave it out by data.annotations=masks"
        ) from None
    return data


def _label(name: str, value: Any) -> tuple[str, Any]:
    return (value, int(name)) if isinstance(value, str) else (name, value)
