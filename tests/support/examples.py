"""The complete examples of docs/extending.md, as files beside ./conf."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from brainseg import plugins

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
# Module -> its text.
EXAMPLES: dict[str, str] = {
    found[2]: found[1]
    for found in re.finditer(r"^```python\n(# (\w+)\.py.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
}


def write_example(name: str, folder: Path) -> Path:
    """Writes one of them into a folder, under its name."""
    path = folder / f"{name}.py"
    path.write_text(EXAMPLES[name])
    return path


@contextmanager
def forgotten() -> Iterator[None]:
    """What is imported as a plugin inside is unknown outside, and the other way round."""
    outside = {name: sys.modules.pop(name) for name in plugins._loaded}
    with (
        patch.object(plugins, "_loaded", []),
        patch.object(plugins, "_registered", {kind: {} for kind in plugins.BUILT_IN}),
        patch.object(sys, "path", [*sys.path]),
        patch.object(sys, "dont_write_bytecode", True),
    ):
        try:
            yield
        finally:
            for name in plugins._loaded:
                del sys.modules[name]
            sys.modules.update(outside)
