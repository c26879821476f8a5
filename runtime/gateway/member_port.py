"""The second listening socket: for the gateways of other nodes, which send the queries of clients whose node is no member. The laws
kept here (F93): only TLS; only gateways that known nodes have signed for, and nothing of anybody else is read; what comes in
here is never sent on.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from runtime.gateway.tls import fingerprint_of

KEEP_ALIVE_S: Final = 120
"""Much longer than the other side keeps an idle connection (``hops.IDLE_S``)."""
HANDSHAKE_S: Final = 5.0

App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[MutableMapping[str, Any]], Awaitable[None]]],
    Awaitable[None],
]


class MemberPort:
    """The connections of other gateways to this worker."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.believed: frozenset[bytes] = frozenset()
        self.connections: set[MemberConnection] = set()

    def believe(self, fingerprints: Iterable[bytes]) -> None:
        """Take queries of these gateways, and of nobody else from now on."""
        self.believed = frozenset(fingerprints)
        for connection in [one for one in self.connections if one.fingerprint not in self.believed]:
            connection.transport.abort()

    async def listen(
        self, listener: socket.socket, context: ssl.SSLContext, config: Config, state: ServerState
    ) -> asyncio.Server:
        """Accept connections as uvicorn does, whose ``state`` counts them when it stops."""
        return await asyncio.get_running_loop().create_server(
            lambda: MemberConnection(self, config, state),
            sock=listener,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_S,
            backlog=config.backlog,
        )


class MemberConnection(HttpToolsProtocol):
    """One connection, after its handshake."""

    def __init__(self, port: MemberPort, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self.app = port.app
        self.timeout_keep_alive = KEEP_ALIVE_S
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
