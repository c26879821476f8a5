"""All the state of one node, as plain mutable values. Nothing outside ``Node.step`` changes them; each class says which part
is durable (rebuilt from rows at boot) and which dies with the process, since laws depend on it (P32: a vote dies with its process).
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from attrs import Factory, define, field, frozen

from protocol import limits
from protocol.clocks import Context
from protocol.effects import Decision, Problem, Start
from protocol.ids import Dot, Peer
from protocol.messages import CreateAnswer, Purpose, Report, SleepReport, Standing
from protocol.readers import Readers
from protocol.records import ApiKey, Attempt, Birth, Record
from protocol.rounds import MembersRound, OutcomeRound
from protocol.rows import EpochPromise, Known, NamePromise, Outcome, Stay
from protocol.timers import Timers

Process = Literal["none", "reserving", "starting", "ready", "snapshotting", "stopping"]
"""This node's rqlited of one database. ``none``: its exit was observed, or it was never started."""

ProbeFor = Literal["idle", "vote", "seal", "reach", "voters", "serve"]


@frozen
class Config:
    """What an operator decides, fixed for a process's life. Times in microseconds.

    ``peer``: this node's own id. ``host``: advertised with Raft ports. ``known``: peer ids that majorities count from the start, this one
    among them; more are learned. Nothing is believed of them until they are heard (P61). ``cluster``: the cluster's id (P60). ``health_interval``: between heartbeats (R45). ``hibernation_timeout``: 0 means never (R4). ``stop_timeout``: from SIGTERM to SIGKILL.
    ``addresses``, ``gateway``, ``fingerprint``: what this node's heartbeats say of how it is reached."""

    peer: Peer
    host: str = "127.0.0.1"
    known: tuple[Peer, ...] = ()
    cluster: str = ""
    health_interval: int = 10 * limits.SECOND
    replication_factor: int = 3
    hibernation_timeout: int = 60 * limits.SECOND
    max_databases: int = 100
    stop_timeout: int = 5 * limits.SECOND
    wake_deadline: int = limits.WAKE_DEADLINE
    addresses: tuple[str, ...] = ()
    gateway: str = ""
    fingerprint: bytes = b""

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.replication_factor <= limits.MEMBERS:
            raise ValueError(f"replication_factor {self.replication_factor} is not between 1 and {limits.MEMBERS}")
        if self.known and self.peer not in self.known:
            raise ValueError("a node knows itself: `known` must hold `peer`")


@define
class PromiseRound:
    """As a coordinator: an epoch being asked for (P2). Volatile."""

    epoch: int
    purpose: Purpose
    granted: set[Peer] = Factory(set[Peer])
    refused: set[Peer] = Factory(set[Peer])
    standings: dict[Peer, Standing] = Factory(dict[Peer, Standing])
    """How those stand that have answered."""


@define
class SleepRound:
    """As a coordinator: one sleep under one promised epoch (P30–P34). Volatile: a successor asks for an epoch of its own."""

    epoch: int
    votes: dict[Peer, bool] = Factory(dict[Peer, bool])
    """Voter → whether its instance leads the Raft group."""
    absent: set[Peer] = Factory(set[Peer])
    """Members that said, to this very proposal, that nothing of the database is or can be there."""
    sealing: bool = False
    """The leader was asked for the seal's index."""
    committed: bool = False
    index: int = -1
    reached: set[Peer] = Factory(set[Peer])
    """Voters that have applied everything up to ``index`` (P34)."""
    reports: dict[Peer, SleepReport] = Factory(dict[Peer, SleepReport])


@frozen
class Decided:
    """A decision, and when it was made (µs on the node's clock)."""

    at: int
    decision: Decision


