"""Reading a database while it sleeps, without waking it. The laws kept here are P34 (only a sealed copy is read, and a start revokes every
reader first), F53 (the age is right, or nothing is read) and F93 (who hosts nothing names those who may have a copy, and wakes nothing).

    clean stop → sealed by the record → a worker asks → it is told of the copy … a start is wanted → closed → acknowledged → Start

A worker is told only when it asks, so a start waits for those alone who have readers: usually for nobody.

*The age.* A copy holds everything that was acknowledged before this member voted for the sleep: the leader's strong read came later, and the
seal says that the copy has applied its index. So the age counts from the vote, on this node's own monotonic clock; what others may have done
since (a wake that this node has not heard of) only makes the copy older, and the age says so. It is known to no other process: one that
was started since has neither seen the vote nor the stop, and reads nothing.

A read is no activity: it neither wakes nor vetoes, for it never gets to rqlited.
"""

from __future__ import annotations

from protocol import directory
from protocol.effects import Hop, SealedCopy
from protocol.ids import DatabaseName, InvalidName
from protocol.inputs import ReadSealed
from protocol.lifecycle import routing
from protocol.records import Record, Seal
from protocol.state import Hosted
from protocol.turn import Turn


def keep(hosted: Hosted, clean: bool) -> None:
    """The process that this node voted with is gone. Whether its copy is the seal's, the record will say."""
    if clean:
        hosted.readers.keep(hosted.stopping, hosted.folded, hosted.voted_at)


def on_read(turn: Turn, asked: ReadSealed) -> None:
    """A worker has a client that accepts an age: answered always, and at once."""
    if asked.worker not in turn.state.workers:
        return
    record = _named(turn, asked)
    hosted = turn.state.hosted.get(record.incarnation) if record is not None else None
    if hosted is None or not readable(hosted):
        turn.act(SealedCopy(asked.worker, asked.app, asked.name, hops=_elsewhere(turn, record, hosted)))
        return
    readers = hosted.readers
    readers.admit(asked.worker)
    copy = (hosted.incarnation, hosted.internal, readers.generation, True, readers.current_at)
    turn.act(SealedCopy(asked.worker, asked.app, asked.name, *copy))


def _named(turn: Turn, asked: ReadSealed) -> Record | None:
    """The database of that name; never one that is quarantined (P15)."""
    try:
        return directory.chosen(turn.state, DatabaseName.internal_of(asked.app, asked.name))
    except InvalidName:
        return None


def _elsewhere(turn: Turn, record: Record | None, hosted: Hosted | None) -> tuple[Hop, ...]:
    """Who may have the copy of what is not here: a member knows whether it has, and how old, and may wake what its client finds too old. A
    member that has its data, but no copy of the seal, wakes it as for any client."""
    if record is None or record.seal is None or not (hosted is None or hosted.lost):
        return ()
    return routing.gateways(turn, record)


def readable(hosted: Hosted) -> bool:
    """It sleeps, and what lies here is the seal's (P34)."""
    asleep = hosted.state == "hibernating" and hosted.process == "none" and not hosted.wanted
    return asleep and _sealed(hosted)


def _sealed(hosted: Hosted) -> bool:
    readers, record = hosted.readers, hosted.record
    return record.phase == "hibernating" and record.seal == Seal(readers.epoch, readers.index)


def revoke(turn: Turn, hosted: Hosted) -> None:
    """Something is about to touch the copy: nobody reads it from now on, and it is no seal's any more."""
    birth = hosted.record.birth
    for worker in hosted.readers.close():
        turn.act(
            SealedCopy(worker, birth.app, birth.name, hosted.incarnation, hosted.internal, hosted.readers.generation)
        )


def revoked(hosted: Hosted) -> bool:
    """Whether no worker can have a reader."""
    return not hosted.readers.told
