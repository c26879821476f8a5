"""Doors: which database a query may be sent to, and how many are on their way. The law kept here is P30, F41, F56:

- A query is sent to rqlited only between :meth:`Doors.enter` and :meth:`Doors.leave`, and enters only by an open door.
- A closed door's acknowledgement carries the number of queries still in flight *of that incarnation*, whichever generation
  of its door let them in; the node votes for sleep only when it is 0. After an acknowledgement of 0 for a closed generation no query
  enters until a higher generation opens.
- A door of a lower generation than a known one changes nothing and is not acknowledged: it was overtaken.
- Without a lease (the node has not been heard for ``lease_s``) or after :meth:`Doors.shut` nothing enters: an open door never
  outlives the node that would close it.

A plain synchronous object: it has no task in which a query could slip between a look and an act, and its clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field, frozen

from runtime.gateway.frames import Door, DoorAck, Used

REPORT_S: Final = 1.0
"""Shortest time between two reports of use of one database (R41)."""


@frozen
class Passage:
    """One query's permission to be at ``url``; it must be given back once, when rqlited is done with the query."""

    incarnation: str
    url: str


@define
class _Counts:
    """Of one incarnation, over all generations of its door."""

    in_flight: int = 0
    unreported: int = 0
    told_in_flight: int = 0
    told_at: float = float("-inf")


@define
class Doors:
    """``send`` takes each frame for the node, in order; ``clock`` gives monotonic seconds that go on while the process is
    stopped (a worker that was paused for a minute must find its lease over *before* it reads its channel)."""

    worker: int
    lease_s: float
    send: Callable[[DoorAck | Used], None]
    clock: Callable[[], float]
    _routes: dict[str, Door] = field(factory=dict[str, Door], init=False)
    """incarnation → its door as last told."""
    _named: dict[tuple[str, str], str] = field(factory=dict[tuple[str, str], str], init=False)
    """(app, name) → the incarnation that queries for the name go to."""
    _counts: dict[str, _Counts] = field(factory=dict[str, _Counts], init=False)
    _leased_until: float = field(init=False)
    _shut: bool = field(default=False, init=False)
    in_flight: int = field(default=0, init=False)
    """Of all databases."""
    stopping: bool = field(default=False, init=False)
    """Queries still enter, those that come no more should be sent elsewhere."""

    def __attrs_post_init__(self) -> None:
        self._leased_until = self.clock() + self.lease_s

    def renew(self) -> None:
        """The node was heard."""
        self._leased_until = self.clock() + self.lease_s

    def shut(self) -> None:
        """Nothing enters any more, for ever."""
        self._shut = True

    @property
    def serving(self) -> bool:
        """Whether any query may enter at all."""
        return not self._shut and self.clock() < self._leased_until

    def tell(self, door: Door) -> bool:
        """Carry out what the node says of a door, and acknowledge it. True when the door is now open."""
        known = self._routes.get(door.incarnation)
        if known is not None and door.generation < known.generation:
            return False
        self._routes[door.incarnation] = door
        if door.open:
            self._named[door.app, door.name] = door.incarnation
        counts = self._counts.setdefault(door.incarnation, _Counts())
        self.send(DoorAck(self.worker, door.incarnation, door.generation, counts.in_flight))
        return door.open

    def forget(self, incarnation: str) -> None:
        """The database has no door here. Queries of it that are still in flight stay counted."""
        door = self._routes.pop(incarnation, None)
        if door is not None and self._named.get((door.app, door.name)) == incarnation:
            del self._named[door.app, door.name]
        self._drop_if_idle(incarnation)

    def enter(self, app: str, name: str) -> Passage | None:
        """Count a query in, when the door is open; None: it has to wait. The first query after a quiet second is reported at
        once, before any later acknowledgement of a closed door (F40: a busy database never sleeps)."""
        incarnation = self._named.get((app, name))
        if incarnation is None:
            return None
        door = self._routes[incarnation]
        if not door.open or not self.serving:
            return None
        counts = self._counts[incarnation]
        counts.in_flight += 1
        counts.unreported += 1
        self.in_flight += 1
        now = self.clock()
        if now - counts.told_at >= REPORT_S:
            self._report(incarnation, counts, now)
        return Passage(incarnation, door.url)

    def is_open(self, app: str, name: str) -> bool:
        """Whether a query would get a passage now."""
        incarnation = self._named.get((app, name))
        return incarnation is not None and self._routes[incarnation].open and self.serving

    def leave(self, passage: Passage) -> None:
        """The query is over for rqlited: it has answered, or can no longer do anything for it."""
        counts = self._counts[passage.incarnation]
        assert counts.in_flight > 0, "a passage is given back once"
        counts.in_flight -= 1
        self.in_flight -= 1
        door = self._routes.get(passage.incarnation)
        if door is None:
            self._drop_if_idle(passage.incarnation)
        elif not door.open and counts.in_flight == 0:
            self.send(DoorAck(self.worker, passage.incarnation, door.generation, 0))

    def report(self) -> None:
        """Tell the node of traffic not yet told. To be called about once a second; a quiet database costs no frame."""
        now = self.clock()
        for incarnation, counts in self._counts.items():
            changed = counts.unreported or counts.in_flight != counts.told_in_flight
            if changed and now - counts.told_at >= REPORT_S:
                self._report(incarnation, counts, now)

    def _report(self, incarnation: str, counts: _Counts, now: float) -> None:
        self.send(Used(self.worker, incarnation, counts.unreported, counts.in_flight))
        counts.unreported, counts.told_in_flight, counts.told_at = 0, counts.in_flight, now

    def _drop_if_idle(self, incarnation: str) -> None:
        counts = self._counts.get(incarnation)
        if counts is not None and counts.in_flight == 0:
            del self._counts[incarnation]
