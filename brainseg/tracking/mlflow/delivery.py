"""Delivers a run's spool to the store in a thread, while the run goes on."""

import logging
import threading
import time
from collections.abc import Callable

from brainseg.tracking.mlflow.connection import cause_of, is_refusal, reason
from brainseg.tracking.mlflow.fence import SupersededError, discard_spool
from brainseg.tracking.mlflow.writer import RunWriter
from brainseg.tracking.spool.spool import Record, Spool

FIRST_PAUSE_S = 1.0  # after a failed delivery; doubled each time
LONGEST_PAUSE_S = 60.0
END_RETRY_S = 3.0  # how long a store that fails at the end of a run is asked again
END_PATIENCE_S = 30.0  # how long the end of a run waits for one record; a model needs some

logger = logging.getLogger("brainseg")


class Delivery:
    """A thread that writes what is appended to the spool, and closes the spool when it ends.

    The thread sleeps while there is nothing to do, and never raises: a store that fails is asked again
    later, and that it fails is said once.
    """

    def __init__(self, spool: Spool, open_writer: Callable[[], RunWriter], *, where: str, attempt: int = 0) -> None:
        """open_writer: connects to the store; called again until it returns. where: the store, for messages.

        attempt: at which this process holds the run, or 0.
        """
        self.refused: list[str] = []  # what the store will never take, a line each
        self.is_superseded = False  # whether a later attempt writes the run: what this one had to say is dropped
        self.undelivered = 0  # records that are left in the spool at the end
        self.problem = ""  # why the oldest of them waits
        self._spool = spool
        self._open_writer = open_writer
        self.writer: RunWriter | None = None  # where the caller has connected already
        self._where = where
        self._attempt = attempt
        self._is_down = False
        self._progress = 0
        self._news = threading.Event()
        self._finishing = threading.Event()
        # A daemon: a store that hangs must not hold the process; what it hasn't taken stays in the spool.
        self._thread = threading.Thread(target=self._run, name="brainseg-delivery", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Tells the thread that a record was appended."""
        self._news.set()

    def finish(self) -> None:
        """Waits until everything is delivered, or until there is no progress any more."""
        self._finishing.set()
        self._news.set()
        while self._thread.is_alive():
            before = self._progress
            self._thread.join(END_PATIENCE_S)
            if self._progress == before:
                break
        if self._thread.is_alive():
            self.undelivered = self._spool.pending

    def _run(self) -> None:
        try:
            self._deliver_all()
        except SupersededError as superseded:
            self.is_superseded = True
            logger.warning("%s; run %s is left to it", superseded, self._spool.run_id)
        finally:
            self._end()

    def _end(self) -> None:
        if self.is_superseded:
            discard_spool(self._spool, attempt=self._attempt)
        else:
            self.undelivered = self._spool.pending
            if self.undelivered:
                self._spool.close()
            else:
                self._spool.delete()

    def _deliver_all(self) -> None:
        pause_s, give_up_at = FIRST_PAUSE_S, float("inf")
        while True:
            record = self._spool.next()
            if record is None:
                if self._finishing.is_set():
                    return
                self._news.wait()
                self._news.clear()
            elif self._deliver(record):
                pause_s, give_up_at = FIRST_PAUSE_S, float("inf")
            elif self._finishing.is_set():
                give_up_at = min(give_up_at, time.monotonic() + END_RETRY_S)
                if time.monotonic() >= give_up_at:
                    return
                time.sleep(0.5)
            else:
                self._finishing.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _deliver(self, record: Record) -> bool:
        """Delivers one record; False if it has to be sent again. Raises SupersededError."""
        try:
            if self.writer is None:
                self.writer = self._open_writer()
            self.writer.write(record, self._spool)
        except SupersededError:
            raise
        except Exception as error:
            if self.writer is None or not is_refusal(error):
                self.problem = cause_of(error)
                self._say_down()
                return False
            self.refused.append(f"{describe(record)}: {reason(error)}")
        else:
            self._say_up()
        self._spool.advance(record)
        self._progress += 1
        return True

    def _say_down(self) -> None:
        if not self._is_down:
            self._is_down = True
            logger.warning(
                "the tracking store %s doesn't take records (%s); the run goes on, and they are kept in %s",
                self._where,
                self.problem,
                self._spool.folder,
            )

    def _say_up(self) -> None:
        if self._is_down:
            self._is_down = False
            logger.warning("the tracking store %s takes records again", self._where)


def deliver_until(spool: Spool, writer: RunWriter, *, deadline: float, models: bool) -> list[str]:
    """Delivers what is pending, up to a moment of `time.monotonic`; what was refused, a line each.

    models: also models, whose delivery imports TensorFlow. Raises what MLflow raises where the store fails, and
    SupersededError where a later attempt writes the run.
    """
    refused = []
    while (record := spool.next()) is not None and time.monotonic() < deadline:
        if record.kind == "model" and not models:
            break
        try:
            writer.write(record, spool)
        except SupersededError:
            raise
        except Exception as error:
            if not is_refusal(error):
                raise
            refused.append(f"{describe(record)}: {reason(error)}")
        spool.advance(record)
    return refused


def describe(record: Record) -> str:
    """A record's content in words."""
    if record.kind == "metrics":
        return f"metrics of epoch {record.body.get('epoch')}"
    if "file" in record.body:
        return str(record.body.get("name"))
    return record.kind
