"""Who may hold a connection. Laws: a peer has few places however often it dials, those without a proven identity have their own, and
most places are kept for peers that are known (F92): neither silent sockets nor one peer's hundred connections lock anyone out.

Nothing here touches libp2p: connections are handles that only the caller understands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from typing import Any, Final

from runtime.transport import bounds

Close = Callable[[], None]


class Refused(Exception):
    """A connection that may not be. The text says why."""


class Pending:
    """Connections under way: accepted, nothing proved yet."""

    def __init__(self) -> None:
        self._by_address: dict[str, deque[Close]] = {}
        self._count = 0

    @contextmanager
    def one(self, address: str, give_way: Close) -> Generator[None]:
        """One more from ``address``, for as long as the block lasts; ``give_way`` ends it early when others need the place."""
        while self._count >= bounds.PENDING:
            crowd = max(self._by_address, key=lambda each: len(self._by_address[each]))
            oldest = self._by_address[crowd][0]
            self._leave(crowd, oldest)
            oldest()
        self._by_address.setdefault(address, deque()).append(give_way)
        self._count += 1
        try:
            yield
        finally:
            self._leave(address, give_way)

    def _leave(self, address: str, close: Close) -> None:
        waiting = self._by_address.get(address)
        if waiting is not None and close in waiting:
            waiting.remove(close)
            self._count -= 1
            if not waiting:
                del self._by_address[address]

    def __len__(self) -> int:
        return self._count


class Places:
    """Connections of peers that proved who they are. ``known``: the peers that places are kept for, asked each time."""

    def __init__(self, most: int, known: Callable[[], Collection[str]]) -> None:
        self._most: Final = most
        self._strangers: Final = max(1, most // bounds.STRANGERS)
        self._known = known
        self._held: dict[Any, tuple[str, Close]] = {}  # in the order of their coming

    def enter(self, handle: Any, peer: str, close: Close) -> None:
        """Give a connection its place; others may have to give theirs up, each by its own ``close``. Raises :class:`Refused`."""
        known = self._known()
        own = [each for each, (whose, _) in self._held.items() if whose == peer]
        if len(own) >= bounds.CONNECTIONS_PER_PEER:
            self._give_up(own[0])
        elif peer not in known:
            strangers = sum(1 for whose, _ in self._held.values() if whose not in known)
            if strangers >= self._strangers or len(self._held) >= self._most:
                raise Refused(
                    f"{strangers} connections of unknown peers are open, the other places are kept for known ones"
                )
        elif len(self._held) >= self._most:
            self._give_up(self._least_missed(known))
        self._held[handle] = (peer, close)

    def leave(self, handle: Any) -> None:
        self._held.pop(handle, None)

    def handles(self) -> tuple[Any, ...]:
        """All connections that hold a place."""
        return tuple(self._held)

    def _least_missed(self, known: Collection[str]) -> Any:
        """A stranger's, or a second one of somebody's; who has neither keeps its only place."""
        counts: dict[str, int] = {}
        for whose, _ in self._held.values():
            counts[whose] = counts.get(whose, 0) + 1
        for handle, (whose, _) in self._held.items():
            if whose not in known:
                return handle
        for handle, (whose, _) in self._held.items():
            if counts[whose] > 1:
                return handle
        raise Refused(f"all {self._most} connections of node.max_connections are in use")

    def _give_up(self, handle: Any) -> None:
        _, close = self._held.pop(handle)
        close()

    def __len__(self) -> int:
        return len(self._held)
