"""The simulated world: machines, clients, one clock, one seed. The law kept here is that nothing in it happens outside the
schedule, and nothing by chance outside the streams.
"""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from protocol import codec
from protocol.chart import TABLE, Chart
from protocol.effects import Decision
from protocol.ids import DatabaseName
from protocol.inputs import Received
from protocol.messages import Message
from sim import timings
from sim.checks import Checks
from sim.history import History
from sim.machine import Machine, Settings
from sim.moments import Moments
from sim.query import Query, Verdict
from sim.rqlite import Outcome
from sim.schedule import Schedule
from sim.streams import Streams, between
from sim.trace import Trace

NOTABLE = 100_000
"""A query that waited longer (µs) is part of the story."""


@frozen
class Told:
    """One line of the story: what happened when, to whom, why, and by which law."""

    at: int
    node: str
    database: str
    event: str
    because: str = ""
    law: str = ""
    kind: Literal["decision", "fault", "client"] = "decision"
    fields: tuple[tuple[str, str | int | float], ...] = ()


class World:
    """``telling``: keep the story (a long benchmark has none)."""

    def __init__(
        self,
        seed: int,
        machines: dict[str, Settings],
        chart: Chart = TABLE,
        keep_trace: bool = False,
        telling: bool = True,
    ) -> None:
        self.schedule = Schedule()
        self.streams = Streams(seed)
        self.trace = Trace(keep_trace)
        self.moments = Moments()
        self.checks = Checks()
        self.story: list[Told] = []
        self.decisions = 0
        self.histories: dict[tuple[str, str], History] = {}
        """(machine, ``app/name``) → its clients' history. Each machine is a cluster of its own while nodes know no others."""
        self._telling = telling
        self._values = 0
        self._queries = 0
        self._machine_of: dict[Query, tuple[Machine, History]] = {}
        self.machines = {name: Machine(self, name, settings, chart) for name, settings in machines.items()}

    def start(self) -> None:
        for machine in self.machines.values():
            machine.start_node()

    # Clients.

    def ask(
        self,
        machine: Machine,
        app: str,
        name: str,
        writes: bool,
        strong: bool = False,
        lasts: int = 0,
    ) -> Query:
        """A client of ``machine``'s gateway wants one query answered."""
        query = self._query(machine, app, name, writes, strong, lasts)
        self._connect(machine, query)
        return query

    def ask_directly(self, machine: Machine, app: str, name: str, writes: bool) -> Query:
        """A client that knows the rqlited's HTTP port asks it, past every door (F40)."""
        query = self._query(machine, app, name, writes, False, 0)
        rqlited = machine.running(DatabaseName(app, name).internal)
        if rqlited is None:
            query.end("problem", "connection refused", [], 0)
        elif writes:
            rqlited.write(self._answered_directly, query, query.value)
        else:
            rqlited.read(self._answered_directly, query)
        return query

    def _answered_directly(self, query: Query, outcome: Outcome, rows: list[int], count: int) -> None:
        verdict: dict[Outcome, Verdict] = {"ok": "ok", "reset": "unknown", "refused": "problem", "error": "problem"}
        query.end(verdict[outcome], "" if outcome == "ok" else f"rqlited: {outcome}", rows, count)

    def _query(self, machine: Machine, app: str, name: str, writes: bool, strong: bool, lasts: int) -> Query:
        key = (machine.name, f"{app}/{name}")
        history = self.histories.get(key)
        if history is None:
            history = self.histories[key] = History(f"{machine.name}: {app}/{name}")
        self._queries += 1
        if writes:
            self._values += 1
        value = self._values if writes else 0
        query = Query(self._queries, app, name, writes, value, strong, lasts, self.schedule.now, self._ended)
        self._machine_of[query] = (machine, history)
        history.wants(query)
        return query

    def _connect(self, machine: Machine, query: Query) -> None:
        if not machine.submit(query):
            if self.schedule.now + timings.CLIENT_RETRY > query.begun + timings.QUERY_TIMEOUT:
                query.end("timeout", "no gateway listens", [], 0)
            else:
                self.schedule.after(timings.CLIENT_RETRY, self._connect, machine, query)

    def _ended(self, query: Query, verdict: Verdict, detail: str, rows: list[int], count: int) -> None:
        machine, history = self._machine_of.pop(query)
        now = self.schedule.now
        self.trace.note(f"{query.number} ? {now} {verdict} {count} {detail}")
        history.ended(query, verdict, detail, rows, count, now)
        if self._telling and (verdict != "ok" or now - query.begun >= NOTABLE):
            what = "a write" if query.writes else "a read"
            event = f"{what} was answered" if verdict == "ok" else f"{what} got: {verdict}"
            waited = (("waited_ms", (now - query.begun) // 1000),)
            internal = DatabaseName(query.app, query.name).internal
            self.story.append(Told(now, machine.name, internal, event, detail, kind="client", fields=waited))

    # The story.

    def decided(self, machine: Machine, decision: Decision) -> None:
        self.decisions += 1
        if decision.event == "hibernated":
            self.checks.slept(machine, decision.database)
        if self._telling:
            told = Told(
                self.schedule.now,
                machine.name,
                decision.database,
                decision.event,
                decision.because,
                decision.law,
                fields=decision.fields,
            )
            self.story.append(told)

    def tell(self, node: str, database: str, event: str, because: str = "") -> None:
        """What the world itself did: a fault, its end."""
        self.trace.note(f"{node} * {self.schedule.now} {database} {event} {because}")
        if self._telling:
            self.story.append(Told(self.schedule.now, node, database, event, because, kind="fault"))

    # The network between machines: a fixed small delay, in order, nothing lost. Faults of it are a subsystem of their own.

    def send(self, sender: Machine, to: str, message: Message) -> None:
        for machine in self.machines.values():
            if machine.settings.config.peer == to and machine is not sender:
                self._carry(sender, machine, codec.encode(message))

    def broadcast(self, sender: Machine, message: Message) -> None:
        data = codec.encode(message)
        for machine in self.machines.values():
            if machine is not sender:
                self._carry(sender, machine, data)

    def _carry(self, sender: Machine, receiver: Machine, data: bytes) -> None:
        delay = between(self.streams["network"], timings.HOP)
        self.schedule.after(delay, self._deliver, sender.settings.config.peer, receiver, data)

    def _deliver(self, sender: str, receiver: Machine, data: bytes) -> None:
        if receiver.node is not None:
            receiver.node.feed(Received, sender, codec.decode(data))

    # Looking at everything.

    def scan(self) -> None:
        for machine in self.machines.values():
            self.checks.scan(machine)
