"""One gateway worker's process: ``python -m runtime.gateway.worker --channel FD --listen FD [--between FD] [--rqlite FD]``, started by
the node alone. ``--between``: the listening socket for the gateways of other nodes. ``--rqlite``: that for clients of rqlite.

The law kept here is that of the doors (P30): a worker lives no longer than its channel. End of file (the node died), a frame that
is none, or no lease for ``lease_s`` (the node is stopped) shut the doors at once, and then the process ends, at the latest a
moment after the drain; SIGTERM lets requests in flight end first. Nothing is left behind: a worker has no children and no files.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import resource
import signal
import socket
import ssl
import sys
import time
from typing import Any, Final, cast

import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from runtime import tls_pair
from runtime.gateway import tls, vetting
from runtime.gateway.allowances import Allowances
from runtime.gateway.app import Gateway
from runtime.gateway.callers import Callers
from runtime.gateway.channel import FrameReader, pack
from runtime.gateway.connection import Connection, Keeper
from runtime.gateway.doors import REPORT_S, Doors
from runtime.gateway.edge import edge
from runtime.gateway.forwarding import Forwarding
from runtime.gateway.frames import (
    Alive,
    Answer,
    Believe,
    ChannelBroken,
    Door,
    Forget,
    FromWorker,
    Keys,
    Lease,
    Leave,
    Names,
    Renewed,
    Routed,
    SealedCopy,
    WorkerJoined,
)
from runtime.gateway.hops import Hops, Routes
from runtime.gateway.listening import Listening
from runtime.gateway.log import Log
from runtime.gateway.member_port import App, MemberConnection, MemberPort
from runtime.gateway.queries import Queries
from runtime.gateway.sealed import Copies
from runtime.gateway.server import Server
from runtime.gateway.transfers import Exports
from runtime.gateway.upstream import Upstream
from runtime.gateway.waiting import Waiting
from runtime.gateway.worker_config import WorkerConfig

_ORPHANED_S = 0.3
"""How long requests in flight may still take when the node is gone. Short: the next node needs the listening socket's port."""
_LEAVE_S = 0.5
"""After the drain, for uvicorn to finish; then the process ends whatever still runs."""
_GRACE_S: Final = 0.2
"""After SIGTERM, how long a connection on which nothing happens is kept: who has just made one is answered."""


