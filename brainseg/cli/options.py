"""Options that several commands have, and what they mean."""

import argparse
from collections.abc import Sequence
from typing import Any

from brainseg.config import FLIPS, SHIFTS, TrackingConfig
from brainseg.errors import InputError

# Field of MaskSettings -> the option of `add_mask_options` that gives it.
MASK_OPTIONS = {"flip": "--flip", "shift": "--shift", "threshold": "--threshold", "min_area_px": "--min-area"}


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """Adds --root and --uri, which `tracking_of` reads."""
    parser.add_argument("--root", default=TrackingConfig().root, metavar="DIR", help="tracking.root: %(default)s")
    parser.add_argument("--uri", default=None, help="tracking.uri: an MLflow store or server")


def tracking_of(parsed: argparse.Namespace) -> TrackingConfig:
    """The store that --root and --uri name."""
    return TrackingConfig(root=parsed.root, uri=parsed.uri)


def add_mask_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how masks are made of probabilities, which `given_settings` reads."""
    parser.add_argument("--threshold", type=float, metavar="X", help="a probability from X on is foreground: 0.5")
    parser.add_argument("--flip", choices=FLIPS, help="test-time augmentation: mean over these flips")
    parser.add_argument("--shift", choices=SHIFTS, help="test-time augmentation: mean over shifts as well")
    parser.add_argument("--min-area", type=int, metavar="N", help="remove connected parts of less than N pixels")


def given_settings(parsed: argparse.Namespace) -> dict[str, Any]:
    """Fields of `MaskSettings` that the options of `add_mask_options` give; without those left out."""
    names = {field: option.removeprefix("--").replace("-", "_") for field, option in MASK_OPTIONS.items()}
    values = {field: getattr(parsed, name) for field, name in names.items()}
    return {field: value for field, value in values.items() if value is not None}


def whole_number(*, low: int) -> "argparse._ActionType":
    """The `type` of an option that takes whole numbers from `low` on."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {low}, got {text}")
        return value

    return read


def check_named_once(names: Sequence[str], *, called: str) -> None:
    """Raises InputError for a name that is there again. called: what the names are, as in `the model`."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{called} {twice} is named twice; leave one out")
