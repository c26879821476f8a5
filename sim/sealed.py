"""Reads of sleeping databases, as a gateway worker does them. The laws kept here are P34 (a copy is read between the node's word that it may be
and its word that it may no more; closing ends every reader, and is acknowledged once there is none) and F53 (what somebody has opened since,
or what is too old, is no answer: the query goes the ordinary way; where the node hosts nothing, that is the way to a member, who answers it
from its copy).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from protocol.effects import SealedCopy
from protocol.inputs import ReadSealed, SealedAck
from sim import timings
from sim.disk import Directory
from sim.query import Query
from sim.streams import between

if TYPE_CHECKING:
    from sim.gateway import Worker

Database = tuple[str, str]


@define(eq=False)
class Reader:
    """One open connection to a copy. ``query``: None once its answer counts no more. ``opens``: how often somebody had opened the directory
    before."""

    copy: SealedCopy
    directory: Directory
    opens: int
    rows: list[int]
    query: Query | None


class Copies:
    """What one worker may read of what sleeps."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._machine = worker.machine
        self._schedule = worker.machine.schedule
        self._chance = worker.machine.streams["sealed"]
        self._open: dict[Database, SealedCopy] = {}
        self._closed: dict[str, int] = {}
        """Incarnation → the generation under which it was closed last."""
        self._asking: dict[Database, list[Query]] = {}
        self._readers: list[Reader] = []

    def take(self, query: Query) -> None:
        """A query whose client accepts an old answer, in front of a closed door."""
        copy = self._open.get(query.database)
        if copy is not None:
            self._read(query, copy)
            return
        if self._worker.hops.take(query):
            query.current = True  # when nobody is there, its own node is asked for a way, and not for a copy again
            return
        waiting = self._asking.setdefault(query.database, [])
        waiting.append(query)
        self._schedule.after(timings.SEALED_PATIENCE, self._worker.do, self._not_told, query)
        if len(waiting) == 1:
            self._worker.tell_node(ReadSealed, self._worker.number, *query.database)

    def _not_told(self, query: Query) -> None:
        waiting = self._asking.get(query.database, [])
        if query in waiting:
            waiting.remove(query)
            if not waiting:
                del self._asking[query.database]
            self._ordinary(query)

    def _ordinary(self, query: Query) -> None:
        query.current = True
        self._worker.submit(query)

    # What the node says.

    def told(self, copy: SealedCopy) -> None:
        database = (copy.app, copy.name)
        if copy.open:
            self._open[database] = copy
        elif copy.incarnation:
            self._close(copy, database)
        elif copy.hops:
            self._worker.hops.learn(database, copy.hops)
        for query in self._asking.pop(database, ()):
            if copy.open:
                self._read(query, copy)
            else:
                self._ordinary(query)

    def _close(self, copy: SealedCopy, database: Database) -> None:
        self._closed[copy.incarnation] = copy.generation
        known = self._open.get(database)
        if known is not None and known.incarnation == copy.incarnation:
            del self._open[database]
        inside = [reader for reader in self._readers if reader.copy.incarnation == copy.incarnation]
        self._acknowledge(copy.incarnation)
        for reader in inside:
            query, reader.query = reader.query, None
            self._schedule.after(between(self._chance, timings.INTERRUPT), self._worker.do, self._end, reader)
            if query is not None:
                self._ordinary(query)

    def _acknowledge(self, incarnation: str) -> None:
        ack = (incarnation, self._closed[incarnation], self.reading(incarnation))
        self._worker.tell_node(SealedAck, self._worker.number, *ack)

    def reading(self, incarnation: str) -> int:
        """How many connections to this copy are open."""
        return sum(reader.copy.incarnation == incarnation for reader in self._readers)

    def closed(self, copy: SealedCopy) -> bool:
        """It has done what the node said, and nobody is left."""
        return self._closed.get(copy.incarnation, -1) >= copy.generation and not self.reading(copy.incarnation)

    # Reading.

    def _read(self, query: Query, copy: SealedCopy) -> None:
        directory = self._machine.disk.directory(copy.incarnation)
        if directory is None or not self._fresh(query, copy):
            self._ordinary(query)
            return
        rows = directory.values[: directory.folded]
        reader = Reader(copy, directory, directory.opens, rows, query)
        self._readers.append(reader)
        took = query.lasts or between(self._chance, timings.SEALED_READ)
        self._schedule.after(took, self._worker.do, self._end, reader)

    def _fresh(self, query: Query, copy: SealedCopy) -> bool:
        return self._worker.leased and self._machine.clock() - copy.current_at <= query.max_stale

    def _end(self, reader: Reader) -> None:
        """It has read everything, or was interrupted."""
        if reader not in self._readers:
            return
        self._readers.remove(reader)
        incarnation, query = reader.copy.incarnation, reader.query
        if query is None:
            if not self.reading(incarnation):
                self._acknowledge(incarnation)
        elif reader.directory.opens != reader.opens or not self._fresh(query, reader.copy):
            self._ordinary(query)
        else:
            query.as_of = self._machine.when(reader.copy.current_at)
            at = between(self._chance, timings.TO_GATEWAY)
            self._schedule.after(at, query.end, "ok", "", reader.rows, len(reader.rows))

    def die(self) -> list[Query]:
        """The worker is gone, and every connection with it. Who waited for it."""
        waiting = [query for queries in self._asking.values() for query in queries]
        waiting += [reader.query for reader in self._readers if reader.query is not None]
        self._asking.clear()
        self._readers.clear()
        return waiting
