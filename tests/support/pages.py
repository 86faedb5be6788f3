"""An HTML page as it is read, not as it is written: its text, headings, tables and data, for the tests."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

UNSEEN = ("script", "style", "title")


class Page(HTMLParser):
    """A page that was parsed."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.data: dict[str, Any] = {}  # id of a script with JSON -> its content
        self._texts: list[str] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self._tables: list[list[list[str]]] = []
        self._headings: list[str] = []
        self.source = Path(path).read_text(encoding="utf-8")
        self.feed(self.source)

    @property
    def text(self) -> str:
        """All that is shown, with single spaces."""
        return " ".join(" ".join(self._texts).split())

    @property
    def headings(self) -> list[str]:
        """Of the second level."""
        return [" ".join(heading.split()) for heading in self._headings]

    def table(self, number: int) -> list[list[str]]:
        """Rows of cells, the headings first."""
        return [[" ".join(cell.split()) for cell in row] for row in self._tables[number]]

    def named(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        self.elements.append((tag, attributes))
        if tag in ("script", "style", "title"):
            self._open.append((tag, attributes))
        if tag == "table":
            self._tables.append([])
        if tag == "tr":
            self._tables[-1].append([])
        if tag in ("td", "th"):
            self._tables[-1][-1].append("")
            self._open.append((tag, attributes))
        if tag == "h2":
            self._headings.append("")
            self._open.append((tag, attributes))

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1][0] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script" and attributes.get("type") == "application/json":
            self.data[attributes["id"]] = json.loads(data)
        if tag in UNSEEN:
            return
        self._texts.append(data)
        if tag in ("td", "th"):
            self._tables[-1][-1][-1] += f" {data}"
        if tag == "h2":
            self._headings[-1] += data
