"""Everything that the engine ever wants done, as values. One step returns one :class:`Effects`.

**The order is part of the contract** (after etcd raft's ``Ready``):

1. ``writes`` are made durable, all of one step in one transaction. When that fails the process stops: nothing below may
   happen, since what is sent was made durable first (P1, P3).
2. then ``actions`` in their order, without waiting for the outcome of one before beginning the next,
3. then ``sends`` and ``broadcasts``; none of them is retried by the runtime, loss is the protocol's business,
4. ``decisions`` are rendered (log, timeline); they change nothing.

A driver may join several steps: all their writes first, in order, in one transaction, then the rest, in order.
"""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from protocol.messages import Message
from protocol.records import ApiKey

Problem = Literal[
    "insufficient-nodes",
    "max-databases",
    "no-ports",
    "instance-failed",
    "create-timeout",
    "wake-timeout",
    "invalid-name",
    "busy",
    "not-a-member",
    "not-retired",
    "key-refused",
    "members-unheard",
]
"""Kinds of refusal that a client is told, each with a detail that names its cause (R61)."""

Mode = Literal["found", "join", "restart"]


@frozen
class Write:
    """One durable row: ``value`` replaces what the key had; None deletes it."""

    key: str
    value: bytes | None


@frozen
class ReservePorts:
    """Reserve an HTTP and a Raft port for ``ticket``: the preferred ones if they can be bound now (0: none preferred), else
    others at random in the configured ranges (R47). → PortsReserved | PortsRefused, with the same ``asked``. A ticket that holds ports keeps those
    that it is given again and gives the others back."""

    ticket: int
    http: int = 0
    raft: int = 0
    asked: int = 0


@frozen
class HoldPort:
    """Mark the Raft port of a sleeping database as taken, without probing: while the range has room it stays its own (P42)."""

    ticket: int
    raft: int


@frozen
class ReleasePorts:
    """Give ports of ``ticket`` back; a ticket that does not own them changes nothing (F83)."""

    ticket: int
    http: bool = True
    raft: bool = True


@frozen
class Start:
    """Start rqlited on the incarnation's directory. → InstanceReady at most once, then exactly one InstanceExited.

    ``mode``: ``found`` makes directory and marker and founds the Raft group; ``join`` makes them and joins ``join``;
    ``restart`` needs marker and Raft state intact, and otherwise ends at once with cause ``data_missing`` (P54); with ``join``
    it tells those members its changed address (P42). ``sources``: the other members, who may have the database's TLS
    identity: whoever lacks it asks them first. ``peers``: (node id, Raft address) pairs for a ``peers.json`` that this promised epoch writes; None: any ``peers.json``
    found is removed first (P42, F55)."""

    internal: str
    incarnation: str
    run: int
    mode: Mode
    node_id: str
    http: int
    raft: int
    join: tuple[str, ...] = ()
    peers: tuple[tuple[str, str], ...] | None = None
    sources: tuple[str, ...] = ()


@frozen
class Probe:
    """Ask a ready rqlited for its counters and indexes, with a strong read before if ``strong``. → Probed with the same
    ``token``, always."""

    incarnation: str
    run: int
    token: int
    strong: bool = False


@frozen
class Snapshot:
    """Fold the WAL into the database file and read the applied index. → Snapshotted, always."""

    incarnation: str
    run: int


@frozen
class Terminate:
    """SIGTERM now, SIGKILL after ``kill_after`` microseconds (0: SIGKILL now). The exit comes as InstanceExited. Another run
    than the current one: no effect."""

    incarnation: str
    run: int
    kill_after: int


@frozen
class Trash:
    """Move the incarnation's directory to the trash: a birth that was never acknowledged, or a drop."""

    internal: str
    incarnation: str


