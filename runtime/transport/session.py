"""One life of a libp2p host: dialling, publishing, the streams to each peer. Laws: a peer that comes back is reached within a second or
two, however it went; nothing of ours raises inside libp2p (F92).

Imports libp2p, which costs 0.5-0.9 s: :mod:`runtime.transport.network` loads it in a thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog
import trio
from attrs import define
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from protocol import codec
from runtime.identity import Identity
from runtime.rates import Rates
from runtime.transport import asking, bounds, direct
from runtime.transport.addresses import ListenTaken, PeerAddress
from runtime.transport.admission import Places
from runtime.transport.asking import Asking
from runtime.transport.book import AddressBook
from runtime.transport.gossip import TOPIC, Gossip, router
from runtime.transport.hearing import Hearing
from runtime.transport.host import Host
from runtime.transport.outbox import Outbox

log = structlog.stdlib.get_logger("transport")


@define
class _Pause:
    """When a peer is dialled next, and the pause after that."""

    until: float = 0.0
    length: float = bounds.DIAL_INTERVAL


class Session:
    """``outbox``: of a peer. ``up``: called when the host listens and broadcasts can be heard."""

    def __init__(
        self,
        identity: Identity,
        listen: tuple[PeerAddress, ...],
        book: AddressBook,
        hearing: Hearing,
        questions: Asking,
        broadcasts: Outbox,
        outbox: Callable[[str], Outbox],
        *,
        max_connections: int,
        discovery_interval: float,
    ) -> None:
        self._identity: Final = identity
        self._listen: Final = listen
        self._book: Final = book
        self._hearing: Final = hearing
        self._questions: Final = questions
        self._broadcasts: Final = broadcasts
        self._outbox: Final = outbox
        self._most: Final = max_connections
        self._patience: Final = discovery_interval
        self._writers: dict[str, trio.CancelScope] = {}
        self._pauses: dict[str, _Pause] = {}
        self._dialling: set[str] = set()
        self._dials = trio.CapacityLimiter(bounds.DIALS)
        self._changed = trio.Event()
        self._places: Places
        self._host: Host
        self._nursery: trio.Nursery

    async def run(self, up: Callable[[], None]) -> None:
        """Until cancelled. Raises :class:`ListenTaken`, or whatever ended libp2p."""
        async with trio.open_nursery() as self._nursery:
            places = self._places = Places(self._most, self._hearing.known)
            host = self._host = Host(self._identity, self._listen, places, self._hearing, self._nursery)
            self._hearing.disconnect = host.disconnect
            speaking = direct.Direct(
                self._hearing, lambda peer: host.open_stream(peer, direct.PROTOCOL), host.close_soon
            )
            mesh = router(self._most)
            gossip = Gossip(host.libp2p, mesh, self._hearing)
            host.handle(direct.PROTOCOL, speaking.on_stream)
            host.handle(asking.PROTOCOL, self._questions.on_stream)
            host.network.register_notifee(_Notifee(self, speaking, places))
            async with (
                host.libp2p.run(listen_addrs=host.listen),
                background_trio_service(gossip),
                background_trio_service(mesh),
            ):
                try:
                    if not host.listens():
                        wanted = ", ".join(str(address) for address in self._listen)
                        raise ListenTaken(
                            f"cannot listen on {wanted}: taken by another process; see node.listen_addresses"
                        )
                    await gossip.wait_until_ready()
                    await gossip.subscribe(TOPIC)
                    self._nursery.start_soon(self._publish, gossip)
                    self._nursery.start_soon(self._keep_house, gossip)
                    up()
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(
                        shield=True
                    ):  # while libp2p's own tasks still run, without which closing hangs
                        await host.close()

    async def open_question(self, peer: str) -> Any:
        """A stream for a request, as soon as the peer is connected."""
        while not self._host.connections(peer):
            await self._changed.wait()
        return await self._host.open_stream(peer, asking.PROTOCOL)

    def connected(self) -> frozenset[str]:
        return frozenset(self._writers)

    @property
    def places(self) -> int:
        return len(self._places)

    # Connections come and go; called by libp2p.

    def came(self, peer: str, speaking: direct.Direct) -> None:
        self._changed.set()
        self._changed = trio.Event()
        self._pauses.pop(peer, None)
        if peer in self._writers:
            return
        scope = self._writers[peer] = trio.CancelScope()
        self._nursery.start_soon(self._write, peer, speaking, scope)
        log.info("peer connected", peer=peer)
        self._hearing.connected(peer)

    def went(self, peer: str) -> None:
        scope = self._writers.get(peer)
        if scope is not None and not self._host.connections(peer):
            scope.cancel()

    async def _write(self, peer: str, speaking: direct.Direct, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await speaking.write(peer, self._outbox(peer))
        finally:
            del self._writers[peer]
        log.info("peer disconnected", peer=peer)
        if self._host.connections(peer):  # it came back while the writer ended
            self.came(peer, speaking)

    # Standing tasks.

    async def _publish(self, gossip: Gossip) -> None:
        own = Rates[str](bounds.AUTHOR_RATE, bounds.OWN_BURST, 1)
        while True:
            message = await self._broadcasts.get()
            wait = own.owed(self._identity.peer, trio.current_time())
            if wait:
                await trio.sleep(wait)
            try:
                data = codec.encode(message)
            except codec.CodecError as error:
                log.exception("message not sent", kind=type(message).__name__, because=str(error))
                continue
            await gossip.say(data)
            self._hearing.count("broadcast")

    async def _keep_house(self, gossip: Gossip) -> None:
        while True:
            self._look_for_peers()
            self._host.tidy()
            gossip.forget_deliveries()
            await trio.to_thread.run_sync(self._book.save)
            await trio.sleep(bounds.DIAL_INTERVAL)

    def _look_for_peers(self) -> None:
        connected, now = self._host.connected(), trio.current_time()
        for peer in self._book.peers():
            if len(connected) + len(self._dialling) >= self._most:
                return
            pause = self._pauses.setdefault(peer, _Pause())
            if peer not in connected and peer not in self._dialling and now >= pause.until:
                self._dialling.add(peer)
                self._nursery.start_soon(self._dial, peer, pause)

    async def _dial(self, peer: str, pause: _Pause) -> None:
        try:
            async with self._dials:
                for address in self._book.addresses(peer):
                    if self._host.connections(peer):
                        return
                    with trio.move_on_after(bounds.DIAL_TIMEOUT):
                        try:
                            await self._host.dial(peer, address)
                        except Exception as error:
                            log.debug("dial failed", peer=peer, address=address, because=repr(error)[:200])
                        else:
                            return
        finally:
            self._dialling.discard(peer)
            # Some of it by chance: two nodes that refuse each other's simultaneous dials would go on so for ever.
            pause.until = trio.current_time() + pause.length * random.uniform(0.5, 1.0)
            pause.length = min(self._patience, 2 * pause.length)


class _Notifee(INotifee):
    def __init__(self, session: Session, speaking: direct.Direct, places: Places) -> None:
        self._session: Final = session
        self._speaking: Final = speaking
        self._places: Final = places

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        with suppress(RuntimeError):  # the node ends, its nursery is closed
            self._session.came(str(conn.muxed_conn.peer_id), self._speaking)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        self._places.leave(conn.muxed_conn)
        self._session.went(str(conn.muxed_conn.peer_id))

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        pass

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        pass

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        pass

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        pass
