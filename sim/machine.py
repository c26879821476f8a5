"""A machine: its system, its disk, its node's process with the gateway workers, and the rqlited processes, which outlive a
killed node (F61). The law kept here is who dies with whom: a machine takes everything, a node its workers (by the end of
their channel) and nothing else, a worker or an rqlited only itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import frozen

from protocol.chart import Chart
from protocol.effects import Start, Write
from protocol.ids import DatabaseName, InvalidName
from protocol.inputs import Cause
from protocol.limits import SECOND
from protocol.node import Config
from sim import timings
from sim.checks import Checks
from sim.disk import Copy, Disk
from sim.gateway import Worker
from sim.host import FOREIGN, Host
from sim.process import NodeProcess
from sim.rqlite import Rqlited
from sim.streams import between

if TYPE_CHECKING:
    from sim.world import World


@frozen
class Settings:
    """How one machine is set up. Ranges are first and last port; times in µs."""

    config: Config
    workers: int = 1
    http_ports: tuple[int, int] = (5001, 5999)
    raft_ports: tuple[int, int] = (7001, 7999)
    heartbeat: int = timings.HEARTBEAT
    binary: bool = True
    swarm: str = ""
    """The private network's key: who has another one is never heard."""
    founds: bool = True
    """Its first boot founds the cluster (P60); the others listen."""
    late: bool = False
    """Not started with the rest."""
    offset: int = 0
    drift: int = 0
    """This machine's clock: ahead by ``offset`` µs from the beginning, and by ``drift`` µs more in every second."""


