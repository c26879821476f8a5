"""The event loop of the simulated world. The law kept here: one run is one sequence of events, ordered by (time, the order
in which they were scheduled) and by nothing else, so that a seed determines everything that happens.

Plain and synchronous on purpose: an async scheduler would bring an order of its own (facts: a heap gives a million events
a second, and a debugger that shows one stack).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

Call = Callable[..., object]


class Schedule:
    """Time, in integer microseconds since the world began, and what is still to happen."""

    __slots__ = ("_heap", "_sequence", "events", "now")

    def __init__(self) -> None:
        self.now = 0
        self.events = 0
        """How many events have happened."""
        self._heap: list[tuple[int, int, Call, tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, time: int, call: Call, *arguments: object) -> None:
        """Do ``call(*arguments)`` at ``time`` µs; what is past already happens next, never before what is under way."""
        self._sequence += 1
        heapq.heappush(self._heap, (time if time > self.now else self.now, self._sequence, call, arguments))

    def after(self, delay: int, call: Call, *arguments: object) -> None:
        """Do ``call(*arguments)`` ``delay`` µs from now."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, call, arguments))

    @property
    def next_at(self) -> int | None:
        """When the next event happens, or None when nothing is left."""
        return self._heap[0][0] if self._heap else None

    def run(self, until: int) -> None:
        """Let everything up to and including ``until`` µs happen; time is ``until`` afterwards. An exception of an event ends
        the run where it happened."""
        heap = self._heap
        pop = heapq.heappop
        events = 0
        try:
            while heap and heap[0][0] <= until:
                self.now, _, call, arguments = pop(heap)
                events += 1
                call(*arguments)
        finally:
            self.events += events
        self.now = max(self.now, until)
