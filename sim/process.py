"""The node's process: an engine, and what carries its effects out in the modelled world. The law kept here is the order of
effects (``protocol.effects``): what is sent was made durable first, and a crash may fall between any two of them.

Like the real driver it steps all inputs that wait, makes their writes durable in one transaction, and only then carries out
the rest, in order; inputs that come during a commit share the next one. Everything here dies with the process.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from protocol import inputs
from protocol.effects import NOTHING, Effects
from protocol.node import Config, Node
from sim import coverage, timings
from sim.execute import CARRY_OUT, Executor
from sim.streams import between

if TYPE_CHECKING:
    from protocol.chart import Chart
    from sim.machine import Machine


ASLEEP_AFTER: Final = ("hibernated", "wake failed", "asleep after the others")
"""Decisions after which a database may sleep here."""
NOTED: Final = frozenset((inputs.Ask, inputs.CreateKey, inputs.RevokeKey, inputs.WorkerJoined))
"""Inputs that the process itself keeps account of."""


class NodeProcess:
    """One life of a machine's node."""

    def __init__(self, machine: Machine, config: Config, chart: Chart) -> None:
        self.machine = machine
        self.engine = Node(config, chart)
        self.alive = True
        self.booted = False
        self.paused = False
        self.stepped = False
        """Since a full scan last looked at it."""
        self.hands = Executor(machine, self)
        self._schedule = machine.schedule
        self._chance = machine.streams["node"]
        self._timers = self.engine.state.timers
        self._queue: deque[tuple[type, tuple[Any, ...]]] = deque()
        self._committing = False
        self._own_clock = bool(machine.settings.offset or machine.settings.drift)
        self._tick_at: int | None = None
        self._held: list[Effects] | None = None
        """What was durable when the process was stopped, and is to be carried out when it goes on."""
        self._fell_asleep: list[str] = []
        """Databases that may sleep here by a decision of a batch that is being carried out."""

    # Inputs.

    def feed(self, kind: type, *fields: Any) -> None:
        """Queue an input; its ``now`` is set when it is stepped."""
        if not self.alive:
            return
        if kind in NOTED and not self._note(kind, fields):
            return
        self._queue.append((kind, fields))
        self._pump()

    def _note(self, kind: type, fields: tuple[Any, ...]) -> bool:
        """What the hands have to know of an input. Whether the engine is to have it."""
        if kind is inputs.WorkerJoined:
            worker = self.machine.workers.get(fields[0])
            if worker is None:
                return False
            self.hands.workers[worker.number] = worker
        else:
            asker = fields[0] >> 32 if kind is inputs.Ask else 0  # an operator's: no worker has the number 0
            self.hands.asks[fields[0]] = (asker, self._schedule.now)
        return True

    def boot(self) -> None:
        """The process is up: what an earlier one left behind is gone, the store is open."""
        self.booted = True
        entropy = self.machine.streams["entropy"].randbytes(32)
        rows = tuple(sorted(self.machine.disk.rows.items()))
        self._queue.appendleft((inputs.Boot, (entropy, rows, self.machine.founds)))
        self._pump()
        self.machine.world.network.up(self.machine)

    def _pump(self) -> None:
        """Step everything that waits, make it durable, carry it out; then whatever that made wait."""
        queue, timers = self._queue, self._timers
        while self.alive and self.booted and not self.paused and not self._committing:
            batch: list[Effects] = []
            now = self.machine.clock() if self._own_clock else self._schedule.now
            while queue:
                kind, fields = queue.popleft()
                wanted = self._step(kind(now, *fields), fields)
                if wanted is not NOTHING:
                    batch.append(wanted)
            deadline = timers.deadline
            if deadline is not None:
                if deadline <= now and self.alive:
                    batch.append(self._step(inputs.Tick(now), ()))
                    deadline = timers.deadline
                if deadline is not None and (self._tick_at is None or deadline < self._tick_at):
                    self._tick_at = deadline
                    at = self.machine.when(deadline) if self._own_clock else deadline
                    self._schedule.at(at, self._tick, deadline)
            if not batch:
                return
            for wanted in batch:
                if wanted.writes:
                    self._commit(batch)
                    return
            self._carry_out_all(batch)
            if not queue and (self._tick_at is None or self._tick_at > now):
                return

    def _step(self, given: inputs.Input, fields: tuple[Any, ...]) -> Effects:
        machine = self.machine
        if (kind := type(given).__name__) in machine.moments.names:
            machine.moments.seen(machine, kind, machine.database_of(given))
            if not self.alive:
                return NOTHING
        if machine.remembered is not None:
            machine.remembered[kind] = (type(given), fields)
        self.stepped = True
        if machine.world.paths is not None:
            coverage.taken(machine.world.paths, given)
        wanted = self.engine.step(given)
        machine.trace.step(machine.name, given, wanted)
        if wanted.actions:
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
        if "Write" in self.machine.moments.names:
            self.machine.moments.seen(self.machine, "Write", "")

    def _committed(self, batch: list[Effects]) -> None:
        if not self.alive:
            return
        if self.machine.disk.full:
            # What could not be made durable must not be sent: the process ends, and its supervisor starts it again.
            self.machine.world.tell(
                self.machine.name, "", "node stops", "its store cannot be written: the disk is full"
            )
            self.machine.kill_node()
            return
        self.machine.disk.sync()
        if self.paused:
            self._held = batch
            return
        self._committing = False
        self._carry_out_all(batch)
        self._pump()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        batch, self._held = self._held, None
        if batch is not None:
            self._committing = False
            self._carry_out_all(batch)
        self._pump()

    # Effects.

    def _carry_out_all(self, batch: list[Effects]) -> None:
        machine = self.machine
        moments = machine.moments
        for number, step in enumerate(batch):
            for action in step.actions:
                if (kind := type(action).__name__) in moments.names:
                    moments.seen(machine, kind, machine.database_of(action))
                if not self.alive:
                    return
                CARRY_OUT[type(action)](self.hands, action)
            if self.paused:  # between what it did and what it says: that goes out when it goes on, however late (F30)
                self._held = [evolve(step, actions=()), *batch[number + 1 :]]
                return
            for send in step.sends:
                machine.world.network.send(machine, send.to, send.message)
            for message in step.broadcasts:
                machine.world.network.broadcast(machine, message)
            for decision in step.decisions:
                machine.world.decided(machine, decision)
                if decision.event in ASLEEP_AFTER:
                    self._fell_asleep.append(decision.database)
                if decision.event in moments.names:
                    moments.seen(machine, decision.event, decision.database)
            if not self.alive:
                return
        # Not sooner: the engine's state is that after all steps of the batch.
        while self._fell_asleep:
            machine.checks.slept(machine, self._fell_asleep.pop(0))

    def worker_left(self, number: int) -> None:
        """A worker's process was reaped."""
        if self.hands.workers.pop(number, None) is not None:
            self.feed(inputs.WorkerLeft, number)
