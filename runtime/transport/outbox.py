"""What waits to be sent to one peer, or to all. Law: the engine never waits for the network, so what does not fit goes, oldest first;
loss is the protocol's business, and it is counted.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from protocol.messages import Message


class Outbox:
    """A bounded queue of messages with the time of each. ``put`` never waits."""

    def __init__(self, most: int, stale: float) -> None:
        self._most: Final = most
        self._stale: Final = stale
        self._waiting: deque[tuple[float, Message]] = deque()
        self._arrived = trio.Event()
        self.dropped = 0

    def put(self, message: Message, now: float) -> None:
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append((now, message))
        self._arrived.set()

    async def get(self) -> Message:
        """The oldest message that is not stale. A checkpoint."""
        await trio.lowlevel.checkpoint()
        while (message := self.ready(trio.current_time())) is None:
            self._arrived = trio.Event()
            await self._arrived.wait()
        return message

    def ready(self, now: float) -> Message | None:
        """The same without waiting: None when nothing is there."""
        while self._waiting:
            at, message = self._waiting.popleft()
            if now - at <= self._stale:
                return message
            self.dropped += 1
        return None

    def __len__(self) -> int:
        return len(self._waiting)
