"""Who may read the files of a folder."""

from pathlib import Path


def modes_in(root: Path) -> dict[str, int]:
    """Path -> mode of everything in a folder and of itself, while a run may write there."""
    found = {}
    for path in (root, *root.rglob("*")):
        try:
            found[str(path.relative_to(root))] = path.stat().st_mode & 0o777
        except FileNotFoundError:  # gone since
            continue
    return found


def open_to_others(modes: dict[str, int]) -> dict[str, str]:
    """Those that other users may read, write or run; their modes as `chmod` takes them."""
    return {name: f"{mode:o}" for name, mode in modes.items() if mode & 0o077}
