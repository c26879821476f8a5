"""The clients' side of a birth: a node whose clients touched a name that it does not know asks all, and waits. The laws kept here are R1 (the
first access creates), R40, F8 (where nothing comes of an attempt, the next candidate is asked) and P10 (a higher attempt
supersedes: who asked learns which number to beat)."""

from __future__ import annotations

from protocol import coordination, limits
from protocol.ids import DatabaseName, Peer
from protocol.messages import CreateRequest, CreateSuperseded
from protocol.records import Attempt, Record
from protocol.state import Pending
from protocol.turn import Turn


def ask(turn: Turn, app: str, name: str, request: int) -> None:
    """A client of this node touched a name that nobody here knows: ask all nodes (R1, R40)."""
    internal = DatabaseName.internal_of(app, name)
    pending = turn.state.pending.get(internal)
    if pending is None:
        pending = turn.state.pending[internal] = Pending(app, name, Attempt(0, ""))
        turn.after("request", internal, limits.REQUEST_DEADLINE)
        if not turn.state.listening:  # who listens creates nothing (P61); the name may turn out to be known
            _attempt(turn, pending)
    _enqueue(turn, pending, request)


def wait(turn: Turn, record: Record, request: int) -> None:
    """The database is being born: this client waits as the one who asked for it does, also through another try."""
    birth = record.birth
    pending = turn.state.pending.get(birth.internal)
    if pending is None:
        pending = turn.state.pending[birth.internal] = Pending(birth.app, birth.name, birth.attempt)
        turn.after("request", birth.internal, limits.REQUEST_DEADLINE)
        turn.after("attempt", birth.internal, limits.COORDINATOR_PATIENCE)
    _enqueue(turn, pending, request)


def end_wait(turn: Turn, internal: str) -> Pending | None:
    """Nobody waits for this name's birth any more; those who did, for the caller to answer."""
    turn.cancel("request", internal)
    turn.cancel("attempt", internal)
    return turn.state.pending.pop(internal, None)


def _enqueue(turn: Turn, pending: Pending, request: int) -> None:
    if len(pending.waiters) >= limits.WAITERS:
        turn.answer(request, "busy", f"{limits.WAITERS} requests wait for {pending.app}/{pending.name} already")
    else:
        pending.waiters.append(request)


def _attempt(turn: Turn, pending: Pending) -> None:
    """Ask everyone, naming the coordinator that is expected: each further attempt the next candidate (F8)."""
    internal = DatabaseName.internal_of(pending.app, pending.name)
    held = turn.state.names.get(internal)
    ranked = coordination.candidates(turn, turn.state.known)
    later = [peer for peer in ranked if peer > pending.attempt.coordinator]
    n = max(pending.attempt.n, held.attempt.n if held else 0) + 1
    pending.attempt = Attempt(n, (later or ranked)[0])
    turn.after("attempt", internal, limits.COORDINATOR_PATIENCE)
    turn.broadcast(CreateRequest(pending.attempt, pending.app, pending.name, turn.state.config.replication_factor))


def on_attempt_deadline(turn: Turn, internal: str) -> None:
    """No success yet. While a birth or this very node is at work, wait on; otherwise its coordinator is gone."""
    pending = turn.state.pending.get(internal)
    if pending is None:
        return
    if turn.state.living(internal) or internal in turn.state.creations:
        turn.after("attempt", internal, limits.COORDINATOR_PATIENCE)
    else:
        because = f"nothing came of attempt {pending.attempt.n} of {pending.attempt.coordinator}"
        turn.decide("creation asked again", None, because, "F8", database=internal)
        _attempt(turn, pending)


def on_request_deadline(turn: Turn, internal: str) -> None:
    pending = end_wait(turn, internal)
    if pending is not None:
        listening = "; this node still waits for the directories of a majority" if turn.state.listening else ""
        for request in pending.waiters:
            turn.answer(request, "create-timeout", f"creating {internal} took longer than 10 s{listening}")


def on_superseded(turn: Turn, _sender: Peer, message: CreateSuperseded) -> None:
    """This node's attempt gives way: the next one, if nothing comes of the higher, will be higher than that."""
    pending = turn.state.pending.get(DatabaseName.internal_of(message.app, message.name))
    if pending is not None and pending.attempt.n < message.higher:
        pending.attempt = Attempt(message.higher, pending.attempt.coordinator)
