"""Everything that the engine is ever told. ``Node.step(input)`` is the one door; nothing else changes a node's state.

Each input carries ``now``: integer microseconds on the node's own monotonic clock, never going back within one process.
Outcomes of effects come back as inputs too, named by the ids that the effect carried (``ticket``, ``incarnation`` and
``run``), so that a late outcome of an older run is recognised and ignored.
"""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from protocol.messages import Message
from protocol.records import Scope

Cause = Literal["stopped", "killed", "port_taken", "binary_missing", "data_missing", "key_missing", "disk", "crashed"]
"""Why an rqlited ended. ``stopped``: exit 0 after our SIGTERM. ``data_missing``: never started, P54. ``key_missing``: never
started, no other member gave the database's TLS identity."""


@frozen
class Boot:
    """First input of every process, once. ``entropy``: 32 fresh random bytes. ``rows``: the durable store as it is, every
    (key, value) that :class:`protocol.effects.Write` ever left there. No rqlited of this node is running any more: the
    runtime stops what an earlier process left behind before it boots the engine (F61).
    ``found``: this process founds the cluster (P60); any other with an empty store listens first (P61)."""

    now: int
    entropy: bytes
    rows: tuple[tuple[str, bytes], ...] = ()
    found: bool = False


@frozen
class Tick:
    """Time has passed: sent when ``Node.deadline`` is reached. Every input expires deadlines first (P7)."""

    now: int


@frozen
class Received:
    """A message of another node. ``sender`` is the peer that signed it (F81)."""

    now: int
    sender: str
    message: Message


@frozen
class PeerConnected:
    """A connection to a node that holds the cluster's secret is up. Nothing more: liveness comes from heartbeats."""

    now: int
    peer: str


@frozen
class Ask:
    """A gateway wants to query a database: create or wake it if need be. ``request`` is unique within this process and is
    answered exactly once, by an :class:`protocol.effects.Answer` or a :class:`protocol.effects.Route`. ``forwarded``: the
    query came from another node's gateway, so it is answered here or not at all (F93)."""

    now: int
    request: int
    app: str
    name: str
    forwarded: bool = False


@frozen
class Retire:
    """An operator says that ``peer`` is gone for good (P64). ``request``: negative, since those of gateways are positive; unique
    within this process; answered exactly once by an :class:`protocol.effects.Answer`."""

    now: int
    request: int
    peer: str


@frozen
class CreateKey:
    """An operator creates an API key (R36). Its text was made elsewhere and is no part of this: ``sha256`` is its digest. ``expires``: Unix
    seconds, 0 for never. ``request`` as of :class:`Retire`."""

    now: int
    request: int
    id: str
    sha256: bytes
    app: str
    scope: Scope
    expires: int = 0
    name: str = ""


@frozen
class RevokeKey:
    """An operator says that the key of this id lets nobody in any more, anywhere, for good (F87). ``request`` as of :class:`Retire`."""

    now: int
    request: int
    id: str


@frozen
class WorkerJoined:
    """A gateway worker serves from now on; the engine tells it the doors that are open."""

    now: int
    worker: int


@frozen
class WorkerLeft:
    """A gateway worker is gone (its process ended): its queries in flight count no longer, its acknowledgements neither."""

    now: int
    worker: int


@frozen
class DoorAck:
    """A worker has processed the door of ``generation``; so many of its queries are still in flight. A worker sends it at
    once when told, and again when the last query behind a closed door has ended (P30)."""

    now: int
    worker: int
    incarnation: str
    generation: int
    in_flight: int


@frozen
class Used:
    """Queries passed a worker's door: ``count`` since its last report, ``in_flight`` now."""

    now: int
    worker: int
    incarnation: str
    count: int
    in_flight: int


@frozen
class ReadSealed:
    """A worker has a client that accepts an old answer: may it read the sealed copy? Answered at once, by a
    :class:`protocol.effects.SealedCopy` to that worker. It wakes nothing."""

    now: int
    worker: int
    app: str
    name: str


@frozen
class SealedAck:
    """A worker has closed the sealed copy as it was told under ``generation``; so many of its readers are still in it. Sent at once
    when told, and again when the last one has ended (P34)."""

    now: int
    worker: int
    incarnation: str
    generation: int
    in_flight: int


@frozen
class PortsReserved:
    """The ports of a ticket are reserved, in answer to :class:`protocol.effects.ReservePorts`."""

    now: int
    ticket: int
    http: int
    raft: int
    asked: int = 0


@frozen
class PortsRefused:
    """No ports for a ticket; ``detail`` names the range. ``raft``: it is the Raft range in which none is free."""

    now: int
    ticket: int
    detail: str
    raft: bool = False
    asked: int = 0


@frozen
class InstanceReady:
    """A strong read passed on this run of an rqlited, for the first time. At most once for a run, before its exit.
    ``voters``: node ids of the Raft configuration, sorted. ``counter``: see :class:`Probed`."""

    now: int
    incarnation: str
    run: int
    applied: int
    voters: tuple[str, ...]
    leader: bool
    counter: int = 0


@frozen
class InstanceExited:
    """A run has ended, observed by the runtime: exactly one for each :class:`protocol.effects.Start`, whatever happened,
    also when the process could never be started. ``wal_empty``: ``db.sqlite-wal`` is absent or empty (P34)."""

    now: int
    incarnation: str
    run: int
    code: int | None
    cause: Cause
    detail: str = ""
    wal_empty: bool = False


@frozen
class Probed:
    """Outcome of :class:`protocol.effects.Probe`. ``counter``: requests that rqlited has counted on its HTTP interface, less
    the runtime's own probes; it goes back when the process restarts, which counts as activity (F40)."""

    now: int
    incarnation: str
    run: int
    token: int
    ok: bool
    counter: int = 0
    applied: int = 0
    leader: bool = False
    voters: tuple[str, ...] = ()
    detail: str = ""


@frozen
class Snapshotted:
    """Outcome of :class:`protocol.effects.Snapshot`: the WAL is folded in up to ``applied`` (P34), or not (``ok`` false)."""

    now: int
    incarnation: str
    run: int
    ok: bool
    applied: int = 0
    detail: str = ""


Input = (
    Boot
    | Tick
    | Received
    | PeerConnected
    | Ask
    | Retire
    | CreateKey
    | RevokeKey
    | WorkerJoined
    | WorkerLeft
    | DoorAck
    | Used
    | ReadSealed
    | SealedAck
    | PortsReserved
    | PortsRefused
    | InstanceReady
    | InstanceExited
    | Probed
    | Snapshotted
)

__all__ = [
    "Ask",
    "Boot",
    "Cause",
    "CreateKey",
    "DoorAck",
    "Input",
    "InstanceExited",
    "InstanceReady",
    "PeerConnected",
    "PortsRefused",
    "PortsReserved",
    "Probed",
    "ReadSealed",
    "Received",
    "Retire",
    "RevokeKey",
    "SealedAck",
    "Snapshotted",
    "Tick",
    "Used",
    "WorkerJoined",
    "WorkerLeft",
]
