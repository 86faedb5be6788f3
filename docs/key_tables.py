"""Writes the tables of keys in docs/configuration.md from `brainseg/config.py`; `make docs` calls it.

A table stands between the lines `<!-- keys: GROUP -->` and `<!-- end -->`. GROUP is a group of `conf/`, or `run` for
the keys that belong to none.
"""

import re
import typing
from pathlib import Path

from brainseg.config import KEYS
from brainseg.keys import Key, as_text

PAGE = Path(__file__).parent / "configuration.md"
KINDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    dict: "names with values",
    typing.Any: "value or list",
}


def filled(page: str) -> str:
    """The text of a page with its tables as they have to be."""
    return re.sub(
        r"(?<=<!-- keys: )(\w+) -->\n.*?<!-- end -->",
        lambda found: f"{found[1]} -->\n{_table(found[1])}<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def _table(group: str) -> str:
    rows = ["| key | type | default | allowed | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, key in KEYS.items():
        if (name.rpartition(".")[0] or "run") == group:
            kind, *_ = typing.get_args(key.type) or (key.type,)  # `int | None` has int first
            kind = typing.get_origin(kind) or kind  # dict of `dict[str, float]`
            only = f"only with {' or '.join(f'`{group}={each}`' for each in key.only.split())}" if key.only else ""
            terms = f"only with {' or '.join(key.terms)} in `train.loss`" if key.terms else ""
            allowed = ", ".join(part for part in (*key.values, _range(key), key.allowed, only, terms) if part)
            rows.append(f"| `{name}` | {KINDS[kind]} | `{as_text(key.default)}` | {allowed} | {key.help} |")
    return "".join(f"{row}\n" for row in rows)


def _range(key: Key) -> str:
    if key.low is None:
        return ""
    if key.high is None:
        return f"{key.low} or more"
    low, high = (f"{number:.10g}" for number in (key.low, key.high))
    return f"above {low}, below {high}" if key.exclusive else f"{low} to {high}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
