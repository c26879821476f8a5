"""Named timers, tabled (after quinn-proto): the engine reads no clock, it is told the time and asked for its next deadline.

A timer is (kind, key): ``kind`` names the handler in ``protocol.node``, ``key`` what it is about (an incarnation, an internal
name, a ticket). Setting one again moves it. Ties expire in the order in which they were set.
"""

from __future__ import annotations

import heapq

Name = tuple[str, str]


class Timers:
    __slots__ = ("_due", "_heap", "_order")

    def __init__(self) -> None:
        self._due: dict[Name, tuple[int, int]] = {}
        self._heap: list[tuple[int, int, Name]] = []
        self._order = 0

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
        deadline = self.deadline
        if deadline is None or deadline > now:
            return None
        name = heapq.heappop(self._heap)[2]
        del self._due[name]
        return name
