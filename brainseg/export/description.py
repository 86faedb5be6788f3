"""Describes in the exported file how a program gets the masks that brainseg gets."""

import brainseg
from brainseg.config import DataConfig
from brainseg.inference.postprocess import SHIFTED_PX
from brainseg.runs.models import Segmenter

INPUT, OUTPUT, BATCH = "image", "probability", "batch"
CHANNEL_AXIS = 3
GREY = (
    "one grey channel in 0..255: 8-bit values as they are, colours as ITU-R 601 luma, alpha left out, deeper values "
    "scaled from the image's own smallest and largest to 0..255 and rounded"
)
RESIZE = (
    "to image_size x image_size: area mean (PIL BOX) where the image's shorter side is at least image_size, else "
    "bilinear (PIL BILINEAR); rounded to whole grey levels"
)
SCALE = "divided by 255"
MASK = (
    "probabilities resized to the image's size (bilinear, half-pixel centres, edges repeated, no antialiasing), then "
    "those from threshold on; connected parts (corners count) below min_area_px pixels removed"
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


def describe(segmenter: Segmenter, data: DataConfig) -> dict[str, str]:
    """Key -> text. Without `run_id` and `data_fingerprint` for a model from a file."""
    settings, size, labels = segmenter.settings, data.image_size, data.labels
    texts = {
        "version": brainseg.__version__,
        "image_size": str(size),
        "input": f"{INPUT}, float32 (batch, {size}, {size}, {data.channel_count}), in 0..1",
        "channel_axis": str(CHANNEL_AXIS),
        "grey": GREY,
        "resize": RESIZE,
        "scale": SCALE,
        "output": f"{OUTPUT}, float32 (batch, {size}, {size}, {labels.outputs}): of tumour, in 0..1",
        "mask": MASK,
        "threshold": f"{settings.threshold}",
        "min_area_px": str(settings.min_area_px),
        "flip": FLIPPED[settings.flip],
        "shift": SHIFTED[settings.shift],
        "use": "NOT FOR CLINICAL USE",
    }
    if segmenter.run is not None:
        texts |= {"run_id": segmenter.run.id, "data_fingerprint": segmenter.run.fingerprint}
    return {f"brainseg.{key}": text for key, text in texts.items()}
