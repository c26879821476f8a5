"""Coming back: a node rebuilds itself from its rows and resumes what it hosted (F24). The laws kept here are P12 (a birth that
was never acknowledged is dropped), P32 (votes are gone with the process that gave them) and P41 (a start spends an epoch)."""

from __future__ import annotations

from typing import Any

from protocol import codec, digest, limits, rows, suspicion
from protocol.effects import HoldPort, Trash
from protocol.ids import derived
from protocol.inputs import Boot
from protocol.lifecycle import offers, process
from protocol.lifecycle.orders import fire
from protocol.messages import Dropped
from protocol.records import Record
from protocol.rows import EpochPromise, Identity, Instance, NamePromise, Seen
from protocol.state import Hosted
from protocol.turn import Turn


def on_boot(turn: Turn, boot: Boot) -> None:
    """Raises CodecError when a row cannot be read: a store that is not understood is not guessed at."""
    state = turn.state
    assert not state.store, "a process boots once"
    state.entropy = boot.entropy
    loaded: dict[type, list[Any]] = {}
    for _key, value in boot.rows:
        row: object = codec.decode_row(value)
        loaded.setdefault(row.__class__, []).append(row)
    identity: list[Identity] = loaded.get(rows.Identity, [])
    if identity:
        state.store, state.births = identity[0].store, identity[0].births
    else:
        state.store = derived(boot.entropy, "store", turn.me)
        turn.write("identity", Identity(state.store, 0))
    for seen in loaded.get(Seen, []):
        state.context.load(seen)
    known = {row.peer for row in loaded.get(rows.Known, [])}
    state.known = tuple(sorted({turn.me, *state.config.known, *known}))
    state.intact = bool(identity)
    state.listening = len(state.known) > 1 or not (state.intact or boot.found)
    state.names = {held.internal: held for held in loaded.get(NamePromise, [])}
    records: list[Record] = sorted(loaded.get(Record, []), key=lambda record: record.incarnation)
    for record in records:
        state.records[record.incarnation] = record
        state.by_name.setdefault(record.birth.internal, []).append(record.incarnation)
        digest.replace(state, record.incarnation, record)
    promises = {promise.incarnation: promise for promise in loaded.get(EpochPromise, [])}
    instances = {instance.incarnation: instance for instance in loaded.get(Instance, [])}
    moved = {row.incarnation for row in loaded.get(rows.Moved, [])}
    _resume(turn, records, promises, instances, moved)
    suspicion.beat(turn)


def _resume(
    turn: Turn,
    records: list[Record],
    promises: dict[str, EpochPromise],
    instances: dict[str, Instance],
    moved: set[str],
) -> None:
    turn.decide("cluster manager started", None, f"store {turn.state.store}", databases=len(records))
    counts = {"active": 0, "hibernating": 0, "creating": 0, "quarantined": 0, "dropped": 0}
    for record in records:
        member = record.member(turn.me)
        promise = promises.get(record.incarnation)
        if member is None or promise is None:
            continue  # a member without a promise lost its store: it has nothing to resume (P54)
        counts[record.phase] += 1
        instance = instances.pop(record.incarnation, None)
        ticket = offers.next_ticket(turn)
        hosted = Hosted(record, record.phase, promise, ticket, raft=member.raft)
        if instance is not None:
            hosted.http, hosted.raft = instance.http, instance.raft
        hosted.moved = record.incarnation in moved
        turn.state.hosted[record.incarnation] = hosted
        turn.state.by_ticket[ticket] = record.incarnation
        turn.act(HoldPort(ticket, hosted.raft))
        if record.phase == "active":
            fire(turn, hosted, "exited")
        elif record.phase == "creating" and record.birth.attempt.coordinator == turn.me and record.peers == (turn.me,):
            turn.broadcast(
                Dropped(record.incarnation)
            )  # nobody but this node could have told of success, and it did not
        elif record.phase == "creating":
            hosted.complete = hosted.joined = True  # the process before may have seen to it
            process.begin(turn, hosted)
            turn.after("takeover", record.incarnation, limits.TAKEOVER)
    for incarnation, instance in instances.items():
        counts["dropped"] += 1
        turn.erase(f"instance/{incarnation}")
        turn.erase(f"promise/{incarnation}")
        turn.act(Trash(instance.internal, incarnation))
    because = "listens until the directories of a majority are merged" if turn.state.listening else ""
    turn.decide("reconciliation results", None, because, "P61" if because else "", **counts)
