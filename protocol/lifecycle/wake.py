"""Waking, and coming back after a crash: both bring one rqlited up on the data that is there. The laws kept here are P40 (an
intent names the sleep that it ends), P41 (spend, start at once; ``active`` under the next promised epoch), P33 (who runs
without a quorum sends an intent, who sleeps alone starts), F49 (waking respects ``max_databases``), F51 (one wake, however
many wait)."""

from __future__ import annotations

from protocol import coordination, limits, promises, standing
from protocol.ids import Peer
from protocol.inputs import InstanceExited
from protocol.lifecycle import process
from protocol.lifecycle.orders import Subject, complain, fire
from protocol.messages import RecordNews, StandingAsk, WakeIntent
from protocol.state import Hosted, PromiseRound
from protocol.turn import Turn

PERMANENT = ("binary_missing", "data_missing")
"""Causes that no further try will mend within a wake's deadline."""

LATE = "not awake after"


def want(turn: Turn, hosted: Hosted) -> None:
    """A client of this node wants a database that sleeps: tell all members."""
    turn.broadcast(WakeIntent(hosted.incarnation, hosted.sleep_epoch))


def on_intent(turn: Turn, sender: Peer, message: WakeIntent) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None:
        return
    if hosted.state != "hibernating" or hosted.sleep_epoch != message.epoch:
        turn.decide("wake intent void", hosted, f"it names the sleep of epoch {message.epoch}", "P40", requester=sender)
        standing.tell(turn, sender, message.incarnation)
        return
    if hosted.wanted:
        return
    limit = turn.state.config.max_databases
    if hosted.process == "none" and turn.state.load() >= limit:
        complain(hosted, "max-databases", f"max_databases ({limit}) reached: all are awake or being created")
        turn.decide("wake refused", hosted, hosted.error, "F49")
        Subject(turn, hosted).refuse_waiters()
        return
    turn.decide("wakeup request received", hosted, f"a client of {sender} asks", "P41", requester=sender)
    hosted.failures = 0
    _end_sleep(turn, hosted)


def follow(turn: Turn, hosted: Hosted, because: str) -> None:
    """The sleep that this member is in is over, or never was: start as an intent for it would have (P33)."""
    if hosted.state == "hibernating" and not hosted.wanted:
        turn.decide("started after the others", hosted, because, "P33")
        _end_sleep(turn, hosted)


def _end_sleep(turn: Turn, hosted: Hosted) -> None:
    promises.spend(turn, hosted, hosted.sleep_epoch + 1)
    if hosted.sleep is not None:
        hosted.sleep = None  # its epoch is spent: no report of it can be recorded any more
        turn.cancel("stops", hosted.incarnation)
    if not fire(turn, hosted, "wanted"):
        hosted.wanted = True  # after SIGTERM: the start follows the observed exit


def insist(turn: Turn, hosted: Hosted) -> None:
    """This member runs, has promised above the sleep that the record tells of, and so does not follow it: the others shall wake, and
    the record shall say so (P33)."""
    turn.decide("others called", hosted, f"they sleep since epoch {hosted.record.version.epoch}", "P33")
    for peer in hosted.record.peers:
        if peer != turn.me:
            turn.send(peer, WakeIntent(hosted.incarnation, hosted.record.version.epoch))
    if hosted.state in ("active", "idle"):
        _activate_soon(turn, hosted)


def on_quorum_patience(turn: Turn, incarnation: str) -> None:
    """It starts, and no strong read passes: the others may sleep. How they stand decides (P33)."""
    hosted = turn.state.hosted.get(incarnation)
    if hosted is None or hosted.state != "waking":
        return
    turn.after("quorum", incarnation, limits.QUORUM_PATIENCE)
    if hosted.process in ("starting", "ready"):
        for peer in hosted.record.peers:
            if peer != turn.me:
                turn.send(peer, StandingAsk(incarnation))


