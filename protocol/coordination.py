"""Who coordinates, and how an epoch is obtained. The laws kept here are P2 (a majority of the members promises; the lowest
eligible peer id tries first), P4 (a refusal tells what it rests on), R46 (no persistent coordinator state)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from protocol import limits, promises, suspicion
from protocol.ids import Peer
from protocol.membership import majority
from protocol.messages import PromiseAnswer, PromiseAsk, Purpose
from protocol.state import Hosted, PromiseRound
from protocol.turn import Turn


def heard(turn: Turn, peers: Iterable[Peer]) -> tuple[Peer, ...]:
    """Those of ``peers`` that this node hears now: itself always, others by their heartbeats."""
    return tuple(sorted(peer for peer in peers if suspicion.hears(turn, peer)))


def candidates(turn: Turn, peers: Iterable[Peer]) -> tuple[Peer, ...]:
    """Who may coordinate, in the order in which they try (P2): the eligible ones; where none is, those that are heard."""
    known = heard(turn, peers)
    return tuple(peer for peer in known if suspicion.eligible(turn, peer)) or known


def coordinator(turn: Turn, peers: Iterable[Peer]) -> Peer:
    """The first candidate; this node when it hears none of them."""
    return next(iter(candidates(turn, peers)), turn.me)


def rank(turn: Turn, hosted: Hosted) -> int:
    """How many candidates try before this node: each waits for the ones before it."""
    ranked = candidates(turn, hosted.record.peers)
    return ranked.index(turn.me) if turn.me in ranked else len(ranked)


def seek(turn: Turn, hosted: Hosted, purpose: Purpose) -> None:
    """Ask every member for the next epoch, for one purpose. A round under way goes on."""
    if hosted.round is not None:
        return
    hosted.round = PromiseRound(hosted.promise.epoch + 1, purpose)
    turn.after("promise", hosted.incarnation, limits.PROMISE_WINDOW)
    for peer in hosted.record.peers:
        turn.send(peer, PromiseAsk(hosted.incarnation, hosted.round.epoch, purpose))


def on_promise_ask(turn: Turn, sender: Peer, message: PromiseAsk) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.record.member(sender) is None or turn.state.listening:
        return  # only members mint epochs (P8); who listens promises nothing (P61)
    granted = promises.promise(turn, hosted, message.epoch, sender)
    record = None if granted else hosted.record
    turn.send(sender, PromiseAnswer(message.incarnation, message.epoch, granted, hosted.promise.epoch, record))


def on_promise_answer(
    turn: Turn, sender: Peer, message: PromiseAnswer, won: dict[Purpose, Callable[[Turn, Hosted, int], None]]
) -> None:
    """Count one answer; with a majority go on with what the epoch was wanted for, unless it was lost meanwhile (P5)."""
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.record.member(sender) is None:
        return
    if message.record is not None:
        turn.learn(message.record)
    asked = hosted.round
    if asked is None or asked.epoch != message.epoch:
        return
    (asked.granted if message.granted else asked.refused).add(sender)
    members = len(hosted.record.members)
    if len(asked.granted) >= majority(members):
        end(turn, hosted)
        if promises.next_version(turn, hosted, asked.epoch) is not None:
            won[asked.purpose](turn, hosted, asked.epoch)
    elif len(asked.refused) > members - majority(members):
        end(turn, hosted)
        turn.decide("epoch lost", hosted, f"promised up to {message.promised} elsewhere", "P1", epoch=asked.epoch)
        promises.spend(turn, hosted, message.promised)


def end(turn: Turn, hosted: Hosted) -> None:
    hosted.round = None
    turn.cancel("promise", hosted.incarnation)


def on_promise_deadline(turn: Turn, incarnation: str) -> None:
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None and hosted.round is not None:
        turn.decide("epoch not granted", hosted, "no majority answered in time", "P2", epoch=hosted.round.epoch)
        hosted.round = None
