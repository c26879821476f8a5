"""The Raft group of one incarnation, as far as the protocol can see it. The law kept here is rqlite's: who runs and has a majority of
the voters beside it answers strong reads, and what was acknowledged is on a majority's disks.

A write is one number more in the log, on every member that runs. A member that starts catches up when it is ready. The lowest running
voter leads. Every value is frozen: a world has one for each incarnation.
"""

from __future__ import annotations

from typing import Final, TypeVar

from attrs import evolve, frozen

T = TypeVar("T")

NOTHING: Final = -1
"""No data here, or a database file that does not hold all of it without its WAL."""
AWAKE: Final = -2


def _put(values: tuple[T, ...], at: int, value: T) -> tuple[T, ...]:
    return (*values[:at], value, *values[at + 1 :])


@frozen
class Group:
    """``runs``: for each node the run of its process, or 0. ``ids``: node ids, where it has data. ``applied``: up to where its
    data goes. ``folded``: up to where its database file goes by itself. ``rested``: ``folded`` at its last clean exit, NOTHING after
    another exit, AWAKE since its start. ``counters``: requests that its process has served."""

    incarnation: str
    runs: tuple[int, ...]
    ids: tuple[str, ...]
    voters: frozenset[int] = frozenset()
    applied: tuple[int, ...] = ()
    folded: tuple[int, ...] = ()
    rested: tuple[int, ...] = ()
    counters: tuple[int, ...] = ()
    log: int = 0

    @classmethod
    def of(cls, incarnation: str, nodes: int) -> Group:
        nothing = (NOTHING,) * nodes
        return cls(incarnation, (0,) * nodes, ("",) * nodes, frozenset(), nothing, nothing, nothing, (0,) * nodes)

    @property
    def quorum(self) -> bool:
        return 2 * sum(bool(self.runs[voter]) for voter in self.voters) > len(self.voters)

    def leads(self, node: int) -> bool:
        return self.quorum and node == min(voter for voter in self.voters if self.runs[voter])

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.ids[voter] for voter in self.voters))

    def start(self, node: int, run: int, node_id: str, found: bool) -> Group:
        return evolve(
            self,
            runs=_put(self.runs, node, run),
            ids=_put(self.ids, node, node_id),
            voters=frozenset({node}) if found else self.voters,
            applied=_put(self.applied, node, 0) if found else self.applied,
            folded=_put(self.folded, node, NOTHING),
            rested=_put(self.rested, node, AWAKE),
            counters=_put(self.counters, node, 0),
        )

    def ready(self, node: int) -> Group:
        """Its first strong read: it is a voter, and has everything."""
        return evolve(self, voters=self.voters | {node}, applied=_put(self.applied, node, self.log))

    def write(self, node: int) -> Group:
        """Acknowledged by ``node``'s process."""
        log = self.log + 1
        applied = tuple(log if run and has >= 0 else has for run, has in zip(self.runs, self.applied, strict=True))
        return evolve(self, log=log, applied=applied, counters=_put(self.counters, node, self.counters[node] + 1))

    def fold(self, node: int) -> Group:
        return evolve(self, folded=_put(self.folded, node, self.applied[node]))

    def end(self, node: int, clean: bool) -> Group:
        """The process is gone."""
        whole = clean and self.folded[node] == self.applied[node]
        rested = self.folded[node] if whole else NOTHING
        return evolve(self, runs=_put(self.runs, node, 0), rested=_put(self.rested, node, rested))

    def wipe(self, node: int) -> Group:
        """The disk is gone."""
        return evolve(
            self,
            runs=_put(self.runs, node, 0),
            applied=_put(self.applied, node, NOTHING),
            folded=_put(self.folded, node, NOTHING),
            rested=_put(self.rested, node, NOTHING),
        )
