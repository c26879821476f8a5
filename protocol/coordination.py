"""Who coordinates, and how an epoch is obtained. The laws kept here are P1 (who knows newer members refuses), P2 (a majority of the
members promises; the lowest eligible peer id tries first, and asks for one more than the highest that it was told), P4 (an
answer tells how its sender stands), R46 (no persistent coordinator state)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from protocol import limits, promises, standing, suspicion
from protocol.ids import Peer
from protocol.membership import majority
from protocol.messages import PromiseAnswer, PromiseAsk, Purpose
from protocol.state import Hosted, PromiseRound
from protocol.turn import Turn


def heard(turn: Turn, peers: Iterable[Peer]) -> tuple[Peer, ...]:
    """Those of ``peers`` that this node hears now: itself always, others by their heartbeats."""
    return tuple(sorted([peer for peer in peers if suspicion.hears(turn, peer)]))


def candidates(turn: Turn, peers: Iterable[Peer]) -> tuple[Peer, ...]:
    """Who may coordinate, in the order in which they try (P2): the eligible ones; where none is, those that are heard."""
    known = heard(turn, peers)
    return tuple(peer for peer in known if suspicion.eligible(turn, peer)) or known


def present(hosted: Hosted) -> tuple[Peer, ...]:
    """The members, without those that said that they have nothing of the database."""
    return tuple(peer for peer in hosted.record.peers if peer not in hosted.absent)


def coordinator(turn: Turn, hosted: Hosted) -> Peer:
    """The first candidate among the members; this node when it hears none of them. The others are not looked at: every sample of an idle
    database asks this."""
    known = heard(turn, present(hosted))
    return next((peer for peer in known if suspicion.eligible(turn, peer)), next(iter(known), turn.me))


def rank(turn: Turn, hosted: Hosted) -> int:
    """How many candidates try before this node: each waits for the ones before it."""
    ranked = candidates(turn, present(hosted))
    return ranked.index(turn.me) if turn.me in ranked else len(ranked)


def seek(turn: Turn, hosted: Hosted, purpose: Purpose) -> None:
    """Ask every member for the next epoch, for one purpose. A round under way goes on."""
    if hosted.round is not None:
        return
    hosted.round = PromiseRound(max(hosted.promise.epoch, hosted.told) + 1, purpose)
    turn.after("promise", hosted.incarnation, limits.PROMISE_WINDOW)
    ask = PromiseAsk(hosted.incarnation, hosted.round.epoch, purpose, hosted.record.stamp)
    for peer in hosted.record.peers:
        turn.send(peer, ask)


def on_promise_ask(turn: Turn, sender: Peer, message: PromiseAsk) -> None:
    """Only members mint epochs (P8); who listens promises nothing (P61), and who hosts nothing has nothing to promise (P54)."""
    hosted = turn.state.hosted.get(message.incarnation)
    if turn.state.listening:
        return
    if hosted is None or hosted.record.member(sender) is None:
        standing.tell(turn, sender, message.incarnation)
        return
    current = message.stamp >= hosted.record.stamp
    granted = current and promises.promise(turn, hosted, message.epoch, sender)
    turn.send(sender, PromiseAnswer(message.incarnation, message.epoch, granted, standing.of(hosted)))


def on_promise_answer(
    turn: Turn,
    sender: Peer,
    message: PromiseAnswer,
    won: dict[Purpose, Callable[[Turn, Hosted, PromiseRound], None]],
    lost: dict[Purpose, Callable[[Turn, Hosted], None]],
) -> None:
    """Count one answer; with a majority go on with what the epoch was wanted for, unless it was lost meanwhile (P5)."""
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.record.member(sender) is None:
        return
    asked = hosted.round
    if asked is None or asked.epoch != message.epoch:
        return
    (asked.granted if message.granted else asked.refused).add(sender)
    asked.standings[sender] = message.standing
    members = len(hosted.record.members)
    if len(asked.granted) >= majority(members) and _others_serve(turn, hosted, asked):
        end(turn, hosted)
        if promises.next_version(turn, hosted, asked.epoch) is not None:
            won[asked.purpose](turn, hosted, asked)
        else:
            _lose(turn, hosted, asked, lost)
    elif len(asked.refused) > members - majority(members) or len(asked.standings) == members:
        end(turn, hosted)
        because = f"{len(asked.granted)} of {members} promised it, one knows of {hosted.told}"
        turn.decide("epoch lost", hosted, because, "P1", epoch=asked.epoch)
        _lose(turn, hosted, asked, lost)


def _others_serve(turn: Turn, hosted: Hosted, asked: PromiseRound) -> bool:
    """Only who moves needs more than promises: the others have to be a quorum without it, since it is Raft that tells them (P42). Not who
    goes back to where they knew it."""
    members = len(hosted.record.members)
    if asked.purpose != "address" or members == 1 or hosted.raft == hosted.moved_from:
        return True
    serving = [peer for peer in asked.granted if peer != turn.me and asked.standings[peer].ready]
    return len(serving) >= majority(members)


def _lose(turn: Turn, hosted: Hosted, asked: PromiseRound, lost: dict[Purpose, Callable[[Turn, Hosted], None]]) -> None:
    """Losers spend (P3): what this node promised itself for the round is of no use to anybody."""
    promises.spend(turn, hosted, asked.epoch)
    if asked.purpose in lost:
        lost[asked.purpose](turn, hosted)


def end(turn: Turn, hosted: Hosted) -> None:
    hosted.round = None
    turn.cancel("promise", hosted.incarnation)


def on_promise_deadline(turn: Turn, incarnation: str, lost: dict[Purpose, Callable[[Turn, Hosted], None]]) -> None:
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None and hosted.round is not None:
        asked, hosted.round = hosted.round, None
        turn.decide("epoch not granted", hosted, "no majority answered in time", "P2", epoch=asked.epoch)
        _lose(turn, hosted, asked, lost)
