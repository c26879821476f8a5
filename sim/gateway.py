"""Gateway workers: the doors of the data plane, as the real ones keep them. The laws kept here are P30 and F56 (a closed door
lets nothing in; its acknowledgement says how many are still inside), F51 (one Ask for all that wait for a database), R41
(queries are reported at most once a second), F86 (what may have happened is never sent again).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from protocol.effects import Door, Problem, Route, SealedCopy
from protocol.inputs import Ask, DoorAck, Used, WorkerJoined
from protocol.records import ApiKey
from sim import timings
from sim.hop import Hops
from sim.query import Query, Verdict
from sim.rqlite import NO_ROWS, Outcome
from sim.sealed import Copies
from sim.streams import between

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.process import NodeProcess

AGAIN: Final = 50_000
"""A refused connection, or a broken one under a read, is tried again after so many microseconds: the door will be told."""
Database = tuple[str, str]
Key = tuple[Database, bool]
"""What queries wait for, and whether they came from another node's gateway: those are never sent on (F93)."""

# The path that every query takes draws its times without a call in between.
_LOOP_FROM: Final = timings.LOOPBACK[0]
_LOOP_SPAN: Final = timings.LOOPBACK[1] - timings.LOOPBACK[0]
_CLIENT_FROM: Final = timings.TO_GATEWAY[0]
_CLIENT_SPAN: Final = timings.TO_GATEWAY[1] - timings.TO_GATEWAY[0]


class Gate:
    """One incarnation's door in one worker, and the queries behind it."""

    __slots__ = (
        "database",
        "generation",
        "http",
        "in_flight",
        "incarnation",
        "open",
        "reporting",
        "told_at",
        "unreported",
    )

    def __init__(self, incarnation: str, database: Database) -> None:
        self.incarnation = incarnation
        self.database = database
        self.generation = -1
        self.open = False
        self.http = 0
        self.in_flight = 0
        self.unreported = 0
        self.told_at = -timings.USED_EVERY
        self.reporting = False
        """A report is due: nothing needs to be scheduled for the next query."""


