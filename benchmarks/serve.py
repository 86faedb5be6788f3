"""Measures how a served model answers beside requests that go beyond its limits.

    python -m benchmarks.serve brainseg@champion                 the phantom's default model, say
    python -m benchmarks.serve brainseg@champion --seconds 60

A good request, one image of 512x512, is sent again and again: first alone, then beside one client of each kind of bad
request, each of which asks again as soon as it is answered. So is each bad one, first alone. Prints in how many seconds
each is answered, with which status, and the most memory that the server has held. Last, the load average.
"""

import argparse
import base64
import contextlib
import http.client
import io
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.figures import load, peak_mib, print_table
from brainseg.cli.options import add_store_options

PORT = 5091
START_S = 120.0


def main() -> None:
    """Measures and prints two tables."""
    options = _options()
    command = [sys.executable, "-m", "brainseg.serve", options.model, f"--port={PORT}", f"--root={options.root}"]
    process = subprocess.Popen(command if options.uri is None else [*command, f"--uri={options.uri}"])
    try:
        _wait(process)
        good = _request(json.dumps({"dataframe_records": [{"image": _picture(512)}]}).encode())
        _ask(good)  # the first one
        kinds: dict[str, Callable[[], int]] = {"a good one": partial(_ask, good), **_bad()}
        alone = {name: _asked(ask, time.monotonic() + options.seconds / len(kinds)) for name, ask in kinds.items()}
        beside = _beside(kinds, options.seconds)
        rows = [(name, *_told(alone[name]), *_told(beside[name])[1:]) for name in kinds]
        measured = ("answers", "median s", "largest s")
        print_table(("request", "status", *measured, *(f"{name}, beside all others" for name in measured)), rows)
        print(f"memory at most {peak_mib(_server_of(process.pid)):.0f} MiB; load {load()}")
    finally:
        process.terminate()
        process.wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="NAME@ALIAS or NAME/VERSION of a registered model")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each part")
    add_store_options(parser)
    return parser.parse_args()


Answers = list[tuple[int, float]]  # status and seconds


def _beside(kinds: dict[str, Callable[[], int]], seconds: float) -> dict[str, Answers]:
    """Answers to each kind of request, which are all sent at the same time."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(len(kinds)) as pool:
        return dict(zip(kinds, pool.map(lambda ask: _asked(ask, end), kinds.values()), strict=True))


def _asked(ask: Callable[[], int], end: float) -> Answers:
    answers = []
    while (begin := time.monotonic()) < end:
        answers.append((ask(), time.monotonic() - begin))
    return answers


def _bad() -> dict[str, Callable[[], int]]:
    """What a bad client is called -> asks once; the status."""

    def rows(image: str, count: int) -> bytes:
        return _request(json.dumps({"dataframe_records": [{"image": image}] * count}).encode())

    requests = {
        "says 1 TB": b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000000000\r\n\r\n",
        "129 rows": rows("", 129),
        "a picture of 144 million pixels": rows(_picture(12_000), 1),
        "30 MB of empty rows": rows("", 30 * 2**20 // 15),
        "30 MB of brackets": _request(b"[" * 30 * 2**20),
        "30 MB that are no picture": rows("A" * 30 * 2**20, 1),
    }
    whole: dict[str, Callable[[], int]] = {name: partial(_ask, request) for name, request in requests.items()}
    return whole | {
        "without an end": partial(_ask_in_parts, b"8000\r\n" + b"x" * 0x8000 + b"\r\n", 0.0),
        "a byte each 0.1 s": partial(_ask_in_parts, b"1\r\nx\r\n", 0.1),
    }


def _picture(side: int) -> str:
    file = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def _request(body: bytes) -> bytes:
    head = "POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _ask(request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", PORT), 60) as sent:
        with contextlib.suppress(ConnectionError):  # the server has answered before all of it was sent
            sent.sendall(request)
        return _status(sent)


def _ask_in_parts(part: bytes, pause_s: float) -> int:
    """Sends parts until the server has had enough."""
    with socket.create_connection(("127.0.0.1", PORT), 60) as sent:
        sent.sendall(b"POST /invocations HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError, BlockingIOError):
            for _ in _until_answered(sent):
                sent.sendall(part)
                time.sleep(pause_s)
        return _status(sent)


def _until_answered(sent: socket.socket) -> Iterator[None]:
    while True:
        sent.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            sent.recv(1, socket.MSG_PEEK)
            break
        sent.settimeout(60)
        yield
    sent.settimeout(60)


def _status(sent: socket.socket) -> int:
    """0 where the server has closed the connection before its answer was read."""
    try:
        response = http.client.HTTPResponse(sent)
        response.begin()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    return response.status


def _wait(process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 5):
            return
        time.sleep(0.2)
    sys.exit("error: the server didn't start")


def _told(answers: Answers) -> tuple[str, ...]:
    seconds = [each for _, each in answers]
    statuses = ", ".join(str(status) for status in sorted({status for status, _ in answers}))
    return statuses, str(len(answers)), f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"


def _server_of(parent: int) -> int:
    """The process that the command has started."""
    (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(child)


if __name__ == "__main__":
    main()