class _Channel(asyncio.Protocol):
    """The worker's end: frames are carried out in the callback that read them, so no query runs between two of them."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._worker.hear(frame)
        except ChannelBroken as error:
            self._worker.orphaned(f"the node's channel is broken: {error}")

    def eof_received(self) -> bool:
        self._worker.orphaned("the node is gone")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.orphaned(f"the node is gone ({exc})" if exc else "the node is gone")

    def send(self, frame: FromWorker | Alive) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(frame))


class Worker:
    """One worker, from its first frame to its end."""

    def __init__(
        self,
        channel: socket.socket,
        listener: socket.socket,
        between: socket.socket | None = None,
        rqlite: socket.socket | None = None,
    ) -> None:
        self._listener = listener
        self._between = between
        self._rqlite = rqlite
        self._socket = channel
        self._configured: asyncio.Future[WorkerConfig] = asyncio.get_running_loop().create_future()
        self._channel = _Channel(self)
        self._doors: Doors | None = None
        self._waiting: Waiting | None = None
        self._callers: Callers | None = None
        self._copies: Copies | None = None
        self._upstream: Upstream | None = None
        self._hops: Hops | None = None
        self._member_port: MemberPort | None = None
        self._urls: dict[str, str] = {}
        self._server: Server | None = None
        self._public: ssl.SSLContext | None = None
        self._log = Log("info", 0)
        self._ends_at = math.inf

    async def run(self) -> None:
        """Serve until the node ends, or ends this."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._channel, sock=self._socket)
        async with asyncio.timeout(10):  # a node that says nothing is none
            config = await self._configured
        self._log = Log(config.log_level, config.worker, access=config.access)
        self._doors = doors = Doors(config.worker, config.lease_s, self._channel.send, time.monotonic)
        routes = Routes(time.monotonic)
        self._waiting = Waiting(config, doors, routes, self._channel.send)
        self._copies = copies = Copies(config, doors, routes, self._channel.send)
        self._upstream = Upstream(config.connections)
        context = tls.client(config.identity, config.authority) if config.identity else None
        self._hops = hops = Hops(context, config.connections, time.monotonic)
        forwarding = Forwarding(config, hops)
        queries = Queries(config, doors, self._waiting, self._upstream, routes, forwarding, copies)
        exports = Exports(config, doors, queries, self._upstream, forwarding)
        self._callers = Callers(config, time.time)
        allowances = Allowances(config.requests_per_second, config.concurrent_requests, time.monotonic)
        gateway = Gateway(config, doors, self._waiting, queries, exports, self._callers, allowances, self._log)
        if config.certificate and self._public is None:
            self._public = tls_pair.context(tls_pair.Pair(config.certificate, config.key))
        serving = asyncio.Event()
        app = edge(gateway, config.origins)
        http = _uvicorn(app)
        self._server = server = Server(http, lambda state: self._listen(http, state, gateway, app, config), serving)
        loop.add_signal_handler(signal.SIGTERM, self._stop, config.drain_s)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C is the node's
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self._joined(serving, config.worker)),
                tasks.create_task(self._watch(doors, config.lease_s)),
            ]
            await server.serve()
            for helper in helpers:
                helper.cancel()
            copies.shut()

    def _listen(
        self, http: Config, state: ServerState, gateway: Gateway, app: App, config: WorkerConfig
    ) -> list[Listening]:
        """The socket for clients, and the one for other gateways if there is one."""
        patience, most = config.patience_s, config.client_connections

        def clients(socket: socket.socket, app: App) -> Listening:
            def make(keeper: Keeper) -> Connection:
                return Connection(http, state, app, patience, keeper)

            return Listening(socket, make, lambda: self._public, most, self._log)

        listening = [clients(self._listener, app)]
        if self._rqlite is not None:
            listening.append(clients(self._rqlite, gateway.rqlite))
        if self._between is not None:
            context = tls.server(config.identity, config.authority)
            self._member_port = port = MemberPort(gateway.between, patience)
            listening.append(
                Listening(
                    self._between,
                    lambda keeper: MemberConnection(port, http, state, keeper),
                    lambda: context,
                    most,
                    self._log,
                )
            )
        return listening

    async def _joined(self, serving: asyncio.Event, worker: int) -> None:
        await serving.wait()
        self._channel.send(WorkerJoined(worker))
        # What the first statement and the first log line need, without keeping the event loop from requests meanwhile.
        await asyncio.get_running_loop().run_in_executor(None, _import_the_rest)
        vetting.load()

    async def _watch(self, doors: Doors, lease_s: float) -> None:
        """The lease, and reports of use."""
        while True:
            await asyncio.sleep(min(REPORT_S, lease_s) / 4)
            if not doors.serving:
                self.orphaned(f"the node was not heard for {lease_s:g} s")
            doors.report()

    def hear(self, frame: object) -> None:
        """Carry out one frame of the node."""
        if isinstance(frame, WorkerConfig):
            if not self._configured.done():
                self._configured.set_result(frame)
            return
        if isinstance(frame, Renewed):  # it may come before we are ready, too
            self._public = tls_pair.context(tls_pair.Pair(frame.certificate, frame.key))
            return
        doors, waiting, callers, copies = self._doors, self._waiting, self._callers, self._copies
        if doors is None or waiting is None or callers is None or copies is None:  # leases may come before we are ready
            return
        doors.renew()
        match frame:
            case Lease():
                self._channel.send(Alive(doors.worker))
            case Door():
                if doors.tell(frame):
                    waiting.opened(frame.app, frame.name)
                    self._now_at(frame.incarnation, frame.url)
            case Forget():
                doors.forget(frame.incarnation)
                self._now_at(frame.incarnation, None)
            case Answer():
                waiting.answered(frame)
            case Routed():
                waiting.routed(frame)
            case SealedCopy():
                copies.told(frame)
            case Believe():
                self._believe(frame.fingerprints)
            case Keys():
                callers.told(frame)
            case Names():
                waiting.listed(frame)
            case Leave():
                self.end(frame.drain_s, frame.idle_s)
            case _:
                raise ChannelBroken(f"a {type(frame).__name__} goes the other way")

    def _believe(self, fingerprints: tuple[bytes, ...]) -> None:
        if self._hops is not None:
            self._hops.keep(fingerprints)
        if self._member_port is not None:
            self._member_port.believe(fingerprints)

    def _now_at(self, incarnation: str, url: str | None) -> None:
        """Close the connections to where the database was: its port may soon be another's."""
        before = self._urls.pop(incarnation, None)
        if url is not None:
            self._urls[incarnation] = url
        if before is not None and before != url and self._upstream is not None:
            self._upstream.retire(before)

    def _stop(self, drain_s: float) -> None:
        """The node stops: whoever asks where to send queries should go elsewhere."""
        if self._doors is not None:
            self._doors.stopping = True
        self.end(drain_s, _GRACE_S)

    def orphaned(self, because: str) -> None:
        """The node is gone, or may be: no query passes a door from now on, and the process ends."""
        if self._doors is not None:
            self._doors.shut()
        if self._waiting is not None:
            self._waiting.shut()
        if self._ends_at == math.inf:
            self._log.say("gateway worker ends", because=because)
        self.end(_ORPHANED_S, 0)

    def end(self, drain_s: float, idle_s: float) -> None:
        """Accept nothing new, let requests in flight end within ``drain_s``, and end the process. Again: what ends earlier counts."""
        loop = asyncio.get_running_loop()
        if loop.time() + drain_s >= self._ends_at:
            return
        self._ends_at = loop.time() + drain_s
        # Whatever hangs below, the process must not: an orphan would hold the listening port.
        loop.call_later(drain_s + _LEAVE_S, os._exit, 1)
        if self._server is None:
            os._exit(1)
        self._server.leave(drain_s, idle_s)


def _uvicorn(app: Any) -> Config:
    return Config(
        app,
        loop="none",  # we run in ours
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )


def _import_the_rest() -> None:
    import structlog  # noqa: F401  # pyright: ignore[reportUnusedImport]
    import syntaqlite  # noqa: F401  # pyright: ignore[reportUnusedImport]


def main() -> int:
    """The process."""
    options = argparse.ArgumentParser(prog="runtime.gateway.worker")
    options.add_argument("--channel", type=int, required=True)
    options.add_argument("--listen", type=int, required=True)
    options.add_argument("--between", type=int)
    options.add_argument("--rqlite", type=int)
    given = options.parse_args()
    channel, listener = socket.socket(fileno=given.channel), socket.socket(fileno=given.listen)
    between, rqlite = (None if fd is None else socket.socket(fileno=fd) for fd in (given.between, given.rqlite))
    channel.setblocking(False)
    # Each client, each database and each gateway takes a descriptor: what a shell allows by default (1024) is little.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def run() -> None:
        await Worker(channel, listener, between, rqlite).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
