"""What a gateway asks for, and what it tells: the first access that creates (R1), the query that wakes (R5), the traffic that
keeps a database awake (R41)."""

from __future__ import annotations

from protocol import directory, limits
from protocol.ids import DatabaseName, InvalidName
from protocol.inputs import Ask, DoorAck, Used
from protocol.lifecycle import asking, routing, sleep, wake
from protocol.records import Record
from protocol.state import Hosted
from protocol.turn import Turn


def on_ask(turn: Turn, ask: Ask) -> None:
    try:
        internal = DatabaseName.internal_of(ask.app, ask.name)
    except InvalidName as error:
        turn.answer(ask.request, "invalid-name", str(error))
        return
    if ask.forwarded:
        turn.state.forwarded.add(ask.request)
    living = turn.state.living(internal)
    if not living and ask.forwarded:
        turn.answer(ask.request, "not-a-member", f"this node knows of no {internal}")
        return
    if not living:
        asking.ask(turn, ask.app, ask.name, ask.request)
        return
    record = directory.chosen(turn.state, internal)
    if record is None:
        where = ", ".join(f"{one.incarnation} on {', '.join(one.peers)}" for one in living)
        turn.answer(ask.request, "instance-failed", f"{internal} is quarantined until an operator decides: {where}")
        return
    hosted = turn.state.hosted.get(record.incarnation)
    if record.phase == "creating" and (hosted is not None or not ask.forwarded):
        asking.wait(turn, record, ask.request)
    elif hosted is None or _lost(hosted):
        routing.ask(turn, record, ask.request)
    elif hosted.state in ("active", "idle"):
        sleep.used(turn, hosted, "a query arrived")
        turn.answer(ask.request)
    elif hosted.state in ("waking", "replacing", "hibernating"):
        _wait(turn, hosted, ask.request)
    else:
        turn.answer(ask.request, "instance-failed", f"{internal} is {hosted.state}: {hosted.error}")


def resume(turn: Turn, internal: str) -> None:
    """The name turned out to be known: its waiting clients ask again."""
    pending = asking.end_wait(turn, internal)
    if pending is not None:
        _ask_again(turn, pending.app, pending.name, pending.waiters)


def on_record(turn: Turn, record: Record) -> None:
    """News of a database: clients that wait until another node serves it ask again when that may be so."""
    quarantined = record.phase == "quarantined"
    ask_again(
        turn, record, routing.end_wait(turn, record.incarnation) if quarantined else routing.on_record(turn, record)
    )


def on_dropped(turn: Turn, record: Record) -> None:
    """Who waited for what is no more wants the name, not that incarnation of it (R1)."""
    ask_again(turn, record, routing.end_wait(turn, record.incarnation))


def ask_again(turn: Turn, record: Record, waiters: list[int]) -> None:
    """Who waited for this incarnation of a name wants the name."""
    _ask_again(turn, record.birth.app, record.birth.name, waiters)


def _ask_again(turn: Turn, app: str, name: str, waiters: list[int]) -> None:
    for request in waiters:
        on_ask(turn, Ask(turn.now, request, app, name, forwarded=request in turn.state.forwarded))


def _lost(hosted: Hosted) -> bool:
    """Its data is not here, and it is with others (P54): a client is sent to them, as by a node that is no member."""
    return hosted.lost and len(hosted.record.members) > 1


def look_elsewhere(turn: Turn, hosted: Hosted) -> None:
    """A start found no data: whoever waited for it is served by the other members, if there are any (F54)."""
    if _lost(hosted):
        waiters, hosted.waiters = hosted.waiters, []
        for request in waiters:
            routing.ask(turn, hosted.record, request)


def on_listened(turn: Turn, _key: str) -> None:
    """Listening is over: what clients wait for is created now, or is known."""
    for internal in sorted(turn.state.pending):
        resume(turn, internal)


def _wait(turn: Turn, hosted: Hosted, request: int) -> None:
    if len(hosted.waiters) >= limits.WAITERS:
        turn.answer(request, "busy", f"{limits.WAITERS} requests are waiting for {hosted.internal} already")
        return
    hosted.waiters.append(request)
    if hosted.state == "hibernating" and not hosted.wanted:
        wake.want(turn, hosted)


def on_used(turn: Turn, report: Used) -> None:
    hosted = turn.state.hosted.get(report.incarnation)
    if hosted is None or report.worker not in turn.state.workers:
        return
    hosted.in_flight[report.worker] = report.in_flight
    if report.count or report.in_flight:
        hosted.used_since_sample = True
        sleep.used(turn, hosted, "a query passed the door")


def on_door_ack(turn: Turn, ack: DoorAck) -> None:
    """P30, F56: only the current generation's acknowledgement counts."""
    hosted = turn.state.hosted.get(ack.incarnation)
    if hosted is None or ack.generation != hosted.generation or ack.worker not in turn.state.workers:
        return
    hosted.acks[ack.worker] = hosted.in_flight[ack.worker] = ack.in_flight
    sleep.consider_vote(turn, hosted)
