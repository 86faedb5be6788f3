"""Titled tables with lines below them: written once, shown on a terminal and in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from brainseg.cli.literal import in_markdown

__all__ = ["Console", "Section", "say"]  # Console for the signatures of other parts: rich is imported here alone

RULE = "---"  # below a heading, in Markdown
ANY_WIDTH = 10_000  # of a table that is only measured


@dataclass(frozen=True, kw_only=True)
class Section:
    """A title, a table and lines below it; each of the three may be missing."""

    title: str = ""
    headings: tuple[str, ...] = ()  # none: a table without a heading, for the terminal alone
    rows: tuple[tuple[str, ...], ...] = ()
    align: str = ""  # l or r for each column in the terminal; empty: the first one left, the others right
    narrow: tuple[str, ...] = ()  # headings of the columns that a terminal shows which is too narrow for all
    narrow_lines: tuple[str, ...] = ()  # what it shows instead of the whole table: a line for each row
    styles: Mapping[str, str] = field(default_factory=dict)  # text of a cell -> rich's style for it
    lines: tuple[str, ...] = ()

    def show(self, console: Console) -> None:
        """Prints the section, with an empty line above the title."""
        if self.title:
            say(f"\n{self.title}", console)
        if self.rows:
            self._show_table(console)
        for line in self.lines:
            say(line, console)

    def markdown(self, *, level: int = 2) -> str:
        """The section in Markdown, without a line break at its end. level: of the title."""
        parts = [f"{'#' * level} {in_markdown(self.title)}"] if self.title else []
        if self.rows:
            table = (self.headings, (RULE,) * len(self.headings), *self.rows)
            parts.append("\n".join(map(_markdown_row, table)))
        return "\n\n".join([*parts, *map(in_markdown, self.lines)])

    def _show_table(self, console: Console) -> None:
        table = self._table(range(len(self.rows[0])))
        if Measurement.get(console, console.options.update(max_width=ANY_WIDTH), table).maximum > console.width:
            if self.narrow_lines:
                for line in self.narrow_lines:
                    say(line, console, wrap=True)
                return
            if self.narrow:
                table = self._table([self.headings.index(heading) for heading in self.narrow])
        console.print(table, soft_wrap=False)

    def _table(self, places: Sequence[int]) -> Table:
        """The columns at these places."""
        align = self.align or "l" + "r" * (len(self.rows[0]) - 1)
        table = Table(box=None, pad_edge=False, show_header=bool(self.headings))
        for place in places:
            heading = Text(self.headings[place]) if self.headings else ""
            table.add_column(heading, justify="left" if align[place] == "l" else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(row[place], style=self.styles.get(row[place], "")) for place in places))
        return table


def say(text: str, console: Console, *, wrap: bool = False, style: str = "") -> None:
    """Prints the text as it is: brackets are no markup. wrap: at words; otherwise a command can be pasted."""
    console.print(Text(text, style=style), soft_wrap=None if wrap else True)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell if cell == RULE else in_markdown(cell) for cell in cells)} |"
