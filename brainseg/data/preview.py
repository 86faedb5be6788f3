"""A contact sheet: slices with the outlines of their classes, spread over types and patients."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from brainseg.classes import Labels
from brainseg.cli.output import check_new_file, replacing
from brainseg.data.encode import Colour, colours_of, shown, with_borders
from brainseg.data.masks import class_masks
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
    """An RGB picture of about as many columns as rows, with the names of classes below in their colours.

    Raises DataError for a slice that can't be read.
    """
    chosen = choose_slices(source.slices(), count)
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    step_x, step_y = TILE_PX + _GAP_PX, TILE_PX + _LABEL_PX + _GAP_PX
    names = source.labels.names if source.labels.are_named else ()
    below = _LABEL_PX * math.ceil(len(names) / columns)
    sheet = Image.new("RGB", (columns * step_x + _GAP_PX, rows * step_y + _GAP_PX + below), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)

    def write(text: str, x: int, y: int, colour: Colour) -> None:
        while draw.textlength(text, font) > TILE_PX:
            text = f"{text[:-2]}…"
        draw.text((x, y), text, colour, font)

    for position, item in enumerate(chosen):
        x = _GAP_PX + position % columns * step_x
        y = _GAP_PX + position // columns * step_y
        picture = outlined(*source.read(item.id), source.labels)
        sheet.paste(picture, (x + (TILE_PX - picture.width) // 2, y + (TILE_PX - picture.height) // 2))
        write(" ".join(filter(None, (item.id, item.columns.get(TUMOR_TYPE)))), x, y + TILE_PX + 1, _TEXT)
    for position, (name, colour) in enumerate(zip(names, colours_of(source.labels), strict=False)):
        line, column = divmod(position, columns)
        write(name, _GAP_PX + column * step_x, rows * step_y + _GAP_PX + line * _LABEL_PX, colour)
    return sheet


def outlined(image: NDArray[np.uint8], mask: NDArray[np.uint8], labels: Labels) -> Image.Image:
    """The slice fitted into a tile of TILE_PX, with the inner border of each class in its colour.

    image in [0, 255], (height, width, channels); mask: as `labels` says, (height, width, mask channels).
    """
    height, width = image.shape[:2]
    scale = TILE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(shown(image)).resize(size, Image.Resampling.BICUBIC)
    resized = [Image.fromarray(channel).resize(size, Image.Resampling.NEAREST) for channel in np.moveaxis(mask, -1, 0)]
    masks = class_masks(np.stack([np.asarray(channel) for channel in resized], axis=-1), labels)
    return Image.fromarray(with_borders(np.asarray(picture), masks, colours_of(labels)))


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
