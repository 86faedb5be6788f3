"""Describes in the exported file how a program gets the masks that brainseg gets."""

import json
from typing import Any

import brainseg
from brainseg.classes import BACKGROUND, Labels
from brainseg.config import DataConfig
from brainseg.data.reading_text import deeper_text
from brainseg.data.standardize import EPSILON
from brainseg.inference.postprocess import SHIFTED_PX
from brainseg.inference.windows import Windows
from brainseg.keys import as_text
from brainseg.runs.models import Segmenter

INPUT, OUTPUT, BATCH = "image", "probability", "batch"
CHANNEL_AXIS = 3
GREY = "8-bit values as they are, colours as ITU-R 601 luma, alpha left out"
RGB = "three channels in 0..255, red, green and blue: 8-bit values as they are, grey in all three, alpha left out"
RESIZE = (
    "to image_size (a number: of both sides; two: height and width): area mean (PIL BOX) where neither side grows, "
    "else bilinear (PIL BILINEAR); rounded to whole grey levels"
)
SCALE = "divided by 255"
# `standardized` in data/standardize.py, and inference/windows.py.
STANDARDIZE = (
    f"(value - mean) / sqrt(variance + {EPSILON:g}), with mean and variance of each channel of the whole image after "
    "scaling, before it is cut"
)
WINDOWS = (
    "the image at its own size, cut into windows of image_size that overlap by half or more, evenly, the last one at "
    "the end; an image that is smaller is filled with 0 (before scaling) at its right and bottom, and cut again. A "
    "pixel's probability is the mean over its windows, weighted by exp(-(y**2 + x**2) / 2), with y and x from the "
    "window's centre in eighths of its height and width"
)
RESIZED = "probabilities resized to the image's size (bilinear, half-pixel centres, edges repeated, no antialiasing)"
SMALL = "connected parts (corners count) below min_area_px pixels removed"
MASK = f"{RESIZED}, then those from threshold on; {SMALL}"
MASK_EACH = f"{RESIZED}, then for each class those from its threshold on; {SMALL}, by class"
# `classified` in inference/postprocess.py.
MASK_EXCLUSIVE = (
    f"{RESIZED}, then each pixel is of the class with the highest p * (1 - t) / t, where p is its probability and t "
    "its threshold; {rest}of equal ones it is the last. With thresholds of 0.5 that is the highest probability. "
    f"Of each class, {SMALL}"
)

FLIPPED = {
    "none": "none",
    "left-right": "mean over the image and its mirror image, left to right",
    "all": "mean over the image and its flips along both axes",
}
SHIFTED = {
    "none": "none",
    "diagonal": "mean over the flips of the image moved down and right by "
    + ", ".join(str(pixels) for pixels in SHIFTED_PX["diagonal"])
    + " pixels; what leaves on one side enters on the other",
}


def describe(segmenter: Segmenter, data: DataConfig, windows: Windows | None = None) -> dict[str, str]:
    """Key -> text. windows: how the model sees an image; None: resized.

    Without `run_id` and `data_fingerprint` for a model from a file.
    """
    settings, labels = segmenter.settings, data.labels
    height, width = data.size
    texts = {
        "version": brainseg.__version__,
        "image_size": as_text(data.image_size),
        "input": f"{INPUT}, float32 (batch, {height}, {width}, {data.channel_count}), in 0..1",
        "channel_axis": str(CHANNEL_AXIS),
        **_channels(data),
        **({"resize": RESIZE} if windows is None else {"windows": WINDOWS}),
        "scale": SCALE,
        **({"standardize": STANDARDIZE} if windows is not None and windows.standardized else {}),
        "output": f"{OUTPUT}, float32 (batch, {height}, {width}, {labels.outputs}): {_outputs(labels)}, in 0..1",
        **({"classes": json.dumps(labels.names, ensure_ascii=False)} if labels.are_named else {}),
        "mask": _mask(labels),
        "threshold": _by_class(settings.threshold, labels),
        "min_area_px": _by_class(settings.min_area_px, labels),
        "flip": FLIPPED[settings.flip],
        "shift": SHIFTED[settings.shift],
        "use": "NOT FOR CLINICAL USE",
    }
    if segmenter.run is not None:
        texts |= {"run_id": segmenter.run.id, "data_fingerprint": segmenter.run.fingerprint}
    return {f"brainseg.{key}": text for key, text in texts.items()}


def _channels(data: DataConfig) -> dict[str, str]:
    """How the channels come from files, under the name of their kind."""
    turned = "" if data.reading == 1 else "; turned as the EXIF orientation says"
    rest = f"{deeper_text(data)}{turned}"
    if data.channels == "rgb":
        return {"rgb": f"{RGB}, {rest}"}
    if data.channels_are_alike:
        return {"grey": f"one grey channel in 0..255: {GREY}, {rest}"}
    names = json.dumps(data.channels, ensure_ascii=False)
    return {"channels": f"{names} in this order, each a file of its own, one grey channel in 0..255: {GREY}, {rest}"}


def _outputs(labels: Labels) -> str:
    if not labels.are_named:
        return "of the foreground"
    if not labels.exclusive:
        return "of classes in their order, a sigmoid each"
    first = f"the {BACKGROUND}, then of " if labels.has_background else ""
    return f"of {first}classes in their order, a softmax"


def _mask(labels: Labels) -> str:
    if not labels.are_named:
        return MASK
    if not labels.exclusive:
        return MASK_EACH
    return MASK_EXCLUSIVE.format(rest="the background's is p; " if labels.has_background else "")


def _by_class(value: Any, labels: Labels) -> str:
    """A number, or as a JSON object that of each class."""
    each = value if isinstance(value, tuple) else (value,) * len(labels.names)
    return (
        json.dumps(dict(zip(labels.names, each, strict=True)), ensure_ascii=False) if labels.are_named else f"{each[0]}"
    )
