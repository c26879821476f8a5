"""HTTP/1.1 to the local rqlited, and to the gateways of other nodes: kept-alive connections, one request at a time on each, the request in one write.

The law kept here is F86: a failure tells whether a byte of the request can have reached the other side. :class:`NotSent` may be tried
again by anybody; after :class:`Broken` a write may have committed.

Not aiohttp: importing it takes longer than everything else that a worker needs before it serves, it costs more for each query
than rqlited does, and it does not tell whether a request was sent. This client needs of HTTP what those answers have (a
status, and a body by length or in chunks); llhttp, by way of httptools, parses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, cast

import httptools
from attrs import define, field, frozen

CONNECT_S: Final = 5.0
"""Loopback connects at once, or finds nobody; longer means a full backlog."""


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
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[Response] | None = None
        self.incoming: Incoming | None = None
        self.max_bytes = 0
        self._parser: Any = None
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
        self._parser = httptools.HttpResponseParser(self)
        self._parts, self._size, self.max_bytes = [], 0, max_bytes
        answer = self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return answer

    def stream(self, request: bytes) -> Incoming:
        """Send a request whose answer is read as it comes."""
        assert self.reusable
        assert self.transport is not None
        self._parser = httptools.HttpResponseParser(self)
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

    def on_header(self, name: bytes, value: bytes) -> None:
        if (
            self.answer is not None
            and name.lower() == b"content-length"
            and value.isdigit()
            and int(value) > self.max_bytes
        ):
            self._fail(TooLarge())

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
        if incoming is not None:
            incoming.end(None)
        if answer is not None and not answer.done():
            answer.set_result(Response(self._parser.get_status_code(), b"".join(self._parts)))
        self._parts = []

    def _fail(self, error: Exception) -> None:
        answer, self.answer = self.answer, None
        incoming, self.incoming = self.incoming, None
        self._parts = []
        self.abort()
        if incoming is not None:
            incoming.end(error)
        if answer is not None and not answer.done():
            answer.set_exception(error)


@define
class _Pool:
    host: str
    port: int
    turns: asyncio.Semaphore
    idle: list[Connection] = field(factory=list[Connection])


Dial = Callable[[str, int, Callable[[], Connection]], Awaitable[Connection]]
"""Connects to a host and port, with a connection that the given function makes. Raises OSError, :class:`NotSent`."""


async def plain(host: str, port: int, make: Callable[[], Connection]) -> Connection:
    """Over TCP."""
    _transport, connection = await asyncio.get_running_loop().create_connection(make, host, port)
    return connection


class Upstream:
    """Connections to every server that queries were sent to. ``connections``: at most so many to one of them. ``whom``: what
    they are, for the causes of failures. ``connect_s``: for one connection. ``idle_s``: one that was idle for longer is not
    used again."""

    def __init__(
        self,
        connections: int,
        *,
        whom: str = "rqlited",
        dial: Dial = plain,
        connect_s: float = CONNECT_S,
        idle_s: float = float("inf"),
    ) -> None:
        self._connections = connections
        self._whom = whom
        self._dial = dial
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._pools: dict[str, _Pool] = {}

    async def post(
        self,
        url: str,
        target: str,
        body: bytes,
        max_bytes: int,
        attempt: Attempt,
        headers: str = "",
        content_type: str = "application/json",
    ) -> Response:
        """POST a ``body`` to ``target`` of the server at ``url`` (``http://host:port``), and its answer. ``headers``: more
        of them, each with its line end.

        Raises :class:`NotSent`, :class:`Broken`, :class:`TooLarge`. Cancelled, it ends the connection.
        """
        pool = self._pools.get(url) or self._pool(url)
        async with pool.turns:
            connection = await self._connection(pool)
            head = (
                f"POST {target} HTTP/1.1\r\nHost: {pool.host}:{pool.port}\r\n"
                f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
            )
            attempt.sent = True
            answer = connection.send(head.encode("ascii") + body, max_bytes)
            try:
                response = await answer
            except asyncio.CancelledError:
                connection.abort()
                raise
            self._give_back(url, pool, connection)
            return response

    @contextlib.asynccontextmanager
    async def stream(self, url: str, target: str, body: bytes | None, headers: str = "") -> AsyncGenerator[Incoming]:
        """The answer to a GET (``body`` None), or a POST of JSON, once its status is known. Raises :class:`NotSent`, :class:`Broken`. What
        is not read to its end ends the connection."""
        pool = self._pools.get(url) or self._pool(url)
        async with pool.turns:
            connection = await self._connection(pool)
            head = f"{'GET' if body is None else 'POST'} {target} HTTP/1.1\r\nHost: {pool.host}:{pool.port}\r\n"
            if body is not None:
                head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            incoming = connection.stream(f"{head}{headers}\r\n".encode("ascii") + (body or b""))
            try:
                await incoming.begun
                yield incoming
            finally:
                if incoming.complete:
                    self._give_back(url, pool, connection)
                else:
                    connection.abort()

    def _give_back(self, url: str, pool: _Pool, connection: Connection) -> None:
        if connection.reusable and self._pools.get(url) is pool:
            connection.idle_since = asyncio.get_running_loop().time()
            pool.idle.append(connection)
        else:
            connection.abort()

    def retire(self, url: str) -> None:
        """Close the idle connections to a server that nothing leads to any more; busy ones close when they are done."""
        pool = self._pools.pop(url, None)
        for connection in pool.idle if pool else ():
            connection.abort()

    def _pool(self, url: str) -> _Pool:
        host, _, port = url.partition("://")[2].rstrip("/").rpartition(":")
        pool = self._pools[url] = _Pool(host, int(port), asyncio.Semaphore(self._connections))
        return pool

    async def _connection(self, pool: _Pool) -> Connection:
        now = asyncio.get_running_loop().time()
        while pool.idle:
            connection = pool.idle.pop()
            if connection.reusable and now - connection.idle_since <= self._idle_s:
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._dial(pool.host.strip("[]"), pool.port, functools.partial(Connection, self._whom))
        except TimeoutError as error:
            raise NotSent(f"no connection to {self._whom} within {self._connect_s:g} s") from error
        except OSError as error:
            raise NotSent(f"no connection to {self._whom}: {error}") from error
