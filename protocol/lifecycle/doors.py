"""The door of a database: what every query passes on its way to the local rqlited, and what hibernation closes. The laws kept
here are P30 (a generation is acknowledged by each worker, with no query in flight behind it) and F56."""

from __future__ import annotations

from protocol import keys, membership
from protocol.effects import Believe, Door, Forget
from protocol.state import Hosted
from protocol.turn import Turn


def _tell(turn: Turn, hosted: Hosted, worker: int | None = None) -> None:
    birth = hosted.record.birth
    turn.act(Door(worker, birth.app, birth.name, birth.incarnation, hosted.generation, hosted.open, hosted.http))


def swing(turn: Turn, hosted: Hosted, opened: bool) -> None:
    """Open or close the door, under a new generation: acknowledgements of older ones count no more."""
    hosted.generation += 1
    hosted.open = opened
    hosted.acks.clear()
    _tell(turn, hosted)


def forget(turn: Turn, hosted: Hosted) -> None:
    """Asleep or dropped: no worker needs to know of this database."""
    hosted.open = False
    hosted.acks.clear()
    hosted.in_flight.clear()
    turn.act(Forget(hosted.incarnation))


def watch(turn: Turn, hosted: Hosted) -> None:
    """Look at rqlite's own counters four times within the hibernation timeout, and when it has passed: who connects to
    rqlite directly, past every door, is noticed too (F40)."""
    timeout = turn.state.config.hibernation_timeout
    if timeout:
        due = hosted.last_used + timeout
        turn.state.timers.set("idle", hosted.incarnation, max(turn.now + 1, min(due, turn.now + timeout // 4)))


def drained(turn: Turn, hosted: Hosted) -> bool:
    """Each worker has acknowledged this generation, with no query in flight. Without workers nobody can query."""
    return not hosted.open and all(hosted.acks.get(worker, 1) == 0 for worker in turn.state.workers)


def busy(hosted: Hosted) -> bool:
    return any(hosted.in_flight.values())


def on_worker_joined(turn: Turn, worker: int) -> None:
    turn.state.workers.add(worker)
    keys.tell_worker(turn, worker)
    if fingerprints := membership.believed(turn):
        turn.act(Believe(worker, fingerprints))
    for hosted in turn.state.hosted.values():
        if hosted.open or hosted.closing:
            _tell(turn, hosted, worker)


def on_worker_left(turn: Turn, worker: int) -> None:
    """Its queries are over: nobody can be answered by it any more."""
    turn.state.workers.discard(worker)
    for hosted in turn.state.hosted.values():
        hosted.acks.pop(worker, None)
        hosted.in_flight.pop(worker, None)
        hosted.readers.told.discard(worker)
