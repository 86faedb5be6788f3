"""A gallery as one HTML file."""

from collections import Counter
from datetime import datetime
from typing import Any

import brainseg
from brainseg.cli.literal import numbered
from brainseg.data.encode import as_css, colours_of
from brainseg.data.people import whose
from brainseg.drawing.page import as_data_uri, page_file, render
from brainseg.errors import printable
from brainseg.gallery.gallery import Gallery, GallerySlice
from brainseg.runs.select import called, quoted
from brainseg.scoring.intervals import CONFIDENCE


def gallery_html(gallery: Gallery, *, made: datetime) -> str:
    """The page. made: when, for its last line."""
    types = Counter(item.tumor_type for item in gallery.slices)
    return render(
        "gallery.html",
        styles=("page.css", "gallery.css"),
        scripts=(page_file("gallery.js"),),
        title=title(gallery),
        summary=summary(gallery),
        is_pair=gallery.pair is not None,
        names=[called(run) for run in gallery.runs],
        run_ids=[run.run_id for run in gallery.runs],
        types=sorted(types.items()),
        classes=_classes(gallery),
        content={
            "runs": [printable(called(run)) for run in gallery.runs],
            "classes": _classes(gallery),
            "slices": [_content(item) for item in gallery.slices],
        },
        made=made.strftime("%Y-%m-%d %H:%M"),
        version=brainseg.__version__,
    )


def title(gallery: Gallery) -> str:
    """The page's name."""
    names = [quoted(run) for run in gallery.runs]
    return f"Gallery of run {names[0]}" if len(names) == 1 else f"Gallery of runs {names[0]} and {names[1]}"


def summary(gallery: Gallery) -> str:
    """The number of slices and their mean Dice, in a sentence or two."""
    count, pair = len(gallery.slices), gallery.pair
    slices = f"{numbered(count, 'validation slice')}{_people(gallery)}"
    if pair is None:
        return f"{slices}, mean Dice {gallery.dice:.4f}."
    first, second = pair.dices
    interval = "" if pair.overall.low is None else f", in brackets the {CONFIDENCE:.0%} interval"
    left_out = pair.only_first + pair.only_second
    more = f" {left_out} more, which one run alone has scored, aren't shown." if left_out else ""
    return (
        f"{slices} that both runs have scored: mean Dice {first:.4f} of {quoted(pair.first)} and {second:.4f} of "
        f"{quoted(pair.second)}. The second less the first is {pair.overall.text}{interval}.{more}"
    )


def _people(gallery: Gallery) -> str:
    """` of 3 people`; empty if no patient id is known."""
    if not any(item.patient_id for item in gallery.slices):
        return ""
    people = len({whose(item.id, item.patient_id) for item in gallery.slices})
    return f" of {people} {'person' if people == 1 else 'people'}"


def _content(item: GallerySlice) -> dict[str, Any]:
    """A slice as gallery.js reads it."""
    return {
        "id": printable(item.id),
        "patient": printable(item.patient_id),
        "type": printable(item.tumor_type),
        "height": item.height,
        "width": item.width,
        "area": item.area_px,
        "image": as_data_uri(item.image, kind="webp"),
        "areas": item.areas_px,
        "truth": item.truth,
        "dices": item.dices,
        "class_dices": item.class_dices,
        "predicted": item.predicted,
    }


def _classes(gallery: Gallery) -> list[dict[str, str]]:
    """Name and colour of each class; empty for binary masks."""
    labels = gallery.labels
    if not labels.are_named:
        return []
    return [
        {"name": name, "colour": as_css(colour)} for name, colour in zip(labels.names, colours_of(labels), strict=True)
    ]
