"""The node's side of its gateway workers, on trio: one listening socket (and a second one for other nodes' gateways), N processes, a channel to each. The laws kept here:

- A worker has left only when its process was reaped: until then it may still hold a door open (P30).
- A worker that does not read its channel (stopped, stuck, or flooded) is killed: the votes of every database wait for its
  acknowledgements (F56), and a start for the end of its readers (P34).
- Numbers of workers are never used twice within a process, so no late frame speaks for a successor.
- A restart takes a worker away only when its successor serves; one whose successor does not come to serve stays.
- Nothing is left behind: whatever ends :meth:`GatewayHost.run`, its workers get SIGTERM, a deadline, SIGKILL, and are reaped.

The host keeps no doors: on WorkerJoined the engine tells the newcomer those that are open.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

import attrs
import structlog
import trio
from attrs import define, field

from runtime.gateway.bind import bound
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
    Key,
    Keys,
    Lease,
    Leave,
    ListNames,
    Names,
    Problem,
    ReadSealed,
    Renewed,
    Request,
    Routed,
    SealedAck,
    SealedCopy,
    ToWorker,
    Used,
    WorkerJoined,
    WorkerLeft,
    worker_of,
)
from runtime.gateway.process import WorkerProcess, reap, start
from runtime.gateway.public_tls import PublicTls
from runtime.gateway.worker_config import WorkerConfig
from runtime.settings import Address
from runtime.tls_pair import Pair

LEASE_PERIOD_S: Final = 1.0
STARTUP_S: Final = 30.0
"""A worker that does not serve after so long is killed."""
SILENCE_S: Final = 10.0
"""A serving worker that answers no lease for so long is killed."""
REVOKE_S: Final = 1.0
"""A worker that has not closed a sealed copy after so long is killed: a start waits for it."""
KILL_MARGIN_S: Final = 1.0
"""After a worker's own drain."""
IDLE_S: Final = 5.0
"""In a restart, how long a worker that leaves keeps connections on which nothing happens."""
_FIRST_BACKOFF_S: Final = 0.1
_LONGEST_BACKOFF_S: Final = 5.0

log = structlog.stdlib.get_logger("gateway")


class NotRestarted(Exception):
    """The workers are not all new ones; one line: why. Those that are not serve on."""


@define(eq=False)
class _Restart:
    ended: trio.Event = field(factory=trio.Event)
    because: str = "the gateway was stopped meanwhile"
    """Why not all workers are new ones."""


@define(eq=False)
class _Place:
    """What keeps one worker running, and starts the next when it ends, until it is left to a successor."""

    worker: WorkerProcess | None = None
    settled: trio.Event = field(factory=trio.Event)
    """Its first worker serves, or has ended."""
    left: trio.Event = field(factory=trio.Event)
    scope: trio.CancelScope = field(factory=trio.CancelScope)


