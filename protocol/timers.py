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
        self._due: dict[Name, int] = {}
        """Name → the order in which it was set: whatever else the heap has of it is void."""
        self._heap: list[tuple[int, int, Name]] = []
        self._order = 0

    def set(self, kind: str, key: str, at: int) -> None:
        """Expire (kind, key) at ``at`` (µs), instead of whenever it was set before."""
        self._order += 1
        self._due[kind, key] = self._order
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
            if self._due.get(name) == order:
                return at
            heapq.heappop(heap)
        return None

    def expired(self, now: int) -> Name | None:
        """Take the next timer that is due at ``now``, or None."""
        heap, due = self._heap, self._due
        while heap and heap[0][0] <= now:
            _, order, name = heapq.heappop(heap)
            if due.get(name) == order:
                del due[name]
                return name
        return None
