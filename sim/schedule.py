"""The event loop of the simulated world. The law kept here: one run is one sequence of events, ordered by (time, the order
in which they were scheduled) and by nothing else, so that a seed determines everything that happens.

Plain and synchronous on purpose: an async scheduler would bring an order of its own, and no debugger would show one stack. What is to
happen stands in one sorted list, the next last: most of what is scheduled is to happen soon, so it goes in near the end, with half as many
comparisons as in a heap.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from itertools import count
from typing import Any, Final

Call = Callable[..., object]


class Schedule:
    """Time, in integer microseconds since the world began, and what is still to happen."""

    __slots__ = ("_coming", "_order", "_scheduled", "now")

    def __init__(self) -> None:
        self.now = 0
        self._coming: list[tuple[int, int, Call, tuple[Any, ...]]] = []
        """Time and order, both negated, so that what is next stands last."""
        self._scheduled = count(0, -1)
        self._order = self._scheduled.__next__

    def at(self, time: int, call: Call, *arguments: object) -> None:
        """Do ``call(*arguments)`` at ``time`` µs; what is past already happens next, never before what is under way."""
        insort(self._coming, (-time if time > self.now else -self.now, self._order(), call, arguments))

    def after(self, delay: int, call: Call, *arguments: object) -> None:
        """Do ``call(*arguments)`` ``delay`` µs from now."""
        insort(self._coming, (-self.now - delay, self._order(), call, arguments))

    @property
    def events(self) -> int:
        """How many events have happened."""
        # A count says where it stands without counting on: nothing to keep up for each event.
        return -int(self._scheduled.__reduce__()[1][0]) - len(self._coming)

    def run(self, until: int) -> None:
        """Let everything up to and including ``until`` µs happen; time is ``until`` afterwards. An exception of an event ends
        the run where it happened."""
        pop = self._coming.pop
        # What is not to happen any more in this run ends it: a sentinel is cheaper than a look at each event's time.
        insort(self._coming, (-until, _LAST, _end, ()))
        try:
            while True:
                time, _, call, arguments = pop()
                self.now = -time
                call(*arguments)
        except _Ended:
            pass
        self.now = max(self.now, until)


class _Ended(Exception):
    """The sentinel was reached."""


_LAST: Final = -1 << 62
"""After everything else of its microsecond."""


def _end() -> None:
    raise _Ended
