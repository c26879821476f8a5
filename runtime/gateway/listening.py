"""How a worker takes connections from a listening socket that all workers of its node share. The laws kept here:

- What was taken is served: who stops taking stops between two connections, and every one that was taken before, its handshake included,
  is counted until it ends. The others stay in the socket's queue, which belongs to the node and outlives every worker.
- Connections are bounded: beyond, the one that is idle for longest makes room, else the newcomers wait in that queue.
- Each handshake is made with the certificate of the moment.

asyncio's own servers are not used, since they take until they are closed, and do not tell what they have taken.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

from runtime.gateway.connection import Connection, Keeper
from runtime.gateway.log import Log

HANDSHAKE_S: Final = 5.0
GOODBYE_S: Final = 2.0
"""For the other side's end of a TLS connection that we end."""
LOOK_S: Final = 1.0
"""Between two looks at what is slow."""
SPARED_S: Final = 1.0
"""A connection that is idle for less does not make room: its request may be on its way."""
_AT_ONCE: Final = 16
"""Connections taken before anything else runs."""
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listening:
    """One listening socket. ``make``: a connection that this object counts. ``context``: that of the next
    handshake; None: no TLS. ``most``: connections."""

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[Keeper], Connection],
        context: Callable[[], ssl.SSLContext | None],
        most: int,
        log: Log,
    ) -> None:
        self._listener = listener
        self._make = make
        self._context = context
        self._most = most
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()
        self._taking = self._leaving = False
        self._tick: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take connections from now on."""
        self._resume()
        self._look()

    @property
    def busy(self) -> bool:
        """There are connections, or there will be."""
        return bool(self._opening or self._open)

    def leave(self) -> None:
        """Take no connection more; those that are there get their last answers."""
        self._leaving = True
        self._pause()
        for connection in self._open:
            connection.leave()

    def close_idle(self) -> None:
        """After :meth:`leave`: end the connections on which nothing is on its way."""
        for connection in [one for one in self._open if one.idle]:
            connection.transport.close()

    def abort(self) -> None:
        """End whatever is left."""
        if self._tick is not None:
            self._tick.cancel()
        for task in self._opening:
            task.cancel()
        for connection in list(self._open):
            connection.transport.abort()

    def _resume(self) -> None:
        if not self._taking and not self._leaving:
            self._taking = True
            self._loop.add_reader(self._listener.fileno(), self._take)

    def _pause(self) -> None:
        if self._taking:
            self._taking = False
            self._loop.remove_reader(self._listener.fileno())

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._room():
                return
            try:
                taken, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):  # another worker took it, or it left
                return
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._log.say("no connection taken", because=error.strerror, connections=len(self._open))
                self._pause()  # until the next look
                return
            task = self._loop.create_task(self._serve(taken))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _room(self) -> bool:
        if len(self._open) + len(self._opening) < self._most:
            return True
        before = self._loop.time() - SPARED_S
        idle = min(
            (one for one in self._open if one.idle and one.since <= before), key=lambda one: one.since, default=None
        )
        if idle is not None and not idle.transport.is_closing():
            idle.transport.close()
        self._pause()  # until one has ended, or the next look
        return False

    async def _serve(self, taken: socket.socket) -> None:
        context = self._context()
        try:
            if context is None:
                await self._loop.connect_accepted_socket(self._one, taken)
            else:
                await self._loop.connect_accepted_socket(
                    self._one,
                    taken,
                    ssl=context,
                    ssl_handshake_timeout=HANDSHAKE_S,
                    ssl_shutdown_timeout=GOODBYE_S,
                )
        except OSError as error:  # of TLS too: a stranger that speaks something else, or hung up
            self._log.debug("no connection made", because=str(error))

    def _one(self) -> Connection:
        return self._make(self)

    def began(self, connection: Connection) -> None:
        """A connection is made, its handshake over."""
        self._open.add(connection)
        if self._leaving:
            connection.leave()

    def ended(self, connection: Connection) -> None:
        """A connection is lost."""
        self._open.discard(connection)
        if not self._leaving:
            self._resume()

    def _look(self) -> None:
        now = self._loop.time()
        for connection in list(self._open):
            connection.look(now)
        self._resume()
        self._tick = self._loop.call_later(LOOK_S, self._look)
