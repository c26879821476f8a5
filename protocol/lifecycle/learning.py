"""What a node does about a record that it learns, however it came: news, a refusal, anti-entropy. The laws kept here are F28
(membership learned by sync starts and stops local instances as the message would have), P33 (a member outside the vote
that learns of the sleep closes, drains and stops; a sleeper that hears of an instance running at a newer epoch starts)."""

from __future__ import annotations

from protocol import directory, promises
from protocol.ids import Peer
from protocol.lifecycle import offers, serving
from protocol.lifecycle.orders import fire
from protocol.messages import CreateConfirm, RecordNews
from protocol.records import Record
from protocol.state import Hosted
from protocol.turn import Turn


def on_record(turn: Turn, sender: Peer, message: RecordNews) -> None:
    del sender
    before = turn.state.records.get(message.record.incarnation)
    record = directory.merge(turn, message.record)
    if record is None:
        return
    serving.on_record(turn, record)
    hosted = turn.state.hosted.get(record.incarnation)
    if hosted is not None:
        if record.phase != "creating":
            offers.settle_pending(turn, hosted)
        _follow(turn, hosted, before or record)
    elif record.phase == "creating":
        if record.member(turn.me) is not None:
            offers.on_confirm(turn, record.birth.attempt.coordinator, CreateConfirm(record))
    else:
        serving.resume(turn, record.birth.internal)


def _follow(turn: Turn, hosted: Hosted, before: Record) -> None:
    """This member does what its database's record says by now, unless it has promised a newer epoch itself."""
    record = hosted.record
    if record.phase == "active" and hosted.state == "creating":
        fire(turn, hosted, "acknowledged")
    elif record.phase == "active" and hosted.state == "hibernating":
        slept = hosted.stopping or before.version.epoch
        if record.version.epoch > slept and not hosted.wanted:
            turn.decide("started after the others", hosted, f"it runs in epoch {record.version.epoch}", "P33")
            promises.spend(turn, hosted, slept + 1)
            hosted.wanted = not fire(turn, hosted, "wanted")
    elif record.phase == "hibernating" and hosted.state in ("active", "idle"):
        if fire(turn, hosted, "slept"):
            hosted.stopping = record.version.epoch
            turn.decide("asleep after the others", hosted, f"it sleeps since epoch {record.version.epoch}", "P33")
