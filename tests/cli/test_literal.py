"""What users name is shown as it is: on one line, and in Markdown as another program reads that."""

import html
import re

import pytest
from markdown_it import MarkdownIt

from brainseg.cli.literal import in_markdown
from brainseg.cli.tables import Section
from brainseg.errors import printable

NAMES = {
    "bar": "glioma|grade 2",
    "html": "<img src=x onerror=alert(1)>",
    "an entity": "a &lt; b & c",
    "code": "`rm -rf`",
    "emphasis": "*a* _b_ __c__ ~~d~~",
    "underscores in a word": "tumor_type_2",
    "a link": "[here](http://a.b) ![x](y) [z][w]",
    "backslashes": r"C:\data\|x",
    "a list": "- one",
    "a heading": "# one",
    "a quotation": "> one",
    "a number below 0": "-0.25",
    "an interval": "0.8123 [0.79, 0.83]",
    "a line feed": "a\n\n# b",
    "other line breaks": "a\u2028b\x85c\x0bd\re",
}


def texts(markdown: str, tag: str) -> list[str]:
    """The texts of these elements; a tag inside one would show as `<`."""
    page = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)
    return [html.unescape(re.sub("<(?=[a-z/!])", "TAG ", found)) for found in re.findall(f"<{tag}>(.*?)</{tag}>", page)]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_is_read_back_from_markdown_as_it_is(name: str) -> None:
    shown = printable(name)
    assert texts(in_markdown(name), "p") == [shown]
    assert texts(f"**{in_markdown(name)}**", "strong") == [shown]
    section = Section(title=name, headings=(name, "Dice"), rows=((name, "0.5"),), lines=(name,)).markdown()
    assert texts(section, "h2") == [shown]
    assert texts(section, "th") == [shown, "Dice"]
    assert texts(section, "td") == [shown, "0.5"]
    assert texts(section, "p") == [shown]


def test_what_can_not_be_printed_is_an_escape() -> None:
    assert printable("a\nb\u2028c\x85d\x0be\x00f é") == r"a\nb\u2028c\x85d\x0be\x00f é"


def test_what_needs_no_escape_reads_as_it_is_in_the_file() -> None:
    for name in ("tumor_type_2", "0.8123 [0.79, 0.83]", "-0.25", "a > b", "brainseg 0.2"):
        assert in_markdown(name) == name
