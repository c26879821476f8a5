"""What becomes of a birth whose coordinator has fallen silent, decided once. The law kept here is P12: the outcome is stored by a majority of the
members under the promised epoch before it is told to anybody, and who is promised a later epoch carries on the newest that it is
told of. So a member that finishes the birth, or drops it, and is cut off before anybody hears, is never contradicted.

While the birth's own coordinator is there none of this is needed, and nothing waits for it: the reports on which it acknowledges are what a
majority remembers. Each of them is a member's word, given under epoch 1 and in no later one, that it has seen all chosen voters; a majority
that promises a later epoch has one of them in it, and then nothing is dropped. From there on the only outcome left is the same one."""

from __future__ import annotations

from protocol import promises, standing
from protocol.ids import Peer
from protocol.lifecycle.orders import holds
from protocol.membership import majority
from protocol.messages import Dropped, OutcomeStored, RecordNews, StoreOutcome
from protocol.rounds import OutcomeRound
from protocol.rows import Outcome
from protocol.state import Hosted, PromiseRound
from protocol.turn import Turn


def stored_before(asked: PromiseRound) -> Outcome | None:
    """The newest outcome that those who have promised this epoch know: a majority may have stored it, and it may have been told."""
    known = [asked.standings[peer].outcome for peer in asked.granted]
    return max((one for one in known if one is not None), key=lambda one: one.epoch, default=None)


def decide(turn: Turn, hosted: Hosted, asked: PromiseRound, *, finished: bool, because: str) -> None:
    """Ask every member to store it. Where no majority does, whoever looks after the birth next asks again under its own epoch."""
    hosted.deciding = OutcomeRound(Outcome(hosted.incarnation, asked.epoch, finished), because)
    for peer in hosted.record.peers:
        turn.send(peer, StoreOutcome(hosted.deciding.outcome))


def on_store(turn: Turn, sender: Peer, message: StoreOutcome) -> None:
    outcome = message.outcome
    hosted = turn.state.hosted.get(outcome.incarnation)
    if turn.state.listening:
        return
    if hosted is None or hosted.record.member(sender) is None or hosted.record.phase != "creating":
        standing.tell(turn, sender, outcome.incarnation)
    elif promises.promise(turn, hosted, outcome.epoch, sender):
        hosted.outcome = outcome
        turn.write(f"outcome/{hosted.incarnation}", outcome)
        turn.send(sender, OutcomeStored(hosted.incarnation, outcome.epoch))
    else:
        standing.tell(turn, sender, outcome.incarnation)


def on_stored(turn: Turn, sender: Peer, message: OutcomeStored) -> None:
    """With a majority it holds: now it is told, unless this epoch was lost meanwhile (P5)."""
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.deciding is None or hosted.deciding.outcome.epoch != message.epoch:
        return
    deciding = hosted.deciding
    if hosted.record.member(sender) is None or not holds(hosted, message.epoch, turn.me):
        return
    deciding.stored.add(sender)
    if len(deciding.stored) < majority(len(hosted.record.members)):
        return
    hosted.deciding = None
    if not deciding.outcome.finished:
        turn.decide("birth abandoned", hosted, deciding.because, "P12")
        turn.broadcast(Dropped(hosted.incarnation))
        return
    record = promises.next_record(turn, hosted, message.epoch, "active")
    if record is not None:
        turn.decide("birth finished", hosted, deciding.because, "P13")
        turn.broadcast(RecordNews(record))


def forget(turn: Turn, hosted: Hosted) -> None:
    """The record tells it by now, or the birth is gone."""
    hosted.deciding = None
    if hosted.outcome is not None:
        hosted.outcome = None
        turn.erase(f"outcome/{hosted.incarnation}")
