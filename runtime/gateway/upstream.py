"""HTTP/1.1 to the local rqlited, and to the gateways of other nodes: kept-alive connections, one request at a time on each, the request in one write.

The law kept here is F86: a failure tells whether a byte of the request can have reached the other side, and nothing is sent twice.

Not aiohttp: importing it takes longer than everything else that a worker needs before it serves, it costs more for each query
than rqlited does, and it does not tell whether a request was sent. This client needs of HTTP what those answers have (a
status, and a body by length or in chunks).

Deadlines are looked at some times a second for all requests, not by timers of their own: those would cost each request more than its way through
this client.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from runtime.gateway.calls import JSON
from runtime.gateway.pool import Pool
from runtime.gateway.upstream_connection import Attempt, Connection, Incoming, NotSent, Response

CONNECT_S: Final = 5.0
"""Loopback connects at once, or finds nobody; longer means a full backlog."""
LOOK_S: Final = 0.1
"""Between two looks at deadlines, while anything is on its way."""


def _request(pool: Pool, target: str, body: bytes | None, headers: str, content_type: str) -> bytes:
    """A GET where there is no body, else a POST. Made before a connection is taken: what fails here leaves nothing taken."""
    if body is None:
        return f"GET {target} HTTP/1.1\r\nHost: {pool.host}:{pool.port}\r\n{headers}\r\n".encode("ascii")
    head = f"POST {target} HTTP/1.1\r\nHost: {pool.host}:{pool.port}\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n{headers}\r\n".encode("ascii") + body


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
        self._pools: dict[str, Pool] = {}
        self._loop = asyncio.get_running_loop()
        self._sent: set[Connection] = set()
        """What is on its way and has a deadline."""
        self._looking: asyncio.TimerHandle | None = None

    async def post(
        self,
        url: str,
        target: str,
        body: bytes,
        max_bytes: int,
        attempt: Attempt,
        headers: str = "",
        content_type: str = JSON,
        until: float | None = None,
        done: Callable[[], None] | None = None,
    ) -> Response:
        """POST a ``body`` to ``target`` of the server at ``url`` (``http://host:port``), and its answer. ``headers``: more
        of them, each with its line end.

        Raises :class:`NotSent`, :class:`Broken`, :class:`TooLarge`; TimeoutError at the loop time ``until``, or a moment later. Cancelled or late, it
        ends the connection. With ``done`` it does not: that is called, once something was sent, when the other side is done with it.
        """
        pool = self._pools.get(url) or self._pool(url)
        request = _request(pool, target, body, headers, content_type)
        connection = pool.at_hand(self._loop.time())
        if connection is None:
            async with asyncio.timeout_at(until):
                connection = await self._taken(pool)
        connection.kept = done is not None

        def over() -> None:
            self._sent.discard(connection)
            self._give_back(pool, connection)
            if done is not None:
                done()

        connection.done = over
        if until is not None:
            connection.until = until
            self._sent.add(connection)
            if self._looking is None:
                self._looking = self._loop.call_later(LOOK_S, self._look)
        attempt.begin()
        answer = connection.send(request, max_bytes)
        try:
            return await answer
        except asyncio.CancelledError:
            if done is None:
                connection.abort()
            raise

    @contextlib.asynccontextmanager
    async def stream(self, url: str, target: str, body: bytes | None, headers: str = "") -> AsyncGenerator[Incoming]:
        """The answer to a GET (``body`` None), or a POST of JSON, once its status is known. Raises :class:`NotSent`, :class:`Broken`. What
        is not read to its end ends the connection."""
        pool = self._pools.get(url) or self._pool(url)
        request = _request(pool, target, body, headers, JSON)
        connection = pool.at_hand(self._loop.time()) or await self._taken(pool)
        connection.done = functools.partial(self._give_back, pool, connection)
        incoming = connection.stream(request)
        try:
            await incoming.begun
            yield incoming
        finally:
            if not incoming.complete:
                connection.abort()

    def _look(self) -> None:
        """End what is late."""
        now = self._loop.time()
        for connection in [one for one in self._sent if one.until <= now]:
            connection.late()
        self._looking = self._loop.call_later(LOOK_S, self._look) if self._sent else None

    def _give_back(self, pool: Pool, connection: Connection) -> None:
        """The other side is done with what was sent on it."""
        pool.leave()
        if connection.reusable and self._pools.get(pool.url) is pool:
            connection.idle_since = self._loop.time()
            pool.idle.append(connection)
        else:
            connection.abort()

    def retire(self, url: str) -> None:
        """Close the idle connections to a server that nothing leads to any more; busy ones close when they are done."""
        pool = self._pools.pop(url, None)
        for connection in pool.idle if pool else ():
            connection.abort()

    def _pool(self, url: str) -> Pool:
        host, _, port = url.partition("://")[2].rstrip("/").rpartition(":")
        pool = self._pools[url] = Pool(url, host, int(port), self._connections, self._idle_s)
        return pool

    async def _taken(self, pool: Pool) -> Connection:
        """A connection, in its turn. It must be given back."""
        await pool.turn()
        try:
            return pool.last_idle(self._loop.time()) or await self._made(pool)
        except BaseException:
            pool.leave()
            raise

    async def _made(self, pool: Pool) -> Connection:
        try:
            async with asyncio.timeout(self._connect_s):
                connection = await self._dial(
                    pool.host.strip("[]"), pool.port, functools.partial(Connection, self._whom)
                )
        except TimeoutError as error:
            raise NotSent(f"no connection to {self._whom} within {self._connect_s:g} s") from error
        except OSError as error:
            raise NotSent(f"no connection to {self._whom}: {error}") from error
        if not connection.reusable:  # its end has been told already, and is not told again
            raise NotSent(f"{self._whom} closed the connection at once")
        return connection