@define
class Hosted:
    """One database of which this node is a member: its own view. Durable: ``record``, ``promise``, ``http``, ``raft``, ``moved_from``,
    ``outcome``."""

    record: Record
    state: str
    promise: EpochPromise
    ticket: int
    http: int = 0
    raft: int = 0
    """0: it was given up while it sleeps (P42)."""

    # The process.
    process: Process = "none"
    run: int = 0
    reserving: int = 0
    """The last asking for ports: what answers an earlier one says nothing any more."""
    ready_at: int = 0
    voters: tuple[str, ...] = ()
    leader: bool = False
    moved_from: int = 0
    """It starts on another Raft port than this one, where its group may know it still; 0: it has not moved (P42). Durable, as a row of its
    own."""
    back: bool = False
    """Its next start is to be there: the others are no quorum that could be told where it went."""
    lost: bool = False
    """Its data was not there at its last start: nothing runs here, nor can it (P54)."""
    failures: int = 0
    """Starts that failed, or runs that died young, since the last good one: what the backoff grows with."""
    error: str = ""
    problem: Problem = "instance-failed"
    woken_at: int = 0
    held: Start | None = None
    """All that this start waits for is that readers of the sealed copy are gone (P34)."""

    # The door.
    generation: int = 0
    open: bool = False
    acks: dict[int, int] = Factory(dict[int, int])
    """Worker → queries in flight, as acknowledged for the current generation (P30)."""
    in_flight: dict[int, int] = Factory(dict[int, int])
    last_used: int = 0
    used_since_sample: bool = False
    counter: int = 0

    # Sleep, as a member.
    closing: int = 0
    """The epoch whose proposal closed the doors, or 0."""
    following: int = 0
    """The epoch of a sleep that was recorded without this member's vote, for which its doors are closing; or 0 (P33)."""
    vote: int = 0
    """The epoch that this very process voted for, or 0: never durable (P32)."""
    voted_at: int = 0
    stopping: int = 0
    """The epoch of the commit that this process obeys or has obeyed, until it wakes; or 0."""
    wanted: bool = False
    """A wake came after SIGTERM: start once the exit is observed (P32, P41)."""
    folded: int = -1
    """Applied index at the snapshot before the stop, or -1 when it failed (P34)."""
    slept_at: int = 0
    """When the exit for its last sleep was observed; 0: it has slept since before this process of the node."""
    awaited: int = -1
    """The seal's index, which the coordinator waits for this member to have applied (P34)."""
    doubt: Literal["", "asked", "shared"] = ""
    """It stopped for a sleep of which it knows no record: has it asked the others, does another one know none either (P33)."""
    readers: Readers = Factory(Readers)

    # As a coordinator.
    told: int = 0
    """The highest promise that others told of: a coordinator asks for one more (P2)."""
    round: PromiseRound | None = None
    moving: MembersRound | None = None
    deciding: OutcomeRound | None = None
    sleep: SleepRound | None = None
    idle: set[Peer] = Factory(set[Peer])
    absent: set[Peer] = Factory(set[Peer])
    """Members that said that nothing of the database is or can be there: nothing is expected of them, and a vote for a sleep
    asks them again."""

    complete: bool = False
    """Its instance has seen all chosen voters once, or an earlier process of this node may have: others may have been told of
    success since (P13)."""
    attempt: Attempt = Factory(lambda hosted: hosted.record.birth.attempt, takes_self=True)
    """The highest attempt whose coordinator confirmed the birth here: how it goes is reported there (P11)."""
    outcome: Outcome | None = None
    """What this member has stored of its birth's outcome, while its record does not tell it (P12)."""
    joined: bool = False
    """Its instance may be a voter: it has run long enough, or an earlier process may have made it one."""

    waiters: list[int] = Factory(list[int])
    discard: bool = False
    probe: tuple[int, ProbeFor] = (0, "idle")
    """The newest probe sent, and what for: the outcome of an older one says nothing any more."""
    decisions: deque[Decided] = Factory(lambda: deque(maxlen=limits.DECISIONS_KEPT))

    @property
    def incarnation(self) -> str:
        return self.record.birth.incarnation

    @property
    def internal(self) -> str:
        return self.record.birth.internal

    @property
    def awake(self) -> bool:
        """It has a process, or is on its way to one."""
        return self.process != "none" or self.state not in ("hibernating", "quarantined")

    @property
    def sleep_epoch(self) -> int:
        """The epoch of the sleep that this member is in: of the commit it obeys, else of the record (P40)."""
        return self.stopping or self.record.version.epoch


