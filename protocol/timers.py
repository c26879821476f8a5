"""Named timers, tabled (after quinn-proto): the engine reads no clock, it is told the time and asked for its next deadline.

A timer is (kind, key): ``kind`` names the handler in ``protocol.node``, ``key`` what it is about (an incarnation, an internal
name, a ticket). Setting one again moves it. Ties expire in the order in which they were set.
"""

from __future__ import annotations

import heapq

from attrs import Factory, define, field

Name = tuple[str, str]


@define
class Timers:
    _due: dict[Name, tuple[int, int]] = Factory(dict[Name, tuple[int, int]])
    """When each expires, and the order in which it was set."""
    _order: int = 0
    _heap: list[tuple[int, int, Name]] = field(init=False, eq=False, repr=False)
    """The same, soonest first, and what was moved or cleared since."""

    def __attrs_post_init__(self) -> None:
        self._heap = sorted((at, order, name) for name, (at, order) in self._due.items())

    def set(self, kind: str, key: str, at: int) -> None:
        """Expire (kind, key) at ``at`` (µs), instead of whenever it was set before."""
        self._order += 1
        self._due[kind, key] = (at, self._order)
        heapq.heappush(self._heap, (at, self._order, (kind, key)))

    def clear(self, kind: str, key: str) -> None:
        self._due.pop((kind, key), None)

    def is_set(self, kind: str, key: str) -> bool:
        return (kind, key) in self._due

    @property
    def deadline(self) -> int | None:
        """When the next timer expires, or None."""
        heap = self._heap
        while heap:
            at, order, name = heap[0]
            if self._due.get(name) == (at, order):
                return at
            heapq.heappop(heap)
        return None

    def expired(self, now: int) -> Name | None:
        """Take the next timer that is due at ``now``, or None."""
        heap, due = self._heap, self._due
        while heap and heap[0][0] <= now:
            at, order, name = heapq.heappop(heap)
            if due.get(name) == (at, order):
                del due[name]
                return name
        return None
