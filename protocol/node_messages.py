"""What nodes tell each other of themselves and of their directories, whatever databases there are: heartbeats, stores that went back,
anti-entropy. The law kept here is that of all messages (:mod:`protocol.messages`): each does nothing when it comes late, again or out
of order.
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import frozen

from protocol.records import ApiKey, Record
from protocol.rows import NamePromise, Stay


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
    """Direct: the leaves of the sender's digest tree in which there is something, each one byte of number and 16 of leaf, ascending; list
    what differs. ``keys``: the same of its API keys. ``number``: of this exchange, the sender's own count; all its messages carry it. The rest says of the sender's store what a heartbeat does; who has no ``whole`` store is
    told the promises of names too (P61)."""

    number: int
    leaves: bytes
    keys: bytes
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


@frozen
class SyncKeys:
    """Direct: all API keys of leaves that differ, as the sender knows them (P23)."""

    number: int
    page: int
    keys: tuple[ApiKey, ...]


@frozen
class KeyNews:
    """Broadcast: an API key was created, or revoked (P23)."""

    key: ApiKey
