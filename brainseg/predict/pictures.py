"""The pictures of a prediction: masks, overlays and probabilities, and what the values of label images mean.

The masks of a volume are a volume.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import BACKGROUND
from brainseg.config import DataConfig
from brainseg.data.encode import (
    colours_of,
    label_image,
    write_label_image,
    write_mask,
    write_outlined,
    write_probability,
)
from brainseg.data.masks import LabelValues, file_names, label_values
from brainseg.predict.inputs import InputImage
from brainseg.predict.volume_masks import VolumeMasks

CLASSES_FILE = "classes.json"


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Where the pictures of an image go: `masks/ID.png`, `overlays/ID.png`, and if asked for `probabilities/ID.png`.

    Of named classes there is a mask for each, `masks/CLASS/ID.png`, unless they exclude each other: then `masks/ID.png`
    is a label image. Of their probabilities there is always one for each. In masks/ all slices of a volume are one
    file, `ID.nii.gz`, of 0 and 1 in place of 0 and 255.
    """

    folder: Path
    data: DataConfig  # the model's: its classes
    probability_bits: int | None  # 8 or 16; None: no probabilities

    def write_classes(self) -> None:
        """Writes `classes.json`, class -> value, if there are label images. Raises OSError if it can't."""
        values = self._label_values
        if values is None:
            return
        content = dict(zip(self.data.labels.names, values.classes, strict=True))
        if self.data.labels.has_background:
            content = {BACKGROUND: values.background} | content
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (self.folder / CLASSES_FILE).write_text(text, encoding="utf-8")

    def write(
        self, image: InputImage, pixels: NDArray[np.uint8], masks: NDArray[np.bool_], probability: NDArray[np.float32]
    ) -> None:
        """pixels: (height, width, channels). masks: (height, width, classes). probability: (height, width, outputs).

        Raises OSError if the folder can't be written to.
        """
        labels, name, part = self.data.labels, f"{image.id}.png", image.part
        values = self._label_values
        if values is not None:
            written = label_image(masks, values.classes, background=values.background)
            if part is not None:
                self._volumes.add(part, "", written)
            else:
                write_label_image(self.folder / "masks" / name, written, values.classes)
        for place, folder in enumerate(self._class_folders):
            if values is None and part is not None:
                self._volumes.add(part, folder, masks[..., place].astype(np.uint8))
            elif values is None:
                write_mask(self.folder / "masks" / folder / name, masks[..., place])
            if self.probability_bits is not None:
                of_class = probability[..., labels.first_class + place]
                write_probability(self.folder / "probabilities" / folder / name, of_class, bits=self.probability_bits)
        write_outlined(self.folder / "overlays" / name, pixels, masks, colours_of(labels))

    @cached_property
    def _volumes(self) -> VolumeMasks:
        return VolumeMasks(self.folder / "masks")

    @cached_property
    def _label_values(self) -> LabelValues | None:
        """None for masks of 0 and 255."""
        return label_values(self.data) if self.data.labels.exclusive else None

    @cached_property
    def _class_folders(self) -> tuple[str, ...]:
        """Of each class; binary masks have no folder of their own."""
        labels = self.data.labels
        return tuple(file_names(labels.names).values()) if labels.are_named else ("",)
