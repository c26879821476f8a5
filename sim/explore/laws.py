"""The laws that an explored world must keep, as far as one node's step can show them; what several nodes break together is found by
``sim.explore.world`` from the events that are told here. Kept: all of ``protocol.invariants`` after every step, P20 (a dropped
incarnation never comes back), P31 (what a commit needs) and P32 (who stops has voted, in this very process, and promised
nothing above).

The laws are written again from their text, from what is seen before and after a step: they share no code with the
safeguards that keep them in the engine, which the explorer switches off.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from protocol import effects as fx
from protocol import inputs as ip
from protocol import suspicion
from protocol.ids import Dot, dot_of
from protocol.invariants import violations
from protocol.messages import Dropped, SleepVote
from protocol.records import Record
from protocol.state import Hosted, State
from protocol.turn import Turn
from sim.laws import Violation


class Event(NamedTuple):
    """Something that concerns more than one node. ``epoch`` and ``applied`` where they mean something."""

    what: Literal["veto", "commit", "wrote", "chosen", "acknowledged", "sealed", "dropped"]
    incarnation: str
    epoch: int = 0
    applied: int = -1
    name: str = ""


class Seen(NamedTuple):
    """Of one hosted database, before a step."""

    state: str
    vote: int
    promised: int
    closing: int
    epoch: int
    committed: bool


class Glance(NamedTuple):
    """Of one node, before a step."""

    hosted: dict[str, Seen]
    records: dict[str, Record]
    gone: frozenset[Dot]


def glance(state: State) -> Glance:
    hosted = {
        one.incarnation: Seen(
            one.state,
            one.vote,
            one.promise.epoch,
            one.closing,
            one.sleep.epoch if one.sleep else 0,
            bool(one.sleep and one.sleep.committed),
        )
        for one in state.hosted.values()
    }
    return Glance(hosted, dict(state.records), _gone(state))


def _gone(state: State) -> frozenset[Dot]:
    """Births that this node has seen and holds no record of."""
    living = {record.birth.dot for record in state.records.values()}
    seen = set[Dot]()
    for row in state.context.rows():
        runs = ((1, row.upto), *zip(row.beyond[::2], row.beyond[1::2], strict=True))
        seen |= {Dot(row.store, n) for first, last in runs for n in range(first, last + 1)}
    return frozenset(seen - living)


def watch(before: Glance, given: ip.Input, state: State, effects: fx.Effects) -> list[Event]:
    """The events of a step. Raises Violation where the step broke a law by itself."""
    me = state.config.peer
    for sentence in violations(state):
        raise Violation("invariant", f"{me}: {sentence}")
    _nothing_back(before, state)
    events: list[Event] = []
    for hosted in state.hosted.values():
        was = before.hosted.get(hosted.incarnation)
        if was is not None:
            events += _sleep(was, given, hosted, state)
    # What a booting node reads of its rows is no news.
    for incarnation, record in () if isinstance(given, ip.Boot) else state.records.items():
        events += _written(before.records.get(incarnation), record, state)
    events += [Event("dropped", one.incarnation) for one in effects.broadcasts if isinstance(one, Dropped)]
    return events


def _nothing_back(before: Glance, state: State) -> None:
    for incarnation in state.records:
        if incarnation not in before.records and dot_of(incarnation) in before.gone:
            raise Violation("P20", f"{state.config.peer} had seen {incarnation} dropped, and it is back")


def _sleep(was: Seen, given: ip.Input, hosted: Hosted, state: State) -> list[Event]:
    me, epoch = state.config.peer, hosted.sleep.epoch if hosted.sleep else was.epoch
    events: list[Event] = []
    message: Any = given.message if isinstance(given, ip.Received) else None
    if isinstance(message, SleepVote) and not message.granted and message.incarnation == hosted.incarnation:
        if message.epoch == was.epoch and not was.committed:
            events.append(Event("veto", hosted.incarnation, message.epoch))
    commits = hosted.sleep is not None and hosted.sleep.committed and not was.committed
    if was.closing and not hosted.closing and hosted.state != "hibernating" and not commits:
        # With a commit in the same step the commit came first: a coordinator's own veto ends its round at once.
        events.append(Event("veto", hosted.incarnation, was.closing))
    if hosted.sleep is not None and commits:
        votes, members = hosted.sleep.votes, hosted.record.peers
        turn = Turn(state, None, given.now)
        silent = hosted.sleep.absent | votes.keys()
        unheard = [peer for peer in members if peer not in silent and suspicion.hears(turn, peer)]
        if 2 * len(votes) <= len(members) or not any(votes.values()) or unheard:
            raise Violation("P31", f"{me} commits the sleep of epoch {epoch} with the votes of {sorted(votes)} only")
        events.append(Event("commit", hosted.incarnation, epoch))
    obeys = hosted.stopping and was.state == "idle" and hosted.state == "hibernating"
    if obeys and hosted.record.version.epoch < hosted.stopping:  # a commit, not a record, told it to stop
        if was.vote != hosted.stopping:
            because = f"this process had voted for {was.vote}" if was.vote else "this process had not voted for it"
            raise Violation("P32", f"{me} stops on the commit of epoch {hosted.stopping}: {because}")
        if hosted.promise.epoch != hosted.stopping:
            raise Violation("P32", f"{me} stops in epoch {hosted.stopping} and has promised {hosted.promise.epoch}")
    return events


def _written(was: Record | None, record: Record, state: State) -> list[Event]:
    """What this node itself made of a record."""
    if was == record or record.version.writer != state.store or (was and was.version == record.version):
        return []
    incarnation, epoch = record.incarnation, record.version.epoch
    events: list[Event] = []
    if epoch > 1:
        events.append(Event("wrote", incarnation, epoch))
    if record.phase == "creating":
        events.append(Event("chosen", incarnation, epoch, name=record.birth.internal))
    if record.phase == "active":
        events.append(Event("acknowledged", incarnation, epoch, name=record.birth.internal))
    if record.seal is not None and record.seal.epoch == epoch:
        events.append(Event("sealed", incarnation, epoch, record.seal.applied))
    return events
