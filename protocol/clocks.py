"""The causal context of the directory: which births this node has seen. The law kept here is P20: a context covers exactly
the dots that were seen, as a vector clock plus exceptions above a gap, so that *seen but absent means dropped*."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import Factory, define

from protocol.ids import Dot
from protocol.rows import Seen


@define
class Context:
    """A set of dots, compact: per store id all up to ``upto``, and single ones beyond a gap."""

    _upto: dict[str, int] = Factory(dict[str, int])
    _beyond: dict[str, set[int]] = Factory(dict[str, set[int]])

    def __contains__(self, dot: Dot) -> bool:
        return dot.n <= self._upto.get(dot.store, 0) or dot.n in self._beyond.get(dot.store, ())

    def add(self, dot: Dot) -> Seen | None:
        """See one dot; the row to be made durable, or None when it was seen before."""
        if dot in self:
            return None
        beyond = self._beyond.setdefault(dot.store, set())
        beyond.add(dot.n)
        upto = self._upto.get(dot.store, 0)
        while upto + 1 in beyond:
            upto += 1
            beyond.discard(upto)
        self._upto[dot.store] = upto
        return self.row(dot.store)

    def row(self, store: str) -> Seen:
        return Seen(store, self._upto.get(store, 0), tuple(sorted(self._beyond.get(store, ()))))

    def load(self, row: Seen) -> None:
        """Join what an earlier process had seen."""
        self._upto[row.store] = max(row.upto, self._upto.get(row.store, 0))
        self._beyond.setdefault(row.store, set()).update(row.beyond)

    def rows(self) -> Iterator[Seen]:
        for store in sorted(self._upto):
            yield self.row(store)
