"""A comparison in words and tables, for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from brainseg.compare.comparison import Comparison, Pair, PairedSlice, Row
from brainseg.config import short_names
from brainseg.runs.select import SCORE
from brainseg.scoring.intervals import CONFIDENCE, RESAMPLES, Estimate

ANY_WIDTH = 10_000  # of a table that is only measured
SHORT = 8  # characters of a fingerprint
STYLES = {"finished": "green", "pruned": "yellow", "running": "cyan", "failed": "red", "killed": "magenta"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The table, and below it what has to be known to read it; a line a run where the terminal is too narrow."""
    table = _table(comparison)
    if Measurement.get(console, console.options.update(max_width=ANY_WIDTH), table).maximum <= console.width:
        console.print(table)
    else:
        for row in comparison.rows:
            console.print(Text(_line(row, comparison)))
    for note in notes(comparison):
        console.print(Text(f"\n{note}"))


def print_pair(pair: Pair, console: Console) -> None:
    """The difference with its interval, by tumour type, and the slices that moved most."""

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    first, second = pair.mean_dice()
    say(f"A  run {pair.first.run_id} {pair.first.name}: Dice {first:.4f}")
    say(f"B  run {pair.second.run_id} {pair.second.name}: Dice {second:.4f}")
    people = "" if pair.people is None else f" of {pair.people} people"
    say(f"on the {len(pair.slices)} {pair.part} slices{people} that both have scored")
    if pair.only_first or pair.only_second:
        say(
            f"note: {pair.only_first} slices that A alone has scored and {pair.only_second} that B alone has scored "
            "are left out"
        )
    if masks := _masks(pair):
        say(masks)
    say(f"\nDifference in Dice, B - A: {pair.overall.text}")
    say(verdict(pair.overall))
    if pair.by_type:
        say("\nBy tumour type")
        table = _plain_table("type", "slices", "B - A")
        for name, estimate in pair.by_type.items():
            count = sum(each.first.tumor_type == name for each in pair.slices)
            table.add_row(Text(name), str(count), estimate.text)
        console.print(table)
    for title, slices in (("Gained most", pair.moved_up()), ("Lost most", pair.moved_down())):
        if slices:
            say(f"\n{title}")
            console.print(_slices_table(slices))
    drawn = "slices, since no patient ids are known" if pair.people is None else "people"
    say(f"\n({CONFIDENCE:.0%} intervals in brackets: bootstrap over {drawn}, {RESAMPLES} resamples)")


def notes(comparison: Comparison) -> list[str]:
    """What the table alone doesn't say."""
    found = []
    marks = sorted({row.mark for row in comparison.rows if row.mark})
    if marks:
        first = next(row for row in comparison.rows if row.score is not None)
        found.append(
            f"* {' or '.join(marks)} than run {first.run.run_id}, the first one: other slices were scored, so that "
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
    """What the interval says, in a sentence."""
    if difference.low is None or difference.high is None:
        return "One person alone: there is no interval, and the difference may be chance."
    if difference.low > 0:
        return "B is better: the whole interval is above 0."
    if difference.high < 0:
        return "A is better: the whole interval is below 0."
    return "Not told apart: the interval holds 0, so that the difference may be chance."


def shown_params(row: Row, keys: Sequence[str]) -> list[str]:
    """The row's values of these parameters; empty where none is recorded."""
    return [row.run.params.get(key, "") for key in keys]


def shown_minutes(row: Row) -> str:
    """Training time alone; empty before the first epoch's end."""
    return "" if row.run.total is None else f"{row.run.total / 60:.1f}"


def _table(comparison: Comparison) -> Table:
    names = short_names(comparison.differing)
    table = Table(box=None, pad_edge=False)
    for heading in ("#", f"{SCORE} ({CONFIDENCE:.0%})", *names.values(), "minutes"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for heading in ("data", "split", "state", "run"):
        table.add_column(heading, no_wrap=True)
    for row in comparison.rows:
        cells = [_rank(row), _shown_score(row), *shown_params(row, comparison.differing), shown_minutes(row)]
        cells += [_fingerprint(row, "data"), _fingerprint(row, "split")]
        table.add_row(*map(Text, cells), Text(row.state, style=STYLES.get(row.state, "")), Text(row.run.run_id))
    return table


def _line(row: Row, comparison: Comparison) -> str:
    """What a row of the table says, where the terminal is too narrow for the table."""
    names = short_names(comparison.differing)
    values = zip(names.values(), shown_params(row, comparison.differing), strict=True)
    parts = [
        f"{_rank(row)} {SCORE} {_shown_score(row)}".strip() if row.score else "",
        *(f"{name}={value}" for name, value in values if value),
        f"{shown_minutes(row)} minutes" if shown_minutes(row) else "",
        f"data {_fingerprint(row, 'data')}" if row.data else "",
        f"split {_fingerprint(row, 'split')}" if row.split else "",
        row.state,
        f"run {row.run.run_id}",
    ]
    return ", ".join(part for part in parts if part)


def _rank(row: Row) -> str:
    if row.mark:
        return "*"
    return "" if row.rank is None else str(row.rank)


def _shown_score(row: Row) -> str:
    return "" if row.score is None else row.score.text


def _fingerprint(row: Row, what: str) -> str:
    """The first characters, with a star where the first run has another one."""
    whole = row.data if what == "data" else row.split
    is_other = row.mark == f"other {what}" or (row.mark == "other data" and what == "split")
    return f"{whole[:SHORT]}{'*' if is_other else ''}"


def _masks(pair: Pair) -> str:
    """Scores of an evaluation depend on how masks were made of probabilities; nothing where both did it alike."""
    if pair.part == "val":
        return ""
    made = [run.tags.get(f"evaluation_{pair.part}_masks", "unknown") for run in (pair.first, pair.second)]
    return "" if made[0] == made[1] else f"note: masks were made differently: A {made[0]}; B {made[1]}"


def _slices_table(slices: Sequence[PairedSlice]) -> Table:
    table = _plain_table("slice", "A", "B", "B - A")
    table.add_column("type")
    for each in slices:
        dices = f"{each.first.dice:.4f}", f"{each.second.dice:.4f}", f"{each.difference:+.4f}"
        table.add_row(Text(each.first.id), *dices, Text(each.first.tumor_type))
    return table


def _plain_table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    return table
