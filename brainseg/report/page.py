"""A report as one HTML file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import brainseg
from brainseg.cli.tables import Section
from brainseg.compare.comparison import Row
from brainseg.compare.text import SHORT, shown_minutes
from brainseg.config import short_names
from brainseg.data.encode import as_css, as_webp, colours_of
from brainseg.drawing.figures import Panel
from brainseg.drawing.outlines import outline_paths
from brainseg.drawing.page import as_data_uri, page_file, render
from brainseg.drawing.page_figures import LINES, curves_figure, plotly_script
from brainseg.report.report import MOST_CURVES, Report
from brainseg.report.text import answer, notes, question, title
from brainseg.runs.select import SCORE, called
from brainseg.scoring.intervals import CONFIDENCE
from brainseg.sweep.outcome.front import section as front_section
from brainseg.sweep.outcome.front import verdicts as front_verdicts

# Role of a curve -> its name in the legend.
ROLES = {"best": "best run", "baseline": "baseline", "other": "other runs", "pruned": "pruned"}
SHOWN_VALUES = 12  # of a key that many runs have differently


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the sortable table."""

    text: str
    number: float | None = None  # the sort key; None: the text is
    is_id: bool = False


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The outlines of a class."""

    colour: str  # of CSS; empty for binary masks, whose true and predicted outlines have a colour each
    truth: str  # SVG paths
    predicted: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A slice with its outlines."""

    id: str
    tumor_type: str
    dice: str
    height: int
    width: int
    image: str  # a data URI
    outlines: tuple[Outline, ...]  # a class each


@dataclass(frozen=True, kw_only=True)
class Key:
    """A class in the legend."""

    name: str
    colour: str


def report_html(report: Report, *, made: datetime) -> str:
    """The page. made: when, for its last line."""
    curves = curves_figure(report.curves)
    groups = report.study.groups if report.study is not None else ()
    is_drawn = any(
        figure.content is not None for figure in (curves, *(each for group in groups for each in group.figures))
    )
    return render(
        "report.html",
        styles=("page.css", "report.css"),
        scripts=(*((plotly_script(),) if is_drawn else ()), page_file("report.js")),
        title=title(report),
        question=question(report),
        answer=answer(report),
        notes=notes(report),
        report=report,
        curves=curves,
        legend=[(ROLES[role], *LINES[role]) for role in ROLES if any(curve.role == role for curve in report.curves)],
        left_out=max(0, len(report.comparison.rows) - MOST_CURVES),
        headings=_headings(report),
        rows=[_cells(row, report) for row in report.comparison.rows],
        confidence=f"{CONFIDENCE:.0%}",
        shown=called(report.best.run) if report.best is not None else "",
        pictures=[_picture(panel) for panel in report.predictions.panels],
        classes=_classes(report.predictions.panels),
        recorded=None if report.predictions.picture is None else as_data_uri(report.predictions.picture, kind="png"),
        differences=[(item.key, item.baseline, item.best, _listed(item.values.items())) for item in report.differences],
        origins=[(item.what, _listed(item.values.items())) for item in report.origins],
        told=[*_front(report), *_confirmed(report)],
        made=made.strftime("%Y-%m-%d %H:%M"),
        version=brainseg.__version__,
    )


@dataclass(frozen=True, kw_only=True)
class Told:
    """A part of the page that is sentences and a table."""

    id: str
    short: str  # in the list of contents
    heading: str
    sentences: list[str]
    table: Section


def _front(report: Report) -> list[Told]:
    """The front of a study of several metrics."""
    if report.front is None or report.study is None:
        return []
    sentences = front_verdicts(report.front, study=report.study.name)
    heading = "What a higher Dice costs: the Pareto front"
    return [Told(id="front", short="Front", heading=heading, sentences=sentences, table=front_section(report.front))]


def _confirmed(report: Report) -> list[Told]:
    """Whether the study's winners hold, if that is known."""
    if report.confirmation is None:
        return []
    from brainseg.sweep.confirm.text import section, verdicts  # Optuna, which a report of runs never needs

    table = section(report.confirmation)
    sentences = [*verdicts(report.confirmation), f"Note: {report.tested}."]
    heading = f"Does it hold: {table.title}"
    return [Told(id="confirmed", short="Does it hold", heading=heading, sentences=sentences, table=table)]


def _headings(report: Report) -> list[str]:
    keys = short_names(report.comparison.differing).values()
    return ["#", "run", SCORE, f"{CONFIDENCE:.0%} interval", *keys, "epochs run", "minutes", "split", "state", "id"]


def _cells(row: Row, report: Report) -> list[Cell]:
    """In the order of the headings."""
    score = row.score
    interval = "" if score is None or score.low is None else f"{score.low:.4f} to {score.high:.4f}"
    rank = "*" if row.not_comparable else "" if row.rank is None else str(row.rank)
    epochs = report.epochs[row.run.run_id]
    split = f"{row.split[:SHORT]}{'*' if row.not_comparable else ''}"
    return [
        Cell(text=rank, number=row.rank),
        Cell(text=called(row.run)),
        Cell(text="" if score is None else f"{score.value:.4f}", number=None if score is None else score.value),
        Cell(text=interval, number=None if score is None else score.low),
        *(_value(row.run.params.get(key, "")) for key in report.comparison.differing),
        Cell(text=str(epochs) if epochs else "", number=epochs or None),
        Cell(text=shown_minutes(row), number=row.run.total),
        Cell(text=split),
        Cell(text=row.state),
        Cell(text=row.run.run_id, is_id=True),
    ]


def _value(text: str) -> Cell:
    """A configuration value, sorted as a number if it is one; to four digits (the table of differences has all)."""
    try:
        number = float(text)
    except ValueError:
        return Cell(text=text)
    return Cell(text=text if text.isdecimal() else f"{number:.4g}", number=number)


def _picture(panel: Panel) -> Picture:
    height, width = panel.mask.shape[:2]
    colours = [key.colour for key in _classes([panel])] or [""]
    return Picture(
        id=panel.id,
        tumor_type=panel.tumor_type,
        dice=f"{panel.dice:.4f}",
        height=height,
        width=width,
        image=as_data_uri(as_webp(panel.image), kind="webp"),
        outlines=tuple(
            Outline(colour=colour, truth=truth, predicted=predicted)
            for colour, truth, predicted in zip(
                colours, outline_paths(panel.mask), outline_paths(panel.predicted), strict=True
            )
        ),
    )


def _classes(panels: Sequence[Panel]) -> list[Key]:
    """The classes of the panels; empty for binary masks."""
    if not panels or not panels[0].labels.are_named:
        return []
    labels = panels[0].labels
    return [
        Key(name=name, colour=as_css(colour)) for name, colour in zip(labels.names, colours_of(labels), strict=True)
    ]


def _listed(values: Iterable[tuple[str, int]]) -> list[tuple[str, str]]:
    """Value and, if there are several values, how many runs have it."""
    pairs = list(values)
    told = [(value or "not recorded", "" if len(pairs) == 1 else f"{count}") for value, count in pairs[:SHOWN_VALUES]]
    return told + ([("…", f"{len(pairs) - SHOWN_VALUES} more values")] if len(pairs) > SHOWN_VALUES else [])
