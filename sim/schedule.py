"""The event loop of the simulated world. The law kept here: one run is one sequence of events, ordered by (time, the order
in which they were scheduled) and by nothing else, so that a seed determines everything that happens.

Plain and synchronous on purpose: an async scheduler would bring an order of its own (facts: a heap gives a million events
a second, and a debugger that shows one stack).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

Call = Callable[..., object]


class Schedule:
    """Time, in integer microseconds since the world began, and what is still to happen."""

    __slots__ = ("_heap", "_order", "_scheduled", "now")

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[tuple[int, int, Call, tuple[Any, ...]]] = []
        self._scheduled = count()
        self._order = self._scheduled.__next__

    def at(self, time: int, call: Call, *arguments: object) -> None:
        """Do ``call(*arguments)`` at ``time`` µs; what is past already happens next, never before what is under way."""
        heappush(self._heap, (time if time > self.now else self.now, self._order(), call, arguments))

    def after(self, delay: int, call: Call, *arguments: object) -> None:
        """Do ``call(*arguments)`` ``delay`` µs from now."""
        heappush(self._heap, (self.now + delay, self._order(), call, arguments))

    @property
    def events(self) -> int:
        """How many events have happened."""
        # A count says where it stands without counting on: nothing to keep up for each event.
        return int(self._scheduled.__reduce__()[1][0]) - len(self._heap)

    def run(self, until: int) -> None:
        """Let everything up to and including ``until`` µs happen; time is ``until`` afterwards. An exception of an event ends
        the run where it happened."""
        heap, pop = self._heap, heappop
        # What is not to happen any more in this run ends it: a sentinel is cheaper than a look at each event's time.
        heappush(heap, (until, _LAST, _end, ()))
        try:
            while True:
                self.now, _, call, arguments = pop(heap)
                call(*arguments)
        except _Ended:
            pass
        self.now = max(self.now, until)


class _Ended(Exception):
    """The sentinel was reached."""


_LAST: Final = 1 << 62
"""After everything else of its microsecond."""


def _end() -> None:
    raise _Ended