@frozen
class Door:
    """Tell ``worker`` (None: all) that the door of this database is open, to the rqlited at HTTP port ``http``, or closed.
    Generations only grow within a process. → DoorAck of each worker told."""

    worker: int | None
    app: str
    name: str
    incarnation: str
    generation: int
    open: bool
    http: int


@frozen
class Forget:
    """Tell all workers that this database has no door here any more (asleep, dropped)."""

    incarnation: str


@frozen
class Answer:
    """Answer an :class:`protocol.inputs.Ask`; ``problem`` None: the door is open (a :class:`Door` effect came before). Or an operator's
    command (negative ``request``); ``problem`` None: it is done, and ``detail`` says what came of it."""

    request: int
    problem: Problem | None = None
    detail: str = ""


@frozen
class Halt:
    """End this process, as SIGTERM would, once all effects of this step are carried out; say ``reason``, one line, as the cause. It is
    not to be started again by itself."""

    reason: str


@frozen
class Hop:
    """A member's gateway: where it takes queries of other nodes' gateways (``host:port``), and the SHA-256 of its certificate,
    both from its signed heartbeats (F93)."""

    peer: str
    gateway: str
    fingerprint: bytes


@frozen
class Route:
    """Answer an :class:`protocol.inputs.Ask`: not this node but ``hops`` serve the database, the best first; never none."""

    request: int
    incarnation: str
    app: str
    name: str
    hops: tuple[Hop, ...]


@frozen
class Believe:
    """Tell ``worker`` (None: all) whose queries it takes from other nodes' gateways: those whose certificate has one of these
    fingerprints, and nobody else's (F93). What was told before is void."""

    worker: int | None
    fingerprints: tuple[bytes, ...]


@frozen
class Keys:
    """Tell ``worker`` (None: all) of these API keys: they are new, or have changed. A worker that has joined is told of all, in parts.
    ``complete``: this node knows all keys that others have told it of, so that one that the worker was never told of is no key; otherwise it
    still listens (P61), and may not know it yet."""

    worker: int | None
    keys: tuple[ApiKey, ...]
    complete: bool


@frozen
class SealedCopy:
    """Tell ``worker`` that it may read the copy that this sleeping database left at its clean stop (``open``; in answer to a
    :class:`protocol.inputs.ReadSealed`), or that it may not, which revokes whatever it was told before: → SealedAck. With an empty
    ``incarnation`` there is nothing to read here, and nothing is acknowledged; ``hops``: those gateways may have a copy, the best first.
    Generations only grow within a process. ``current_at``: the copy holds everything that was acknowledged until then (µs, the clock of the
    inputs)."""

    worker: int
    app: str
    name: str
    incarnation: str = ""
    internal: str = ""
    generation: int = 0
    open: bool = False
    current_at: int = 0
    hops: tuple[Hop, ...] = ()


Action = (
    ReservePorts
    | HoldPort
    | ReleasePorts
    | Start
    | Probe
    | Snapshot
    | Terminate
    | Trash
    | Door
    | Forget
    | Answer
    | Halt
    | Route
    | Believe
    | Keys
    | SealedCopy
)


@frozen
class Send:
    """A message to one peer, over the persistent direct stream."""

    to: str
    message: Message


@frozen
class Decision:
    """Why the engine did what it did: the one text that logs, golden traces and timelines render.

    ``event``: the R60 event name or a short verb phrase; ``database``: internal name, or empty; ``because``: the reason in
    plain words; ``law``: the P-number that it follows, or empty; ``fields``: structured log fields."""

    event: str
    database: str = ""
    because: str = ""
    law: str = ""
    fields: tuple[tuple[str, str | int | float], ...] = ()


@frozen
class Effects:
    """All effects of one step, in the order documented at the top of this module."""

    writes: tuple[Write, ...] = ()
    actions: tuple[Action, ...] = ()
    sends: tuple[Send, ...] = ()
    broadcasts: tuple[Message, ...] = ()
    decisions: tuple[Decision, ...] = ()


NOTHING = Effects()
