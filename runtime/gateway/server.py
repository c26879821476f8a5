"""uvicorn as a worker runs it: our own listening, and an end that loses nothing. The laws kept here:

- Who leaves takes no connection more, answers what is in flight and what comes on the connections that it has, and tells each with
  its last answer that it is the last.
- A connection on which nothing is on its way is ended only after ``idle_s``: whoever uses one sends within that time, is answered,
  and goes elsewhere by itself.
- All of it ends: at the deadline whatever still runs is cut off. A shorter deadline may follow a longer one, never the reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import Callable, Generator, Sequence
from typing import Final

from uvicorn.config import Config
from uvicorn.server import Server as UvicornServer
from uvicorn.server import ServerState

from runtime.gateway.listening import Listening

_POLL_S: Final = 0.02
"""While it leaves."""


class Server(UvicornServer):
    """``listen``: what to listen on, made when it starts. ``serving``: set once it does."""

    def __init__(
        self, config: Config, listen: Callable[[ServerState], Sequence[Listening]], serving: asyncio.Event
    ) -> None:
        super().__init__(config)
        self._listen = listen
        self._serving = serving
        self._listening: Sequence[Listening] = ()
        self._idle_until = self._until = math.inf
        # What it says of requests, in plain text, is said by our own log.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """None: those are the worker's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Begin to take connections, unless it is to end already."""
        await super().startup([])
        if self.should_exit:
            return
        self._listening = self._listen(self.server_state)
        for each in self._listening:
            each.start()
        self._serving.set()

    def leave(self, drain_s: float, idle_s: float) -> None:
        """End: at once with the taking of connections, after ``idle_s`` with those that are idle, after ``drain_s`` with all."""
        now = asyncio.get_running_loop().time()
        self._idle_until = min(self._idle_until, now + idle_s)
        self._until = min(self._until, now + drain_s)
        self.should_exit = True
        for each in self._listening:
            each.leave()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """After :meth:`leave`."""
        loop = asyncio.get_running_loop()
        while (self.server_state.tasks or any(each.busy for each in self._listening)) and loop.time() < self._until:
            if loop.time() >= self._idle_until:
                for each in self._listening:
                    each.close_idle()
            await asyncio.sleep(_POLL_S)
        for each in self._listening:
            each.abort()
        for task in self.server_state.tasks:
            task.cancel()
