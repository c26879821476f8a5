"""How a member stands with a database, said to whoever is behind. The law kept here is P4: a refusal, and the answer to anything
stale (a commit, proposal, abort, intent, report, record of an epoch that is over), carries the promised epoch, the
instance's state and the newest record, so that nobody stays behind once it has said something wrong."""

from __future__ import annotations

from protocol.ids import Peer
from protocol.messages import Standing
from protocol.state import Hosted
from protocol.turn import Turn

ABSENT = "absent"
"""In place of a state: the node is a member by the record, and nothing of the database is or can be started there (P54)."""
RUNNING = ("active", "idle", "waking", "replacing")


def of(hosted: Hosted) -> Standing:
    """This member's own view, as it tells it to others."""
    return Standing(
        hosted.incarnation,
        hosted.promise.epoch,
        ABSENT if hosted.lost else hosted.state,
        hosted.sleep_epoch if hosted.state == "hibernating" else 0,
        hosted.process == "ready",
        hosted.complete,
        hosted.record,
        hosted.outcome,
    )


def tell(turn: Turn, to: Peer, incarnation: str) -> None:
    """Answer ``to``, which has said something that does not hold any more. Nothing is answered to oneself, nor about what this node
    knows nothing of."""
    if to == turn.me:
        return
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None:
        turn.send(to, of(hosted))
        return
    record = turn.state.records.get(incarnation)
    if record is not None and not turn.state.listening:
        turn.send(to, Standing(incarnation, 0, ABSENT, record=record))
