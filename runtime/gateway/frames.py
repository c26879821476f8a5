"""What the node and its gateway workers tell each other, as frozen values, and their bytes.

The law kept here: both sides of the channel are of one release (the node starts its workers from its own files), so frames are
positional arrays ``[kind, field, …]`` without versions; a frame that does not have exactly its class's shape breaks the
channel, and a worker whose channel broke serves no more (P30).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NewType, cast, get_origin, get_type_hints

import cbor2
from attrs import astuple, field, fields, frozen

Request = NewType("Request", int)
"""Names one question of one worker, unique in the node's process: the worker's number in the upper bits."""

_WORKER_BITS: Final = 32


def request_of(worker: int, n: int) -> Request:
    """The ``n``-th question of a worker."""
    return Request(worker << _WORKER_BITS | n & (1 << _WORKER_BITS) - 1)


def worker_of(request: Request) -> int:
    """The worker that asked."""
    return request >> _WORKER_BITS


@frozen
class Problem:
    """Why the node cannot open a door: a kind of :mod:`runtime.gateway.problems` and a cause that is fit for a client (R61)."""

    type: str
    detail: str = ""


class ChannelBroken(Exception):
    """The other side's bytes are no frames of this release, or too large."""


# Node → worker.


@frozen
class WorkerConfig:
    """First frame of every channel. Times in seconds, sizes in bytes."""

    keys: Mapping[str, str] = field(repr=False)
    """SHA-256 of each API key, in hex → the application that it carries (R36)."""
    worker: int = 0
    """This worker's number; the host fills it in, and never uses one twice."""
    query_timeout_s: float = 30.0
    """R37; what is left of it when the query reaches rqlited goes along with every read."""
    transaction_timeout_s: float = 60.0
    wait_timeout_s: float = 15.0
    """How long a query waits for a door: longer than a creation (R40: 10 s) or a wake (R43: 8 s) may take."""
    waiting_per_database: int = 2_000
    waiting: int = 10_000
    in_flight: int = 4_000
    """Queries of one worker that may be past a door; beyond it, `busy`."""
    connections: int = 64
    """Connections to one rqlited; more queries than these take turns."""
    body_bytes: int = 2 << 20
    sql_bytes: int = 256 << 10
    depth: int = 1_000
    """Levels of a statement; at most :data:`runtime.gateway.vetting.DEPTH`."""
    parameters: int = 32_766
    """SQLite's own bound (SQLITE_MAX_VARIABLE_NUMBER)."""
    statements: int = 1_000
    """Of one transaction."""
    idempotency_ttl_s: float = 86400.0
    """How long an idempotency key is kept, at least."""
    transfer_timeout_s: float = 600.0
    """Of an export or import."""
    transfers: int = 4
    """Exports and imports of one worker at one time, of each; beyond it, `busy`."""
    import_bytes: int = 64 << 20
    rows: int = 100_000
    result_bytes: int = 32 << 20
    lease_s: float = 5.0
    """A worker that heard no :class:`Lease` for so long stops serving: its node may be stopped, or dead."""
    identity: str = ""
    """PEM file of the key and certificate that this gateway has among other nodes'; empty: it forwards nothing and takes nothing."""
    authority: str = field(default="", repr=False)
    """PEM of the certificate that vouches for those of the cluster's gateways."""
    certificate: bytes = field(default=b"", repr=False)
    """PEM of the certificate that clients are shown, and its chain; empty: no TLS."""
    key: bytes = field(default=b"", repr=False)
    """PEM of its private key."""
    client_connections: int = 4_000
    patience_s: float = 20.0
    """How long a client may take for the head of a request."""
    origins: tuple[str, ...] = ()
    """Whose pages may read answers (CORS)."""
    access: bool = False
    """A log line for every request."""
    drain_s: float = 2.0
    """After SIGTERM, requests in flight have so long to end."""
    log_level: str = "info"


@frozen
class Lease:
    """The node lives. → Alive."""


@frozen
class Renewed:
    """Show clients this pair from the next connection on (PEM)."""

    certificate: bytes
    key: bytes = field(repr=False)


@frozen
class Leave:
    """Another worker serves in this one's place: take no connection more, and end when those that are there have ended; after ``idle_s``
    for those on which nothing happens, after ``drain_s`` for all."""

    drain_s: float
    idle_s: float


@frozen
class Door:
    """The door of this database is open, to the rqlited at ``url`` (``http://host:port``), or closed. Generations of an
    incarnation only grow within a node's process; an older one is ignored. → DoorAck."""

    incarnation: str
    app: str
    name: str
    generation: int
    open: bool
    url: str


@frozen
class Forget:
    """The database has no door here any more: asleep, or dropped."""

    incarnation: str


@frozen
class Answer:
    """Ends an :class:`Ask`. ``type`` empty: the door is open, its :class:`Door` came before."""

    request: Request
    type: str = ""
    detail: str = ""


