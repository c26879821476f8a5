"""A sleep from its commit to its record. The laws kept here are P32 (a member stops only on the epoch that this very process voted for;
after SIGTERM it starts again once the exit is observed), P33 (an incomplete sleep starts again, and so does one that nobody
recorded) and P34 (sealed only when all members stopped cleanly at one index). What comes before is in ``sleep``."""

from __future__ import annotations

from protocol import coordination, limits, promises, standing
from protocol.ids import Peer
from protocol.inputs import InstanceExited, Snapshotted
from protocol.lifecycle import doors, process, sealed, wake
from protocol.lifecycle.orders import fire
from protocol.messages import RecordNews, SleepCommit, SleepReport, StandingAsk, WakeIntent
from protocol.records import Seal
from protocol.state import Hosted
from protocol.suspicion import majority
from protocol.turn import Turn


def commit(turn: Turn, hosted: Hosted, index: int) -> None:
    assert hosted.sleep is not None
    if hosted.sleep.committed:
        return
    hosted.sleep.committed = True
    hosted.sleep.index = index
    turn.cancel("votes", hosted.incarnation)
    turn.after("stops", hosted.incarnation, _stops_window(turn))
    for peer in hosted.record.peers:
        turn.send(peer, SleepCommit(hosted.incarnation, hosted.sleep.epoch, index))


def on_commit(turn: Turn, sender: Peer, message: SleepCommit) -> None:
    """P32: only on the epoch that this very process voted for, while it is still its highest promise."""
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.lost:
        standing.tell(turn, sender, message.incarnation)
        return
    obeyed, hosted.stopping = hosted.stopping, message.epoch
    if hosted.process == "ready" and fire(turn, hosted, "commit"):
        hosted.closing = 0
        because = "every member voted for it" if message.index >= 0 else "every member that is heard voted for it"
        turn.decide("falling asleep", hosted, because, "P31", epoch=message.epoch)
        turn.after("doubt", hosted.incarnation, _stops_window(turn) + limits.DOUBT)
    else:
        hosted.stopping = obeyed
        turn.decide("commit ignored", hosted, "this process did not vote for it, or has promised above", "P32")
        standing.tell(turn, sender, message.incarnation)


def _stops_window(turn: Turn) -> int:
    """How long a member may take from the commit to its exit."""
    return limits.SNAPSHOT_WINDOW + turn.state.config.stop_timeout + limits.STOP_MARGIN


def on_snapshot(turn: Turn, hosted: Hosted, taken: Snapshotted) -> None:
    """The WAL is folded in, or not: SIGTERM either way, unless the stop was cancelled meanwhile (P32)."""
    if hosted.process == "snapshotting" and hosted.state == "hibernating":
        hosted.folded = taken.applied if taken.ok else -1
        process.stop(turn, hosted)


def on_exit(turn: Turn, hosted: Hosted, exited: InstanceExited) -> None:
    """The process is gone: ports freed (the Raft port stays the database's own while the range has room), reported, and woken if wanted."""
    process.free_port(turn, hosted)
    hosted.slept_at = turn.now
    doors.forget(turn, hosted)
    hosted.vote = 0
    if hosted.stopping and not hosted.wanted:
        clean = exited.cause == "stopped" and exited.wal_empty and hosted.folded >= 0
        sealed.keep(hosted, clean)
        coordinator = hosted.promise.holder or coordination.coordinator(turn, hosted)
        turn.send(coordinator, SleepReport(hosted.incarnation, hosted.stopping, clean, hosted.folded))
    if hosted.wanted:
        hosted.wanted = False
        turn.decide("started again", hosted, "a wake came after SIGTERM, the exit is observed now", "P32")
        fire(turn, hosted, "wanted")


def on_sleep_report(turn: Turn, sender: Peer, message: SleepReport) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.sleep is None or hosted.sleep.epoch != message.epoch:
        if hosted is None or hosted.promise.epoch > message.epoch:
            standing.tell(turn, sender, message.incarnation)
        return
    if hosted.record.member(sender) is None:
        return
    hosted.sleep.reports[sender] = message
    if hosted.sleep.reports.keys() >= hosted.sleep.votes.keys():
        _conclude(turn, hosted)  # who did not vote has nothing to stop, or is not heard


def on_stops_deadline(turn: Turn, incarnation: str) -> None:
    """P33: with fewer than a majority stopped, those that stopped start again."""
    hosted = turn.state.hosted.get(incarnation)
    if hosted is None or hosted.sleep is None:
        return
    if len(hosted.sleep.reports) >= majority(len(hosted.record.members)):
        _conclude(turn, hosted)
    else:
        turn.decide("sleep incomplete", hosted, "fewer than a majority reported their stop", "P33")
        epoch, hosted.sleep = hosted.sleep.epoch, None
        turn.broadcast(WakeIntent(incarnation, epoch))


def on_doubt(turn: Turn, incarnation: str) -> None:
    """This member obeyed a commit, and nobody has recorded that the database sleeps: the coordinator died, or gave the sleep up. It
    asks how the others stand; whoever knows more is followed; if nobody does, it starts, since waking is always safe (P33)."""
    hosted = turn.state.hosted.get(incarnation)
    if hosted is None or not unrecorded(hosted):
        return
    alone = len(hosted.record.members) == 1
    if hosted.sleep is None and (alone or hosted.doubt == "shared"):
        wake.follow(turn, hosted, "the sleep was recorded by nobody")
        return
    turn.after("doubt", incarnation, limits.DOUBT)
    hosted.doubt = hosted.doubt or "asked"
    for peer in hosted.record.peers:
        if peer != turn.me:
            turn.send(peer, StandingAsk(incarnation))


def unrecorded(hosted: Hosted) -> bool:
    """It stopped on a commit, and no record says that the database sleeps since."""
    asleep = hosted.state == "hibernating" and hosted.stopping != 0 and not hosted.wanted
    return asleep and not (hosted.record.phase == "hibernating" and hosted.record.version.epoch >= hosted.stopping)


def _conclude(turn: Turn, hosted: Hosted) -> None:
    assert hosted.sleep is not None
    ended, hosted.sleep = hosted.sleep, None
    hosted.idle.clear()
    turn.cancel("stops", hosted.incarnation)
    reports = ended.reports.values()
    sealed = (
        len(reports) == len(hosted.record.members)
        and ended.index >= 0
        and all(report.clean and report.applied == ended.index for report in reports)
    )
    record = promises.next_record(
        turn, hosted, ended.epoch, "hibernating", Seal(ended.epoch, ended.index) if sealed else None
    )
    if record is None:
        turn.decide("sleep not recorded", hosted, "its epoch was spent meanwhile", "P5", epoch=ended.epoch)
        return
    because = f"all stopped cleanly at index {ended.index}" if sealed else "not all stopped cleanly: not sealed"
    turn.decide("hibernated", hosted, because, "P34", epoch=ended.epoch, raft_port=hosted.raft)
    if sealed:
        turn.decide("sleep sealed", hosted, because, "P34", epoch=ended.epoch, index=ended.index)
    turn.broadcast(RecordNews(record))
