"""Promises: which epoch of a database this member has given away, and to whom. The laws kept here are P1 (to the *first*
coordinator that asks, durably), P3 (spending) and P5 (one writer per epoch, none under a spent one)."""

from __future__ import annotations

from protocol.ids import Peer
from protocol.records import Phase, Record, Seal, Version
from protocol.rows import EpochPromise
from protocol.state import Hosted
from protocol.turn import Turn

NOBODY = ""


def _raise(turn: Turn, hosted: Hosted, epoch: int, holder: Peer) -> None:
    hosted.vote = 0  # a vote holds only while its epoch is the highest promise (P32)
    hosted.promise = EpochPromise(hosted.incarnation, epoch, holder)
    turn.write(f"promise/{hosted.incarnation}", hosted.promise)


def promise(turn: Turn, hosted: Hosted, epoch: int, to: Peer) -> bool:
    """Promise ``epoch`` to ``to`` unless it, or a higher one, is promised already; asking again is answered alike (P1)."""
    if epoch == hosted.promise.epoch:
        return hosted.promise.holder == to
    if epoch < hosted.promise.epoch:
        return False
    _raise(turn, hosted, epoch, to)
    return True


def spend(turn: Turn, hosted: Hosted, epoch: int) -> None:
    """Raise the own promise to ``epoch`` in nobody's favour, and end this epoch's writer if it was promised (P3)."""
    if epoch > hosted.promise.epoch or (epoch == hosted.promise.epoch and hosted.promise.holder != NOBODY):
        _raise(turn, hosted, epoch, NOBODY)


def next_version(turn: Turn, hosted: Hosted, epoch: int) -> Version | None:
    """The version under which this node may write the record in ``epoch``, or None when the epoch is not its own any more
    (P5): it was spent, a higher one is promised, or others have promised a higher one, in which the record was written since.

    An only member whose store went back may have promised itself epochs of which it finds no trace. So it writes in a generation of its
    own for each life of its store: above all that it may have written before (P62)."""
    if hosted.promise != EpochPromise(hosted.incarnation, epoch, turn.me):
        return None
    current = hosted.record.version
    alone = len(hosted.record.members) == 1
    generation = max(current.generation, turn.state.life - 1) if alone else current.generation
    sequence = current.sequence + 1 if (current.generation, current.epoch) == (generation, epoch) else 0
    version = Version(generation, epoch, sequence, turn.state.store)
    return version if version > current else None


def next_record(turn: Turn, hosted: Hosted, epoch: int, phase: Phase, seal: Seal | None = None) -> Record | None:
    """The record in another phase, written in ``epoch``; None when the epoch is lost (P5)."""
    version = next_version(turn, hosted, epoch)
    return None if version is None else hosted.record.at(version, phase, seal)
