"""The one door for JSON that others wrote: every failure is one line that names the file and the remedy."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brainseg.data.opening import LFS_POINTER
from brainseg.errors import DataError

MAX_BYTES = 2**29  # above COCO's own 448 MiB for 118,287 images


def read_json(path: Path, *, keep: Callable[[dict[str, Any]], Any] = lambda read: read) -> Any:
    """What the file holds. keep: what is kept of each object, once it is read. Raises DataError."""

    def checked(read: dict[str, Any]) -> Any:
        for text in (*read, *read.values()):
            if isinstance(text, str):
                if "\0" in text:
                    raise ValueError("a text has the character U+0000")
                text.encode()  # half of a pair of surrogates is a ValueError here; it could be neither shown nor stored
        return keep(read)

    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):  # reading a pipe would wait for ever
            raise DataError(f"{path} is no regular file; name a JSON file")
        if state.st_size > MAX_BYTES:
            raise DataError(f"{path} is above {MAX_BYTES // 2**20} MiB; split it into parts, with a folder each")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); restore it, or make it readable") from None
    try:
        return json.loads(content, object_hook=checked, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        if content.startswith(LFS_POINTER):
            raise DataError(f"{path} is a pointer of Git LFS, not the file; fetch it by `git lfs pull`") from None
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{path} is not JSON, or cut off ({reason}); export it again") from None


def _no_number(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no number")
