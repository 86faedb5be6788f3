"""Prints a comparison as tables and notes."""

from collections import Counter
from collections.abc import Sequence

from brainseg.cli.tables import Console, Section, say
from brainseg.compare.comparison import Comparison, PairedSlice, Row, RunPair
from brainseg.config import short_names
from brainseg.runs.select import SCORE
from brainseg.runs.tested import told
from brainseg.scoring.intervals import CONFIDENCE, RESAMPLES, Estimate

SHORT = 8  # characters of a fingerprint
STYLES = {"finished": "green", "pruned": "yellow", "running": "cyan", "failed": "red", "killed": "magenta"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the table, or a line a run where the terminal is too narrow for it; below, how to read it."""
    names = short_names(comparison.differing)
    Section(
        headings=("#", f"{SCORE} ({CONFIDENCE:.0%})", *names.values(), "minutes", "data", "split", "state", "run"),
        rows=tuple(_cells(row, comparison) for row in comparison.rows),
        align="r" * (3 + len(names)) + "llll",
        narrow_lines=tuple(_line(row, comparison) for row in comparison.rows),
        styles=STYLES,
    ).show(console)
    for note in notes(comparison):
        say(f"\n{note}", console, wrap=True)


def print_pair(pair: RunPair, console: Console) -> None:
    """Prints the difference with its interval, by tumour type, and the slices that moved most."""
    for line in (*_pair_lines(pair), f"\nDifference in Dice, B - A: {pair.overall.text}", verdict(pair.overall)):
        say(line, console)
    counts = Counter(each.tumor_type for each in pair.slices)
    by_type = tuple((name, str(counts[name]), estimate.text) for name, estimate in pair.by_type.items())
    if by_type:
        Section(title="By type", headings=("type", "slices", "B - A"), rows=by_type).show(console)
    if pair.by_class:
        by_class = tuple((name, estimate.text) for name, estimate in pair.by_class.items())
        Section(title="By class", headings=("class", "B - A"), rows=by_class).show(console)
    for title, slices in (("Gained most", pair.moved_up()), ("Lost most", pair.moved_down())):
        if slices:
            headings = ("slice", "A", "B", "B - A", "type")
            rows = tuple(_slice_cells(each) for each in slices)
            Section(title=title, headings=headings, rows=rows, align="lrrrl").show(console)
    drawn = "slices, since no patient ids are known" if pair.people is None else "people"
    say(f"\n({CONFIDENCE:.0%} intervals in brackets: bootstrap over {drawn}, {RESAMPLES} resamples)", console)


def notes(comparison: Comparison) -> list[str]:
    """Notes that explain the table."""
    found = []
    reasons = sorted({row.not_comparable for row in comparison.rows} - {""})
    if reasons:
        first = next(row for row in comparison.rows if row.score is not None)
        found.append(
            f"* {' or '.join(reasons)} than run {first.run.run_id}, the first one: other slices were scored, so that "
            "these scores can't be ranked against it."
        )
    if any(row.score is not None and row.score.low is not None for row in comparison.rows):
        found.append(
            f"{CONFIDENCE:.0%} intervals in brackets: bootstrap over people, {RESAMPLES} resamples. Whether one run is "
            "better than another is told by --pair A B, not by intervals that overlap."
        )
    if any(row.score is not None and row.score.low is None for row in comparison.rows):
        found.append("No interval: the run's val_scores.csv is missing, or is of one person alone.")
    for kind, is_more in (("finished", comparison.more_finished), ("other", comparison.more_others)):
        if is_more:
            found.append(f"There are more {kind} runs; --top N shows N of them, --top all every one.")
    return found


def verdict(difference: Estimate) -> str:
    """What the interval of the difference means, in a sentence."""
    if difference.low is None or difference.high is None:
        return "One person alone: there is no interval, and the difference may be chance."
    if difference.low > 0:
        return "B is better: the whole interval is above 0."
    if difference.high < 0:
        return "A is better: the whole interval is below 0."
    return "Not told apart: the interval holds 0, so that the difference may be chance."


def shown_params(row: Row, keys: Sequence[str]) -> list[str]:
    """The row's values of these parameters; empty if not recorded."""
    return [row.run.params.get(key, "") for key in keys]


def shown_minutes(row: Row) -> str:
    """Training time alone; empty before the first epoch's end."""
    return "" if row.run.total is None else f"{row.run.total / 60:.1f}"


def _cells(row: Row, comparison: Comparison) -> tuple[str, ...]:
    score = "" if row.score is None else row.score.text
    params = shown_params(row, comparison.differing)
    fingerprints = (_fingerprint(row, what) for what in ("data", "split"))
    return (_rank(row), score, *params, shown_minutes(row), *fingerprints, row.state, row.run.run_id)


def _line(row: Row, comparison: Comparison) -> str:
    """A row of the table as a line, for a terminal that is too narrow for the table."""
    names = short_names(comparison.differing)
    values = zip(names.values(), shown_params(row, comparison.differing), strict=True)
    parts = [
        f"{_rank(row)} {SCORE} {row.score.text}".strip() if row.score else "",
        *(f"{name}={value}" for name, value in values if value),
        f"{shown_minutes(row)} minutes" if shown_minutes(row) else "",
        f"data {_fingerprint(row, 'data')}" if row.data else "",
        f"split {_fingerprint(row, 'split')}" if row.split else "",
        row.state,
        f"run {row.run.run_id}",
    ]
    return ", ".join(part for part in parts if part)


def _rank(row: Row) -> str:
    if row.not_comparable:
        return "*"
    return "" if row.rank is None else str(row.rank)


def _fingerprint(row: Row, what: str) -> str:
    """The first characters, with a star if the first run has another one."""
    whole = row.data if what == "data" else row.split
    is_other = row.not_comparable == f"other {what}" or (row.not_comparable == "other data" and what == "split")
    return f"{whole[:SHORT]}{'*' if is_other else ''}"


def _pair_lines(pair: RunPair) -> list[str]:
    """Which runs are compared, on which slices."""
    first, second = pair.dices
    people = "" if pair.people is None else f" of {pair.people} people"
    lines = [
        f"A  run {pair.first.run_id} {pair.first.name}: Dice {first:.4f}",
        f"B  run {pair.second.run_id} {pair.second.name}: Dice {second:.4f}",
        f"on the {len(pair.slices)} {pair.split} slices{people} that both have scored",
    ]
    if pair.configurations_tested is not None:
        lines.append(f"note: {told(pair.configurations_tested)}")
    if pair.only_first or pair.only_second:
        lines.append(
            f"note: {pair.only_first} slices that A alone has scored and {pair.only_second} that B alone has scored "
            "are left out"
        )
    # Scores of an evaluation depend on how masks were made of probabilities.
    masks = [run.tags.get(f"evaluation_{pair.split}_masks", "unknown") for run in (pair.first, pair.second)]
    if pair.split != "val" and masks[0] != masks[1]:
        lines.append(f"note: masks were made differently: A {masks[0]}; B {masks[1]}")
    return lines


def _slice_cells(each: PairedSlice) -> tuple[str, ...]:
    dices = f"{each.first:.4f}", f"{each.second:.4f}", f"{each.difference:+.4f}"
    return each.id, *dices, each.tumor_type
