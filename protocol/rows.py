"""What a node must remember over a restart, one frozen class for each kind of durable row (F24).

Keys: ``identity``, ``name/<internal>``, ``promise/<incarnation>``, ``instance/<incarnation>``, ``record/<incarnation>``
(a :class:`protocol.records.Record`), ``key/<sha256>`` (a :class:`protocol.records.ApiKey`), ``seen/<store id>``, ``known/<peer>``, ``retired/<peer>``, ``forgotten/<incarnation>``,
``moved/<incarnation>``, ``outcome/<incarnation>``. A row is written before anything that rests on it is sent.
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import frozen

from protocol.records import Attempt, Birth


class Stay(NamedTuple):
    """How far a store had come under one process: ``promised`` counts the steps in which it promised anything."""

    process: str
    promised: int


@frozen
class Identity:
    """Whose store this is, its id, and how many births it has minted: neither ever repeats (P14, F32). ``life``: the n-th store
    of this peer; ``process``, ``promised``: the last process on it, and how far it came; ``trail``: the processes before, oldest first,
    so that others see a store that went back (P62). ``whole``: it holds all that its peer ever promised: true from the founding, or
    from the end of the first listening (P61)."""

    peer: str
    store: str
    births: int
    life: int
    process: str
    promised: int
    trail: tuple[Stay, ...]
    whole: bool


@frozen
class NamePromise:
    """The name was denied to this attempt's coordinator (P10). ``birth``: what is stored for it; ``stored``: the attempt under which
    it was stored last, which is not the birth's own where another coordinator carried it on (P11)."""

    internal: str
    attempt: Attempt
    birth: Birth | None = None
    stored: Attempt | None = None


@frozen
class EpochPromise:
    """The highest epoch promised, and to whom; an empty ``holder`` means spent, in nobody's favour (P1, P3)."""

    incarnation: str
    epoch: int
    holder: str


@frozen
class Instance:
    """This node's own replica: where its directory is, and its ports of the last start. ``raft``: 0 once it was given up (P42)."""

    incarnation: str
    internal: str
    http: int
    raft: int


@frozen
class Moved:
    """This node's replica starts on another Raft port than its group may know: until a strong read has passed there, every start
    joins again under the same node id, and under a promised epoch (P42, P53). ``raft``: the port where its group knew it before."""

    incarnation: str
    raft: int


@frozen
class Outcome:
    """What becomes of a birth, as the holder of this epoch decided: it is finished, or else dropped. Of several the one of the highest
    epoch holds. Kept until the record says that it was finished, or the birth is gone (P12)."""

    incarnation: str
    epoch: int
    finished: bool


@frozen
class Known:
    """A node that was heard once: majorities count it until an operator retires it (P64). ``joined``: its store was whole once,
    so it may have taken part in what was decided (P61). The rest is the newest that it said of its store (P62)."""

    peer: str
    joined: bool = False
    store: str = ""
    life: int = 0
    process: str = ""
    promised: int = 0


@frozen
class Retired:
    """A node that an operator retired: it never counts and is never heard again (P64)."""

    peer: str


@frozen
class Forgotten:
    """What was promised for this incarnation went with a store that was rolled back: nothing is promised for it before every other
    member has told its own promises (P62)."""

    incarnation: str


@frozen
class Seen:
    """One store id's part of the causal context: all births up to ``upto``, and beyond a gap the runs of which ``beyond`` names
    the first and the last births, in turn (P20). Its length is bounded by how many births came to nothing."""

    store: str
    upto: int
    beyond: tuple[int, ...] = ()
