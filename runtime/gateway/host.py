"""The node's side of its gateway workers, on trio: one listening socket (and a second one for other nodes' gateways), N processes, a channel to each. The laws kept here:

- A worker has left only when its process was reaped: until then it may still hold a door open (P30).
- A worker that does not read its channel (stopped, stuck, or flooded) is killed: the votes of every database wait for its
  acknowledgements (F56), and a start for the end of its readers (P34).
- Numbers of workers are never used twice within a process, so no late frame speaks for a successor.
- Nothing is left behind: whatever ends :meth:`GatewayHost.run`, its workers get SIGTERM, a deadline, SIGKILL, and are reaped.

The host keeps no doors: on WorkerJoined the engine tells the newcomer those that are open.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import structlog
import trio
from attrs import define, field

from runtime.gateway.channel import FrameReader, pack
from runtime.gateway.frames import (
    Alive,
    Answer,
    Ask,
    Believe,
    ChannelBroken,
    Door,
    DoorAck,
    Forget,
    FromWorker,
    Hop,
    Lease,
    ListNames,
    Names,
    Problem,
    ReadSealed,
    Request,
    Routed,
    SealedAck,
    SealedCopy,
    ToWorker,
    Used,
    WorkerConfig,
    WorkerJoined,
    WorkerLeft,
    worker_of,
)
from runtime.settings import Address

QUEUE: Final = 10_000
"""Frames that may wait for one worker."""
LEASE_PERIOD_S: Final = 1.0
STARTUP_S: Final = 30.0
"""A worker that does not serve after so long is killed."""
SILENCE_S: Final = 10.0
"""A serving worker that answers no lease for so long is killed."""
REVOKE_S: Final = 1.0
"""A worker that has not closed a sealed copy after so long is killed: a start waits for it."""
KILL_MARGIN_S: Final = 1.0
"""After a worker's own drain."""
PORT_RETRY_S: Final = 2.0
"""How long a taken port is tried again: workers of a killed node hold it for the moment that they need to notice."""
_FIRST_BACKOFF_S: Final = 0.1
_LONGEST_BACKOFF_S: Final = 5.0
_BACKLOG: Final = 2048

log = structlog.stdlib.get_logger("gateway")


class GatewayFailed(Exception):
    """The gateway cannot start; the text is one line that names the cause and what to do (R61)."""


@define(eq=False)
class _Worker:
    number: int
    process: trio.Process
    stream: trio.SocketStream
    outgoing: trio.MemorySendChannel[bytes]
    pending: trio.MemoryReceiveChannel[bytes]
    heard: float
    joined: bool = False
    closing: dict[str, tuple[int, float]] = field(factory=dict[str, tuple[int, float]])
    """Incarnation → the generation under which its sealed copy was closed, and when; until it has no reader any more."""


