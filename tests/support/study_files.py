"""Study files as tests need them: a small one, with changes."""

from pathlib import Path
from typing import Any

import yaml

from brainseg.sweep.study.study_file import StudyConfig, read_study

SMALL: dict[str, Any] = {
    "metric": "val_dice_image",
    "direction": "maximize",
    "trials": 6,
    "baseline": {"model.dropout": 0.1, "model.depth": 4},
    "space": {
        "model.dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.05},
        "model.depth": {"type": "int", "low": 3, "high": 5},
    },
}
LEFT_OUT = object()  # as a change: the key isn't there


def write_study(folder: Path, **changes: Any) -> Path:
    """Writes study.yaml: the small study with these keys changed."""
    path = folder / "study.yaml"
    content = {key: value for key, value in (SMALL | changes).items() if value is not LEFT_OUT}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def made_study(folder: Path, **changes: Any) -> StudyConfig:
    """The small study with these keys changed, read."""
    return read_study(str(write_study(folder, **changes)))