def on_deadline(turn: Turn, incarnation: str) -> None:
    """``waking`` ends in active or in a named error (F46). A crashed database is tried on, but nobody waits for it longer. Nor does a
    birth for a start that hangs, once its coordinator is gone: the exit leads to the next try."""
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None and hosted.state == "creating" and hosted.process == "starting":
        process.stop(turn, hosted)
    if hosted is None or hosted.state != "waking":
        return
    seconds = turn.state.config.wake_deadline / limits.SECOND
    reason = hosted.error or "rqlited did not answer a strong read"
    told = reason if reason.startswith(LATE) else f"{LATE} {seconds:g} s: {reason}"
    complain(hosted, hosted.problem if hosted.error else "wake-timeout", told)
    give_up(turn, hosted)


def give_up(turn: Turn, hosted: Hosted) -> None:
    turn.decide("wake failed", hosted, hosted.error, "F46")
    if not fire(turn, hosted, "given_up"):
        Subject(turn, hosted).refuse_waiters()
        turn.after("wake", hosted.incarnation, turn.state.config.wake_deadline)
        process.stop(turn, hosted)  # a start that hangs ends too: its exit leads to the next try
        if hosted.process == "none" and not turn.state.timers.is_set("backoff", hosted.incarnation):
            process.again_later(turn, hosted)  # it was still waiting for ports: no exit will come


def on_ready(turn: Turn, hosted: Hosted) -> None:
    """A strong read passed: serve, then let the coordinator write the record under the next promised epoch (P41)."""
    took = (turn.now - hosted.woken_at) // limits.MILLISECOND
    if not fire(turn, hosted, "served"):
        return
    turn.decide("woken", hosted, "a strong read passed", "P41", wakeup_ms=took, http_port=hosted.http)
    if hosted.record.phase != "active":
        _activate_soon(turn, hosted)


def _activate_soon(turn: Turn, hosted: Hosted) -> None:
    """The lowest awake member writes at once that the database is awake; each next one only when it did not (P2)."""
    rank = coordination.rank(turn, hosted)
    turn.after("activate", hosted.incarnation, rank * limits.ACTIVATE_PATIENCE)
    if rank == 0:
        on_activate(turn, hosted.incarnation)


def on_activate(turn: Turn, incarnation: str) -> None:
    """The record does not say yet that this database is awake: seek an epoch to write it in (P41). Each waits as long as its rank says
    before it tries again: two that ask at one moment each promise themselves first, and would for ever (P2)."""
    hosted = turn.state.hosted.get(incarnation)
    if hosted is None or hosted.record.phase == "active" or hosted.state not in ("active", "idle"):
        return
    turn.after("activate", incarnation, _again(turn, hosted))
    coordination.seek(turn, hosted, "wake")


def _again(turn: Turn, hosted: Hosted) -> int:
    return 2 * limits.PROMISE_WINDOW + coordination.rank(turn, hosted) * limits.ACTIVATE_PATIENCE


def write_active(turn: Turn, hosted: Hosted, asked: PromiseRound) -> None:
    record = promises.next_record(turn, hosted, asked.epoch, "active")
    if record is not None and hosted.state in ("active", "idle"):
        turn.broadcast(RecordNews(record))


def on_exit(turn: Turn, hosted: Hosted, exited: InstanceExited, asked: bool) -> None:
    """A start failed, or a run died young: try again with backoff until the deadline, or say at once why not. One that was asked to end
    since it hung is no such failure, and starts again at once: members that wait for each other's votes would otherwise take turns, each
    down while the other is up, for ever."""
    if asked:
        hosted.failures, hosted.error = 0, ""
        turn.decide("started again", hosted, "it got no quorum in time, and its exit is observed", "F46")
        process.again_later(turn, hosted)
        return
    complain(hosted, "instance-failed", f"{exited.cause}: {exited.detail}" if exited.detail else exited.cause)
    hosted.failures += 1
    turn.decide("instance failed", hosted, hosted.error, "F46", attempt=hosted.failures)
    if exited.cause in PERMANENT and hosted.record.phase == "hibernating":
        give_up(turn, hosted)
    else:
        process.again_later(turn, hosted)
