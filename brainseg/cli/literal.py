"""Parts of what is shown: texts that users choose, such as ids and names, without markup; numbers with a noun."""

import re

from brainseg.errors import printable

# What begins something in Markdown: code, emphasis, a cell, a link, a heading, a list or a quotation.
_MARKS = re.compile(r"[\\`*|]|(?<![^\W_])_|_(?![^\W_])|~(?=~)|\](?=[(\[:])|^[-+](?![\d.])|^[#>]")


def in_markdown(text: str) -> str:
    """Markdown that shows the text on one line as it is."""
    return _MARKS.sub(r"\\\g<0>", printable(text).replace("&", "&amp;").replace("<", "&lt;"))


def numbered(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
