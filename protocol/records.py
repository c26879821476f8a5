"""What nodes know about a database, and how two views of it become one. The laws kept here are P5 (one writer per epoch,
so versions are totally ordered) and F20/F21 (a merge is a join: any order, any repetition, no wall clock).
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, get_args

from attrs import evolve, frozen

from protocol import limits
from protocol.ids import DatabaseName, Dot, Peer, dot_of, node_id

Phase = Literal["creating", "active", "hibernating", "quarantined"]
"""The phase that all nodes agree upon. Finer states (idle, waking, …) are each member's own view: ``protocol.chart``."""

Scope = Literal["read", "write", "admin"]
"""What a key may do."""
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""Each implies those before it."""
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")


class Version(NamedTuple):
    """(recovery generation, epoch, sequence within the epoch, writer's store id), compared in this order (P5)."""

    generation: int
    epoch: int
    sequence: int
    writer: str


class Attempt(NamedTuple):
    """The n-th attempt to create a name, and the coordinator that makes it. A higher one supersedes (P10)."""

    n: int
    coordinator: Peer


class Stamp(NamedTuple):
    """Of the ``members`` register: (recovery generation, Raft term, leader's commit index) (P22)."""

    generation: int
    term: int
    commit: int


class Seal(NamedTuple):
    """All members stopped cleanly in ``epoch`` with everything up to index ``applied`` folded in (P34)."""

    epoch: int
    applied: int


@frozen
class Member:
    """A replica: ``raft`` is its Raft port at ``host``; ``join`` its join stamp, which is part of its node id (P54)."""

    peer: Peer
    host: str
    raft: int
    join: int = 0

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.raft}" if ":" in self.host else f"{self.host}:{self.raft}"

    def node_id(self, incarnation: str) -> str:
        return node_id(self.peer, incarnation, self.join)


@frozen
class Birth:
    """The facts of birth of an incarnation; they never change. The founder belongs to them (P12). ``attempt``: the one that minted it;
    those that carry it on change nothing (P11)."""

    incarnation: str
    app: str
    name: str
    replication_factor: int
    founder: Peer
    members: tuple[Member, ...]
    attempt: Attempt

    @property
    def internal(self) -> str:
        return DatabaseName.internal_of(self.app, self.name)

    @property
    def dot(self) -> Dot:
        return dot_of(self.incarnation)


@frozen
class Record:
    """The database record of one incarnation. ``members`` is a register of its own, with its own stamp (P22)."""

    birth: Birth
    version: Version
    phase: Phase
    members: tuple[Member, ...]
    stamp: Stamp
    seal: Seal | None = None

    @property
    def incarnation(self) -> str:
        return self.birth.incarnation

    def member(self, peer: Peer) -> Member | None:
        return next((member for member in self.members if member.peer == peer), None)

    @property
    def peers(self) -> tuple[Peer, ...]:
        return tuple(member.peer for member in self.members)

    def at(self, version: Version, phase: Phase, seal: Seal | None = None) -> Record:
        """The same database in another phase, under a later version. A phase change always says anew what is sealed."""
        assert version > self.version, (version, self.version)
        return evolve(self, version=version, phase=phase, seal=seal)


def newborn(birth: Birth) -> Record:
    """The first record of a birth. Whoever carries the birth on writes the very same: in epoch 1 the birth itself is the writer (P5)."""
    return Record(birth, Version(0, 1, 0, birth.dot.store), "creating", birth.members, Stamp(0, 0, 0))


def acknowledged(record: Record) -> Record:
    """The other record of epoch 1: the birth was finished (P13). It too is the same, whoever writes it (P5)."""
    return record.at(Version(0, 1, 1, record.birth.dot.store), "active")


def quarantined(record: Record) -> Record:
    """The same record, of a database that is not the one of its name (P15). It says nothing any more of how it slept."""
    return evolve(record, phase="quarantined", seal=None)


def by_birth(record: Record) -> tuple[Attempt, str]:
    """What chooses between two databases of one name: facts of their births alone, which never change (P15). Where one was made after the
    other one had been dropped, it has the higher attempt (P10)."""
    return record.birth.attempt, record.incarnation


def join(left: Record, right: Record) -> Record:
    """The join of two views of one incarnation: the later version's facts with the later stamp's members (F20). A quarantine is over
    only in a later generation, whatever else is written (P15)."""
    assert left.incarnation == right.incarnation
    later = left if left.version >= right.version else right
    if left.version.generation == right.version.generation and "quarantined" in (left.phase, right.phase):
        later = quarantined(later)
    stamped = left if left.stamp >= right.stamp else right
    if later.stamp == stamped.stamp:
        return later
    return evolve(later, members=stamped.members, stamp=stamped.stamp)


@frozen
class ApiKey:
    """An API key, by the SHA-256 of its text, which no node ever has. All but ``revoked`` are facts of its birth, and ``revoked`` never
    turns back (P23). ``id``: the hex digits by which people name it; ``expires``: Unix seconds, 0 for never; looked at by gateways alone.
    ``store``: where it was created. Raises ValueError (InvalidName) for what no node would have created."""

    id: str
    sha256: bytes
    app: str
    scope: Scope
    expires: int
    name: str
    store: str
    revoked: bool = False

    def __attrs_post_init__(self) -> None:
        if not _KEY_ID.fullmatch(self.id):
            raise ValueError(f"{self.id[:64]!r} is no id of a key: 8 lower-case hex digits")
        if len(self.sha256) != 32:
            raise ValueError(f"{len(self.sha256)} bytes are no SHA-256")
        if self.expires < 0:
            raise ValueError("a key expires at a time after 1970, or never (0)")
        if len(self.name) > limits.KEY_NAME or not (self.name.isprintable() or not self.name):
            raise ValueError(f"a key's name has at most {limits.KEY_NAME} printable characters")
        DatabaseName.internal_of(self.app, "any")

    @property
    def digest(self) -> str:
        """What it is found by: two keys with one id are two keys."""
        return self.sha256.hex()


def join_keys(left: ApiKey, right: ApiKey) -> ApiKey:
    """The join of two views of one key: revoked in either is revoked (P23). Facts of birth are the same in both; should two stores ever have
    created one key differently, the same one is chosen everywhere."""
    assert left.sha256 == right.sha256
    chosen = max(left, right, key=lambda one: (one.store, one.id, one.app, one.scope, one.expires, one.name))
    return evolve(chosen, revoked=left.revoked or right.revoked)
