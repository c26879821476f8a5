"""The node's way to other nodes: what the rest of the node sees of libp2p. Laws: sending never waits and never reports loss, which is the
protocol's business; libp2p itself failing costs connections, never the node.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, cast

import structlog
import trio

from protocol.inputs import Input
from protocol.messages import Message
from runtime import logs
from runtime.identity import Identity
from runtime.transport import bounds
from runtime.transport.addresses import ListenTaken, PeerAddress
from runtime.transport.asking import Asking, Handler, PeerRefused, PeerUnreachable
from runtime.transport.book import AddressBook
from runtime.transport.hearing import Hearing
from runtime.transport.outbox import Outbox

__all__ = ["Network", "PeerRefused", "PeerUnreachable"]

log = structlog.stdlib.get_logger("transport")


class Network:
    """A :class:`runtime.execute.Transport`. ``offer``: :meth:`runtime.driver.Driver.offer`. ``known``: the engine's known peers, for
    which places are kept."""

    def __init__(
        self,
        identity: Identity,
        listen: tuple[PeerAddress, ...],
        book: AddressBook,
        *,
        offer: Callable[[Input], bool],
        known: Callable[[], tuple[str, ...]],
        max_connections: int,
        discovery_interval: float,
    ) -> None:
        self._identity: Final = identity
        self._listen: Final = listen
        self._book: Final = book
        self._max_connections: Final = max_connections
        self._discovery_interval: Final = discovery_interval
        self._hearing = Hearing(offer, known, book)
        self._questions = Asking()
        self._broadcasts = Outbox(bounds.BROADCASTS, bounds.STALE)
        self._outboxes: dict[str, Outbox] = {}
        self._session: Any = None

    def send(self, to: str, message: Message) -> None:
        """To one peer, over its standing stream; waits there for a moment while the peer is not connected."""
        if to not in self._outboxes and len(self._outboxes) >= bounds.PEERS:
            self._hearing.count("unsent")
            return
        self._outbox(to).put(message, trio.current_time())

    def broadcast(self, message: Message) -> None:
        """To all peers: by gossip, and before that over the standing stream to each that is connected. Gossip is slower (it signs), loses
        what is said while its mesh forms, and says so to nobody; and a node's answer, sent straight, must not overtake
        the request that it broadcast a moment before. Who is connected hears it twice."""
        now = trio.current_time()
        for peer in self.connected():
            self._outbox(peer).put(message, now)
        self._broadcasts.put(message, now)

    async def request(self, peer: str, kind: str, payload: bytes, within: float) -> bytes:
        """Ask one peer and wait for its answer, ``within`` seconds in all. Raises :class:`PeerUnreachable`,
        :class:`PeerRefused`. Both payload and answer are at most ``bounds.REQUEST_BYTES``."""
        return await self._questions.ask(self._open_question, peer, kind, payload, within)

    def serve(self, kind: str, handler: Handler) -> None:
        """Answer requests of ``kind`` by ``await handler(sender, payload)``; it refuses by raising :class:`PeerRefused`."""
        self._questions.serve(kind, handler)

    @property
    def counters(self) -> Counter[str]:
        """What happened so far, losses included."""
        return self._hearing.counters + Counter(
            unsent=sum(each.dropped for each in self._outboxes.values()), unbroadcast=self._broadcasts.dropped
        )

    def connected(self) -> frozenset[str]:
        """Peers with a connection now. No sign of life: that is the heartbeats' business."""
        return frozenset() if self._session is None else self._session.connected()

    @property
    def places(self) -> int:
        """Connections that hold a place now."""
        return 0 if self._session is None else self._session.places

    def _outbox(self, peer: str) -> Outbox:
        outbox = self._outboxes.get(peer)
        if outbox is None:
            outbox = self._outboxes[peer] = Outbox(bounds.OUTBOX, bounds.STALE)
        return outbox

    async def _open_question(self, peer: str) -> Any:
        if self._session is None:
            raise PeerUnreachable("the network is not up yet")
        return await self._session.open_question(peer)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; started when it listens. Raises :class:`ListenTaken` if it never could."""
        # In a thread: the import takes 0.5-0.9 s, in which the gateway's workers start, too.
        session = await trio.to_thread.run_sync(
            importlib.import_module, "runtime.transport.session", abandon_on_cancel=True
        )
        logs.rein_in_libp2p()
        listened = False

        def up() -> None:
            nonlocal listened
            if not listened:
                listened = True
                task_status.started()

        while True:
            current = session.Session(
                self._identity,
                self._listen,
                self._book,
                self._hearing,
                self._questions,
                self._broadcasts,
                self._outbox,
                max_connections=self._max_connections,
                discovery_interval=self._discovery_interval,
            )

            def is_up(this: Any = current) -> None:
                self._session = this
                up()

            try:
                await current.run(is_up)
            except Exception as error:
                taken = _listen_taken(error)
                if taken is not None and not listened:
                    raise taken from None
                # A fault of libp2p's own that no guard caught: everything of it is made anew.
                log.exception("libp2p ended", because=repr(error)[:200])
                self._hearing.count("restarts")
            self._session = None
            await trio.sleep(bounds.RESTART)


def _listen_taken(error: BaseException) -> ListenTaken | None:
    if isinstance(error, ListenTaken):
        return error
    if isinstance(error, BaseExceptionGroup):
        several = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next((found for each in several if (found := _listen_taken(each)) is not None), None)
    return None
