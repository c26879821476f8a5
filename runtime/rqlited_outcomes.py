"""What the supervisor tells of an rqlited that runs. Law: each value is what rqlited itself said, at one moment, without our
own probes in its counters; what was not heard is not guessed. Why one ended is :mod:`runtime.rqlited_exit`'s.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Ready:
    """A strong read passed. ``applied_index``: this member's own, ``voters``: node ids, sorted. On a follower the read was
        answered by the leader: whether this member has caught up is read from its index. What direct clients
    asked while it started shows in the first :class:`Probe`, whose counter begins at 0."""

    http_url: str
    applied_index: int
    voters: tuple[str, ...]
    leader: bool
    pid: int


@frozen
class Probe:
    """``counter``: client requests that rqlited counted, without our own probes; a restart makes it go back. A probe of ours
    that timed out may be counted as one of theirs: that errs on the side of *busy* (F40)."""

    ok: bool
    counter: int = 0
    applied_index: int = 0
    leader: bool = False
    voters: tuple[str, ...] = ()
    error: str = ""


@frozen
class Snapshot:
    """``ok``: the WAL is folded into the database file, up to ``applied_index`` (P34)."""

    ok: bool
    applied_index: int = 0
    error: str = ""
