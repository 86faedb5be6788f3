"""A disk of its own, an ext4 in a file, for the root folder of a machine."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.faults.machine import Machine

MEBIBYTE = 2**20
DISK_BYTES = 96 * MEBIBYTE


class Disk:
    """Mounted where the machine's root is, within a `with` block. Only root may do it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._root = machine.root
        self._image = machine.root.parent / "disk"

    def __enter__(self) -> "Disk":
        with self._image.open("wb") as file:
            file.truncate(DISK_BYTES)
        _run("mkfs.ext4", "-q", "-m", "0", str(self._image))  # no part of it is root's alone
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        """Copies what is on the disk, for the outcome."""
        self._machine.root = self._root.with_name("kept")
        try:
            shutil.copytree(self._root, self._machine.root, ignore=shutil.ignore_patterns("lost+found"))
        finally:
            _run("umount", str(self._root))

    @property
    def free(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self._root).free

    def fail(self) -> None:
        """Lets the disk have an error, after which Linux only reads from it."""
        _run("sync")
        device = Path(_run("findmnt", "--noheadings", "--output", "SOURCE", str(self._root)).strip())
        Path("/sys/fs/ext4", device.name, "trigger_fs_error").write_text("broken on purpose")

    def mend(self) -> None:
        """Checks the disk and mounts it again."""
        _run("umount", str(self._root))
        subprocess.run(["e2fsck", "-f", "-y", str(self._image)], check=False, capture_output=True)
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self._root))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
