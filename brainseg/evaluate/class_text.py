"""The tables of an evaluation with several classes."""

from brainseg.cli.tables import Section
from brainseg.evaluate.evaluation import Outcome, runs_short_title
from brainseg.evaluate.summary import GroupScores, ScoreSummary
from brainseg.scoring.confusion import Confusion
from brainseg.scoring.slice_score import MEASURES

ABSENT = "-"  # in a cell: no slice has the class


def class_sections(outcome: Outcome) -> list[Section]:
    """The tables, the most important first."""
    found = [_by_class(outcome)]
    for title, first, rows in (
        ("By type", "type", [(name, dice.text) for name, dice in outcome.by_type.items()]),
        ("By run", "run", [(row.name, row.dice.text) for row in outcome.by_run]),
    ):
        if rows:
            lines = ensemble_lines(outcome) if first == "run" else ()
            found.append(
                Section(title=title, headings=(first, "Dice, mean over classes"), rows=tuple(rows), lines=lines)
            )
    if outcome.confusion is not None:
        found.append(_confused(outcome.confusion))
    found.append(_calibrated(outcome))
    return found


def ensemble_lines(outcome: Outcome) -> tuple[str, ...]:
    """The runs of each ensemble."""
    several = (scored.runs for scored in outcome.scored if len(scored.runs) > 1)
    return tuple(f"{runs_short_title(runs)}: {', '.join(run.id for run in runs)}" for runs in several)


def short_number(key: str, value: float) -> str:
    """A measure in a narrow cell. key: of MEASURES."""
    return f"{value:.1f}" if key.endswith("_px") else f"{value:.4f}"


def _by_class(outcome: Outcome) -> Section:
    ranked, all_slices = "Dice", "Dice, all slices"
    others = tuple(title for key, title in MEASURES.items() if key != "dice")
    headings = ("class", ranked, "counted", "with it", "Dice, with it", all_slices, "pooled", *others, "false alarms")
    empty = ("",) * (len(headings) - 2)
    rows = [("mean", outcome.dice.text, *empty)]
    rows += [_class_row(name, summary.overall, _alarms(summary)) for name, summary in outcome.summaries.items()]
    score_by = outcome.scored[0].evaluation.score_by
    rule = (
        "Dice: mean over all slices; two empty masks score 1."
        if score_by == "slice"
        else "Dice: mean over the slices that have the class, in truth or prediction; a false alarm scores 0."
    )
    return Section(title="By class", headings=headings, rows=tuple(rows), narrow=headings[:5], lines=(rule,))


def _alarms(summary: ScoreSummary) -> str:
    """On how many of the slices without the class something is predicted."""
    return "" if summary.false_alarms is None else f"{summary.false_alarms.share.value:.1%}"


def _class_row(name: str, overall: GroupScores, alarms: str) -> tuple[str, ...]:
    present, measures = overall.present, overall.measures
    assert present is not None
    pooled = measures["dice"].pooled
    return (
        name,
        ABSENT if present.score is None else present.score.text,
        str(present.counted),
        str(present.slices),
        ABSENT if present.dice is None else f"{present.dice.value:.4f}",
        f"{measures['dice'].mean.value:.4f}",
        "" if pooled is None else f"{pooled.value:.4f}",
        *(short_number(key, measures[key].mean.value) for key in MEASURES if key != "dice"),
        alarms,
    )


def _confused(confusion: Confusion) -> Section:
    rows = [
        (name, *(f"{share:.1%}" for share in shares))
        for name, shares in zip(confusion.names, confusion.shares().tolist(), strict=True)
    ]
    return Section(
        title="Confusion: what the pixels of a class are taken for",
        headings=("true class", *confusion.names),
        rows=tuple(rows),
    )


def _calibrated(outcome: Outcome) -> Section:
    rows = [
        (name, f"{calibration.near_tumor.error:.4f}", f"{calibration.all_pixels.error:.4f}")
        for name, calibration in outcome.calibrations.items()
    ]
    headings = ("class", "expected calibration error near it", "all pixels")
    return Section(title="Calibration", headings=headings, rows=tuple(rows))
