"""Every exception that brainseg raises on purpose, and the exit code that it leads to.

BrainsegError                   1   anything that stops a command
├── InputError                  2   what the user gave is wrong: one line, nothing written
│   ├── ConfigError             2   a key, its type or its range
│   ├── DataError               2   a folder, a slice, a mask, the metadata
│   ├── ResumeError             2   this run can't be resumed, or not like this
│   │   ├── RunBusyError        2   another process still trains it, or writes its record
│   │   └── CheckpointError     2   its checkpoint is damaged, or of another training
│   └── TrackingError           2   no such run, or the tracking server can't be reached
├── NonFiniteError              1   a loss or a score became NaN or infinite
├── DiskError                   1   the disk is full or broken, and what all else needs can't be written
├── RecordError                 1   the training ended, but a part of its record couldn't be written
├── AwayError                  75   a store was away for longer than a worker waits
├── SweepError                  1   a sweep can't go on: too many trials failed, or its workers can't start
└── Pruned                      1   a sweep ended the run early, since it isn't promising
Interrupted              128+signal   SIGINT (130), SIGTERM (143) or SIGHUP (129) ended the run; no Exception
"""

import signal


def printable(text: str) -> str:
    """The text on one line, with escapes for what can't be printed."""
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def how_to_install(extra: str) -> str:
    """The remedy where the packages of an extra are missing; on PyPI, `brainseg` is another program."""
    return f"pip install '.[{extra}]' in the clone of brainseg"


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte of a file's name that isn't UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


class BrainsegError(Exception):
    """What stops a command; its text is one line that a user can act on, whatever names and values it quotes."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(BrainsegError):
    """The user's input is wrong: the text names the key or file, the rule, the value and the remedy."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration key is unknown, of the wrong type or out of range."""


class DataError(InputError):
    """A data folder, or a file in it, can't be used."""


class ResumeError(InputError):
    """A run can't be resumed, or not with these keys or this data."""


class RunBusyError(ResumeError):
    """Another process still trains the run, or writes its record."""


class CheckpointError(ResumeError):
    """The run's checkpoint is damaged, or of another training: nothing can go on from it."""


class TrackingError(InputError):
    """The tracking store has no such run, or can't be reached."""


class NonFiniteError(BrainsegError):
    """A loss or a score became NaN or infinite; the text names the quantity and the epoch."""


class DiskError(BrainsegError):
    """The disk is full or broken; the text says what can't be written, and the remedy."""


class RecordError(BrainsegError):
    """Parts of a run's record couldn't be written; the text names them and the remedy."""


class AwayError(BrainsegError):
    """A store was away for longer than a worker waits; whoever starts workers may start it again."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class SweepError(BrainsegError):
    """A sweep can't go on; the text says why, and how to go on afterwards."""


class Pruned(BrainsegError):  # noqa: N818  # what happened, not what went wrong
    """A sweep ended the run early; the text says in which epoch and why. For the tracker, a regular end."""

    def __init__(self, text: str, *, epoch: int) -> None:
        self.epoch = epoch  # the last one that was trained, from 1
        super().__init__(text)


class Interrupted(BaseException):
    """A signal ended the run after a checkpoint was written.

    It may come anywhere: what handles or wraps errors there, of a library too, must not take it for one.
    """

    def __init__(self, signal_number: int) -> None:
        self.signal = signal.Signals(signal_number)
        super().__init__(f"stopped by {self.signal.name}")

    @property
    def exit_code(self) -> int:
        """The shell's convention."""
        return 128 + self.signal
