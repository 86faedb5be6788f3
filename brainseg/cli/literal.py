"""Texts that users choose, such as ids, types and names of runs, shown as what they are: nothing in them is markup."""

import re

from brainseg.errors import printable

# What begins something in Markdown: code, emphasis, a cell, a link, a heading, a list or a quotation.
_MARKS = re.compile(r"[\\`*|]|(?<![^\W_])_|_(?![^\W_])|~(?=~)|\](?=[(\[:])|^[-+](?![\d.])|^[#>]")


def in_markdown(text: str) -> str:
    """Markdown that shows the text on one line as it is."""
    return _MARKS.sub(r"\\\g<0>", printable(text).replace("&", "&amp;").replace("<", "&lt;"))
