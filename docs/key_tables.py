"""Writes the tables of keys and options in the pages from the code; `make docs` calls it.

A table stands between the lines `<!-- keys: GROUP -->` and `<!-- end -->`. GROUP is a group of `conf/`, or `run` for
the keys that belong to none. `<!-- options: KIND -->` has the parts of a kind, such as `samplers`, with their options.
"""

import re
import typing
from pathlib import Path

from brainseg.config import KEYS
from brainseg.keys import Key, as_text
from brainseg.plugins import BUILT_IN, fields, part

PAGES = tuple(Path(__file__).parent / name for name in ("configuration.md", "sweeps.md"))
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
        r"<!-- (keys|options): (\w+) -->\n.*?<!-- end -->",
        lambda found: f"<!-- {found[1]}: {found[2]} -->\n{TABLES[found[1]](found[2])}<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def _keys(group: str) -> str:
    rows = ["| key | type | default | allowed | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, key in KEYS.items():
        if (name.rpartition(".")[0] or "run") == group:
            only = f"only with {' or '.join(f'`{group}={each}`' for each in key.only.split())}" if key.only else ""
            terms = f"only with {' or '.join(key.terms)} in `train.loss`" if key.terms else ""
            rows.append(f"| `{name}` | {_about(key, only, terms)} |")
    return "".join(f"{row}\n" for row in rows)


def _options(kind: str) -> str:
    rows = ["| name | option | type | default | allowed | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    for name in BUILT_IN[kind]:
        chosen = part(kind, name)
        rows.append(f"| **{name}** | | | | | {chosen.__doc__.splitlines()[0]} |")
        rows += [f"| | `{option}` | {_about(key)} |" for option, key in fields(chosen).items()]
    return "".join(f"{row}\n" for row in rows)


def _about(key: Key, *conditions: str) -> str:
    """The cells after the name."""
    kind, *_ = typing.get_args(key.type) or (key.type,)  # `int | None` has int first
    kind = typing.get_origin(kind) or kind  # dict of `dict[str, float]`
    allowed = ", ".join(part for part in (*key.values, _range(key), key.allowed, *conditions) if part)
    return f"{KINDS[kind]} | `{as_text(key.default)}` | {allowed} | {key.help}"


def _range(key: Key) -> str:
    if key.low is None:
        return ""
    if key.high is None:
        return f"{key.low} or more"
    low, high = (f"{number:.10g}" for number in (key.low, key.high))
    return f"above {low}, below {high}" if key.exclusive else f"{low} to {high}"


TABLES = {"keys": _keys, "options": _options}

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
