"""An evaluation in words and tables, for the terminal and for `summary.md`."""

from collections.abc import Sequence
from dataclasses import replace

from brainseg.cli.literal import in_markdown
from brainseg.cli.tables import Console, Section, say
from brainseg.evaluate.class_text import class_sections, ensemble_lines, short_number
from brainseg.evaluate.evaluation import SPLITS, Outcome, Scored, runs_short_title, runs_title
from brainseg.evaluate.summary import GroupScores, ScoreSummary
from brainseg.evaluate.tuning import Candidate, Choice
from brainseg.evaluate.volume_scores import VOLUME_MEASURES, volume_means
from brainseg.scoring.calibration import NEAR_PROBABILITY
from brainseg.scoring.intervals import CONFIDENCE, RESAMPLES
from brainseg.scoring.slice_score import MEASURES
from brainseg.scoring.surfaces import TOLERANCE_MM, TOLERANCE_PX

RULES = (
    "Each slice is scored at its stored size. Two empty masks score 1 and one empty mask scores 0, in Dice, IoU, "
    "precision, recall and surface Dice; HD95 is then 0 px, and the slice's diagonal.",
    f"Surface Dice is the share of both outlines within {TOLERANCE_PX:g} px of the other one; HD95 is the 95th "
    "percentile of the distances between the outlines, both ways together.",
    "The size is the true mask's share of the slice. Per person: the mean over people of each person's mean. "
    "Pooled: from the pixels of all slices together. At 0: share of the slices with a Dice of 0.",
    "Calibration error over all pixels is small if most pixels are background that any model is sure of; near the "
    "foreground means the pixels of the true masks and those with a probability above "
    f"{NEAR_PROBABILITY:.0%}.",
)


def title_of(outcome: Outcome) -> str:
    """The runs, and the slices that they were scored on."""
    first = outcome.scored[0]
    if len(outcome.scored) > 1:
        runs = sum(len(scored.runs) for scored in outcome.scored)
        return f"{runs} runs, pooled over their {outcome.split} splits"
    if outcome.split not in SPLITS:
        return f"{runs_title(first.runs)} on {first.split.slices.source.location}"
    return f"{runs_title(first.runs)} on {'its' if len(first.runs) == 1 else 'their'} {outcome.split} split"


def head_lines(outcome: Outcome) -> list[str]:
    """The number of slices, how masks were made, and what the intervals are."""
    summary = next(iter(outcome.summaries.values()))
    overall = summary.overall
    people = "" if overall.people is None else f" of {overall.people} people"
    lines = [f"{overall.slices} slices{people}"]
    if outcome.ensemble_size > 1:
        least = min(len(scored.runs) for scored in outcome.scored)
        runs = f"{outcome.ensemble_size}" if least == outcome.ensemble_size else f"{least} to {outcome.ensemble_size}"
        lines.append(f"probabilities: of each slice the mean over {runs} runs")
    for text in dict.fromkeys(scored.settings.text for scored in outcome.scored):
        lines.append(f"masks: {text}")
    lines.append(f"({CONFIDENCE:.0%} intervals in brackets: bootstrap over {summary.drawn}, {RESAMPLES} resamples)")
    return lines


def sections(outcome: Outcome) -> list[Section]:
    """All tables of an evaluation, the most important first."""
    found = class_sections(outcome) if outcome.has_classes else _binary_sections(outcome)
    if outcome.volumes:
        found.insert(1, _volumes(outcome))
    if outcome.further:
        rows = tuple((name, estimate.text) for name, estimate in outcome.further.items())
        found.append(Section(title="Metrics of plugins", headings=("", "mean over slices"), rows=rows))
    return [*found, *(_choice(scored, scored.choice) for scored in outcome.scored if scored.choice is not None)]


def _binary_sections(outcome: Outcome) -> list[Section]:
    summary = outcome.summary
    found = [_overall(summary.overall)]
    if summary.by_type:
        found.append(_groups("By type", "type", summary.by_type))
    found.append(_groups("By size", "size", summary.by_size))
    if outcome.by_run:
        groups = [row.group for row in outcome.by_run if row.group is not None]
        found.append(replace(_groups("By run", "run", groups), lines=ensemble_lines(outcome)))
    found.append(_calibration(outcome))
    if summary.false_alarms is not None:
        found.append(_false_alarms(summary))
    return found