@define
class Pending:
    """A name that clients of this node wait for, and the attempt that they wait with."""

    app: str
    name: str
    attempt: Attempt
    waiters: list[int] = Factory(list[int])


@define
class Seeking:
    """A database of other nodes that sleeps, or none of whose members is heard, and clients of this node that wait for it.
    ``epoch``: of the sleep that the intent named (P40). Volatile."""

    deadline: int
    epoch: int = 0
    waiters: list[int] = Factory(list[int])


@define
class Creation:
    """As a coordinator: one attempt to create a name. Volatile: a successor takes a higher attempt (P10)."""

    app: str
    name: str
    internal: str
    attempt: Attempt
    replication_factor: int
    begun: int
    tries: int = 1
    phase: Literal["gathering", "waiting", "storing", "founding"] = "gathering"
    requesters: set[Peer] = Factory(set[Peer])
    answers: dict[Peer, CreateAnswer] = Factory(dict[Peer, CreateAnswer])
    birth: Birth | None = None
    stored: set[Peer] = Factory(set[Peer])
    reports: dict[Peer, Report] = Factory(dict[Peer, Report])
    failure: Report | None = None
    short: tuple[Problem, str] | None = None
    """What was missing when nodes that still listen were asked last; they are asked again."""


@define
class Lease:
    """Ports reserved for an offer: ended by the confirm, by a failure, or by expiry (F2)."""

    ticket: int
    attempt: Attempt
    internal: str
    answer_to: Peer
    answer: CreateAnswer
    http: int = 0
    raft: int = 0


@define
class Exchange:
    """Anti-entropy asked of one peer, until everything that it listed is compared. Volatile."""

    number: int
    asked: int
    pages: set[int] = Factory(set[int])
    total: int | None = None
    batches: set[int] = Factory(set[int])
    """Of what was wanted, those that are not answered yet."""
    sent: int = 0
    whole: bool = False
    """The peer's store is, as it says itself."""


@define
class PeerView:
    """What another node said last, and when it was heard. Volatile."""

    last_heard: int
    heard: frozenset[Peer]
    gateway: str = ""
    fingerprint: bytes = b""
    listening: bool = False
    """It promises nothing yet (P61)."""
    known: frozenset[Peer] = frozenset()
    process: str = ""
    former: str = ""
    """The process that was heard before this one (P63)."""


