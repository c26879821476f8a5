"""The node's process: an engine, and what carries its effects out in the modelled world. The law kept here is the order of
effects (``protocol.effects``): what is sent was made durable first, and a crash may fall between any two of them.

Like the real driver it steps all inputs that wait, makes their writes durable in one transaction, and only then carries out
the rest, in order; inputs that come during a commit share the next one. Everything here dies with the process: the book of
ports, timers of stops, questions under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from protocol import effects, inputs
from protocol.effects import NOTHING, Effects, Start
from protocol.inputs import Cause
from protocol.node import Config, Node
from sim import timings
from sim.gateway import Worker
from sim.host import Ports
from sim.laws import Violation
from sim.rqlite import Outcome, Rqlited
from sim.streams import between

if TYPE_CHECKING:
    from protocol.chart import Chart
    from sim.machine import Machine

SNAPSHOT_TIMEOUT: Final = 10_000_000


class NodeProcess:
    """One life of a machine's node."""

    def __init__(self, machine: Machine, config: Config, chart: Chart) -> None:
        self.machine = machine
        self.engine = Node(config, chart)
        self.alive = True
        self.booted = False
        self.paused = False
        self.workers: dict[int, Worker] = {}
        """Those that have joined."""
        settings = machine.settings
        self.ports = Ports(machine.host, settings.http_ports, settings.raft_ports, machine.streams["ports"])
        self.runs: dict[str, tuple[int, Rqlited]] = {}
        """Incarnation → its current run, until its exit was observed."""
        self.asks: dict[int, tuple[int, int]] = {}
        """Requests not answered yet → (worker, when they came)."""
        self._schedule = machine.schedule
        self._chance = machine.streams["node"]
        self._queue: deque[tuple[type, tuple[Any, ...]]] = deque()
        self._committing = False
        self._tick_at: int | None = None
        self._down_at: dict[int, int] = {}
        self._probes: set[int] = set()
        self._snapshots: set[str] = set()

    # Inputs.

    def feed(self, kind: type, *fields: Any) -> None:
        """Queue an input; its ``now`` is set when it is stepped."""
        if not self.alive:
            return
        if kind is inputs.Ask:
            self.asks[fields[0]] = (fields[0] >> 32, self._schedule.now)
        elif kind is inputs.WorkerJoined:
            worker = self.machine.workers.get(fields[0])
            if worker is None:
                return
            self.workers[worker.number] = worker
        self._queue.append((kind, fields))
        self._pump()

    def boot(self) -> None:
        """The process is up: what an earlier one left behind is gone, the store is open."""
        self.booted = True
        entropy = self.machine.streams["entropy"].randbytes(32)
        rows = tuple(sorted(self.machine.disk.rows.items()))
        self._queue.appendleft((inputs.Boot, (entropy, rows, not rows)))
        self._pump()

    def _pump(self) -> None:
        """Step everything that waits."""
        while self.alive and self.booted and not self.paused and not self._committing:
            batch: list[Effects] = []
            writes = False
            now = self._schedule.now
            engine = self.engine
            queue = self._queue
            while queue:
                kind, fields = queue.popleft()
                wanted = self._step(kind(now, *fields), fields)
                if wanted is not NOTHING:
                    batch.append(wanted)
                    writes = writes or bool(wanted.writes)
            deadline = engine.deadline
            if deadline is not None:
                if deadline <= now and self.alive:
                    wanted = self._step(inputs.Tick(now), ())
                    batch.append(wanted)
                    writes = writes or bool(wanted.writes)
                    deadline = engine.deadline
                if deadline is not None and (self._tick_at is None or deadline < self._tick_at):
                    self._tick_at = deadline
                    self._schedule.at(deadline, self._tick, deadline)
            if not batch:
                return
            if writes:
                self._commit(batch)
            else:
                self._carry_out_all(batch)

    def _step(self, given: inputs.Input, fields: tuple[Any, ...]) -> Effects:
        machine = self.machine
        if machine.moments.watching:
            machine.moments.seen(machine, type(given).__name__, machine.database_of(given))
            if not self.alive:
                return NOTHING
        if machine.remembered is not None:
            machine.remembered[type(given).__name__] = (type(given), fields)
        wanted = self.engine.step(given)
        machine.trace.step(machine.name, given, wanted)
        machine.checks.stepped(machine, wanted)
        return wanted

    def _tick(self, at: int) -> None:
        if self._tick_at == at:
            self._tick_at = None
            self._pump()

    # Durability.

    def _commit(self, batch: list[Effects]) -> None:
        if not self.alive:
            return
        self._committing = True
        disk = self.machine.disk
        for step in batch:
            if step.writes:
                disk.write(step.writes)
        delay = between(self._chance, timings.STORE_COMMIT) * disk.slowness
        self._schedule.after(delay, self._committed, batch)
        if self.machine.moments.watching:
            self.machine.moments.seen(self.machine, "Write", "")

    def _committed(self, batch: list[Effects]) -> None:
        if not self.alive:
            return
        if self.machine.disk.full:
            # What could not be made durable must not be sent: the process ends, and its supervisor starts it again.
            self.machine.world.tell(self.machine.name, "", "node stops", "its store cannot be written: the disk is full")
            self.machine.kill_node()
            return
        self.machine.disk.sync()
        if self.paused:
            self._held_batch = batch
            return
        self._committing = False
        self._carry_out_all(batch)
        self._pump()

    _held_batch: list[Effects] | None = None

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        batch, self._held_batch = self._held_batch, None
        if batch is not None:
            self._committing = False
            self._carry_out_all(batch)
        self._pump()

    # Effects.

    def _carry_out_all(self, batch: list[Effects]) -> None:
        machine = self.machine
        moments = machine.moments
        for step in batch:
            for action in step.actions:
                if moments.watching:
                    moments.seen(machine, type(action).__name__, machine.database_of(action))
                if not self.alive:
                    return
                CARRY_OUT[type(action)](self, action)
            for send in step.sends:
                machine.world.send(machine, send.to, send.message)
            for message in step.broadcasts:
                machine.world.broadcast(machine, message)
            for decision in step.decisions:
                machine.world.decided(machine, decision)
                if moments.watching:
                    moments.seen(machine, decision.event, decision.database)
            if not self.alive:
                return

    def _reserve_ports(self, action: effects.ReservePorts) -> None:
        found = self.ports.reserve(action.ticket, action.http, action.raft)
        took = between(self._chance, timings.PORT_PROBE)
        if isinstance(found, str):
            self._schedule.after(took, self.feed, inputs.PortsRefused, action.ticket, found)
        else:
            self._schedule.after(took, self.feed, inputs.PortsReserved, action.ticket, *found)

    def _hold_port(self, action: effects.HoldPort) -> None:
        self.ports.hold(action.ticket, action.raft)

    def _release_ports(self, action: effects.ReleasePorts) -> None:
        self.ports.release(action.ticket, action.http, action.raft)

    def _start(self, action: Start) -> None:
        self.machine.checks.starts(self, action)
        rqlited = self.machine.spawn(action, self._ready, self._gone)
        self.runs[action.incarnation] = (action.run, rqlited)

    def _ready(self, rqlited: Rqlited) -> None:
        start = rqlited.start
        self.feed(
            inputs.InstanceReady,
            start.incarnation,
            start.run,
            rqlited.directory.index,
            (start.node_id,),
            True,
            rqlited.counter,
        )

    def _gone(self, rqlited: Rqlited, code: int | None, cause: Cause, detail: str) -> None:
        took = between(self._chance, timings.EXIT_SEEN)
        self._schedule.after(took, self._exit_seen, rqlited, code, cause, detail)

    def _exit_seen(self, rqlited: Rqlited, code: int | None, cause: Cause, detail: str) -> None:
        start = rqlited.start
        if self.runs.get(start.incarnation, (0, None))[1] is rqlited:
            del self.runs[start.incarnation]
        empty = rqlited.directory.wal_empty
        self.feed(inputs.InstanceExited, start.incarnation, start.run, code, cause, detail, empty)

    def _run(self, incarnation: str, run: int) -> Rqlited | None:
        current, rqlited = self.runs.get(incarnation, (0, None))
        return rqlited if current == run and rqlited is not None and rqlited.alive else None

    def _probe(self, action: effects.Probe) -> None:
        rqlited = self._run(action.incarnation, action.run)
        probe = (action, rqlited)
        self._probes.add(action.token)
        if rqlited is None:
            self._schedule.after(1, self._probed, probe, "refused", [], 0)
            return
        rqlited.read(self._probed, probe, action.strong, counted=False)
        self._schedule.after(timings.PROBE_TIMEOUT, self._probed, probe, "error", [], 0)

    def _probed(
        self, probe: tuple[effects.Probe, Rqlited | None], outcome: Outcome, _rows: list[int], _count: int
    ) -> None:
        action, rqlited = probe
        if action.token not in self._probes:
            return  # it has timed out, or been answered
        self._probes.discard(action.token)
        who = (action.incarnation, action.run, action.token)
        if outcome == "ok" and rqlited is not None:
            applied, voters = rqlited.directory.index, (rqlited.start.node_id,)
            self.feed(inputs.Probed, *who, True, rqlited.counter, applied, rqlited.leader, voters)
        else:
            self.feed(inputs.Probed, *who, False, 0, 0, False, (), outcome)

    def _snapshot(self, action: effects.Snapshot) -> None:
        rqlited = self._run(action.incarnation, action.run)
        key = f"{action.incarnation}/{action.run}"
        self._snapshots.add(key)
        if rqlited is None:
            self._schedule.after(1, self._snapshotted, action, key, False, 0)
            return
        rqlited.snapshot(lambda ok, applied: self._snapshotted(action, key, ok, applied))
        self._schedule.after(SNAPSHOT_TIMEOUT, self._snapshotted, action, key, False, 0)

    def _snapshotted(self, action: effects.Snapshot, key: str, ok: bool, applied: int) -> None:
        if key in self._snapshots:
            self._snapshots.discard(key)
            detail = "" if ok else "no answer"
            self.feed(inputs.Snapshotted, action.incarnation, action.run, ok, applied, detail)

    def _terminate(self, action: effects.Terminate) -> None:
        rqlited = self._run(action.incarnation, action.run)
        if rqlited is None:
            return
        self.machine.checks.stops(self, rqlited)
        if action.kill_after:
            rqlited.terminate(self.machine.state_of(action.incarnation))
        self._schedule.after(action.kill_after, self._kill, rqlited)

    def _kill(self, rqlited: Rqlited) -> None:
        if self.alive:
            rqlited.kill()

    def _trash(self, action: effects.Trash) -> None:
        directory = self.machine.disk.directory(action.incarnation)
        if directory is not None and directory.pid:
            raise Violation("F80", f"{action.internal}'s directory goes to the trash under pid {directory.pid}")
        self.machine.disk.throw_away(action.incarnation)

    # The channel to the workers.

    def _door(self, action: effects.Door) -> None:
        if action.worker is not None:
            worker = self.workers.get(action.worker)
            if worker is not None:
                worker.hear(worker.told_door, self._arrival(worker), action)
            return
        for worker in self.workers.values():
            worker.hear(worker.told_door, self._arrival(worker), action)

    def _forget(self, action: effects.Forget) -> None:
        for worker in self.workers.values():
            worker.hear(worker.told_forget, self._arrival(worker), action.incarnation)

    def _answer(self, action: effects.Answer) -> None:
        asked = self.asks.pop(action.request, None)
        if asked is None:
            raise Violation("F3", f"request {action.request} was answered twice, or never asked")
        worker = self.workers.get(asked[0])
        if worker is not None:
            worker.hear(worker.told_answer, self._arrival(worker), action.request, action.problem, action.detail)

    def _arrival(self, worker: Worker) -> int:
        at = self._schedule.now + between(self._chance, timings.CHANNEL)
        at = self._down_at[worker.number] = max(self._down_at.get(worker.number, 0), at)
        return at

    def worker_left(self, number: int) -> None:
        """A worker's process was reaped."""
        if self.workers.pop(number, None) is not None:
            self.feed(inputs.WorkerLeft, number)


CARRY_OUT: Final[dict[type, Callable[[NodeProcess, Any], None]]] = {
    effects.ReservePorts: NodeProcess._reserve_ports,
    effects.HoldPort: NodeProcess._hold_port,
    effects.ReleasePorts: NodeProcess._release_ports,
    effects.Start: NodeProcess._start,
    effects.Probe: NodeProcess._probe,
    effects.Snapshot: NodeProcess._snapshot,
    effects.Terminate: NodeProcess._terminate,
    effects.Trash: NodeProcess._trash,
    effects.Door: NodeProcess._door,
    effects.Forget: NodeProcess._forget,
    effects.Answer: NodeProcess._answer,
}
