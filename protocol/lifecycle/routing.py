"""What a node that hosts nothing of a database does for its clients: it names the members' gateways, once the database is awake.
The laws kept here are F93 (one hop: who came from a gateway is never sent on), F51 (one intent, however many wait), P40 (the
intent names the sleep that it ends) and P8 (who is no member mints no epoch, it only tells what it wants)."""

from __future__ import annotations

from protocol import limits
from protocol.effects import Hop, Problem, Route
from protocol.ids import Peer, derived
from protocol.messages import WakeIntent
from protocol.records import Record
from protocol.state import Seeking
from protocol.suspicion import hears
from protocol.turn import Turn


def ask(turn: Turn, record: Record, request: int) -> None:
    """A client of this node wants a database that other nodes serve."""
    internal = record.birth.internal
    if request in turn.state.forwarded:
        members = ", ".join(record.peers)
        turn.answer(request, "not-a-member", f"{internal} is served by {members}, not by this node")
    elif record.phase == "active" and (hops := gateways(turn, record)):
        turn.act(Route(request, record.incarnation, record.birth.app, record.birth.name, hops))
    elif record.phase in ("active", "hibernating"):
        _seek(turn, record, request)
    else:
        turn.answer(request, "instance-failed", f"{internal} is {record.phase}")


def gateways(turn: Turn, record: Record) -> tuple[Hop, ...]:
    """The gateways of the members that are heard, those first that missed no heartbeat. Among equals each node has an order
    of its own, so that all who are no members do not crowd before one that is."""
    interval = turn.state.config.health_interval
    ranked: list[tuple[int, str, Hop]] = []
    for peer in record.peers:
        view = turn.state.peers.get(peer)
        if peer != turn.me and view is not None and view.gateway and hears(turn, peer):
            missed = (turn.now - view.last_heard) // interval
            own = derived(b"", "hop", turn.me, record.incarnation, peer)
            ranked.append((missed, own, Hop(peer, view.gateway, view.fingerprint)))
    return tuple(hop for _missed, _own, hop in sorted(ranked, key=lambda one: one[:2]))


def _members(turn: Turn, record: Record) -> str:
    """The members, and what this node knows of their gateways: what an operator needs to know first (R61)."""
    told: list[str] = []
    for peer in record.peers:
        view = turn.state.peers.get(peer)
        if peer == turn.me:
            told.append(f"{peer} (this node, without its data)")
        elif view is None or not hears(turn, peer):
            told.append(f"{peer} (not heard)")
        else:
            told.append(peer if view.gateway else f"{peer} (heard, but its gateway takes no queries of other nodes)")
    return ", ".join(told)


# Waiting until a member is awake, and heard.


def _seek(turn: Turn, record: Record, request: int) -> None:
    seeking = turn.state.seeking.get(record.incarnation)
    if seeking is None:
        deadline = turn.now + turn.state.config.wake_deadline
        seeking = turn.state.seeking[record.incarnation] = Seeking(deadline)
        _seek_on(turn, record, seeking)
    if len(seeking.waiters) >= limits.WAITERS:
        turn.answer(request, "busy", f"{limits.WAITERS} requests are waiting for {record.birth.internal} already")
    else:
        seeking.waiters.append(request)


def _seek_on(turn: Turn, record: Record, seeking: Seeking) -> None:
    if record.phase == "hibernating":
        seeking.epoch = record.version.epoch
        turn.broadcast(WakeIntent(record.incarnation, seeking.epoch))
    turn.state.timers.set("seek", record.incarnation, min(turn.now + limits.WAKE_REPEAT, seeking.deadline))


def on_seek(turn: Turn, incarnation: str) -> None:
    """No news: the intent or what it led to may be lost, so say it again. At the deadline, say what is known."""
    seeking, record = turn.state.seeking[incarnation], turn.state.records[incarnation]
    if turn.now < seeking.deadline:
        _seek_on(turn, record, seeking)
        return
    seconds = turn.state.config.wake_deadline / limits.SECOND
    asleep = record.phase == "hibernating" and bool(gateways(turn, record))
    problem: Problem = "wake-timeout" if asleep else "members-unheard"
    what = "said that it is awake" if asleep else "been heard"
    detail = f"no member has {what} within {seconds:g} s; members: {_members(turn, record)}"
    turn.decide("no member to ask", None, detail, "F51", database=record.birth.internal)
    for request in end_wait(turn, incarnation):
        turn.answer(request, problem, detail)


def on_heard(turn: Turn, peer: Peer) -> None:
    """A node was heard: clients may have waited for just that."""
    for incarnation in [one for one in turn.state.seeking if peer in turn.state.records[one].peers]:
        record = turn.state.records[incarnation]
        if record.phase == "active" and gateways(turn, record):
            for request in end_wait(turn, incarnation):
                ask(turn, record, request)


def on_record(turn: Turn, record: Record) -> list[int]:
    """News of a database. Who waited for it to be awake, for the caller to ask again; nobody while it sleeps on."""
    seeking = turn.state.seeking.get(record.incarnation)
    if seeking is None:
        return []
    hosted = turn.state.hosted.get(record.incarnation)
    if record.phase == "hibernating" and (hosted is None or hosted.lost):
        if record.version.epoch > seeking.epoch:
            _seek_on(turn, record, seeking)  # it slept again meanwhile: that sleep is another one (P40)
        return []
    return end_wait(turn, record.incarnation)


def end_wait(turn: Turn, incarnation: str) -> list[int]:
    """Nobody waits for this database to wake any more; those who did, for the caller to answer."""
    turn.cancel("seek", incarnation)
    seeking = turn.state.seeking.pop(incarnation, None)
    return [] if seeking is None else seeking.waiters
