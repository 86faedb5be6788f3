"""Sections on wide and narrow terminals, and in Markdown."""

import io

from rich.console import Console

from brainseg.cli.tables import Section, say


def shown(section: Section, *, width: int, force_terminal: bool = False) -> list[str]:
    stream = io.StringIO()
    section.show(Console(file=stream, width=width, force_terminal=force_terminal, markup=False, highlight=False))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


RUNS = Section(
    title="Runs", headings=("run", "Dice", "IoU"), rows=(("[a|b]", "0.5", "0.25"), ("c", "1", "1")), lines=("two runs",)
)


def test_a_wide_terminal_shows_every_column_under_the_title() -> None:
    assert shown(RUNS, width=40) == [
        "",
        "Runs",
        "run    Dice   IoU",
        "[a|b]   0.5  0.25",
        "c         1     1",
        "two runs",
    ]


def test_a_narrow_terminal_shows_fewer_columns_or_a_line_a_row() -> None:
    columns = Section(headings=RUNS.headings, rows=RUNS.rows, narrow=("run", "IoU"))
    assert shown(columns, width=16) == ["run     IoU", "[a|b]  0.25", "c         1"]
    lines = Section(headings=RUNS.headings, rows=RUNS.rows, narrow_lines=("a|b: Dice 0.5, IoU 0.25", "c: all 1"))
    assert shown(lines, width=16) == ["a|b: Dice 0.5,", "IoU 0.25", "c: all 1"]
    assert shown(lines, width=17)[0] == "run    Dice   IoU"


def test_nothing_is_cut_off_where_no_narrow_form_is_given() -> None:
    section = Section(headings=("slice", "Dice"), rows=(("0123456789abcdef", "0.5"),))
    text = "".join(line.partition(" ")[0] for line in shown(section, width=14)[1:])
    assert text == "0123456789abcdef"


def test_alignment_and_headings_may_be_chosen() -> None:
    section = Section(rows=(("a", "10", "x"), ("bcd", "5", "yz")), align="llr")
    assert shown(section, width=40) == ["a    10   x", "bcd  5   yz"]


def test_a_cell_has_the_style_of_its_text() -> None:
    section = Section(headings=("state",), rows=(("failed",), ("other",)), styles={"failed": "red"})
    found = shown(section, width=40, force_terminal=True)
    assert found[1:] == ["\x1b[31mfailed\x1b[0m", "other"]


def test_markdown_has_every_column_and_escapes_bars() -> None:
    assert RUNS.markdown(level=3) == (
        "### Runs\n\n| run | Dice | IoU |\n| --- | --- | --- |\n| [a\\|b] | 0.5 | 0.25 |\n| c | 1 | 1 |\n\ntwo runs"
    )
    assert Section(title="Nothing").markdown() == "## Nothing"


def test_a_line_is_broken_at_words_only_when_asked() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=10, markup=False, highlight=False)
    say("python -m [brainseg]", console)
    say("python -m x", console, wrap=True)
    assert stream.getvalue() == "python -m [brainseg]\npython -m \nx\n"
