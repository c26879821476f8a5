"""What becomes of a birth whose coordinator has fallen silent: a member looks after it. The laws kept here are F8, P12 (dropped only where
no majority can have seen all chosen voters, by a member that a majority has promised an epoch, F15) and P13 (finished
where all chosen members are voters). What was decided is stored before it is told: :mod:`protocol.lifecycle.fate`."""

from __future__ import annotations

from protocol import coordination, limits
from protocol.lifecycle import fate, process
from protocol.lifecycle.orders import Subject
from protocol.state import Hosted, PromiseRound
from protocol.turn import Turn


def on_takeover(turn: Turn, incarnation: str) -> None:
    """As a member of a birth whose coordinator has fallen silent: the first candidate among the members looks after it (F8)."""
    hosted = turn.state.hosted.get(incarnation)
    if hosted is None or hosted.record.phase != "creating" or hosted.state != "creating":
        return
    rank = coordination.rank(turn, hosted)
    turn.after("takeover", incarnation, limits.COORDINATOR_PATIENCE + rank * limits.ACTIVATE_PATIENCE)
    failed = hosted.process == "none" and not hosted.complete
    if failed or (rank == 0 and hosted.internal not in turn.state.creations):
        coordination.seek(turn, hosted, "create")


def take_over(turn: Turn, hosted: Hosted, asked: PromiseRound) -> None:
    """The members have promised: finish the birth where all are voters. It is dropped only where nobody can have acknowledged it, nor
    ever will: a majority, which has promised above by now, knows of no success, and either this member was never a voter, or
    none of that majority has ever seen all of them, so that no majority can have reported it (F8, F15, P12)."""
    if hosted.state != "creating":
        return
    told = [asked.standings[peer] for peer in asked.granted]
    if any(one.record is not None and one.record.phase != "creating" for one in told):
        return  # it was finished; the record that came with the promise is taken in next
    before = fate.stored_before(asked)
    if before is not None:
        because = f"it was decided so in epoch {before.epoch}, and may have been told"
        fate.decide(turn, hosted, asked, finished=before.finished, because=because)
    elif Subject(turn, hosted).voters_match and hosted.process == "ready":
        because = "its coordinator is silent, all its members are voters"
        fate.decide(turn, hosted, asked, finished=True, because=because)
    elif not hosted.joined or not any(one.complete for one in told):
        because = hosted.error or "its coordinator is silent, and no majority was ever complete"
        fate.decide(turn, hosted, asked, finished=False, because=because)
    elif hosted.process == "none" and not turn.state.timers.is_set("backoff", hosted.incarnation):
        process.again_later(turn, hosted)  # set anew each time, it would never come
