"""MLflow's scoring server for one model, behind limits. A script that `python -m brainseg.serve` starts.

It imports nothing of brainseg: the model brings the brainseg that it was registered with.
"""

import argparse
import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MEGABYTE = 2**20
MAX_MARKS = 10_000  # commas and brackets of a request; base64 has none, and 128 rows of 16 channels some 4,000
BODY_S = 30.0  # in which a request has to arrive
DROP_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is taken of requests for masks; everything else about the server stays as it is."""

    max_bytes: int  # of a request's body
    max_requests: int  # answered at once; as many bodies may be waited for at once


class RefusedError(Exception):
    """A request beyond a limit."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Limited:
    """An ASGI application that refuses what is beyond the limits before `application` sees it."""

    def __init__(self, application: Application, limits: Limits) -> None:
        self._application = application
        self._limits = limits
        self._answering = 0  # requests
        self._held = 0  # bytes of bodies that haven't arrived whole

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers 408 to a body that is too slow, 413 to one too large, 429 where too much is going on, and 400."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._application(scope, receive, send)
            return
        try:
            body = await self._body(scope, receive)
            await self._answer(body, scope, receive, send)
        except RefusedError as refused:
            await _refuse(send, refused)

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if int(said) > self._limits.max_bytes:
            await _drop_rest(receive)
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                return await self._read(receive, body)
        except TimeoutError:
            raise RefusedError(408, f"the request didn't arrive within {BODY_S:.0f} s") from None
        finally:
            self._held -= len(body)

    async def _read(self, receive: Receive, body: bytearray) -> bytes:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, "the request was broken off")
            chunk = message.get("body", b"")
            body += chunk
            self._held += len(chunk)
            if refusal := self._refusal(len(body)):
                await _drop_rest(receive)
                raise refusal
            more = message.get("more_body", False)
        if sum(body.count(mark) for mark in b",[{") > MAX_MARKS:
            raise RefusedError(400, f"the request has more than {MAX_MARKS} values")
        return bytes(body)

    def _refusal(self, size: int) -> RefusedError | None:
        if size > self._limits.max_bytes:
            return self._too_large()
        return self._busy() if self._held > self._limits.max_bytes * self._limits.max_requests else None

    async def _answer(self, body: bytes, scope: Message, receive: Receive, send: Send) -> None:
        if self._answering >= self._limits.max_requests:
            raise self._busy()
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(whole, None) or await receive()

        self._answering += 1
        try:
            await self._application(scope, again, send)
        finally:
            self._answering -= 1

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the request has more than {self._limits.max_bytes} bytes; send fewer images at once")

    def _busy(self) -> RefusedError:
        return RefusedError(429, f"{self._limits.max_requests} requests are being answered; ask again later")


async def _drop_rest(receive: Receive) -> None:
    """Reads on for a moment, since most clients read no answer before they have sent everything."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DROP_S):
            while (await receive()).get("more_body", False):
                pass


async def _refuse(send: Send, refused: RefusedError) -> None:
    content = json.dumps({"error_code": "REFUSED", "message": str(refused)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),  # what is left of the request isn't read
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def main() -> None:
    """Serves the folder of a model on the loopback address until it is stopped."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-megabytes", type=int, required=True)
    parser.add_argument("--max-requests", type=int, required=True)
    parsed = parser.parse_args()
    # A request that MLflow gives up goes on being computed, and would no longer be counted.
    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(24 * 3600)

    import uvicorn
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    limits = Limits(max_bytes=parsed.max_megabytes * MEGABYTE, max_requests=parsed.max_requests)
    application = Limited(scoring_server.init(pyfunc.load_model(parsed.model)), limits)
    uvicorn.run(application, host="127.0.0.1", port=parsed.port, access_log=False)


if __name__ == "__main__":
    main()
