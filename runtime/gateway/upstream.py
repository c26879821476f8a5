"""HTTP/1.1 to the local rqlited, and to the gateways of other nodes: kept-alive connections, one request at a time on each, the request in one write.

The law kept here is F86: a failure tells whether a byte of the request can have reached the other side. :class:`NotSent` may be tried
again by anybody; after :class:`Broken` a write may have committed.

Not aiohttp: importing it takes longer than everything else that a worker needs before it serves, it costs more for each query
than rqlited does, and it does not tell whether a request was sent. This client needs of HTTP what those answers have (a
status, and a body by length or in chunks); llhttp, by way of httptools, parses it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
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


class Connection(asyncio.Protocol):
    """One connection to ``whom``. ``answer`` is the future of the request that is on it, or None between requests."""

    def __init__(self, whom: str) -> None:
        self.whom = whom
        self.idle_since = 0.0
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[Response] | None = None
        self.max_bytes = 0
        self._parser: Any = None
        self._parts: list[bytes] = []
        self._size = 0
        self._keep = True

    @property
    def reusable(self) -> bool:
        return self._keep and self.answer is None and self.transport is not None and not self.transport.is_closing()

    def send(self, request: bytes, max_bytes: int) -> asyncio.Future[Response]:
        assert self.transport is not None
        assert self.answer is None
        self._parser = httptools.HttpResponseParser(self)
        self._parts, self._size, self.max_bytes = [], 0, max_bytes
        answer = self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return answer

    def abort(self) -> None:
        """End the connection: what is still on its way on it is for nobody."""
        self._keep = False
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if self.answer is None:  # nobody says anything unasked
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

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-length" and value.isdigit() and int(value) > self.max_bytes:
            self._fail(TooLarge())

    def on_body(self, data: bytes) -> None:
        if self.answer is None:  # given up: the rest of this read is for nobody
            return
        self._size += len(data)
        if self._size > self.max_bytes:
            self._fail(TooLarge())
        else:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        answer, self.answer = self.answer, None
        self._keep = self._keep and self._parser.should_keep_alive()
        if answer is not None and not answer.done():
            answer.set_result(Response(self._parser.get_status_code(), b"".join(self._parts)))
        self._parts = []

    def _fail(self, error: Exception) -> None:
        answer, self.answer = self.answer, None
        self._parts = []
        self.abort()
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
            if connection.reusable and self._pools.get(url) is pool:
                connection.idle_since = asyncio.get_running_loop().time()
                pool.idle.append(connection)
            else:
                connection.abort()
            return response

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
