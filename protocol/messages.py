"""Every message between nodes, one frozen class each; fields are positional on the wire (``protocol.codec``).

Each message names what it belongs to (attempt, incarnation, epoch), so that a late or repeated one is recognised and does
nothing (F22). The sender is never a field: it is the peer that signed (F81). Broadcast: what everyone must hear; direct:
what one node must hear. A node's messages to itself take the same handlers, within the same step.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from attrs import frozen

from protocol.records import Attempt, Birth, Member, Record, Seal, Stamp
from protocol.rows import NamePromise, Stay

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
    already stored for the name. ``superseded``: promised to the higher ``attempt``."""

    attempt: Attempt
    app: str
    name: str
    replication_factor: int
    stance: Stance
    offer: Member | None = None
    room: int = 0
    refusal: str = ""
    birth: Birth | None = None
    record: Record | None = None


@frozen
class StoreBirth:
    """Direct, to every known node: store this birth under its attempt, durably, before the founder starts (P11)."""

    birth: Birth


@frozen
class BirthAnswer:
    """Direct: the birth is stored, or refused since the name is promised to a higher attempt."""

    incarnation: str
    attempt: Attempt
    stored: bool


@frozen
class CreateConfirm:
    """Broadcast: the chosen members start; everyone else ends its lease (F2). Repeated until reported (F7)."""

    record: Record


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
    seen all chosen voters once, or may have. ``record``: the newest that it has."""

    incarnation: str
    promised: int
    state: str
    slept: int = 0
    ready: bool = False
    complete: bool = False
    record: Record | None = None


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


# --- hearing and agreeing -------------------------------------------------------------------------------------------


@frozen
class Heartbeat:
    """Broadcast by every node in every health interval, and sent straight to a peer that has just connected. ``store``, ``births``,
    ``life``, ``promised``, ``trail`` and ``whole``: the sender's store, as in its row (P62); ``room``: databases that it could still take; ``root``: digest of its
    directory; ``listening``: it promises nothing yet (P61); ``joining``: those of ``known`` whose store was never whole; ``retired``: by
    operators (P64); ``process``: drawn afresh by each process, ``twin``: another one under the same peer id that peers have told it of (P63);
    ``addresses``: the multiaddrs at which it can be dialled; ``gateway``: where its gateway takes queries of other gateways (``host:port``,
    or empty), and ``fingerprint``: the SHA-256 of the certificate that this gateway shows, and that it presents when it forwards a query.
    Its size depends on the number of nodes, never of databases."""

    cluster: str
    store: str
    births: int
    known: tuple[str, ...]
    heard: tuple[str, ...]
    room: int
    root: bytes
    listening: bool
    addresses: tuple[str, ...] = ()
    gateway: str = ""
    fingerprint: bytes = b""
    life: int = 1
    process: str = ""
    promised: int = 0
    trail: tuple[Stay, ...] = ()
    whole: bool = True
    joining: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    twin: str = ""


@frozen
class Twin:
    """Broadcast, meant for ``peer``: its ``process`` speaks again, after another one had begun to; it names ``twin`` as its own (P63)."""

    peer: str
    process: str
    twin: str


@frozen
class Echo:
    """Direct: this is the newest that the sender knows of the receiver's store. Who is behind that was rolled back (P62)."""

    store: str
    life: int
    process: str
    promised: int


class Told(NamedTuple):
    """The highest epoch that a member has promised, or has seen used, for an incarnation."""

    incarnation: str
    epoch: int


@frozen
class Recall:
    """Direct, to another member: what did you promise for these? The sender's own promises were rolled back (P62)."""

    incarnations: tuple[str, ...]


@frozen
class Recalled:
    """Direct: the answer, for those of which both are members."""

    told: tuple[Told, ...]


class Entry(NamedTuple):
    """One record of a leaf, without its contents: ``hash`` are the first 8 bytes of its digest."""

    incarnation: str
    hash: bytes


@frozen
class SyncAsk:
    """Direct: the leaves of the sender's digest tree, 16 bytes each; list what differs. ``number``: of this exchange, the sender's
    own count; all its messages carry it. The rest says of the sender's store what a heartbeat does; who has no ``whole`` store is
    told the promises of names too (P61)."""

    number: int
    leaves: bytes
    store: str
    life: int
    process: str
    promised: int
    trail: tuple[Stay, ...]
    whole: bool


@frozen
class SyncPage:
    """Direct: all that the sender has in one leaf with incarnations in (``after``, ``upto``]; an empty ``upto`` means to the end.
    What is not listed in this range, the sender does not have: dropped, or never seen. It tells which when it is asked (P20)."""

    number: int
    page: int
    leaf: int
    after: str
    upto: str
    entries: tuple[Entry, ...]


@frozen
class SyncNames:
    """Direct, to a store that is not whole: promises of names, which it may have given itself once (P10, P61)."""

    number: int
    page: int
    promises: tuple[NamePromise, ...]


@frozen
class SyncDone:
    """Direct: that were all ``pages`` of the exchange. ``whole``: the sender's store is, so that it counts for who listens (P61)."""

    number: int
    pages: int
    whole: bool


@frozen
class SyncWant:
    """Direct, what came of a page, in batches: send me ``want``; I have ``have``, which you did not list; ``gone``, which you listed,
    I have seen and hold no more: they are dropped (P20, F26)."""

    number: int
    batch: int
    want: tuple[str, ...]
    have: tuple[str, ...]
    gone: tuple[str, ...]


@frozen
class SyncRecords:
    """Direct, the answer to one batch: the records, which of the others are wanted in return, and which are dropped. With number 0:
    records that the receiver asked for, or of which the sender knows a newer version."""

    number: int
    batch: int
    records: tuple[Record, ...]
    want: tuple[str, ...]
    gone: tuple[str, ...]


Message = (
    CreateRequest
    | CreateAnswer
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
)

__all__ = [
    "Attempt",
    "Birth",
    "BirthAnswer",
    "CreateAnswer",
    "CreateConfirm",
    "CreateFailed",
    "CreateRequest",
    "Dropped",
    "Echo",
    "Entry",
    "Heartbeat",
    "IdleNews",
    "Member",
    "MembersStored",
    "Message",
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
    "SyncAsk",
    "SyncDone",
    "SyncNames",
    "SyncPage",
    "SyncRecords",
    "SyncWant",
    "Told",
    "Twin",
    "WakeIntent",
]
