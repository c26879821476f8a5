"""A name with two databases, after a cluster was split by hand or its disks were put back: one of them is the database, the other is kept and
touched by nobody. The law kept here is P15, as far as a member carries it out (F11): whose record says *quarantined* closes its door, stops
its rqlited and keeps its directory and its Raft port. Which one it is, :mod:`protocol.directory` has found by the facts of birth; that the
record says so makes it last, also when the chosen one is dropped. Only an operator ends it.

Clients of the other one are clients of the chosen one: they asked for a name."""

from __future__ import annotations

from protocol import coordination, directory
from protocol.lifecycle import doors, process, sealed
from protocol.lifecycle.orders import complain, fire
from protocol.state import Hosted
from protocol.turn import Turn


def obey(turn: Turn, hosted: Hosted) -> list[int]:
    """Take this replica out of everything, once; the requests that waited for it."""
    waiters, hosted.waiters = hosted.waiters, []  # they are not refused: the name has a database
    if not fire(turn, hosted, "conflict"):
        hosted.waiters = waiters
        return []
    for kind in process.TIMERS:
        turn.cancel(kind, hosted.incarnation)
    coordination.end(turn, hosted)
    hosted.sleep = hosted.deciding = None
    hosted.stopping = hosted.vote = hosted.closing = hosted.following = 0
    hosted.doubt = ""
    explain(turn, hosted)
    doors.forget(turn, hosted)
    sealed.revoke(turn, hosted)
    chosen = directory.chosen(turn.state, hosted.internal)
    here = turn.state.hosted.get(chosen.incarnation) if chosen is not None else None
    if here is not None and here.open:
        doors.swing(turn, here, True)  # a worker knows a name's door by the one that opened last
    turn.decide("quarantined", hosted, hosted.error, "P15", incarnation=hosted.incarnation)
    return waiters


def explain(turn: Turn, hosted: Hosted) -> None:
    """What an operator is told of it, in ``status`` and ``inspect``; after a restart too."""
    chosen = directory.chosen(turn.state, hosted.internal)
    of = f"{chosen.incarnation} is the database of this name" if chosen is not None else "no other one lives by now"
    where = f"{hosted.internal}/{hosted.incarnation}"
    complain(
        hosted, "instance-failed", f"quarantined by facts of birth: {of}; data kept in {where}, to be copied from there"
    )
