"""The connections to one server: how many at one time, and which are idle. The law kept here: who waits for a turn gets it before who comes later, and a
turn is never lost, whoever gives up waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque

from attrs import define, field

from runtime.gateway.upstream_connection import Connection


@define(eq=False)
class Pool:
    """``most``: turns at one time; who has one has a connection, or is about to. ``idle_s``: a connection that was idle for longer is not used
    again."""

    url: str
    host: str
    port: int
    most: int
    idle_s: float
    idle: list[Connection] = field(factory=list[Connection], init=False)
    _taken: int = field(default=0, init=False)
    _waiting: deque[asyncio.Future[None]] = field(factory=deque[asyncio.Future[None]], init=False)

    def at_hand(self, now: float) -> Connection | None:
        """A turn with an idle connection, if there is nothing to wait for."""
        if not self.idle or self._taken >= self.most:
            return None
        connection = self.last_idle(now)
        if connection is not None:
            self._taken += 1
        return connection

    def last_idle(self, now: float) -> Connection | None:
        """For who has a turn already: an idle connection that is of use."""
        while self.idle:
            connection = self.idle.pop()
            if connection.reusable and now - connection.idle_since <= self.idle_s:
                return connection
            connection.abort()
        return None

    async def turn(self) -> None:
        """Wait for a turn."""
        if self._taken < self.most:  # nobody waits: a turn that ends goes to who does
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn  # whose it was leaves it to us
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(turn)
            else:
                self.leave()
            raise

    def leave(self) -> None:
        """The turn is over: it goes to whoever waits for longest."""
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
                self._waiting.remove(turn)
                return
        self._taken -= 1
