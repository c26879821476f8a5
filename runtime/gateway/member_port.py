"""The second listening socket: for the gateways of other nodes, which send the queries of clients whose node is no member. The laws
kept here (F93): only TLS; only gateways that known nodes have signed for, and nothing of anybody else is read; what comes in
here is never sent on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from runtime.gateway.connection import Connection, Keeper
from runtime.gateway.tls import fingerprint_of

KEEP_ALIVE_S: Final = 120
"""Much longer than the other side keeps an idle connection (``hops.IDLE_S``)."""

App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[MutableMapping[str, Any]], Awaitable[None]]],
    Awaitable[None],
]


class MemberPort:
    """The connections of other gateways to this worker. ``patience``: seconds for the head of a request."""

    def __init__(self, app: App, patience: float) -> None:
        self.app = app
        self.patience = patience
        self.believed: frozenset[bytes] = frozenset()
        self.connections: set[MemberConnection] = set()

    def believe(self, fingerprints: Iterable[bytes]) -> None:
        """Take queries of these gateways, and of nobody else from now on."""
        self.believed = frozenset(fingerprints)
        for connection in [one for one in self.connections if one.fingerprint not in self.believed]:
            connection.transport.abort()


class MemberConnection(Connection):
    """One connection, after its handshake."""

    def __init__(self, port: MemberPort, config: Config, state: ServerState, keeper: Keeper) -> None:
        super().__init__(config, state, port.app, port.patience, keeper)
        self.keep_alive_s = KEEP_ALIVE_S
        self.fingerprint = b""
        self._port = port

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.fingerprint = fingerprint_of(transport.get_extra_info("ssl_object"))
        if self.fingerprint in self._port.believed:
            self._port.connections.add(self)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        # What a stranger sent with its handshake may come before the end of the connection does.
        if self.fingerprint in self._port.believed:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._port.connections.discard(self)
        super().connection_lost(exc)
