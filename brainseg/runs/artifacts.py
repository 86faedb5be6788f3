"""The names of a run's artifacts, and how those are read that it may lack."""

from pathlib import Path

from brainseg.tracking.protocol import RunStore
from brainseg.tracking.rules import NoArtifactError

SPLIT_FILE = "split.json"
COMMAND_FILE = "command.txt"  # of a study's parent run
PACKAGES_FILE = "environment/packages.txt"
MACHINE_FILE = "environment/machine.json"
CODE_FILE = "environment/code.diff"


def optional_text(store: RunStore, run_id: str, name: str) -> str | None:
    """A text artifact, or None if the run has none of this name. Raises TrackingError if it can't be fetched."""
    try:
        return store.text(run_id, name)
    except NoArtifactError:
        return None


def optional_file(store: RunStore, run_id: str, name: str, folder: Path) -> Path | None:
    """An artifact, fetched into `folder`; None and errors as for `optional_text`."""
    try:
        return store.file(run_id, name, folder)
    except NoArtifactError:
        return None
