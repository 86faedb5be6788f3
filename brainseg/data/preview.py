"""A contact sheet: slices with the outline of their mask, spread over tumour types and patients."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from brainseg.cli.output import check_new_file, replacing
from brainseg.data.encode import OUTLINE, inner_border, shown
from brainseg.data.people import names_of_people
from brainseg.data.source import PATIENT, TUMOR_TYPE, SliceInfo, Source

TILE_PX = 192
_LABEL_PX = 18
_GAP_PX = 4
_BACKGROUND = (16, 16, 16)
_TEXT = (224, 224, 224)


def choose_slices(slices: Sequence[SliceInfo], count: int) -> tuple[SliceInfo, ...]:
    """At most `count` slices, as evenly as possible over tumour types, people and each person's slices.

    Types get equal shares; within a type people are taken at even distances in the order of ids, and
    each gives the middle one of their slices that is not taken yet. Depends on ids and metadata alone.
    """
    by_type: dict[str, list[SliceInfo]] = defaultdict(list)
    for item in sorted(slices, key=lambda item: item.id):
        by_type[item.columns.get(TUMOR_TYPE, "")].append(item)
    chosen: list[SliceInfo] = []
    # What the rarest can't fill goes to the others.
    rarest_first = sorted(by_type, key=lambda kind: (len(by_type[kind]), kind))
    for types_left, kind in zip(range(len(by_type), 0, -1), rarest_first, strict=True):
        share = math.ceil((count - len(chosen)) / types_left)
        chosen += _over_people(by_type[kind], share)
    return tuple(sorted(chosen, key=lambda item: (item.columns.get(TUMOR_TYPE, ""), item.id)))


def contact_sheet(source: Source, *, count: int) -> Image.Image:
    """An RGB picture of about as many columns as rows. Raises DataError for a slice that can't be read."""
    chosen = choose_slices(source.slices(), count)
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    step_x, step_y = TILE_PX + _GAP_PX, TILE_PX + _LABEL_PX + _GAP_PX
    sheet = Image.new("RGB", (columns * step_x + _GAP_PX, rows * step_y + _GAP_PX), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for position, item in enumerate(chosen):
        x = _GAP_PX + position % columns * step_x
        y = _GAP_PX + position // columns * step_y
        picture = outlined(*source.read(item.id))
        sheet.paste(picture, (x + (TILE_PX - picture.width) // 2, y + (TILE_PX - picture.height) // 2))
        label = " ".join(filter(None, (item.id, item.columns.get(TUMOR_TYPE))))
        while draw.textlength(label, font) > TILE_PX:
            label = f"{label[:-2]}…"
        draw.text((x, y + TILE_PX + 1), label, _TEXT, font)
    return sheet


def outlined(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Image.Image:
    """The slice fitted into a tile of TILE_PX, with the mask's inner border in colour.

    image in [0, 255], (height, width, channels); mask: (height, width, mask channels), drawn where it isn't 0.
    """
    height, width = image.shape[:2]
    scale = TILE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(shown(image)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    inside = np.asarray(Image.fromarray(mask.any(axis=-1)).resize(size, Image.Resampling.NEAREST), dtype=bool)
    pixels = np.array(picture)
    pixels[inner_border(inside)] = OUTLINE
    return Image.fromarray(pixels)


def write_preview(source: Source, file: Path, *, count: int, force: bool) -> None:
    """Writes the contact sheet as PNG. Raises InputError where the file exists, unless `force`."""
    check_new_file(file, option="-o", force=force)
    sheet = contact_sheet(source, count=count)
    with replacing(file) as partial:
        sheet.save(partial, format="PNG")


def _over_people(slices: Sequence[SliceInfo], count: int) -> list[SliceInfo]:
    """At most `count` of the slices: one of each person, at even distances, then a second one, and so on."""
    by_person: dict[str, list[SliceInfo]] = defaultdict(list)
    ids = {item.id: item.columns.get(PATIENT, item.id) for item in slices}
    names = names_of_people(ids.values())
    for item in slices:
        by_person[names[ids[item.id]]].append(item)
    chosen: list[SliceInfo] = []
    while by_person and len(chosen) < count:
        people = sorted(by_person)
        take = min(len(people), count - len(chosen))
        for position in np.linspace(0, len(people) - 1, take).round().astype(int):
            rest = by_person[people[position]]
            chosen.append(rest.pop(len(rest) // 2))
            if not rest:
                del by_person[people[position]]
    return chosen
