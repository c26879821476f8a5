"""HTTP/1.1 to the local rqlited: kept-alive connections, one request at a time on each, the request in one write.

The law kept here is F86: a failure tells whether a byte of the request can have reached rqlited. :class:`NotSent` may be tried
again by anybody; after :class:`Broken` a write may have committed.

Not aiohttp: importing it takes longer than everything else that a worker needs before it serves, it costs more for each query
than rqlited does, and it does not tell whether a request was sent. This client needs of HTTP what rqlited's answers have (a
status, and a body by length or in chunks); llhttp, by way of httptools, parses it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import httptools
from attrs import define, field, frozen

CONNECT_S: Final = 5.0
"""Loopback connects at once, or finds nobody; longer means a full backlog."""


class NotSent(Exception):
    """Nothing of the request has reached rqlited: no connection."""


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
    """What is known of one request while it runs. ``sent``: bytes of it may have reached rqlited."""

    sent: bool = False


class _Connection(asyncio.Protocol):
    """One connection. ``answer`` is the future of the request that is on it, or None between requests."""

    def __init__(self) -> None:
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
        if self.answer is None:  # rqlited says nothing unasked
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Broken(f"rqlited's answer is no HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._keep = False
        self._fail(Broken(str(exc) if exc else "rqlited closed the connection"))

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
    idle: list[_Connection] = field(factory=list[_Connection])


class Upstream:
    """Connections to every rqlited that queries were sent to. ``connections``: at most so many to one of them."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._pools: dict[str, _Pool] = {}

    async def post(self, url: str, target: str, body: bytes, max_bytes: int, attempt: Attempt) -> Response:
        """POST a JSON ``body`` to ``target`` of the rqlited at ``url`` (``http://host:port``), and its answer.

        Raises :class:`NotSent`, :class:`Broken`, :class:`TooLarge`. Cancelled, it ends the connection.
        """
        pool = self._pools.get(url) or self._pool(url)
        async with pool.turns:
            connection = await self._connection(pool)
            head = (
                f"POST {target} HTTP/1.1\r\nHost: {pool.host}:{pool.port}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            attempt.sent = True
            answer = connection.send(head.encode("ascii") + body, max_bytes)
            try:
                response = await answer
            except asyncio.CancelledError:
                connection.abort()
                raise
            if connection.reusable and self._pools.get(url) is pool:
                pool.idle.append(connection)
            else:
                connection.abort()
            return response

    def retire(self, url: str) -> None:
        """Close the idle connections to an rqlited that no door leads to any more; busy ones close when they are done."""
        pool = self._pools.pop(url, None)
        for connection in pool.idle if pool else ():
            connection.abort()

    def _pool(self, url: str) -> _Pool:
        host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
        pool = self._pools[url] = _Pool(host, int(port), asyncio.Semaphore(self._connections))
        return pool

    async def _connection(self, pool: _Pool) -> _Connection:
        while pool.idle:
            connection = pool.idle.pop()
            if connection.reusable:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _transport, connection = await loop.create_connection(_Connection, pool.host, pool.port)
        except (OSError, TimeoutError) as error:
            raise NotSent(f"no connection to rqlited: {error}") from error
        return connection