@define(eq=False)
class GatewayHost:
    """All gateway workers of a node. ``listen``: ``host:port`` (port 0: any free one). ``between``: the bound listening socket for other
    nodes' gateways, which this object closes; None: queries of theirs are not taken. ``deliver`` is called with every frame, in the order
    of each worker; it must not block, and may call the methods of this object."""

    listen: str
    workers: int
    config: WorkerConfig
    deliver: Callable[[FromWorker], None]
    between: socket.socket | None = None
    url: str = field(default="", init=False)
    """Where it serves, once it does."""
    _running: dict[int, _Worker] = field(factory=dict[int, _Worker], init=False)
    _started: int = field(default=0, init=False)
    _stopping: trio.Event = field(factory=trio.Event, init=False)
    _idle: trio.Event = field(factory=trio.Event, init=False)

    async def run(self, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED) -> None:
        """Bind, report (host, port), keep the workers running until :meth:`stop_accepting` or cancellation; all are gone then. Raises
        :class:`GatewayFailed` when the address cannot be bound."""
        try:
            listener = await bound(self.listen, "gateway.listen")
        except BaseException:
            if self.between is not None:
                self.between.close()
            raise
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self.workers):
                    nursery.start_soon(self._keep_one, listener)
                host, port = listener.getsockname()[:2]
                self.url = f"http://{Address(host, port)}"
                task_status.started((host, port))
        finally:
            listener.close()
            if self.between is not None:
                self.between.close()
            self._idle.set()

    async def stop_accepting(self) -> None:
        """SIGTERM to every worker: none accepts a connection from now on, requests in flight end within the drain (the node should
        still answer their questions), then SIGKILL. Returns when all are reaped."""
        self._stopping.set()
        for worker in self._running.values():
            worker.process.terminate()
        await self._idle.wait()

    def door(
        self,
        worker: int | None,
        *,
        incarnation: str,
        app: str,
        name: str,
        generation: int,
        open: bool,
        url: str,
    ) -> None:
        """Tell one worker, or all that have joined (None), of a door. → DoorAck from each."""
        self._tell(worker, Door(incarnation, app, name, generation, open, url))

    def forget(self, incarnation: str) -> None:
        """Tell all workers that this database has no door here any more."""
        self._tell(None, Forget(incarnation))

    def answer(self, request: Request, *, error: Problem | None) -> None:
        """End an Ask: None after its door was opened with :meth:`door`, else the cause. A worker that left needs no answer."""
        self._tell(worker_of(request), Answer(request, *(() if error is None else (error.type, error.detail))))

    def route(self, request: Request, app: str, name: str, hops: tuple[Hop, ...]) -> None:
        """End an Ask: other nodes serve the database, through these gateways."""
        self._tell(worker_of(request), Routed(request, app, name, hops))

    def believe(self, worker: int | None, fingerprints: tuple[bytes, ...]) -> None:
        """Tell one worker, or all, whose queries to take."""
        self._tell(worker, Believe(fingerprints))

    def sealed_copy(self, worker: int, copy: SealedCopy) -> None:
        """Tell one worker of a sealed copy. → SealedAck when that closes it."""
        told = self._running.get(worker)
        if told is not None and copy.incarnation and not copy.open:
            told.closing[copy.incarnation] = (copy.generation, trio.current_time())
        self._tell(worker, copy)

    def names(self, request: Request, names: list[str]) -> None:
        """End a ListNames."""
        self._tell(worker_of(request), Names(request, tuple(names)))

    def _tell(self, number: int | None, frame: ToWorker) -> None:
        data = pack(frame)
        told = self._running.values() if number is None else filter(None, [self._running.get(number)])
        for worker in told:
            if worker.joined:
                self._queue(worker, data)

    def _queue(self, worker: _Worker, data: bytes) -> None:
        try:
            worker.outgoing.send_nowait(data)
        except trio.WouldBlock:
            log.warning("gateway worker killed", worker=worker.number, because="it does not read its channel")
            worker.process.kill()
        except trio.BrokenResourceError:
            pass  # it is ending: WorkerLeft follows

    async def _keep_one(self, listener: socket.socket) -> None:
        backoff = _FIRST_BACKOFF_S
        while not self._stopping.is_set():
            began = trio.current_time()
            code = await self._one(listener)
            if self._stopping.is_set():
                return
            lasted = trio.current_time() - began
            backoff = _FIRST_BACKOFF_S if lasted > _LONGEST_BACKOFF_S else min(2 * backoff, _LONGEST_BACKOFF_S)
            log.warning("gateway worker ended", exit_code=code, lasted_s=round(lasted, 3), next_in_s=backoff)
            with trio.move_on_after(backoff):
                await self._stopping.wait()

    async def _one(self, listener: socket.socket) -> int | None:
        """One worker, from its start until it was reaped; its exit code."""
        self._started += 1
        worker = await _start(self._started, listener, self.between)
        self._running[worker.number] = worker
        self._queue(worker, pack(attrs.evolve(self.config, worker=worker.number)))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, worker)
                nursery.start_soon(self._read, worker)
                nursery.start_soon(self._lease, worker)
                if self._stopping.is_set():  # began while the stop was asked for
                    worker.process.terminate()
                nursery.start_soon(self._kill_when_late, worker)
                await worker.process.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await _reap(worker.process, self.config.drain_s + KILL_MARGIN_S)
                await worker.stream.aclose()
            del self._running[worker.number]
            if worker.joined:
                self.deliver(WorkerLeft(worker.number))
        return worker.process.returncode

    async def _kill_when_late(self, worker: _Worker) -> None:
        await self._stopping.wait()
        await trio.sleep(self.config.drain_s + KILL_MARGIN_S)
        worker.process.kill()

    async def _write(self, worker: _Worker) -> None:
        try:
            async for data in worker.pending:
                await worker.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            worker.process.kill()

    async def _read(self, worker: _Worker) -> None:
        reader = FrameReader()
        try:
            while data := await worker.stream.receive_some():
                for frame in reader.feed(data):
                    self._hear(worker, frame)
            because = "it closed its channel"
        except ChannelBroken as error:
            because = f"its channel is broken: {error}"
        except trio.BrokenResourceError:
            because = "its channel is broken"
        # A worker that ends closes the channel too, a moment before it can be reaped.
        with trio.move_on_after(KILL_MARGIN_S):
            await worker.process.wait()
        if worker.process.returncode is None:
            log.warning("gateway worker killed", worker=worker.number, because=because)
            worker.process.kill()

    def _hear(self, worker: _Worker, frame: Any) -> None:
        if not isinstance(frame, Alive | WorkerJoined | Ask | ListNames | ReadSealed | SealedAck | DoorAck | Used):
            raise ChannelBroken(f"a {type(frame).__name__} goes the other way")
        if frame.worker != worker.number:
            raise ChannelBroken("it speaks for another worker")
        worker.heard = trio.current_time()
        if isinstance(frame, Alive):
            return
        if isinstance(frame, SealedAck) and not frame.in_flight:
            if worker.closing.get(frame.incarnation, (frame.generation + 1, 0.0))[0] <= frame.generation:
                del worker.closing[frame.incarnation]
        if isinstance(frame, WorkerJoined):
            worker.joined = True
            log.debug("gateway worker serves", worker=worker.number, pid=worker.process.pid)
        self.deliver(frame)

    async def _lease(self, worker: _Worker) -> None:
        lease = pack(Lease())
        while True:
            self._queue(worker, lease)
            await trio.sleep(min(LEASE_PERIOD_S, self.config.lease_s / 4))
            silent = trio.current_time() - worker.heard
            if silent > (SILENCE_S if worker.joined else STARTUP_S):
                log.warning("gateway worker killed", worker=worker.number, because=f"silent for {silent:.1f} s")
                worker.process.kill()
            if any(trio.current_time() - since > REVOKE_S for _, since in worker.closing.values()):
                log.warning("gateway worker killed", worker=worker.number, because="a start waits for its readers")
                worker.process.kill()


