"""Queries from one node's gateway to another's: the hop of clients whose node is no member. The laws kept here are F93 (what came
from a gateway is never sent on, and only gateways that are believed are heard), F86 (a query goes to the next member only when
it was never sent; of one that was, nothing is known once its connection ends) and F14 (who was sent to a node that hosts nothing
asks its own node once more).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from protocol import effects
from sim import timings
from sim.query import Query, Verdict
from sim.rqlite import NO_ROWS
from sim.streams import between

if TYPE_CHECKING:
    from sim.gateway import Worker
    from sim.machine import Machine

Database = tuple[str, str]
NOT_ENTERED: Final = ("not-a-member", "stopping")
"""Problems of a member's gateway that say: this query has passed no door."""


class Errand(Query):
    """A query at a member's gateway, on behalf of the one that its client waits for at another's."""

    __slots__ = ("asked", "member", "origin", "others")

    def __init__(self, asked: Query, origin: Hops, member: Machine, others: tuple[effects.Hop, ...]) -> None:
        super().__init__(
            asked.client, asked.number, asked.value, asked.strong, asked.lasts, asked.begun, asked.max_stale
        )
        self.forwarded = True
        self.asked = asked
        self.origin = origin
        self.member = member
        self.others = others

    def end(self, verdict: Verdict, detail: str, rows: list[int], count: int) -> None:
        """The answer goes back; over a link that is cut it never arrives."""
        assert self.verdict is None, f"errand of query {self.number} ended twice"
        self.verdict = verdict
        self.origin.back(self, verdict, detail, rows, count)


@frozen
class Known:
    """Who serves a database, as the node said it; asked again after a while, so that the node is in no query's path."""

    hops: tuple[effects.Hop, ...]
    until: int


class Hops:
    """What one gateway worker sends to other nodes' gateways."""

    def __init__(self, worker: Worker) -> None:
        self.believed: tuple[bytes, ...] = ()
        """Fingerprints of the gateways whose queries this worker takes."""
        self._worker = worker
        self._machine = worker.machine
        self._schedule = worker.machine.schedule
        self._chance = worker.machine.streams["hops"]
        self._known: dict[Database, Known] = {}
        self._avoided: dict[str, int] = {}
        """Until when a peer's gateway is tried last: it could not be connected to, or it failed."""
        self._away: dict[Query, Errand] = {}

    def learn(self, database: Database, hops: tuple[effects.Hop, ...]) -> None:
        """The node has said who serves it."""
        self._known[database] = Known(hops, self._schedule.now + timings.ROUTE_TTL)

    def take(self, query: Query) -> bool:
        """Send a query on, when it is known where to; otherwise the node has to be asked."""
        known = self._known.get(query.database)
        if known is None or known.until <= self._schedule.now or query.forwarded:
            return False
        now, avoided, hops = self._schedule.now, self._avoided, known.hops
        if avoided and len(hops) > 1:
            hops = tuple(sorted(hops, key=lambda hop: avoided.get(hop.peer, 0) > now))
        self._try(query, hops)
        return True

    def _try(self, query: Query, hops: tuple[effects.Hop, ...]) -> None:
        """Connect to the first of these gateways; to the next when there is no connection: nothing was sent."""
        if not hops:
            self._nowhere(query, "no gateway of a member can be reached")
            return
        member = self._machine.world.machines[hops[0].peer]
        at = between(self._chance, timings.HOP)
        if not self._linked(member):
            self._schedule.after(timings.HOP_CONNECT, self._worker.do, self._refused, query, hops)
            return
        config = self._machine.settings.config
        accepting = [one for one in member.accepting if config.fingerprint in one.hops.believed]
        if not accepting:
            self._schedule.after(2 * at, self._worker.do, self._refused, query, hops)
            return
        worker = accepting[between(self._chance, (0, len(accepting) - 1))]
        errand = self._away[query] = Errand(query, self, member, hops[1:])
        self._schedule.after(at, self._arrive, errand, worker)
        self._schedule.at(query.begun + timings.QUERY_TIMEOUT, self._worker.do, self._expire, errand)

    def _refused(self, query: Query, hops: tuple[effects.Hop, ...]) -> None:
        self._avoid(hops[0].peer)
        self._try(query, hops[1:])

    def _avoid(self, peer: str) -> None:
        self._avoided[peer] = self._schedule.now + timings.HOP_AVOID

    def _arrive(self, errand: Errand, worker: Worker) -> None:
        if not self._linked(errand.member):
            return  # lost: its client's gateway waits until the query's time is over
        if worker.alive:
            worker.submit(errand)
        else:
            errand.end("unknown", "the member's gateway died", NO_ROWS, 0)

    def _linked(self, member: Machine) -> bool:
        return self._machine.world.groups.linked(self._machine.host, member.host)

    def _nowhere(self, query: Query, because: str) -> None:
        """Nothing was sent: ask the node once more who serves the database."""
        self._known.pop(query.database, None)
        if query.asked_again or self._schedule.now >= query.begun + timings.QUERY_TIMEOUT:
            self._worker.refuse(query, "problem", f"unavailable: {because}")
        else:
            query.asked_again = True
            self._worker.submit(query)

    def back(self, errand: Errand, verdict: Verdict, detail: str, rows: list[int], count: int) -> None:
        """A member's gateway answers."""
        if self._linked(errand.member):
            way = between(self._chance, timings.HOP)
            self._schedule.after(way, self._worker.do, self._answered, errand, verdict, detail, rows, count)

    def _answered(self, errand: Errand, verdict: Verdict, detail: str, rows: list[int], count: int) -> None:
        query = errand.asked
        if self._away.get(query) is not errand:
            return  # its time was over
        del self._away[query]
        query.as_of = errand.as_of
        if verdict == "problem" and detail.startswith(NOT_ENTERED):
            self._avoid(errand.member.name)
            if errand.others:
                self._try(query, errand.others)
            else:
                self._nowhere(query, detail)
        else:
            if verdict != "ok":
                self._known.pop(query.database, None)
                self._avoid(errand.member.name)
            self._schedule.after(between(self._chance, timings.TO_GATEWAY), query.end, verdict, detail, rows, count)

    def _expire(self, errand: Errand) -> None:
        if self._away.pop(errand.asked, None) is errand:
            self._worker.refuse(errand.asked, "timeout", "the member did not answer in time")

    def die(self) -> list[Query]:
        """The worker is gone. Whose queries were away, and will not hear of them."""
        away = list(self._away)
        self._away.clear()
        return away
