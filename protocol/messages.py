"""Every message between nodes, one frozen class each; fields are positional on the wire (``protocol.codec``).

Each message names what it belongs to (attempt, incarnation, epoch), so that a late or repeated one is recognised and does
nothing (F22). The sender is never a field: it is the peer that signed (F81). Broadcast: what everyone must hear; direct:
what one node must hear. A node's messages to itself take the same handlers, within the same step.
"""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from protocol.birth_messages import BirthAnswer, OutcomeStored, StoreBirth, StoreOutcome
from protocol.node_messages import (
    Echo,
    Entry,
    Heartbeat,
    KeyNews,
    Recall,
    Recalled,
    SyncAsk,
    SyncDone,
    SyncKeys,
    SyncNames,
    SyncPage,
    SyncRecords,
    SyncWant,
    Told,
    Twin,
)
from protocol.records import ApiKey, Attempt, Birth, Member, Record, Seal, Stamp
from protocol.rows import Outcome

Stance = Literal["known", "denied", "unsure", "superseded"]
Purpose = Literal["create", "sleep", "wake", "address"]

# --- creation -------------------------------------------------------------------------------------------------------


@frozen
class CreateRequest:
    """Broadcast by the node whose client first touched a name; names the coordinator that it expects (R40)."""

    attempt: Attempt
    app: str
    name: str
    replication_factor: int


@frozen
class CreateAnswer:
    """Direct, to the coordinator: what the answering node knows of the name (P10), and its offer or refusal.

    ``known``: ``record`` is a living incarnation. ``denied``: a durable promise to this attempt; ``birth`` is a birth
    already stored for the name; ``room``: how many databases the sender could take, 0 beside an offer: it is short of Raft ports (P42); ``stored`` the attempt that it was stored under last. ``superseded``: promised to an attempt of the number ``higher``."""

    attempt: Attempt
    app: str
    name: str
    replication_factor: int
    stance: Stance
    offer: Member | None = None
    room: int = 0
    refusal: str = ""
    birth: Birth | None = None
    stored: Attempt | None = None
    record: Record | None = None
    higher: int = 0


@frozen
class CreateSuperseded:
    """Direct, to the requesters: the name is promised to an attempt of the number ``higher``. If nothing comes of that one either, the
    next has to be higher still (P10)."""

    attempt: Attempt
    app: str
    name: str
    higher: int


@frozen
class CreateConfirm:
    """Broadcast: the chosen members start, and report to this attempt's coordinator; everyone else ends its lease (F2).
    Repeated until reported (F7)."""

    record: Record
    attempt: Attempt


@frozen
class CreateFailed:
    """Direct, to the requesters: no database came of this attempt, with the cause. The name is free again (F9)."""

    attempt: Attempt
    app: str
    name: str
    problem: str
    detail: str


@frozen
class Dropped:
    """Broadcast: this incarnation is no more; its dot stays in the context, its record goes (P20)."""

    incarnation: str


# --- reports --------------------------------------------------------------------------------------------------------


@frozen
class Report:
    """Direct, to the coordinator: the state of the sender's own instance (F23: written by nobody else)."""

    incarnation: str
    epoch: int
    state: str
    voters: tuple[str, ...] = ()
    leader: bool = False
    cause: str = ""
    detail: str = ""


@frozen
class RecordNews:
    """Broadcast: a record's new version."""

    record: Record


@frozen
class Standing:
    """Direct, in answer to a question, or to whatever is stale; part of every refusal (P4): how the sender stands with this database.

    ``promised``: its highest promise. ``state``: of its own instance, ``absent`` when there is none and can be none. ``slept``: the
    epoch of the sleep that it is in, 0 when awake. ``ready``: its instance has passed a strong read. ``complete``: it has
    seen all chosen voters once, or may have. ``record``: the newest that it has. ``outcome``: what it has stored of a birth's, which
    no record tells yet (P12)."""

    incarnation: str
    promised: int
    state: str
    slept: int = 0
    ready: bool = False
    complete: bool = False
    record: Record | None = None
    outcome: Outcome | None = None


@frozen
class StandingAsk:
    """Direct, to members: how do you stand? Asked by who stopped for a sleep that nobody recorded, and by who runs alone (P33)."""

    incarnation: str


# --- epochs ---------------------------------------------------------------------------------------------------------


@frozen
class PromiseAsk:
    """Direct, to each member: promise this epoch to me, durably; ``stamp`` is that of the members that I know (P1)."""

    incarnation: str
    epoch: int
    purpose: Purpose
    stamp: Stamp


