"""What was heard, on its way to the engine. Laws: a message's sender is who signed it or whose authenticated stream it came on (F81);
the network never fills the engine's queue, so what it cannot take is dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog
import trio

from protocol.inputs import Input, PeerConnected, Received
from protocol.messages import Heartbeat, Message
from runtime.transport.bans import Bans
from runtime.transport.book import AddressBook

log = structlog.stdlib.get_logger("transport")


class Hearing:
    """``offer`` takes an input for the engine unless too many wait. ``known``: the engine's known peers. ``disconnect`` is
    called for a peer that floods."""

    def __init__(self, offer: Callable[[Input], bool], known: Callable[[], tuple[str, ...]], book: AddressBook) -> None:
        self._offer: Final = offer
        self._known: Final = known
        self._book: Final = book
        self._seen: tuple[str, ...] = ()
        self._kept: frozenset[str] = frozenset()
        self._bans = Bans()
        self.disconnect: Callable[[str], None] = lambda _peer: None
        self.counters: Counter[str] = Counter()

    def known(self) -> frozenset[str]:
        """The engine's known peers and the bootstrap peers."""
        now = self._known()
        if now is not self._seen:  # the engine replaces the tuple when it learns of one
            self._seen, self._kept = now, frozenset(now) | self._book.bootstrap
        return self._kept or self._book.bootstrap

    def message(self, sender: str, message: Message) -> bool:
        """One message of ``sender``. False: not taken."""
        if type(message) is Heartbeat:
            self._book.learn(sender, message.addresses)
        if not self._offer(Received(0, sender, message)):
            self.count("engine_busy")
            return False
        self.count("received")
        return True

    def connected(self, peer: str) -> None:
        """A first connection to ``peer`` is up."""
        if not self._offer(PeerConnected(0, peer)):
            self.count("engine_busy")

    def banned(self, peer: str) -> bool:
        return self._bans.banned(peer, trio.current_time())

    def too_much(self, peer: str) -> None:
        """A message of an authenticated peer was refused for its rate."""
        self.count("gossip_limited")
        if self._bans.refused(peer, trio.current_time()):
            log.warning("peer disconnected", peer=peer, because="it floods")
            self.count("floods")
            self.disconnect(peer)

    def count(self, what: str, number: int = 1) -> None:
        self.counters[what] += number
