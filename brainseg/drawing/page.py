"""HTML pages of one file: styles, scripts, data and pictures are inside, and nothing is loaded from a network.

The templates escape all names that users choose (runs, studies, slices), and what breaks lines in them. The page runs
only the scripts whose digests it carries.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainseg.cli.output import replacing, writing
from brainseg.errors import printable

PAGES = Path(__file__).parent / "pages"  # templates, styles and scripts
# Plotly writes styles; pictures are in the page, or made by it to be saved.
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


def render(template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """The page of a template with these values.

    styles: files of PAGES. scripts: their texts, run in this order at the end of the page.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template)
    return page.render(
        policy=POLICY.format(scripts=" ".join(f"'sha256-{_digest(script)}'" for script in scripts)),
        styles=[page_file(name) for name in styles],
        scripts=scripts,
        **values,
    )


def _shown(value: Any) -> Any:
    """A text on one line, with escapes for what can't be printed; what is markup already stays."""
    from markupsafe import Markup

    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def page_file(name: str) -> str:
    """The text of a style or a script in PAGES."""
    return (PAGES / name).read_text(encoding="utf-8")


def as_data_uri(content: bytes, *, kind: str) -> str:
    """A picture as a data URI. kind: `png` or `webp`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def write_page(path: Path, text: str) -> None:
    """Writes the page. Raises InputError where it can't be written; an old file is then as it was."""
    with writing(path), replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _digest(script: str) -> str:
    """The SHA-256 of a script, in base64, for the Content-Security-Policy."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
