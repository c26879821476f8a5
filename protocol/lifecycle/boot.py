"""Coming back: a node rebuilds itself from its rows and resumes what it hosted (F24). The laws kept here are P12 (a birth that
was never acknowledged is dropped), P32 (votes are gone with the process that gave them) and P41 (a start spends an epoch)."""

from __future__ import annotations

from typing import Any

from protocol import codec, digest, gossip, keys, limits, membership, rollback, suspicion
from protocol.effects import HoldPort, Trash
from protocol.ids import derived
from protocol.inputs import Boot
from protocol.lifecycle import offers, process, quarantine
from protocol.lifecycle.orders import fire
from protocol.messages import Dropped
from protocol.records import ApiKey, Record
from protocol.rows import (
    EpochPromise,
    Forgotten,
    Identity,
    Instance,
    Known,
    Moved,
    NamePromise,
    Outcome,
    Retired,
    Seen,
    Stay,
)
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
    state.process = derived(boot.entropy, "process", turn.me)
    for seen in loaded.get(Seen, []):
        state.context.load(seen)
    state.nodes = {row.peer: row for row in loaded.get(Known, [])}
    state.retired = {row.peer for row in loaded.get(Retired, [])}
    state.forgotten = {row.incarnation: {} for row in loaded.get(Forgotten, [])}
    membership.count(turn)
    _know_itself(turn, loaded.get(Identity, []), boot.found)
    state.listening = not gossip.enough(turn)
    state.names = {held.internal: held for held in loaded.get(NamePromise, [])}
    records: list[Record] = sorted(loaded.get(Record, []), key=lambda record: record.incarnation)
    for record in records:
        state.records[record.incarnation] = record
        state.by_name.setdefault(record.birth.internal, []).append(record.incarnation)
        state.dots.setdefault(record.birth.dot, []).append(record.incarnation)
        digest.replace(state, record.incarnation, codec.encode(record))
    keys.load(state, loaded.get(ApiKey, []))
    promises = {promise.incarnation: promise for promise in loaded.get(EpochPromise, [])}
    instances = {instance.incarnation: instance for instance in loaded.get(Instance, [])}
    moved = {row.incarnation: row.raft for row in loaded.get(Moved, [])}
    outcomes = {row.incarnation: row for row in loaded.get(Outcome, [])}
    _resume(turn, records, promises, instances, moved, outcomes)
    if state.forgotten:
        rollback.recall(turn)
    suspicion.beat(turn)
    if state.listening:
        turn.after("listen", "", limits.SYNC_PATIENCE)


def _know_itself(turn: Turn, found: list[Identity], founds: bool) -> None:
    """The store's identity. One of another peer was copied with a data directory: nothing in it is this peer's (F32)."""
    state = turn.state
    if found and found[0].peer == turn.me:
        own = found[0]
        state.store, state.births, state.life = own.store, own.births, own.life
        state.promised, state.whole = own.promised, own.whole
        state.trail = (*own.trail, Stay(own.process, own.promised))[-limits.TRAIL :]
    else:
        state.store = derived(state.entropy, "store", turn.me)
        state.whole = founds and not found
    turn.write_identity()


def _resume(
    turn: Turn,
    records: list[Record],
    promises: dict[str, EpochPromise],
    instances: dict[str, Instance],
    moved: dict[str, int],
    outcomes: dict[str, Outcome],
) -> None:
    turn.decide("cluster manager started", None, f"store {turn.state.store}", databases=len(records))
    counts = {"active": 0, "hibernating": 0, "creating": 0, "quarantined": 0, "dropped": 0}
    found: list[Hosted] = []
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
        hosted.moved_from = moved.get(record.incarnation, 0)
        hosted.outcome = outcomes.get(record.incarnation)
        turn.state.host(hosted)
        turn.state.by_ticket[ticket] = record.incarnation
        if hosted.raft:
            turn.act(HoldPort(ticket, hosted.raft))
        found.append(hosted)
    for hosted in found:  # once every port is held: one that is sought must not be another's (F84)
        _take_up(turn, hosted)
    for incarnation, instance in instances.items():
        counts["dropped"] += 1
        turn.erase(f"instance/{incarnation}")
        turn.erase(f"promise/{incarnation}")
        turn.act(Trash(instance.internal, incarnation))
    because = "listens until the directories of a majority are merged" if turn.state.listening else ""
    turn.decide("reconciliation results", None, because, "P61" if because else "", **counts)


def _take_up(turn: Turn, hosted: Hosted) -> None:
    record = hosted.record
    if record.phase == "active":
        fire(turn, hosted, "exited")
    elif record.phase == "quarantined":
        quarantine.explain(turn, hosted)
    elif record.phase == "creating" and _told_nobody(turn, record):
        turn.broadcast(Dropped(record.incarnation))
    elif record.phase == "creating":
        held = turn.state.names.get(record.birth.internal)
        hosted.attempt = max(hosted.attempt, (held and held.stored) or hosted.attempt)
        hosted.complete = hosted.joined = True  # the process before may have seen to it
        process.begin(turn, hosted)
        turn.after("takeover", record.incarnation, limits.TAKEOVER)


def _told_nobody(turn: Turn, record: Record) -> bool:
    """This node alone minted the birth, has its only replica and was asked by no other coordinator to carry it on: nobody but itself
    could have told of success, and it did not. Its store is as it was, or it would listen (P61)."""
    birth = record.birth
    own = birth.attempt.coordinator == turn.me and record.peers == (turn.me,)
    held = turn.state.names.get(birth.internal)
    return own and not turn.state.listening and held is not None and held.attempt == birth.attempt
