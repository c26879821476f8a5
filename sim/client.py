"""The clients of one database, who come from one machine. The law kept here: they are patient with what was never sent (a refused
connection is tried again, here or at another node of the cluster), and never repeat what may have happened (F86).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from protocol.ids import DatabaseName
from sim import timings
from sim.history import History
from sim.query import Query, Verdict
from sim.rqlite import NO_ROWS, Outcome
from sim.streams import between

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World

NOTABLE: Final = 100_000
"""A query that waited longer (µs) is part of the story."""
_WAY_FROM: Final = timings.TO_GATEWAY[0]
_WAY_SPAN: Final = timings.TO_GATEWAY[1] - timings.TO_GATEWAY[0]


class Client:
    def __init__(self, world: World, machine: Machine, app: str, name: str, history: History) -> None:
        self.machine = machine
        self.gateway = machine
        """Where they send their queries: where they come from, until nobody listens there."""
        self.database = (app, name)
        self.internal = DatabaseName(app, name).internal
        self.history = history
        self._world = world
        self._schedule = world.schedule
        self._after = world.schedule.after
        self._chance = world.streams["clients"]
        self._random = self._chance.random
        self._note = world.trace.note

    def ask(self, writes: bool, strong: bool = False, lasts: int = 0, max_stale: int = 0) -> Query:
        """One query through the gateway."""
        query = self._query(writes, strong, lasts, 0 if writes else max_stale)
        self._after(_WAY_FROM + int(self._random() * _WAY_SPAN), self._connect, query)
        return query

    def ask_directly(self, writes: bool) -> Query:
        """One query of somebody who knows the rqlited's HTTP port, past every door (F40). There is nothing to know before the
        database was acknowledged to anybody: until then its birth may still come to nothing (P12)."""
        query = self._query(writes, False, 0)
        rqlited = self.gateway.running(self.internal)
        if rqlited is None or not self._born(rqlited.start.incarnation):
            query.end("problem", "connection refused", NO_ROWS, 0)
        elif writes:
            rqlited.write(self._answered_directly, query, query.value)
        else:
            rqlited.read(self._answered_directly, query)
        return query

    def _born(self, incarnation: str) -> bool:
        """Some node knows that this very birth was acknowledged. Of two of one name, the one that was given up may still run at a member that
        is cut off."""
        cluster = self._world.clusters[self.machine.settings.config.cluster]
        states = [one.node.engine.state for one in cluster if one.node is not None and one.node.alive]
        records = [state.records[incarnation] for state in states if incarnation in state.records]
        return any(record.phase != "creating" for record in records)

    def _answered_directly(self, query: Query, outcome: Outcome, rows: list[int], count: int) -> None:
        verdict: dict[Outcome, Verdict] = {"ok": "ok", "reset": "unknown", "refused": "problem", "error": "problem"}
        query.end(verdict[outcome], "" if outcome == "ok" else f"rqlited: {outcome}", rows, count)

    def _query(self, writes: bool, strong: bool, lasts: int, max_stale: int = 0) -> Query:
        world = self._world
        world.queries += 1
        value = 0
        history = self.history
        history.asked += 1
        if writes:
            value = world.values = world.values + 1
            history.sent.add(value)
        return Query(self, world.queries, value, strong, lasts, self._schedule.now, max_stale)

    def _connect(self, query: Query) -> None:
        workers = self.gateway.accepting
        if not workers:
            if query.begun + timings.CLIENT_PATIENCE < self._schedule.now:
                self._go_on()
            if self._schedule.now + timings.CLIENT_RETRY > query.begun + timings.QUERY_TIMEOUT:
                query.end("timeout", "no gateway listens", NO_ROWS, 0)
            else:
                self._schedule.after(timings.CLIENT_RETRY, self._connect, query)
        elif len(workers) == 1:
            workers[0].submit(query)
        else:
            workers[between(self._chance, (0, len(workers) - 1))].submit(query)

    def _go_on(self) -> None:
        """Nobody listens there: try the next node of the cluster."""
        cluster = self._world.clusters[self.machine.settings.config.cluster]
        self.gateway = cluster[(cluster.index(self.gateway) + 1) % len(cluster)]

    def told(self, query: Query, rows: list[int], count: int) -> None:
        """A query has ended: hold the answer against what clients were told before."""
        now = self._schedule.now
        verdict = query.verdict
        self._note(f"{query.number} ? {now} {verdict} {count}")
        history, waited = self.history, now - query.begun
        if verdict == "ok":
            history.answered += 1
            if waited > history.slowest:
                history.slowest = waited
            if query.value:
                history.acknowledge(query.value, now)
            elif query.as_of >= 0:
                history.saw_copy(rows, query.as_of)
                history.slowest_stale = max(history.slowest_stale, waited)
            else:
                history.saw(rows, count, query.begun, now if query.strong else None)
            if waited < NOTABLE:
                return
        else:
            history.failed.append((now, query))
        what = "a write" if query.value else "a read"
        event = f"{what} was answered" if verdict == "ok" else f"{what} got: {verdict}"
        self._world.noticed(self, event, query.detail, waited)
