"""What a node must remember over a restart, one frozen class for each kind of durable row (F24).

Keys: ``identity``, ``name/<internal>``, ``promise/<incarnation>``, ``instance/<incarnation>``, ``record/<incarnation>``
(a :class:`protocol.records.Record`), ``seen/<store id>``, ``known/<peer>``,
``moved/<incarnation>``. A row is written before anything that rests on it is sent.
"""

from __future__ import annotations

from attrs import frozen

from protocol.records import Attempt, Birth


@frozen
class Identity:
    """This store's id and how many births it has minted: neither ever repeats (P14, F32)."""

    store: str
    births: int


@frozen
class NamePromise:
    """The name was denied to this attempt's coordinator (P10); ``birth`` is what was stored under it (P11)."""

    internal: str
    attempt: Attempt
    birth: Birth | None = None


@frozen
class EpochPromise:
    """The highest epoch promised, and to whom; an empty ``holder`` means spent, in nobody's favour (P1, P3)."""

    incarnation: str
    epoch: int
    holder: str


@frozen
class Instance:
    """This node's own replica: where its directory is, and its ports of the last start."""

    incarnation: str
    internal: str
    http: int
    raft: int


@frozen
class Moved:
    """This node's replica starts on another Raft port than its group knows: until a strong read has passed there, every start
    joins again under the same node id, and under a promised epoch (P42, P53)."""

    incarnation: str


@frozen
class Known:
    """A node that was heard once: it counts until an operator retires it (P64)."""

    peer: str


@frozen
class Seen:
    """One store id's part of the causal context: all births up to ``upto``, and these beyond a gap (P20)."""

    store: str
    upto: int
    beyond: tuple[int, ...] = ()
