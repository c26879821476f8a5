"""Where queries go that other nodes serve: what the node said of it, remembered for some seconds so that the node is in no query's
path, and the connections to the members' gateways. The laws kept here:

- A query is sent only to the gateway that has the certificate which its node has signed (F93).
- It goes to the next gateway only when it was never sent (F86). In TLS 1.3 a client has finished its handshake before the server
  has looked at its certificate, so a connection counts as made only when the other gateway has answered a greeting on it.
- A gateway that could not be connected to, or failed, is tried last for some seconds: not every query waits for a dead machine, or for
  the one member that cannot start its replica while the others serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, field, frozen

from runtime.gateway.frames import Hop
from runtime.gateway.tls import fingerprint_of
from runtime.gateway.upstream import Upstream
from runtime.gateway.upstream_connection import Attempt, Broken, Connection, Incoming, NotSent, Response, TooLarge

ROUTE_S: Final = 5.0
"""How long the node's word is taken for it, before it is asked again."""
AVOID_S: Final = 5.0
CONNECT_S: Final = 2.0
"""From the connection's first byte to the answered greeting; a gateway that is there needs some milliseconds."""
IDLE_S: Final = 30.0
"""A connection that was idle for so long is not used again. The other side keeps it longer (``member_port``), so that it never ends
one just when a query is sent."""
ROUTES: Final = 10_000
"""Databases remembered."""
HELLO: Final = "/v1/member/hello"
_HELLO_BYTES: Final = 4096


class Routes:
    """Which gateways serve a database, as the node said it. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, tuple[Hop, ...]]] = {}

    def learn(self, app: str, name: str, hops: tuple[Hop, ...]) -> None:
        """The node has said it."""
        key = (app, name)
        self._known.pop(key, None)  # the newest stands last
        if len(self._known) >= ROUTES:
            del self._known[next(iter(self._known))]
        self._known[key] = (self._clock() + ROUTE_S, hops)

    def get(self, app: str, name: str) -> tuple[Hop, ...]:
        """Best first; empty: nobody has said, or too long ago."""
        until, hops = self._known.get((app, name), (0.0, ()))
        return hops if self._clock() < until else ()

    def drop(self, app: str, name: str) -> None:
        """It was wrong, or has failed."""
        self._known.pop((app, name), None)


@frozen
class Unreached(Exception):
    """No gateway was sent anything; why, of each."""

    causes: str


@define
class Hops:
    """Connections to other nodes' gateways. ``context``: of a TLS client. ``connections``: at most so many to each."""

    context: ssl.SSLContext | None
    connections: int
    clock: Callable[[], float]
    _pools: dict[Hop, Upstream] = field(factory=dict[Hop, Upstream], init=False)
    _avoided: dict[Hop, float] = field(factory=dict[Hop, float], init=False)

    async def post(
        self,
        hops: Iterable[Hop],
        target: str,
        headers: Callable[[], str],
        body: bytes,
        max_bytes: int,
        attempt: Attempt,
        content_type: str,
    ) -> tuple[Hop, Response]:
        """POST to the first of these gateways that can be connected to. Raises :class:`Unreached`, and of the one that was reached
        :class:`Broken` and :class:`TooLarge`. Cancelled, it ends the connection. ``headers`` is called for each try."""
        causes: list[str] = []
        for hop in self.best_first(hops):
            try:
                response = await self._pool(hop).post(
                    f"https://{hop.gateway}", target, body, max_bytes, attempt, headers(), content_type
                )
            except NotSent as error:
                self.avoid(hop)
                causes.append(f"{hop.peer} at {hop.gateway}: {error}")
            except Broken:
                self.avoid(hop)
                raise
            else:
                return hop, response
        raise Unreached("; ".join(causes))

    def stream(
        self, hop: Hop, target: str, headers: str, body: bytes
    ) -> contextlib.AbstractAsyncContextManager[Incoming]:
        """POST to this gateway, and its answer as it comes. Raises :class:`NotSent`, :class:`Broken`."""
        return self._pool(hop).stream(f"https://{hop.gateway}", target, body, headers)

    def best_first(self, hops: Iterable[Hop]) -> list[Hop]:
        return sorted(hops, key=lambda hop: self._avoided.get(hop, 0.0) > self.clock())

    def avoid(self, hop: Hop) -> None:
        """Try it last for some seconds."""
        self._avoided[hop] = self.clock() + AVOID_S

    def keep(self, fingerprints: Iterable[bytes]) -> None:
        """Only these certificates count from now on: connections to others are closed when they are idle."""
        believed = set(fingerprints)
        for hop in [hop for hop in self._pools if hop.fingerprint not in believed]:
            self._pools.pop(hop).retire(f"https://{hop.gateway}")
            self._avoided.pop(hop, None)

    def _pool(self, hop: Hop) -> Upstream:
        pool = self._pools.get(hop)
        if pool is None:
            dial = functools.partial(self._dial, hop.fingerprint)
            pool = self._pools[hop] = Upstream(
                self.connections, whom="the member's gateway", dial=dial, connect_s=CONNECT_S, idle_s=IDLE_S
            )
        return pool

    async def _dial(self, fingerprint: bytes, host: str, port: int, make: Callable[[], Connection]) -> Connection:
        """A connection on which the right gateway has said that it takes our queries. Raises OSError and :class:`NotSent`."""
        if self.context is None:
            raise NotSent("this node has no certificate")
        transport, connection = await asyncio.get_running_loop().create_connection(
            make, host, port, ssl=self.context, server_hostname=host
        )
        try:
            if fingerprint_of(transport.get_extra_info("ssl_object")) != fingerprint:
                raise NotSent("its certificate is not the one that its node has signed")
            request = f"GET {HELLO} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
            answer = await connection.send(request.encode("ascii"), _HELLO_BYTES)
            if answer.status != 200:
                raise NotSent(f"it answered the greeting with {answer.status}")
        except (Broken, TooLarge) as error:
            raise NotSent(f"it does not take our queries: {error}") from error
        except BaseException:
            connection.abort()
            raise
        return connection
