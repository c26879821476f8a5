"""What a node does about what it learns of a database, however it came: news, a refusal, anti-entropy. The laws kept here are F28
(membership learned by sync starts and stops local instances as the message would have), P4 (who is told how another
stands catches up) and P33 (a member outside the vote that learns of the sleep closes, drains and stops; a sleeper that
hears of an instance running at a newer epoch starts; who runs without a quorum sends an intent)."""

from __future__ import annotations

from protocol import directory, gossip, rollback, standing
from protocol.chart import nothing_newer_promised
from protocol.ids import Peer
from protocol.lifecycle import fate, offers, process, quarantine, serving, sleep, stopping, wake
from protocol.lifecycle.orders import Subject, complain, fire
from protocol.messages import (
    CreateConfirm,
    Dropped,
    MembersStored,
    RecordNews,
    Standing,
    StandingAsk,
    StoreMembers,
    WakeIntent,
)
from protocol.records import Record
from protocol.state import Hosted
from protocol.turn import Turn


def on_record(turn: Turn, sender: Peer, message: RecordNews) -> None:
    before = turn.state.records.get(message.record.incarnation)
    if rollback.on_record(turn, message.record):
        gossip.begin_listening(turn)
    record = directory.merge(turn, message.record)
    if record is None:
        if sender != turn.me:
            turn.send(sender, Dropped(message.record.incarnation))  # its news is of what is no more (P4, P20)
        return
    serving.on_record(turn, record)
    hosted = turn.state.hosted.get(record.incarnation)
    if hosted is not None:
        process.remember_move(turn, hosted, before or record)
        if record.phase != "creating":
            offers.settle_pending(turn, hosted)
            fate.forget(turn, hosted)
        if message.record.version < record.version:
            standing.tell(turn, sender, record.incarnation)  # its news is old (P4)
        _follow(turn, hosted, before or record)
    elif record.phase == "creating":
        if record.member(turn.me) is not None:
            offers.on_confirm(turn, record.birth.attempt.coordinator, CreateConfirm(record, record.birth.attempt))
    else:
        serving.resume(turn, record.birth.internal)


def _follow(turn: Turn, hosted: Hosted, before: Record) -> None:
    """This member does what its database's record says by now, unless it has promised a newer epoch itself."""
    record = hosted.record
    if record.phase == "quarantined":
        serving.ask_again(turn, record, quarantine.obey(turn, hosted))
        return
    if record.phase != "creating" and hosted.state == "creating":
        _born(turn, hosted)
    if record.phase == "active" and hosted.state == "hibernating":
        if record.version.epoch > (hosted.stopping or before.version.epoch):
            hosted.stopping = hosted.stopping or before.version.epoch
            wake.follow(turn, hosted, f"it runs in epoch {record.version.epoch}")
    elif record.phase == "hibernating" and hosted.state == "waking":
        if not hosted.waiters and nothing_newer_promised(Subject(turn, hosted)) and fire(turn, hosted, "given_up"):
            turn.decide("asleep after the others", hosted, f"they sleep since epoch {record.version.epoch}", "P33")
    elif record.phase == "hibernating" and hosted.state in ("active", "idle"):
        if nothing_newer_promised(Subject(turn, hosted)):
            sleep.follow(turn, hosted)
        elif before.version != record.version:
            wake.insist(turn, hosted)
    elif hosted.following:
        sleep.stay(turn, hosted, "the others run it again")


def _born(turn: Turn, hosted: Hosted) -> None:
    """The birth was finished. All its members were voters once: a replica that cannot serve yet goes on as one that wakes does. A member
    that has started nothing lost its disk since, and the database with it: it hosts nothing (P54)."""
    if hosted.record.phase == "active" and fire(turn, hosted, "acknowledged"):
        return
    if hosted.process != "none" or hosted.run or hosted.joined:
        fire(turn, hosted, "born")
        return
    complain(hosted, "not-a-member", "this node lost its replica")
    Subject(turn, hosted).refuse_waiters()
    turn.decide("replica lost", hosted, "the database was born with it, and nothing of it is here", "P54")
    process.bury(turn, hosted)


def on_store_members(turn: Turn, sender: Peer, message: StoreMembers) -> None:
    """Changed members, of the holder of an epoch: stored durably before the answer, unless a newer epoch is promised, or this one to
    another. The promise stays what it is (P6)."""
    incarnation, epoch = message.record.incarnation, message.record.version.epoch
    hosted = turn.state.hosted.get(incarnation)
    if hosted is None or turn.state.listening:
        standing.tell(turn, sender, incarnation)
        return
    promise = hosted.promise
    stored = promise.epoch < epoch or (promise.epoch == epoch and promise.holder == sender)
    if stored:
        on_record(turn, sender, RecordNews(message.record))
        stored = hosted.record.stamp == message.record.stamp
    turn.send(sender, MembersStored(incarnation, epoch, stored, None if stored else standing.of(hosted)))


def on_standing_ask(turn: Turn, sender: Peer, message: StandingAsk) -> None:
    standing.tell(turn, sender, message.incarnation)


def on_standing(turn: Turn, sender: Peer, message: Standing) -> None:
    """How another member stands: learn its record; and where one of the two sleeps and the other runs, the one that is behind
    follows. Never answered by the like: two that are both right must not tell each other so for ever."""
    if message.record is not None:
        turn.learn(message.record)
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or sender == turn.me or hosted.record.member(sender) is None:
        return
    hosted.told = max(hosted.told, message.promised)
    if message.state == standing.ABSENT:
        sleep.on_absent(turn, hosted, sender)
        return
    hosted.absent.discard(sender)
    if hosted.state == "hibernating" and message.state in standing.RUNNING:
        doubted = hosted.doubt != "" and hosted.sleep is None and stopping.unrecorded(hosted)
        if doubted or message.promised > hosted.sleep_epoch:
            wake.follow(turn, hosted, f"{sender} runs it, and has promised epoch {message.promised}")
    elif stopping.unrecorded(hosted):
        hosted.doubt = "shared" if hosted.doubt else ""
    elif hosted.state == "waking" and hosted.process in ("starting", "ready") and message.slept:
        turn.decide("others called", hosted, f"{sender} sleeps since epoch {message.slept}", "P33")
        turn.send(sender, WakeIntent(hosted.incarnation, message.slept))
