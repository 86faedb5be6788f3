"""The limits before MLflow's scoring server, over real sockets: what is beyond them is refused, the rest goes on."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from brainseg.serve import server
from brainseg.serve.server import Limited, Limits, Message, Receive, Send

MAX_BYTES = 50_000
MAX_REQUESTS = 2


class Echo:
    """An application that answers the length of what it got, once it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.asked = threading.Semaphore(0)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        message = await receive()
        self.asked.release()
        while not self.go.is_set():
            await asyncio.sleep(0.01)
        content = str(len(message.get("body", b""))).encode()
        length = (b"content-length", str(len(content)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": content})


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def port(echo: Echo) -> Iterator[int]:
    application = Limited(echo, Limits(max_bytes=MAX_BYTES, max_requests=MAX_REQUESTS))
    running = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            echo.go.set()
            running.should_exit = True
            thread.join(30)


def begun(port: int, *, length: int | None, body: bytes = b"") -> socket.socket:
    """A request of which no more than `body` has been sent. length: as its header says; None for chunks."""
    sent = socket.create_connection(("127.0.0.1", port), 30)
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    sent.sendall(f"POST /invocations HTTP/1.1\r\nHost: here\r\n{size}\r\n\r\n".encode() + body)
    return sent


def answer(sent: socket.socket) -> tuple[int, str]:
    """Status and content; the connection is closed."""
    with contextlib.closing(sent):
        response = http.client.HTTPResponse(sent)
        response.begin()
        return response.status, response.read().decode()


def asked(port: int, body: bytes) -> tuple[int, str]:
    return answer(begun(port, length=len(body), body=body))


def message(content: str) -> Any:
    return json.loads(content)["message"]


def test_what_is_within_the_limits_arrives_whole(port: int) -> None:
    assert asked(port, b"x" * MAX_BYTES) == (200, str(MAX_BYTES))
    assert asked(port, b"," * server.MAX_MARKS) == (200, str(server.MAX_MARKS))


def test_other_paths_are_answered_as_ever(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/ping")
        assert connection.getresponse().status == 200


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(port: int, echo: Echo) -> None:
    status, content = answer(begun(port, length=MAX_BYTES + 1))
    assert (status, message(content)) == (413, "the request has more than 50000 bytes; send fewer images at once")
    assert not echo.asked.acquire(blocking=False)


def test_a_body_that_grows_too_large_is_refused(port: int) -> None:
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    assert answer(begun(port, length=None, body=3 * chunk + b"0\r\n\r\n")) == (200, str(3 * 0x4000))
    assert answer(begun(port, length=None, body=4 * chunk))[0] == 413


@pytest.mark.parametrize("mark", [",", "[", "{"])
def test_a_body_of_too_many_values_is_refused(port: int, mark: str) -> None:
    status, content = asked(port, mark.encode() * (server.MAX_MARKS + 1))
    assert (status, message(content)) == (400, "the request has more than 10000 values")


def test_more_requests_than_may_be_answered_at_once_are_told_to_come_again(port: int, echo: Echo) -> None:
    echo.go.clear()
    waiting = [begun(port, length=1, body=b"x") for _ in range(MAX_REQUESTS)]
    for _ in waiting:
        assert echo.asked.acquire(timeout=30)
    assert asked(port, b"x") == (
        429,
        '{"error_code": "REFUSED", "message": "2 requests are being answered; ask again later"}',
    )
    echo.go.set()
    assert [answer(sent) for sent in waiting] == [(200, "1")] * MAX_REQUESTS
    assert asked(port, b"x") == (200, "1")


def test_a_body_that_comes_too_slowly_is_given_up(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_S", 0.1)
    status, content = answer(begun(port, length=1000, body=b"x"))
    assert (status, message(content)) == (408, "the request didn't arrive within 0 s")


def test_half_sent_bodies_fill_no_more_memory_than_whole_ones_may(port: int) -> None:
    halves = [begun(port, length=MAX_BYTES, body=b"x" * (MAX_BYTES - 1)) for _ in range(MAX_REQUESTS)]
    deadline = time.monotonic() + 30
    while asked(port, b"x" * 10)[0] != 429:  # what was sent has arrived
        assert time.monotonic() < deadline
    for half in halves:
        half.close()
    while asked(port, b"x" * 10)[0] != 200:
        assert time.monotonic() < deadline


def test_a_good_request_is_answered_beside_many_bad_ones(port: int) -> None:
    slow = [begun(port, length=MAX_BYTES, body=b"x") for _ in range(50)]
    large = [begun(port, length=10**12) for _ in range(50)]
    assert asked(port, b"good") == (200, "4")
    assert {answer(sent)[0] for sent in large} == {413}
    for sent in slow:
        sent.close()
    assert asked(port, b"good") == (200, "4")
