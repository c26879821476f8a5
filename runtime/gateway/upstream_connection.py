"""One HTTP/1.1 connection to the local rqlited, or to the gateway of another node, and what can become of a request on it. The laws kept here:

- A failure tells whether a byte of the request can have reached the other side (F86). :class:`NotSent` may be tried again by anybody; after
  :class:`Broken` a write may have committed.
- A connection is in use until the other side is done with what was sent on it, whoever still waits for that: it tells so itself, without a task (P30, F89).
- No more of an answer is held than asked for.

llhttp, by way of httptools, parses.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import httptools
from attrs import define, frozen


class NotSent(Exception):
    """Nothing of the request has reached the other side: no connection."""


class Broken(Exception):
    """The connection ended after bytes of the request were written, and before the answer was complete."""


class TooLarge(Exception):
    """The answer is larger than asked for."""


@frozen
class Response:
    """An HTTP answer, complete."""

    status: int
    body: bytes


@define
class Attempt:
    """What is known of one request while it runs. ``sent``: bytes of it may have reached the other side."""

    sent: bool = False

    def begin(self) -> None:
        """Its first byte is about to be written."""
        self.sent = True


_AHEAD: Final = 1 << 20
"""Bytes of a streamed body that may wait to be read."""


class Incoming:
    """An answer whose body is read as it comes, no faster than it is asked for. Iterate once; raises :class:`Broken` where it breaks off."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The status."""
        self.complete = False
        self._transport = transport
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._error: Exception | None = None
        self._news = asyncio.Event()

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        self._news.set()
        if self._size > _AHEAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def end(self, error: Exception | None) -> None:
        """Nothing more comes; None: it is whole."""
        self.complete, self._error = error is None, error
        self._news.set()
        if error is not None and not self.begun.done():
            self.begun.set_exception(error)

    def __aiter__(self) -> Incoming:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        data = self._chunks.popleft()
        self._size -= len(data)
        if self._paused and self._size <= _AHEAD // 2:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return data


class Connection(asyncio.Protocol):
    """One connection to ``whom``. ``answer`` is the future of the request that is on it, or None between requests; ``incoming`` is the
    answer, where it is streamed."""

    def __init__(self, whom: str) -> None:
        self.whom = whom
        self.idle_since = 0.0
        self.done: Callable[[], None] | None = None
        """Called once the other side is done with the request that is on it, before its future is told."""
        self.until = math.inf
        """Loop time at which nobody waits for the answer any longer."""
        self.kept = False
        """It goes on all the same."""
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[Response] | None = None
        self.incoming: Incoming | None = None
        self.max_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._size = 0
        self._keep = True

    @property
    def reusable(self) -> bool:
        free = self.answer is None and self.incoming is None
        return self._keep and free and self.transport is not None and not self.transport.is_closing()

    def send(self, request: bytes, max_bytes: int) -> asyncio.Future[Response]:
        assert self.transport is not None
        assert self.answer is None
        self._parts, self._size, self.max_bytes = [], 0, max_bytes
        answer = self.answer = self._loop.create_future()
        self.transport.write(request)
        return answer

    def late(self) -> None:
        """Its time is up: whoever waits is told so, and the connection ends unless it is kept."""
        self.until = math.inf
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(TimeoutError())
        if not self.kept:
            self.abort()

    def stream(self, request: bytes) -> Incoming:
        """Send a request whose answer is read as it comes."""
        assert self.reusable
        assert self.transport is not None
        incoming = self.incoming = Incoming(self.transport)
        self.transport.write(request)
        return incoming

    def abort(self) -> None:
        """End the connection: what is still on its way on it is for nobody."""
        self._keep = False
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if self.answer is None and self.incoming is None:  # nobody says anything unasked
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Broken(f"the answer of {self.whom} is no HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._keep = False
        self._fail(Broken(str(exc) if exc else f"{self.whom} closed the connection"))

    # What the parser calls.

    def on_headers_complete(self) -> None:
        if self.incoming is not None:
            self.incoming.begun.set_result(self._parser.get_status_code())

    def on_body(self, data: bytes) -> None:
        if self.incoming is not None:
            self.incoming.feed(data)
            return
        if self.answer is None:  # given up: the rest of this read is for nobody
            return
        self._size += len(data)
        if self._size > self.max_bytes:
            self._fail(TooLarge())
        else:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        answer, self.answer = self.answer, None
        incoming, self.incoming = self.incoming, None
        self._keep = self._keep and self._parser.should_keep_alive()
        parts, self._parts = self._parts, []
        self._tell_done()
        if incoming is not None:
            incoming.end(None)
        if answer is not None and not answer.done():
            answer.set_result(Response(self._parser.get_status_code(), b"".join(parts)))

    def _fail(self, error: Exception) -> None:
        answer, self.answer = self.answer, None
        incoming, self.incoming = self.incoming, None
        self._parts = []
        self.abort()
        self._tell_done()
        if incoming is not None:
            incoming.end(error)
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def _tell_done(self) -> None:
        done, self.done = self.done, None
        if done is not None:
            done()