def as_markdown(outcome: Outcome) -> str:
    """`summary.md`."""
    rules = "\n".join(f"- {rule}" for rule in RULES)
    parts = [f"# Evaluation of {in_markdown(title_of(outcome))}", *map(in_markdown, head_lines(outcome))]
    parts += [*(section.markdown() for section in sections(outcome)), "## Rules", rules]
    return "\n\n".join(parts) + "\n"


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Prints the same on a terminal."""
    for line in (title_of(outcome), *head_lines(outcome)):
        say(line, console)
    for section in sections(outcome):
        section.show(console)
    say("", console)
    for rule in RULES:
        say(rule, console, wrap=True, style="dim")


def _overall(overall: GroupScores) -> Section:
    rows = []
    for key, title in MEASURES.items():
        scores = overall.measures[key]
        rows.append(
            (
                title,
                scores.mean.text,
                f"{scores.median:.4f}",
                f"{scores.standard_deviation:.4f}",
                scores.per_person.text,
                "" if scores.pooled is None else scores.pooled.text,
            )
        )
    headings = ("", "mean over slices", "median", "std", "mean per person", "pooled pixels")
    return Section(
        title="Overall",
        headings=headings,
        rows=tuple(rows),
        narrow=headings[:4],
        lines=(f"slices with a Dice of 0: {_percent(overall)}",),
    )


def _volumes(outcome: Outcome) -> Section:
    first = "class" if outcome.has_classes else ""
    rows = tuple(
        (name or "all", *(means[key].text for key in VOLUME_MEASURES))
        for name, means in volume_means(outcome.volumes).items()
    )
    lines = [
        f"mean over {len({score.id for score in outcome.volumes})} volumes, each of all its slices; "
        f"surface Dice within {TOLERANCE_MM:g} mm"
    ]
    if partial := outcome.slices_of_partial_volumes:
        lines.append(f"without {partial} slices of volumes that lie in the split in part")
    return Section(title="Volumes", headings=(first, *VOLUME_MEASURES.values()), rows=rows, lines=tuple(lines))


def _groups(title: str, first: str, groups: Sequence[GroupScores]) -> Section:
    dice = ("Dice", "median", "std", "per person", "pooled")
    others = (title for key, title in MEASURES.items() if key != "dice")
    headings = (first, "slices", "people", *dice, *others, "at 0")
    narrow = (first, "slices", "people", "Dice", "median", "at 0")
    return Section(title=title, headings=headings, rows=tuple(_group_row(group) for group in groups), narrow=narrow)


def _group_row(group: GroupScores) -> tuple[str, ...]:
    dice = group.measures["dice"]
    return (
        group.name,
        str(group.slices),
        "" if group.people is None else str(group.people),
        dice.mean.text,
        f"{dice.median:.4f}",
        f"{dice.standard_deviation:.4f}",
        f"{dice.per_person.value:.4f}",
        "" if dice.pooled is None else f"{dice.pooled.value:.4f}",
        *(short_number(key, group.measures[key].mean.value) for key in MEASURES if key != "dice"),
        f"{group.at_zero.value:.1%}",
    )


def _calibration(outcome: Outcome) -> Section:
    near, every = outcome.calibrations[""].near_tumor, outcome.calibrations[""].all_pixels
    return Section(
        title="Calibration",
        headings=("", "expected calibration error", "pixels"),
        rows=(
            ("near the foreground", f"{near.error:.4f}", str(sum(near.pixels))),
            ("all pixels", f"{every.error:.4f}", str(sum(every.pixels))),
        ),
        narrow=("", "expected calibration error"),
    )


def _false_alarms(summary: ScoreSummary) -> Section:
    alarms = summary.false_alarms
    assert alarms is not None
    area = "" if alarms.mean_area_px is None else f", on average of {alarms.mean_area_px:.1f} px"
    return Section(
        title="Slices without foreground",
        lines=(f"{alarms.slices} slices, a false alarm on {alarms.share.text} of them{area}",),
    )


def _choice(scored: Scored, choice: Choice) -> Section:
    lines = [f"chosen: {choice.settings.text}; Dice {choice.dice:.4f} on {choice.slices} validation slices"]
    if scored.split.name == "val":
        lines.append("note: chosen on the slices that are scored here, so that these scores are too good")
    # Each of several classes has its own: the table would have hundreds of rows.
    has_classes = any(candidate.class_name for candidate in choice.candidates)
    shown = [candidate for candidate in choice.candidates if candidate.is_chosen or not has_classes]
    return Section(
        title=f"Choice on the validation split, {runs_short_title(scored.runs)}",
        headings=("tried", "Dice", "difference", "by type", ""),
        narrow=("tried", "difference", ""),
        rows=tuple(_candidate_row(candidate) for candidate in shown),
        lines=tuple(lines),
    )


def _candidate_row(candidate: Candidate) -> tuple[str, ...]:
    by_type = ", ".join(f"{name} {each.text}" for name, each in candidate.by_type.items())
    mark = "chosen" if candidate.is_chosen else ""
    settings = ": ".join(part for part in (candidate.class_name, candidate.settings.text) if part)
    return settings, f"{candidate.dice:.4f}", candidate.difference.text, by_type, mark


def _percent(group: GroupScores) -> str:
    zero = group.at_zero
    between = "" if zero.low is None or zero.high is None else f" ({zero.low:.1%}-{zero.high:.1%})"
    return f"{zero.value:.1%}{between}"
