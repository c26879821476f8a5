"""The causal context of the directory: which births this node has seen. The law kept here is P20: a context covers exactly
the dots that were seen, as a vector clock plus exceptions above a gap, so that *seen but absent means dropped*."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

from attrs import Factory, define

from protocol.ids import Dot
from protocol.rows import Seen


@define
class Context:
    """A set of dots, compact: for each store id the runs of births that were seen, in order, none adjacent to the next. A birth
    that came to nothing leaves a gap for ever: runs keep the cost of that constant, whatever follows it."""

    _runs: dict[str, list[tuple[int, int]]] = Factory(dict[str, list[tuple[int, int]]])

    def __contains__(self, dot: Dot) -> bool:
        runs = self._runs.get(dot.store)
        if runs is None:
            return False
        at = bisect_right(runs, (dot.n, dot.n)) - 1
        return (at >= 0 and dot.n <= runs[at][1]) or (at + 1 < len(runs) and runs[at + 1][0] == dot.n)

    def add(self, dot: Dot) -> Seen | None:
        """See one dot; the row to be made durable, or None when it was seen before."""
        if dot in self:
            return None
        runs = self._runs.setdefault(dot.store, [])
        at = bisect_right(runs, (dot.n, dot.n))
        first = last = dot.n
        before, after = at, at
        if at > 0 and runs[at - 1][1] == dot.n - 1:
            first, before = runs[at - 1][0], at - 1
        if at < len(runs) and runs[at][0] == dot.n + 1:
            last, after = runs[at][1], at + 1
        runs[before:after] = [(first, last)]
        return self.row(dot.store)

    def row(self, store: str) -> Seen:
        runs = self._runs.get(store, [])
        if runs and runs[0][0] == 1:
            return Seen(store, runs[0][1], tuple(n for run in runs[1:] for n in run))
        return Seen(store, 0, tuple(n for run in runs for n in run))

    def load(self, row: Seen) -> None:
        """What an earlier process had seen of one store id. Raises ValueError when the runs are in no order."""
        ends = (*((1, row.upto) if row.upto else ()), *row.beyond)
        runs = list(zip(ends[::2], ends[1::2], strict=True))
        if any(last < first for first, last in runs) or any(
            after[0] <= before[1] + 1 for before, after in pairwise(runs)
        ):
            raise ValueError(f"the runs of {row.store} are in no order")
        assert row.store not in self._runs, "each store id has one row"
        self._runs[row.store] = runs

    def rows(self) -> Iterator[Seen]:
        for store in sorted(self._runs):
            yield self.row(store)