@frozen
class Hop:
    """A member's gateway: where it takes queries of other gateways (``host:port``), and the SHA-256 of its certificate."""

    peer: str
    gateway: str
    fingerprint: bytes


@frozen
class Routed:
    """Ends an :class:`Ask`: other nodes serve the database, through these gateways, the best first."""

    request: Request
    app: str
    name: str
    hops: tuple[Hop, ...]


@frozen
class Believe:
    """Take queries of other nodes' gateways whose certificates have these fingerprints, and of nobody else (F93)."""

    fingerprints: tuple[bytes, ...]


@frozen
class Names:
    """Ends a :class:`ListNames`."""

    request: Request
    names: tuple[str, ...]


# Worker → node.


@frozen
class WorkerJoined:
    """The worker serves from now on. It knows no doors yet."""

    worker: int


@frozen
class Alive:
    """The worker has read this far: its answer to a :class:`Lease`, for the host alone."""

    worker: int


@frozen
class WorkerLeft:
    """The worker's process has ended, and was reaped: nothing passes its doors any more. Made by the host."""

    worker: int


@frozen
class Ask:
    """A query waits for this database: create or wake it if need be. One at a time for each database and worker (F51).
    ``forwarded``: it came from another node's gateway, so it is answered here or not at all (F93)."""

    worker: int
    request: Request
    app: str
    name: str
    forwarded: bool


@frozen
class ListNames:
    """Which databases has this application (R35)?"""

    worker: int
    request: Request
    app: str


@frozen
class DoorAck:
    """The worker has carried out the :class:`Door` of this generation, and so many of its queries are still in flight. Sent at once,
    and again when the last one behind a closed door has ended (P30, F56)."""

    worker: int
    incarnation: str
    generation: int
    in_flight: int


@frozen
class Used:
    """Queries passed the door: ``count`` since the last report, ``in_flight`` now (R41)."""

    worker: int
    incarnation: str
    count: int
    in_flight: int


ToWorker = WorkerConfig | Lease | Renewed | Leave | Door | Forget | Answer | Routed | Believe | Names
FromWorker = WorkerJoined | WorkerLeft | Ask | ListNames | DoorAck | Used

_KINDS: Final[tuple[type, ...]] = (
    WorkerConfig,
    Lease,
    Renewed,
    Leave,
    Door,
    Forget,
    Answer,
    Routed,
    Believe,
    Names,
    WorkerJoined,
    Alive,
    Ask,
    ListNames,
    DoorAck,
    Used,
)
_CODE: Final[dict[type, int]] = {cls: code for code, cls in enumerate(_KINDS)}
_WIRE: Final[dict[Any, type | tuple[type, ...]]] = {
    int: int,
    str: str,
    bytes: bytes,
    bool: bool,
    float: (int, float),
    Request: int,
}


def _shape(cls: type) -> tuple[tuple[str, type | tuple[type, ...]], ...]:
    hints = get_type_hints(cls)
    return tuple(
        (a.name, _WIRE.get(hints[a.name]) or (list if get_origin(hints[a.name]) is tuple else dict))
        for a in fields(cls)
    )


_SHAPES: Final = tuple(_shape(cls) for cls in _KINDS)


def encode(frame: ToWorker | FromWorker | Alive) -> bytes:
    """The bytes of a frame, without its length."""
    code = _CODE[type(frame)]
    return cbor2.dumps([code, *(_plain(getattr(frame, name)) for name, _type in _SHAPES[code])])


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [astuple(one) if isinstance(one, Hop) else one for one in cast("tuple[Any, ...]", value)]
    return dict(cast("Mapping[str, str]", value)) if isinstance(value, Mapping) else value


def decode(payload: bytes) -> Any:
    """The frame of these bytes. Raises :class:`ChannelBroken` for anything that :func:`encode` never gives."""
    try:
        parts: Any = cbor2.loads(payload)
    except Exception as error:  # cbor2 raises many kinds; each means the same here
        raise ChannelBroken("not CBOR") from error
    if not isinstance(parts, list) or not parts:
        raise ChannelBroken("not an array")
    values = cast("list[Any]", parts)
    code = values.pop(0)
    if not isinstance(code, int) or not 0 <= code < len(_KINDS):
        raise ChannelBroken("an unknown kind of frame")
    kind: Any = _KINDS[code]
    shape = _SHAPES[code]
    if len(values) != len(shape):
        raise ChannelBroken(f"{kind.__name__} of {len(values)} fields")
    for i, (name, wanted) in enumerate(shape):
        if not isinstance(values[i], wanted):
            raise ChannelBroken(f"{kind.__name__}.{name} of another type")
        if wanted is list:
            values[i] = tuple(values[i])
    if kind is Routed:
        values[-1] = tuple(map(_hop, values[-1]))
    return kind(*values)


def _hop(parts: Any) -> Hop:
    match parts:
        case [str(peer), str(gateway), bytes(fingerprint)]:
            return Hop(peer, gateway, fingerprint)
        case _:
            raise ChannelBroken("a Hop of another shape")
