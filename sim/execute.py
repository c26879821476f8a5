"""Carrying out one effect in the modelled world, as ``runtime.execute`` does in the real one. The law kept here: each effect that
promises an outcome gets exactly one, whatever happens to the process that it is about; one that times out is not heard again.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from protocol import effects, inputs
from protocol.effects import Start
from protocol.inputs import Cause
from sim import timings
from sim.gateway import Worker
from sim.host import Full, Ports
from sim.laws import Violation
from sim.rqlite import Outcome, Rqlited
from sim.streams import between

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.process import NodeProcess

SNAPSHOT_TIMEOUT: Final = 10_000_000


class Executor:
    """The hands of one node process; everything here dies with it."""

    def __init__(self, machine: Machine, node: NodeProcess) -> None:
        self.machine = machine
        self.workers: dict[int, Worker] = {}
        """Those that have joined."""
        settings = machine.settings
        self.ports = Ports(machine.host, settings.http_ports, settings.raft_ports, machine.streams["ports"])
        self.runs: dict[str, tuple[int, Rqlited]] = {}
        """Incarnation → its current run, until its exit was observed."""
        self.asks: dict[int, tuple[int, int]] = {}
        """Requests not answered yet → (worker, when they came)."""
        self._node = node
        self._feed = node.feed
        self._schedule = machine.schedule
        self._chance = machine.streams["node"]
        self._down_at: dict[int, int] = {}
        self._probes: set[int] = set()
        self._snapshots: set[str] = set()

    def reserve_ports(self, action: effects.ReservePorts) -> None:
        found = self.ports.reserve(action.ticket, action.http, action.raft)
        took = between(self._chance, timings.PORT_PROBE)
        if isinstance(found, Full):
            self._schedule.after(
                took, self._feed, inputs.PortsRefused, action.ticket, found.detail, found.raft, action.asked
            )
        else:
            self._schedule.after(took, self._feed, inputs.PortsReserved, action.ticket, *found, action.asked)

    def hold_port(self, action: effects.HoldPort) -> None:
        self.ports.hold(action.ticket, action.raft)

    def release_ports(self, action: effects.ReleasePorts) -> None:
        self.ports.release(action.ticket, action.http, action.raft)

    def start(self, action: Start) -> None:
        self.machine.checks.starts(self, action)
        rqlited = self.machine.spawn(action, self._ready, self._gone)
        self.runs[action.incarnation] = (action.run, rqlited)

    def _ready(self, rqlited: Rqlited) -> None:
        start = rqlited.start
        self._feed(
            inputs.InstanceReady,
            start.incarnation,
            start.run,
            rqlited.applied,
            rqlited.voters,
            rqlited.leader,
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
        self._feed(inputs.InstanceExited, start.incarnation, start.run, code, cause, detail, empty)

    def _run(self, incarnation: str, run: int) -> Rqlited | None:
        current, rqlited = self.runs.get(incarnation, (0, None))
        return rqlited if current == run and rqlited is not None and rqlited.alive else None

    def probe(self, action: effects.Probe) -> None:
        rqlited = self._run(action.incarnation, action.run)
        probe = (action, rqlited)
        self._probes.add(action.token)
        if rqlited is None:
            self._schedule.after(1, self._probed, probe, "refused", [], 0)
            return
        if rqlited.replicated and not action.strong:
            rqlited.look(self._probed, probe)
        else:
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
            seen = (rqlited.counter, rqlited.applied, rqlited.leader, rqlited.voters)
            self._feed(inputs.Probed, *who, True, *seen)
        else:
            self._feed(inputs.Probed, *who, False, 0, 0, False, (), outcome)

    def snapshot(self, action: effects.Snapshot) -> None:
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
            self._feed(inputs.Snapshotted, action.incarnation, action.run, ok, applied, detail)

    def terminate(self, action: effects.Terminate) -> None:
        rqlited = self._run(action.incarnation, action.run)
        if rqlited is None:
            return
        self.machine.checks.stops(self.machine, rqlited)
        if action.kill_after:
            rqlited.terminate(self.machine.state_of(action.incarnation))
        self._schedule.after(action.kill_after, self._kill, rqlited)

    def _kill(self, rqlited: Rqlited) -> None:
        if self._node.alive:
            rqlited.kill()

    def trash(self, action: effects.Trash) -> None:
        directory = self.machine.disk.directory(action.incarnation)
        if directory is not None and directory.pid:
            raise Violation("F80", f"{action.internal}'s directory goes to the trash under pid {directory.pid}")
        self.machine.disk.throw_away(action.incarnation)

    # The channel to the workers.

    def door(self, action: effects.Door) -> None:
        if action.worker is not None:
            worker = self.workers.get(action.worker)
            if worker is not None:
                worker.hear(worker.told_door, self._arrival(worker), action)
            return
        for worker in self.workers.values():
            worker.hear(worker.told_door, self._arrival(worker), action)

    def forget(self, action: effects.Forget) -> None:
        for worker in self.workers.values():
            worker.hear(worker.told_forget, self._arrival(worker), action.incarnation)

    def answer(self, action: effects.Answer) -> None:
        if action.request < 0:
            self._asker(action.request)
            said = f"{action.problem}: {action.detail}" if action.problem else action.detail
            self.machine.world.tell(self.machine.name, "", "the operator is answered", said)
            return
        worker = self.workers.get(self._asker(action.request))
        if worker is not None:
            worker.hear(worker.told_answer, self._arrival(worker), action.request, action.problem, action.detail)

    def halt(self, action: effects.Halt) -> None:
        """The process ends once the step is carried out, as SIGTERM would end it, and nobody starts it again."""
        self.machine.world.tell(self.machine.name, "", "node stops", action.reason)
        self._schedule.after(1, self.machine.halt_node, self._node)

    def route(self, action: effects.Route) -> None:
        worker = self.workers.get(self._asker(action.request))
        if worker is not None:
            worker.hear(worker.told_route, self._arrival(worker), action)

    def believe(self, action: effects.Believe) -> None:
        for worker in self.workers.values():
            if action.worker in (None, worker.number):
                worker.hear(worker.told_believe, self._arrival(worker), action.fingerprints)

    def keys(self, action: effects.Keys) -> None:
        for worker in self.workers.values():
            if action.worker in (None, worker.number):
                worker.hear(worker.told_keys, self._arrival(worker, self.machine.streams["keys"]), action.keys)

    def sealed_copy(self, action: effects.SealedCopy) -> None:
        worker = self.workers.get(action.worker)
        if worker is None:
            return
        worker.hear(worker.told_sealed, self._arrival(worker), action)
        if action.incarnation and not action.open:
            self._schedule.after(between(self._chance, timings.REVOKE), self._revoked, worker, action)

    def _revoked(self, worker: Worker, copy: effects.SealedCopy) -> None:
        if self._node.alive and worker.alive and not worker.copies.closed(copy):
            worker.die()

    def _asker(self, request: int) -> int:
        """The worker that made a request, which is answered now."""
        asked = self.asks.pop(request, None)
        if asked is None:
            raise Violation("F3", f"request {request} was answered twice, or never asked")
        return asked[0]

    def _arrival(self, worker: Worker, chance: Random | None = None) -> int:
        at = self._schedule.now + between(chance or self._chance, timings.CHANNEL)
        at = self._down_at[worker.number] = max(self._down_at.get(worker.number, 0), at)
        return at


CARRY_OUT: Final[dict[type, Callable[[Executor, Any], None]]] = {
    effects.ReservePorts: Executor.reserve_ports,
    effects.HoldPort: Executor.hold_port,
    effects.ReleasePorts: Executor.release_ports,
    effects.Start: Executor.start,
    effects.Probe: Executor.probe,
    effects.Snapshot: Executor.snapshot,
    effects.Terminate: Executor.terminate,
    effects.Trash: Executor.trash,
    effects.Door: Executor.door,
    effects.Forget: Executor.forget,
    effects.Answer: Executor.answer,
    effects.Halt: Executor.halt,
    effects.Route: Executor.route,
    effects.Believe: Executor.believe,
    effects.Keys: Executor.keys,
    effects.SealedCopy: Executor.sealed_copy,
}