@frozen
class PromiseAnswer:
    """Direct: promised, or refused; either way how the sender stands (P4)."""

    incarnation: str
    epoch: int
    granted: bool
    standing: Standing


@frozen
class StoreMembers:
    """Direct, to each member: store this record, whose members have changed, unless a newer epoch is promised (P6)."""

    record: Record


@frozen
class MembersStored:
    """Direct: the changed members are stored durably, or refused with how the sender stands (P4, P6)."""

    incarnation: str
    epoch: int
    stored: bool
    standing: Standing | None = None


# --- sleep ----------------------------------------------------------------------------------------------------------


@frozen
class IdleNews:
    """Direct, to the lowest eligible member: nothing passed the sender's doors, or rqlite itself, for the timeout."""

    incarnation: str
    epoch: int
    idle: bool


@frozen
class SleepProposal:
    """Direct, to each member: close the doors, drain, vote (P30)."""

    incarnation: str
    epoch: int


@frozen
class SleepVote:
    """Direct, to the coordinator: the sender's doors are closed and drained, or why not: any veto forbids (P31). ``absent``: neither;
    nothing of the database is at the sender, nor can be, so that nobody uses it there. A refusal tells how the sender stands."""

    incarnation: str
    epoch: int
    granted: bool
    leader: bool = False
    reason: str = ""
    absent: bool = False
    standing: Standing | None = None


@frozen
class SealAsk:
    """Direct, once all have voted: with an ``index`` of -1 to the Raft leader's node: read strongly, tell the applied index; then
    with that index to the others: say so when that much is applied (P34)."""

    incarnation: str
    epoch: int
    index: int


@frozen
class SealAnswer:
    """Direct, to the coordinator: the applied index, -1 when the strong read failed (P34)."""

    incarnation: str
    epoch: int
    index: int


@frozen
class SleepCommit:
    """Direct, to each member: stop, if this very process voted for this epoch and it is still its highest (P32).
    ``index``: the seal's applied index, or -1 when the sleep can have none."""

    incarnation: str
    epoch: int
    index: int


@frozen
class SleepAbort:
    """Direct, to each member: this epoch's sleep does not happen; doors reopen and the epoch is spent (P3)."""

    incarnation: str
    epoch: int
    reason: str


@frozen
class SleepReport:
    """Direct, to the coordinator: the exit of the sender's instance was observed (P33, P34)."""

    incarnation: str
    epoch: int
    clean: bool
    applied: int


# --- wake -----------------------------------------------------------------------------------------------------------


@frozen
class WakeIntent:
    """Broadcast, by any node: end the sleep of this epoch; void for any other (P40)."""

    incarnation: str
    epoch: int


Message = (
    CreateRequest
    | CreateAnswer
    | CreateSuperseded
    | StoreBirth
    | BirthAnswer
    | CreateConfirm
    | CreateFailed
    | Dropped
    | Report
    | RecordNews
    | Standing
    | StandingAsk
    | PromiseAsk
    | PromiseAnswer
    | StoreMembers
    | MembersStored
    | StoreOutcome
    | OutcomeStored
    | IdleNews
    | SleepProposal
    | SleepVote
    | SealAsk
    | SealAnswer
    | SleepCommit
    | SleepAbort
    | SleepReport
    | WakeIntent
    | Heartbeat
    | Twin
    | Echo
    | Recall
    | Recalled
    | SyncAsk
    | SyncPage
    | SyncNames
    | SyncDone
    | SyncWant
    | SyncRecords
    | SyncKeys
    | KeyNews
)

__all__ = [
    "ApiKey",
    "Attempt",
    "Birth",
    "BirthAnswer",
    "CreateAnswer",
    "CreateConfirm",
    "CreateFailed",
    "CreateRequest",
    "CreateSuperseded",
    "Dropped",
    "Echo",
    "Entry",
    "Heartbeat",
    "IdleNews",
    "KeyNews",
    "Member",
    "MembersStored",
    "Message",
    "OutcomeStored",
    "PromiseAnswer",
    "PromiseAsk",
    "Purpose",
    "Recall",
    "Recalled",
    "Record",
    "RecordNews",
    "Report",
    "Seal",
    "SealAnswer",
    "SealAsk",
    "SleepAbort",
    "SleepCommit",
    "SleepProposal",
    "SleepReport",
    "SleepVote",
    "Stance",
    "Standing",
    "StandingAsk",
    "StoreBirth",
    "StoreMembers",
    "StoreOutcome",
    "SyncAsk",
    "SyncDone",
    "SyncKeys",
    "SyncNames",
    "SyncPage",
    "SyncRecords",
    "SyncWant",
    "Told",
    "Twin",
    "WakeIntent",
]