class Machine:
    def __init__(self, world: World, name: str, settings: Settings, chart: Chart) -> None:
        self.world = world
        self.name = name
        self.settings = settings
        self.schedule = world.schedule
        self.streams = world.streams
        self.trace = world.trace
        self.moments = world.moments
        self.checks: Checks = world.checks
        self.disk = Disk(world.streams["disk"])
        self.disk.on_durable = self._durable
        self.host = Host(world.schedule, world.streams["rqlite"], self.disk, settings.binary, settings.heartbeat)
        self.host.name, self.host.groups = name, world.groups
        self.founds = settings.founds
        """Nothing of the cluster that it founds is durable yet."""
        self.processes: dict[int, Rqlited] = {}
        """Pid → every rqlited that runs on this machine, whoever started it."""
        self.started: dict[str, int] = {}
        """Internal name → how often an rqlited was started for it."""
        self.workers: dict[int, Worker] = {}
        """Number → every worker process that lives, joined or not."""
        self.accepting: list[Worker] = []
        """Workers that take a new connection now."""
        self.node: NodeProcess | None = None
        self.copy: Copy | None = None
        """The last snapshot of its disk that somebody took."""
        self.robbed = False
        """Its disk was lost, or put back to an earlier state: what it held may be gone for good (``sim.lost``)."""
        self.halted = False
        """Its node was ended for good."""
        self.remembered: dict[str, tuple[type, tuple[Any, ...]]] | None = None
        """The last input of each kind, when a scenario will repeat one."""
        self._chart = chart
        self._workers = 0
        self._internals: dict[str, str] = {}

    def _durable(self, writes: tuple[Write, ...]) -> None:
        self.founds = False
        self.checks.durable(self, writes)

    # The machine's clock.

    def clock(self) -> int:
        """What this machine takes the time to be, µs."""
        now, settings = self.schedule.now, self.settings
        return now + settings.offset + now * settings.drift // SECOND

    def when(self, local: int) -> int:
        """The world's time at which this machine's clock first shows ``local``."""
        at = (local - self.settings.offset) * SECOND // (SECOND + self.settings.drift)
        while at + self.settings.offset + at * self.settings.drift // SECOND < local:
            at += 1
        return at

    # The node's process.

    def start_node(self) -> None:
        """Start the node: it stops what an earlier process left behind, then boots its engine (F61)."""
        if self.halted or (self.node is not None and self.node.alive):
            return
        self.node = NodeProcess(self, self.settings.config, self._chart)
        if self.remembered is not None:
            self.remembered.clear()  # outcomes name the runs of the process that wanted them
        self.schedule.after(between(self.streams["node"], timings.NODE_UP), self._sweep, self.node)

    def _sweep(self, node: NodeProcess) -> None:
        if not node.alive:
            return
        if self.processes:
            for rqlited in list(self.processes.values()):
                if rqlited.sentenced:
                    rqlited.kill()
                else:
                    rqlited.terminate("orphan")
            self.schedule.after(self.settings.config.stop_timeout, self._sweep_hard, node)
            self.schedule.after(10_000, self._sweep_wait, node)
        else:
            self._boot(node)

    def _sweep_hard(self, node: NodeProcess) -> None:
        if node.alive and not node.booted:
            for rqlited in list(self.processes.values()):
                rqlited.kill()

    def _sweep_wait(self, node: NodeProcess) -> None:
        if self.processes and node.alive:
            self.schedule.after(10_000, self._sweep_wait, node)
        elif node.alive:
            self._boot(node)

    def _boot(self, node: NodeProcess) -> None:
        for _ in range(self.settings.workers):
            self.start_worker(node)
        node.boot()

    def kill_node(self) -> None:
        """SIGKILL of the node: its workers see the end of their channel, its rqlited live on, its store may have been amid a
        commit."""
        node = self.node
        if node is None or not node.alive:
            return
        node.alive = False
        self.disk.lose_unsynced()
        for worker in list(self.workers.values()):
            self.schedule.after(between(self.streams["gateway"], timings.WORKER_EOF), worker.die)

    def pause_node(self) -> None:
        """SIGSTOP: nothing is closed, so workers notice by their lease alone."""
        node = self.node
        if node is not None and node.alive and not node.paused:
            node.pause()
            self.schedule.after(timings.CHANNEL_LEASE, self._lapse, node)

    def _lapse(self, node: NodeProcess) -> None:
        if node.alive and node.paused:
            for worker in self.workers.values():
                worker.lapse()

    def resume_node(self) -> None:
        node = self.node
        if node is not None and node.paused:
            node.resume()
            for worker in list(self.workers.values()):
                self.schedule.after(between(self.streams["gateway"], timings.CHANNEL), worker.renew)

    def crash(self) -> None:
        """Power off: everything ends at once."""
        self.kill_node()
        for rqlited in list(self.processes.values()):
            rqlited.kill("crashed")
        for worker in list(self.workers.values()):
            worker.die()
        self.host.bound = {port: pid for port, pid in self.host.bound.items() if pid == FOREIGN}

    def wipe(self) -> None:
        """The disk is replaced by an empty one under a machine that has lost power: the node's identity is kept elsewhere."""
        self.crash()
        self.robbed = True
        self.disk.wipe()
        self.checks.wiped(self)

    def put_back(self, copy: Copy, whole: bool) -> None:
        """The machine loses power, and comes back with an earlier copy of its store, or of its whole disk (P62)."""
        self.crash()
        self.robbed = True
        self.disk.restore(copy, whole)
        self.checks.wiped(self)

    def stop_node(self) -> None:
        """SIGTERM of the node: it takes its workers (which finish what is in flight, within bounds) and its rqlited along."""
        node = self.node
        if node is None or not node.alive:
            return
        node.alive = False
        self.disk.lose_unsynced()
        for worker in list(self.workers.values()):
            worker.stop()
        self._stop_rqlited()

    def halt_node(self, node: NodeProcess) -> None:
        """The engine of this process ended it (P63, P64): it stays down, whatever would start it."""
        if node.alive and node is self.node:
            self.halted = True
            self.stop_node()

    def _stop_rqlited(self) -> None:
        if self.workers:
            self.schedule.after(10_000, self._stop_rqlited)
            return
        for rqlited in list(self.processes.values()):
            rqlited.terminate("node stops")
            self.schedule.after(self.settings.config.stop_timeout, rqlited.kill)

    # Workers.

    def start_worker(self, node: NodeProcess) -> None:
        self._workers += 1
        self.workers[self._workers] = Worker(self, node, self._workers)

    def worker_gone(self, worker: Worker) -> None:
        """A worker's process ended: its node reaps it and starts another."""
        del self.workers[worker.number]
        self.count_accepting()
        took = between(self.streams["gateway"], timings.EXIT_SEEN)
        self.schedule.after(took, self._reap_worker, worker)

    def _reap_worker(self, worker: Worker) -> None:
        node = worker.node
        if node.alive:
            node.worker_left(worker.number)
            self.start_worker(node)

    def hang_worker(self, worker: Worker) -> None:
        """SIGSTOP of a worker: its node kills it once its lease is over."""
        worker.pause()
        self.schedule.after(timings.CHANNEL_LEASE, self._hung, worker)

    def _hung(self, worker: Worker) -> None:
        if worker.alive and worker.paused and worker.node.alive:
            worker.die()

    def count_accepting(self) -> None:
        """Some worker began or ceased to accept connections on the machine's one listening socket."""
        self.accepting = [worker for worker in self.workers.values() if worker.serving and not worker.paused]

    # rqlited.

    def spawn(
        self, start: Start, ready: Callable[[Rqlited], None], gone: Callable[[Rqlited, int | None, Cause, str], None]
    ) -> Rqlited:
        self._internals[start.incarnation] = start.internal

        def ended(rqlited: Rqlited, code: int | None, cause: Cause, detail: str) -> None:
            self.processes.pop(rqlited.pid, None)
            gone(rqlited, code, cause, detail)

        self.started[start.internal] = self.started.get(start.internal, 0) + 1
        rqlited = Rqlited(self.host, start, ready, ended)
        self.processes[rqlited.pid] = rqlited
        return rqlited

    def listener(self, port: int) -> Rqlited | None:
        """The rqlited that listens on this port; None: nobody, or a foreign process."""
        return self.processes.get(self.host.bound.get(port, 0))

    def running(self, internal: str) -> Rqlited | None:
        """The rqlited of a database, whoever started it."""
        return next((one for one in self.processes.values() if one.start.internal == internal), None)

    # Names.

    def database_of(self, what: Any) -> str:
        """The internal name of the database that an input or an effect is about, or empty."""
        internal = getattr(what, "internal", None)
        if internal is not None:
            return str(internal)
        incarnation = getattr(what, "incarnation", None)
        if incarnation is not None:
            return self._internals.get(incarnation, "")
        app = getattr(what, "app", None)
        if app is None:
            return ""
        try:
            return DatabaseName(app, what.name).internal
        except InvalidName:
            return ""

    def state_of_name(self, internal: str) -> str:
        """This node's view of a database by its name; ``absent`` when it hosts none, ``down`` without a node."""
        if self.node is None or not self.node.alive or not self.node.booted:
            return "down"
        hosted = self.node.engine.state.hosted.values()
        return next((one.state for one in hosted if one.internal == internal), "absent")

    def state_of(self, incarnation: str) -> str:
        """This node's view of an incarnation, or empty."""
        hosted = self.node.engine.state.hosted.get(incarnation) if self.node is not None else None
        return hosted.state if hosted is not None else ""
