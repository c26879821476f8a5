"""A libp2p host whose measured faults are covered. Laws: Noise within the cluster's private network, nothing else, so that only
holders of the secret get past a handshake (F92); nothing that a peer does raises in a task of libp2p's own, where it would end the
process; connections and streams of one peer are bounded.

Imports libp2p: only :mod:`runtime.transport.session` may import this.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519
from libp2p.custom_types import THandler, TProtocol
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp import tcp as libp2p_tcp
from multiaddr import Multiaddr

from runtime import logs
from runtime.identity import Identity
from runtime.transport import bounds
from runtime.transport.addresses import PeerAddress
from runtime.transport.admission import Pending, Places, Refused
from runtime.transport.hearing import Hearing

_ALWAYS: Final = 1_000_000
"""For libp2p's own limits, which count what ours must not: ours decide."""

log = structlog.stdlib.get_logger("transport")

logs.take_libp2p_over()


def _reuse_address_only(sock: Any) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


# libp2p sets SO_REUSEPORT for hole punching: two nodes then bind one port without an error, and share its connections.
libp2p_tcp._set_reuse_flags = _reuse_address_only  # pyright: ignore[reportPrivateUsage]


def _notice_death(stream: Any) -> None:
    """Without this a hung or vanished peer is never noticed."""
    sock = stream.stream.socket
    for option, value in zip(("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"), bounds.KEEPALIVE, strict=True):
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(bounds.USER_TIMEOUT * 1000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


class _Tcp(libp2p_tcp.TCP):
    def create_listener(self, handler_function: THandler) -> libp2p_tcp.TCPListener:
        async def handle(stream: Any) -> None:
            _notice_death(stream)
            await handler_function(stream)

        return super().create_listener(handle)

    async def _dial_resolved(self, maddr: Multiaddr, source: tuple[str, int] | None = None) -> RawConnection:
        raw: Any = await super()._dial_resolved(maddr, source)
        _notice_death(raw.stream)
        return raw


class Host:
    """``nursery``: where closing happens, since libp2p's own ``close`` can hang."""

    def __init__(
        self,
        identity: Identity,
        listen: tuple[PeerAddress, ...],
        places: Places,
        hearing: Hearing,
        nursery: trio.Nursery,
    ) -> None:
        key = create_new_key_pair(identity.key)
        self.listen: Final = [Multiaddr(str(address)) for address in listen]
        self.libp2p: Any = new_host(
            key_pair=key,
            # By default plaintext is accepted, too.
            sec_opt={NOISE: Noise(key, noise_privkey=create_x25519().private_key)},
            muxer_opt={TProtocol(YAMUX): Yamux},
            psk=identity.secret.hex(),
            transports=[_Tcp()],
            connection_config=ConnectionConfig(
                max_connections=_ALWAYS,
                min_connections=0,
                low_watermark=0,
                high_watermark=_ALWAYS,
                max_connections_per_peer=_ALWAYS,
                inbound_upgrade_timeout=bounds.UPGRADE_TIMEOUT,
                outbound_upgrade_timeout=bounds.UPGRADE_TIMEOUT,
                outbound_stream_protocol_negotiation_timeout=bounds.NEGOTIATION_TIMEOUT,
                inbound_stream_protocol_negotiation_timeout=bounds.NEGOTIATION_TIMEOUT,
            ),
        )
        self.network: Any = self.libp2p.get_network()
        # Its limits are shared by all peers: one that takes what there is would lock the others out.
        self.network.set_resource_manager(None)
        self.network.retry_config = RetryConfig(max_retries=0)  # our own loop dials again
        # It dials whomever it heard of, up to half of the high mark, whatever the low ones say.
        self.network.auto_connector.maybe_connect = _connect_nobody
        self._me = identity.peer
        self._places: Final = places
        self._pending = Pending()
        self._hearing: Final = hearing
        self._nursery: Final = nursery
        self._streams: Counter[str] = Counter()
        self._add_conn = self.network.add_conn
        self._on_stream = self.network.common_stream_handler
        self.network.add_conn = self._admit
        self.network._handle_inbound_connection = self._accept
        self.network.set_stream_handler(self._serve)
        # Identify runs in a system task, where an exception ends the process, and tells addresses that our own heartbeats
        # carry signed. What a foreign libp2p asks of us is still answered.
        self.libp2p._schedule_identify = _identify_nobody
        self.libp2p.remove_stream_handler(ID_PUSH)
        assert IDENTIFY in self.libp2p.multiselect.handlers

    async def _accept(self, stream: Any, maddr: Multiaddr) -> None:
        """An inbound connection, until it ends. libp2p's own keeps a place for each until the node ends: 250 in a life."""
        address = stream.get_remote_address()
        muxed: Any = None
        with trio.CancelScope() as scope, self._pending.one(address[0] if address else "", scope.cancel):
            try:
                muxed = await self.network.upgrade_inbound_raw_conn(RawConnection(stream, False), maddr)
            except Exception as error:
                self._hearing.count("connections_refused")
                log.debug("connection refused", address=str(address), because=repr(error)[:200])
        if muxed is not None:
            await muxed.event_closed.wait()

    async def _admit(self, muxed: Any, direction: str = "unknown") -> Any:
        """The authenticated peer at the other end is known now: may it have a place?"""
        peer = str(muxed.peer_id)
        try:
            if peer == self._me:
                raise Refused("this node itself")
            if self._hearing.banned(peer):
                raise Refused("it flooded")
            self._places.enter(muxed, peer, lambda: self.close_soon(muxed))
        except Refused as refusal:
            await _close(muxed)
            raise SwarmException(f"{peer}: {refusal}") from None
        try:
            return await self._add_conn(muxed, direction)
        except BaseException:
            self._places.leave(muxed)
            raise

    async def _serve(self, stream: Any) -> None:
        """An inbound stream: an exception of any handler would end the process."""
        peer = str(stream.muxed_conn.peer_id)
        if self._streams[peer] >= bounds.STREAMS_PER_PEER:
            self._hearing.count("streams_refused")
            await _reset(stream)
            return
        self._streams[peer] += 1
        try:
            await self._on_stream(stream)
        except Exception as error:
            log.debug("stream ended", peer=peer, because=repr(error)[:200])
            await _reset(stream)
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]

    def handle(self, protocol: str, on_stream: Callable[[str, Any], Any]) -> None:
        """Give inbound streams of a protocol to ``on_stream(sender, stream)``."""

        async def handler(stream: Any) -> None:
            await on_stream(str(stream.muxed_conn.peer_id), stream)

        self.libp2p.set_stream_handler(TProtocol(protocol), handler)

    async def open_stream(self, peer: str, protocol: str) -> Any:
        """A stream on the newest connection to a peer: an older one may be dead without knowing. Raises what libp2p raises."""
        connections = self.connections(peer)
        if not connections:
            raise SwarmException(f"{peer} is not connected")
        stream = await connections[-1].new_stream()
        try:
            await self.libp2p.multiselect_client.select_one_of(
                [TProtocol(protocol)], MultiselectCommunicator(stream), int(bounds.NEGOTIATION_TIMEOUT)
            )
        except BaseException:
            with trio.CancelScope(shield=True):
                await _reset(stream)
            raise
        stream.set_protocol(TProtocol(protocol))
        return stream

    async def dial(self, peer: str, address: str) -> None:
        """One attempt. Directly, past libp2p's list of peers that it does not dial for a minute after a failure."""
        await self.network.dial_addr(Multiaddr(address), ID.from_base58(peer))

    def listens(self) -> bool:
        """Whether each listen address is bound: libp2p is content with one of them, and tells nobody."""
        return all(str(address) in self.network.listeners for address in self.listen)

    def connections(self, peer: str) -> list[Any]:
        """Living connections to a peer, the newest last."""
        return [each for each in self._all() if str(each.muxed_conn.peer_id) == peer and not each.is_closed]

    def connected(self) -> set[str]:
        """Peers with a living connection."""
        return {str(each.muxed_conn.peer_id) for each in self._all() if not each.is_closed}

    def _all(self) -> list[Any]:
        return [each for several in self.network.connections.values() for each in several]

    def close_soon(self, muxed: Any) -> None:
        self._nursery.start_soon(_close, muxed)

    def disconnect(self, peer: str) -> None:
        """Close all connections to a peer, without waiting for it."""
        for each in self.connections(peer):
            self.close_soon(each.muxed_conn)

    async def close(self) -> None:
        """Say goodbye to all at once (libp2p does it one by one, 0.1 s each), then let go of the ports. Bounded."""
        with trio.move_on_after(bounds.GOODBYE):
            async with trio.open_nursery() as closing:
                for each in self._all():
                    closing.start_soon(_close, each.muxed_conn)
        with trio.move_on_after(bounds.GOODBYE), suppress(Exception):
            await self.libp2p.close()

    def tidy(self) -> None:
        """Once in a while: places of connections that ended without a word, and connections that hoard."""
        for muxed in self._places.handles():
            if muxed.is_closed:
                self._places.leave(muxed)
            elif sum(map(len, muxed.stream_buffers.values())) > bounds.UNREAD:
                self._hearing.count("hoarders")
                self.close_soon(muxed)


async def _connect_nobody() -> None:
    """In place of libp2p's."""


def _identify_nobody(_peer: ID, *, reason: str) -> None:
    """In place of libp2p's."""


async def _close(muxed: Any) -> None:
    with trio.move_on_after(bounds.CLOSE_TIMEOUT), suppress(Exception):
        await muxed.close()


async def _reset(stream: Any) -> None:
    with trio.move_on_after(bounds.CLOSE_TIMEOUT), suppress(Exception):
        await stream.reset()