@define(eq=False)
class GatewayHost:
    """All gateway workers of a node. ``listen``: ``host:port`` (port 0: any free one). ``between``: the bound listening socket for other
    nodes' gateways; None: queries of theirs are not taken. ``rqlite``: the one for clients of rqlite; None: there is none. Both are closed by this object. ``tls``: what clients are shown; None: plain HTTP.
    ``stderr``: a descriptor, where workers write their log; None: our standard error. ``longest_s``: what a request in flight may still take when its worker leaves to a successor. ``deliver`` is called with every frame, in the order
    of each worker; it must not block, and may call the methods of this object."""

    listen: str
    workers: int
    config: WorkerConfig
    deliver: Callable[[FromWorker], None]
    between: socket.socket | None = None
    rqlite: socket.socket | None = None
    tls: PublicTls | None = None
    longest_s: float = 60.0
    stderr: int | None = None
    url: str = field(default="", init=False)
    """Where it serves, once it does."""
    rqlite_url: str = field(default="", init=False)
    """Where it serves clients of rqlite, if it does."""
    _running: dict[int, WorkerProcess] = field(factory=dict[int, WorkerProcess], init=False)
    _started: int = field(default=0, init=False)
    _places: list[_Place] = field(factory=list[_Place], init=False)
    _nursery: trio.Nursery | None = field(default=None, init=False)
    _restart: _Restart | None = field(default=None, init=False)
    _listener: socket.socket | None = field(default=None, init=False)
    _stopping: trio.Event = field(factory=trio.Event, init=False)
    _idle: trio.Event = field(factory=trio.Event, init=False)

    async def run(self, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED) -> None:
        """Bind, report (host, port), keep the workers running until :meth:`stop_accepting` or cancellation; all are gone then. Raises
        :class:`GatewayFailed` when the address cannot be bound."""
        try:
            listener = await bound(self.listen, "gateway.listen")
        except BaseException:
            self._close()
            raise
        try:
            async with trio.open_nursery() as watching:
                if self.tls is not None:
                    self._show(self.tls.pair)
                    watching.start_soon(self.tls.watch, self._show)
                self._listener = listener
                async with trio.open_nursery() as self._nursery:
                    for _ in range(self.workers):
                        self._keep_another()
                    host, port = listener.getsockname()[:2]
                    self.url = self._url(listener)
                    self.rqlite_url = "" if self.rqlite is None else self._url(self.rqlite)
                    task_status.started((host, port))
                watching.cancel_scope.cancel()
        finally:
            self._nursery = None
            listener.close()
            self._close()
            self._idle.set()

    def _url(self, listener: socket.socket) -> str:
        return f"{'http' if self.tls is None else 'https'}://{Address(*listener.getsockname()[:2])}"

    def _close(self) -> None:
        for each in (self.between, self.rqlite):
            if each is not None:
                each.close()

    async def restart(self) -> int:
        """Put a new worker in the place of each, one after another; gives their number, once all new ones serve. Those that leave end
        meanwhile what they have begun. While one restart is under way, another is the same. Raises :class:`NotRestarted`."""
        if self._nursery is None or self._stopping.is_set():
            raise NotRestarted("the gateway is stopping")
        if self._restart is None:
            self._restart = _Restart()
            self._nursery.start_soon(self._replace_all, self._restart)  # not our caller's task, who may give up waiting
        restart = self._restart
        await restart.ended.wait()
        if restart.because:
            raise NotRestarted(restart.because)
        return self.workers

    async def _replace_all(self, restart: _Restart) -> None:
        try:
            for place in list(self._places):
                successor = self._keep_another()
                with trio.move_on_after(STARTUP_S):
                    await successor.settled.wait()
                if successor.worker is None or not successor.worker.joined:
                    self._places.remove(successor)
                    successor.scope.cancel()
                    if not self._stopping.is_set():
                        restart.because = "a new worker did not come to serve, see the log; those before it serve on"
                    return
                self._leave(place)
            restart.because = ""
            log.info("gateway workers restarted", workers=self.workers)
        finally:
            self._restart = None
            restart.ended.set()

    def _leave(self, place: _Place) -> None:
        """Its successor serves."""
        self._places.remove(place)
        place.left.set()
        worker = place.worker
        if worker is None:  # it ended, the next one is not started yet
            place.scope.cancel()
        elif worker.joined:
            self._queue(worker, pack(Leave(self.longest_s, IDLE_S)))
        else:
            worker.process.terminate()

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

    def keys(self, worker: int | None, keys: tuple[Key, ...], *, complete: bool) -> None:
        """Tell one worker, or all, of API keys."""
        self._tell(worker, Keys(keys, complete))

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

    def _queue(self, worker: WorkerProcess, data: bytes) -> None:
        try:
            worker.outgoing.send_nowait(data)
        except trio.WouldBlock:
            log.warning("gateway worker killed", worker=worker.number, because="it does not read its channel")
            worker.process.kill()
        except trio.BrokenResourceError:
            pass  # it is ending: WorkerLeft follows

    def _show(self, pair: Pair) -> None:
        """This certificate, to every worker: those that run, those that start, and those that will."""
        self.config = attrs.evolve(self.config, certificate=pair.certificate, key=pair.key)
        renewed = pack(Renewed(pair.certificate, pair.key))
        for worker in self._running.values():
            self._queue(worker, renewed)

    def _keep_another(self) -> _Place:
        assert self._nursery is not None
        place = _Place()
        self._places.append(place)
        self._nursery.start_soon(self._keep_one, place)
        return place

    async def _keep_one(self, place: _Place) -> None:
        backoff = _FIRST_BACKOFF_S
        with place.scope:
            while not self._stopping.is_set() and not place.left.is_set():
                began = trio.current_time()
                code = await self._one(place)
                if self._stopping.is_set() or place.left.is_set():
                    return
                lasted = trio.current_time() - began
                backoff = _FIRST_BACKOFF_S if lasted > _LONGEST_BACKOFF_S else min(2 * backoff, _LONGEST_BACKOFF_S)
                log.warning("gateway worker ended", exit_code=code, lasted_s=round(lasted, 3), next_in_s=backoff)
                with trio.move_on_after(backoff):
                    await self._stopping.wait()

    async def _one(self, place: _Place) -> int | None:
        """One worker, from its start until it was reaped; its exit code."""
        self._started += 1
        worker = place.worker = await start(self._started, self._sockets(), self.stderr)
        self._running[worker.number] = worker
        self._queue(worker, pack(attrs.evolve(self.config, worker=worker.number)))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, worker)
                nursery.start_soon(self._read, worker, place)
                nursery.start_soon(self._lease, worker)
                if self._stopping.is_set():  # began while the stop was asked for
                    worker.process.terminate()
                nursery.start_soon(self._kill_when_late, worker, self._stopping, self.config.drain_s)
                nursery.start_soon(self._kill_when_late, worker, place.left, self.longest_s)
                await worker.process.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await reap(worker.process, self.config.drain_s + KILL_MARGIN_S)
                await worker.stream.aclose()
            del self._running[worker.number]
            place.worker = None
            place.settled.set()
            if worker.joined:
                self.deliver(WorkerLeft(worker.number))
        return worker.process.returncode

    def _sockets(self) -> dict[str, socket.socket]:
        """By the names of the worker's options."""
        given = {"listen": self._listener, "between": self.between, "rqlite": self.rqlite}
        return {name: each for name, each in given.items() if each is not None}

    async def _kill_when_late(self, worker: WorkerProcess, told: trio.Event, drain_s: float) -> None:
        await told.wait()
        await trio.sleep(drain_s + KILL_MARGIN_S)
        worker.process.kill()

    async def _write(self, worker: WorkerProcess) -> None:
        try:
            async for data in worker.pending:
                await worker.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            worker.process.kill()

    async def _read(self, worker: WorkerProcess, place: _Place) -> None:
        reader = FrameReader()
        try:
            while data := await worker.stream.receive_some():
                for frame in reader.feed(data):
                    self._hear(worker, place, frame)
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

    def _hear(self, worker: WorkerProcess, place: _Place, frame: Any) -> None:
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
            place.settled.set()
            log.debug("gateway worker serves", worker=worker.number, pid=worker.process.pid)
        self.deliver(frame)

    async def _lease(self, worker: WorkerProcess) -> None:
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