async def _start(number: int, listener: socket.socket, between: socket.socket | None) -> _Worker:
    """Start a worker's process. It inherits its sockets and nothing else; its session is its own, so that Ctrl-C reaches the node alone."""
    ours, theirs = socket.socketpair()
    try:
        fds = [theirs.fileno(), listener.fileno()]
        command = [sys.executable, "-m", "runtime.gateway.worker", "--channel", str(fds[0]), "--listen", str(fds[1])]
        if between is not None:
            fds.append(between.fileno())
            command += ["--between", str(fds[2])]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, pass_fds=fds, start_new_session=True, env=_environment()
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    outgoing, pending = trio.open_memory_channel[bytes](QUEUE)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    return _Worker(number, process, stream, outgoing, pending, trio.current_time())


def _environment() -> dict[str, str]:
    """Ours, with the place from which this file was imported first: a worker is of its node's release."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


async def _reap(process: trio.Process, deadline_s: float) -> None:
    """SIGTERM, SIGKILL after the deadline; returns when the process was waited for."""
    if process.returncode is None:
        process.terminate()
        with trio.move_on_after(deadline_s):
            await process.wait()
        process.kill()
        await process.wait()


async def bound(listen: str, setting: str) -> socket.socket:
    """A listening socket, at what the setting of that name says. Raises :class:`GatewayFailed`."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise GatewayFailed(f"{setting} {listen!r} is no host:port")
    began = trio.current_time()
    while True:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, int(port)))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            taken = error.errno == errno.EADDRINUSE
            if not taken:
                raise GatewayFailed(f"the gateway cannot listen on {listen}: {error.strerror}") from error
            if trio.current_time() - began > PORT_RETRY_S:
                raise GatewayFailed(
                    f"the gateway cannot listen on {listen}: the port is taken; stop its user, or set {setting}"
                ) from error
            await trio.sleep(0.05)
        else:
            return listener


def reached_at(listener: socket.socket, host: str) -> str:
    """``host:port`` of a bound socket for other nodes: ``host`` is the machine's name where it listens on every address."""
    address, port = listener.getsockname()[:2]
    name = host if ipaddress.ip_address(address).is_unspecified else address
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