@define
class State:
    """A node."""

    config: Config
    store: str = ""
    births: int = 0
    life: int = 1
    promised: int = 0
    trail: tuple[Stay, ...] = ()
    whole: bool = False
    """The store holds all that this peer ever promised. All of :class:`protocol.rows.Identity` is durable."""
    entropy: bytes = b""
    process: str = ""
    """Drawn afresh by each process (P63)."""
    twin: str = ""
    """Another process that peers have heard under this node's own peer id, or empty (P63)."""
    workers: set[int] = Factory(set[int])
    records: dict[str, Record] = Factory(dict[str, Record])
    by_name: dict[str, list[str]] = Factory(dict[str, list[str]])
    """Internal name → living incarnations; more than one only after a split (P15)."""
    context: Context = Factory(Context)
    names: dict[str, NamePromise] = Factory(dict[str, NamePromise])
    hosted: dict[str, Hosted] = Factory(dict[str, Hosted])
    pending: dict[str, Pending] = Factory(dict[str, Pending])
    seeking: dict[str, Seeking] = Factory(dict[str, Seeking])
    """By incarnation: what clients of this node wait for elsewhere."""
    forwarded: set[int] = Factory(set[int])
    """Requests not answered yet that came from another node's gateway: they are never sent on (F93)."""
    creations: dict[str, Creation] = Factory(dict[str, Creation])
    leases: dict[int, Lease] = Factory(dict[int, Lease])
    timers: Timers = Factory(Timers)
    by_ticket: dict[int, str] = Factory(dict[int, str])
    """Port ticket → the incarnation that holds it."""
    known: tuple[Peer, ...] = ()
    """All known nodes, sorted: what majorities of births are counted over. Durable, but for those of the configuration."""
    nodes: dict[Peer, Known] = Factory(dict[Peer, Known])
    """The other known nodes that were heard, or heard of, by their rows."""
    retired: set[Peer] = Factory(set[Peer])
    """Durable (P64)."""
    forgotten: dict[str, dict[Peer, int]] = Factory(dict[str, dict[Peer, int]])
    """Incarnation whose promises went with a rolled-back store → what its other members have told (P62). The keys are durable."""
    peers: dict[Peer, PeerView] = Factory(dict[Peer, PeerView])
    strangers: set[Peer] = Factory(set[Peer])
    """Nodes of other clusters that were heard, and said to be."""
    listening: bool = False
    waits: str = ""
    """What an operator was told last of why this node still listens."""
    synced: set[Peer] = Factory(set[Peer])
    """Nodes whose directories were merged since this process began (P61)."""
    exchanges: dict[Peer, Exchange] = Factory(dict[Peer, Exchange])
    """Anti-entropy under way, by the peer that was asked."""
    asks: int = 0
    dots: dict[Dot, list[str]] = Factory(dict[Dot, list[str]])
    """Living incarnations of a birth's number: more than one only where a store was cloned (P14, F32)."""
    hashes: dict[str, int] = Factory(dict[str, int])
    in_leaf: dict[int, set[str]] = Factory(dict[int, set[str]])
    """Leaf → the incarnations in it."""
    leaves: dict[int, int] = Factory(dict[int, int])
    """The leaves of the digest tree in which there is something."""
    keys: dict[str, ApiKey] = Factory(dict[str, ApiKey])
    """By the SHA-256 in hex: every API key that was ever known, revoked and expired ones too. Durable (P23)."""
    key_leaves: dict[int, int] = Factory(dict[int, int])
    """The same of the keys' digest tree."""
    root: bytes = b""
    """The digest of all leaves, or empty when one has changed since."""
    tickets: int = 0
    runs: int = 0
    probes: int = 0
    reserves: int = 0
    awake: set[str] = field(init=False, eq=False, repr=False)
    """Of the hosted ones those that count against ``max_databases`` (see :meth:`load`)."""

    def __attrs_post_init__(self) -> None:
        self.awake = {incarnation for incarnation, hosted in self.hosted.items() if hosted.awake}

    def host(self, hosted: Hosted) -> None:
        """This node is a member from now on."""
        self.hosted[hosted.incarnation] = hosted
        self._account(hosted)

    def unhost(self, incarnation: str) -> None:
        del self.hosted[incarnation]
        self.awake.discard(incarnation)

    def turn_to(self, hosted: Hosted, *, state: str = "", process: Process | None = None) -> None:
        """The only way in which either of the two changes: those that are awake are known without being counted."""
        hosted.state = state or hosted.state
        hosted.process = process or hosted.process
        self._account(hosted)

    def _account(self, hosted: Hosted) -> None:
        (self.awake.add if hosted.awake else self.awake.discard)(hosted.incarnation)

    def living(self, internal: str) -> list[Record]:
        return [self.records[incarnation] for incarnation in self.by_name.get(internal, ())]

    def load(self) -> int:
        """What counts against ``max_databases``: databases with a process, or on their way to one, and offers in flight
        (F6). Sleeping ones count for nothing but disk (F49): each heartbeat says this, so they are not gone through for it."""
        return len(self.awake) + len(self.leases)