class Worker:
    """One worker process, child of one node process."""

    def __init__(self, machine: Machine, node: NodeProcess, number: int) -> None:
        self.machine = machine
        self.node = node
        self.number = number
        self.alive = True
        self.serving = False
        self.paused = False
        self.keys: dict[bytes, bool] = {}
        """SHA-256 of each API key that it was told of → whether it lets anybody in."""
        self.leased = True
        """The node was heard within the lease: without it no query enters (an open door never outlives who would close it)."""
        self._schedule = machine.schedule
        self._after = machine.schedule.after
        self._chance = machine.streams["gateway"]
        self._random = self._chance.random
        self._gates: dict[str, Gate] = {}
        self._named: dict[Database, Gate] = {}
        self.hops = Hops(self)
        self.copies = Copies(self)
        self._waiting: dict[Key, list[Query]] = {}
        self._asked: dict[int, Key] = {}
        self._asking: set[Key] = set()
        self._inside: dict[Query, Gate] = {}
        self._questions = 0
        self._up_at = 0
        self._held: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._schedule.after(between(self._chance, timings.WORKER_UP), self.do, self._join)

    def _join(self) -> None:
        self.serving = True
        self.machine.count_accepting()
        self.tell_node(WorkerJoined, self.number)

    # The channel. Each direction keeps its order; what arrives while the process is stopped waits for it.

    def tell_node(self, kind: type, *fields: object) -> None:
        at = self._up_at = max(self._up_at, self._schedule.now + between(self._chance, timings.CHANNEL))
        self._schedule.at(at, self.node.feed, kind, *fields)

    def do(self, call: Callable[..., None], *arguments: object) -> None:
        if self.paused:
            self._held.append((call, arguments))
        elif self.alive:
            call(*arguments)

    def hear(self, call: Callable[..., None], at: int, *arguments: object) -> None:
        """The node's word for this worker, arriving at ``at``: one of the methods below."""
        self._schedule.at(at, self.do, call, *arguments)

    def told_door(self, door: Door) -> None:
        """Carry out what the node says of a door, and acknowledge it; an older generation was overtaken."""
        gate = self._gates.get(door.incarnation)
        if gate is None:
            gate = self._gates[door.incarnation] = Gate(door.incarnation, (door.app, door.name))
        if door.generation < gate.generation:
            return
        gate.generation, gate.open, gate.http = door.generation, door.open, door.http
        self.tell_node(DoorAck, self.number, gate.incarnation, gate.generation, gate.in_flight)
        if door.open:
            self._named[gate.database] = gate
            self._let_in(gate.database)

    def told_forget(self, incarnation: str) -> None:
        gate = self._gates.get(incarnation)
        if gate is None:
            return
        gate.open = False
        if self._named.get(gate.database) is gate:
            del self._named[gate.database]
        if not gate.in_flight:
            del self._gates[incarnation]

    def told_answer(self, request: int, problem: Problem | None, detail: str) -> None:
        key = self._asked.pop(request)
        self._asking.discard(key)
        if problem is None:
            self._let_in(key[0])
            if self._waiting.get(key):
                self._ask(key)
        else:
            for query in self._waiting.pop(key, ()):
                self.refuse(query, "problem", f"{problem}: {detail}")

    def told_route(self, route: Route) -> None:
        """Other nodes serve it: send there what waits, if its time is not over."""
        key = self._asked.pop(route.request)
        self._asking.discard(key)
        assert not key[1], "what came from a gateway is never sent on (F93)"
        self.hops.learn(key[0], route.hops)
        for query in self._waiting.pop(key, ()):
            self.hops.take(query)

    def told_believe(self, fingerprints: tuple[bytes, ...]) -> None:
        self.hops.believed = fingerprints

    def told_keys(self, keys: tuple[ApiKey, ...]) -> None:
        self.keys |= {key.sha256: not key.revoked for key in keys}

    def told_sealed(self, copy: SealedCopy) -> None:
        self.copies.told(copy)

    # Queries.

    def submit(self, query: Query) -> None:
        """A client's request has arrived."""
        if self.paused:
            self._held.append((self.submit, (query,)))
            return
        gate = self._named.get(query.database)
        if gate is not None and gate.open and self.leased:
            self._enter(gate, query)
        elif not query.current and self.leased:
            self.copies.take(query)
        elif not self.leased or not self.hops.take(query):
            self._wait(query)

    def _wait(self, query: Query) -> None:
        key = (query.database, query.forwarded)
        self._waiting.setdefault(key, []).append(query)
        deadline = min(query.begun + timings.QUERY_TIMEOUT, self._schedule.now + timings.DOOR_TIMEOUT)
        self._schedule.at(deadline, self.do, self._waited, query)
        if key not in self._asking:
            self._ask(key)

    def _ask(self, key: Key) -> None:
        self._questions += 1
        request = self.number << 32 | self._questions
        self._asked[request] = key
        self._asking.add(key)
        self.tell_node(Ask, request, *key[0], key[1])

    def _waited(self, query: Query) -> None:
        waiting = self._waiting.get((query.database, query.forwarded), [])
        if query in waiting:
            waiting.remove(query)
            self.refuse(query, "timeout", "no door opened in time")

    def _let_in(self, database: Database) -> None:
        gate = self._named.get(database)
        if gate is not None and gate.open and self.leased:
            for key in ((database, False), (database, True)):
                for query in self._waiting.pop(key, ()):
                    self._enter(gate, query)

    def _enter(self, gate: Gate, query: Query) -> None:
        gate.in_flight += 1
        gate.unreported += 1
        if not gate.reporting:
            self._report_soon(gate)
        self._inside[query] = gate
        self._after(_LOOP_FROM + int(self._random() * _LOOP_SPAN), self._send, query)

    def _send(self, query: Query) -> None:
        """The request reaches the rqlited's port."""
        if self.paused:
            self._held.append((self._send, (query,)))
            return
        gate = self._inside.get(query)
        if gate is None:
            return  # the worker died meanwhile
        machine = self.machine
        rqlited = machine.processes.get(machine.host.bound.get(gate.http, 0))
        if rqlited is None:
            self._replied(query, "refused", NO_ROWS, 0)
            return
        if rqlited.start.incarnation != gate.incarnation or rqlited.sentenced:
            machine.checks.passes(rqlited, gate.incarnation)
        if rqlited.paused or query.lasts:
            self.watch(query)
        if query.value:
            rqlited.write(self._answered, query, query.value, query.lasts)
        else:
            rqlited.read(self._answered, query, query.strong, query.lasts)

    def _answered(self, query: Query, outcome: Outcome, rows: list[int], count: int) -> None:
        """The rqlited's answer, or the end of its connection, is on its way back."""
        self._after(_LOOP_FROM + int(self._random() * _LOOP_SPAN), self._replied, query, outcome, rows, count)

    def watch(self, query: Query) -> None:
        """Its answer may never come: end it by its own timeout (R37, F89)."""
        self._schedule.at(query.begun + timings.QUERY_TIMEOUT, self.do, self._expire, query)

    def _expire(self, query: Query) -> None:
        if query in self._inside:
            for rqlited in self.machine.processes.values():
                rqlited.forget(query)
            self._leave(query)
            self.refuse(query, "timeout", "rqlited did not answer in time")

    def _replied(self, query: Query, outcome: Outcome, rows: list[int], count: int) -> None:
        if self.paused:
            self._held.append((self._replied, (query, outcome, rows, count)))
            return
        if query not in self._inside:
            return  # it has timed out, or the worker has died
        self._leave(query)
        if outcome == "ok":
            self._after(_CLIENT_FROM + int(self._random() * _CLIENT_SPAN), query.end, "ok", "", rows, count)
        elif outcome == "refused" or (outcome == "reset" and not query.value):
            if self._schedule.now + AGAIN < query.begun + timings.QUERY_TIMEOUT:
                self._schedule.after(AGAIN, self._try_again, query)
            else:
                self.refuse(query, "timeout", "no connection")
        elif outcome == "reset":
            self.refuse(query, "unknown", "rqlited ended under the write")
        else:
            self.refuse(query, "problem", "rqlited refused")

    def refuse(self, query: Query, verdict: Verdict, detail: str) -> None:
        """Tell a client that its query was not carried out, or may not have been."""
        self._schedule.after(between(self._chance, timings.TO_GATEWAY), query.end, verdict, detail, NO_ROWS, 0)

    def _try_again(self, query: Query) -> None:
        if self.alive:
            self.submit(query)
        else:
            query.end("unknown", "the worker died", NO_ROWS, 0)

    def _leave(self, query: Query) -> None:
        gate = self._inside.pop(query)
        gate.in_flight -= 1
        if gate.in_flight == 0 and not gate.open:
            self.tell_node(DoorAck, self.number, gate.incarnation, gate.generation, 0)
            if self._named.get(gate.database) is not gate and self._gates.get(gate.incarnation) is gate:
                del self._gates[gate.incarnation]
        elif not gate.reporting and not gate.in_flight:
            self._report_soon(gate)

    def _report_soon(self, gate: Gate) -> None:
        gate.reporting = True
        wait = gate.told_at + timings.USED_EVERY - self._schedule.now
        if wait <= 0:
            self._report(gate)
        else:
            self._schedule.after(wait, self.do, self._report, gate)

    def _report(self, gate: Gate) -> None:
        gate.reporting = False
        gate.told_at = self._schedule.now
        self.tell_node(Used, self.number, gate.incarnation, gate.unreported, gate.in_flight)
        gate.unreported = 0

    def inside(self, incarnation: str) -> int:
        """How many queries are behind a door now: what the checks look at, not what was reported."""
        gate = self._gates.get(incarnation)
        return gate.in_flight if gate is not None else 0

    # Ending.

    def lapse(self) -> None:
        """The node was not heard for a lease's time."""
        self.leased = False

    def renew(self) -> None:
        """The node is heard again."""
        self.leased = True
        for database, _forwarded in list(self._waiting):
            self._let_in(database)

    def pause(self) -> None:
        self.paused = True
        self.machine.count_accepting()

    def resume(self) -> None:
        self.paused = False
        self.machine.count_accepting()
        held, self._held = self._held, []
        for call, arguments in held:
            self.do(call, *arguments)

    def stop(self) -> None:
        """SIGTERM: accept nothing more, finish what is in flight, at most for the drain's time."""
        self.serving = False
        self.machine.count_accepting()
        self._schedule.after(timings.WORKER_DRAIN, self.die)
        self._stop_when_empty()

    def _stop_when_empty(self) -> None:
        if self._inside and not self.paused:
            self._schedule.after(10_000, self._stop_when_empty)
        elif not self.paused:
            self.die()

    def die(self) -> None:
        """The process is gone, and every connection with it: its clients and its rqlited notice."""
        if not self.alive:
            return
        self.alive = self.serving = False
        stopped = [arguments[0] for call, arguments in self._held if call == self.submit]
        waiting = [query for queries in self._waiting.values() for query in queries]
        inside = list(self._inside)
        self._inside.clear()
        self._waiting.clear()
        for query in (*stopped, *waiting, *inside, *self.hops.die(), *self.copies.die()):
            query.end("unknown", "the worker died", NO_ROWS, 0)
        self.machine.worker_gone(self)
