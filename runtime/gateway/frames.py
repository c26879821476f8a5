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

from runtime.gateway.worker_config import Issuer, WorkerConfig

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
class Key:
    """An API key of the directory, by the SHA-256 of it. ``expires``: Unix seconds, 0 for never."""

    sha256: bytes
    app: str
    scope: str
    expires: int
    revoked: bool


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
class Keys:
    """These API keys are new, or have changed. A worker that has joined is told of all, in parts, the last of which is empty. ``complete``: the
    node listens no more (P61), and lacks none that others know, so that a key which the worker was never told of is none (R36, F87). Told
    again whenever that changes."""

    keys: tuple[Key, ...]
    complete: bool


@frozen
class SealedCopy:
    """What a sleeping database left behind at its clean stop may be read at ``path`` (``open``), or no more: → SealedAck. Answers a
    :class:`ReadSealed`; with an empty ``incarnation`` there is nothing to read here, and nothing is acknowledged; ``hops``: those gateways may
    have a copy, the best first. ``stamp``: what the file was at the stop (:class:`runtime.gateway.sealed_file.Stamp`). ``current_at``: it
    holds everything that was acknowledged until then (:func:`runtime.since_boot.microseconds`)."""

    app: str
    name: str
    incarnation: str = ""
    generation: int = 0
    open: bool = False
    path: str = ""
    stamp: tuple[int, ...] = ()
    current_at: int = 0
    hops: tuple[Hop, ...] = ()


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
class ReadSealed:
    """A client accepts an old answer: may the copy of this sleeping database be read? One at a time for each database and worker."""

    worker: int
    app: str
    name: str


@frozen
class SealedAck:
    """The worker has closed the sealed copy as of this generation, and so many of its readers are still in it. Sent at once, and again when
    the last one has ended (P34)."""

    worker: int
    incarnation: str
    generation: int
    in_flight: int


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


ToWorker = (
    WorkerConfig | Lease | Renewed | Leave | Door | Forget | Answer | Routed | Believe | SealedCopy | Names | Keys
)
FromWorker = WorkerJoined | WorkerLeft | Ask | ListNames | ReadSealed | SealedAck | DoorAck | Used

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
    SealedCopy,
    Names,
    Keys,
    WorkerJoined,
    Alive,
    Ask,
    ListNames,
    ReadSealed,
    SealedAck,
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


_PARTS: Final[dict[tuple[type, str], type]] = {
    (WorkerConfig, "issuers"): Issuer,
    (Routed, "hops"): Hop,
    (SealedCopy, "hops"): Hop,
    (Keys, "keys"): Key,
}
"""Fields that hold values of a class."""
_PART_CLASSES: Final = (Issuer, Hop, Key)
_PART_KINDS: Final[dict[type, list[type]]] = {
    part: [get_type_hints(part)[a.name] for a in fields(part)] for part in _PARTS.values()
}
_SHAPES: Final = tuple(_shape(cls) for cls in _KINDS)


def encode(frame: ToWorker | FromWorker | Alive) -> bytes:
    """The bytes of a frame, without its length."""
    code = _CODE[type(frame)]
    return cbor2.dumps([code, *(_plain(getattr(frame, name)) for name, _type in _SHAPES[code])])


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [astuple(one) if isinstance(one, _PART_CLASSES) else one for one in cast("tuple[Any, ...]", value)]
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
            part = _PARTS.get((kind, name))
            values[i] = tuple(values[i]) if part is None else tuple(_part(part, one) for one in values[i])
    return kind(*values)


def _part(kind: Any, given: Any) -> Any:
    kinds = _PART_KINDS[kind]
    parts = cast("list[Any]", given) if isinstance(given, list) else []
    if len(parts) != len(kinds) or not all(map(isinstance, parts, kinds)):
        raise ChannelBroken(f"a {kind.__name__} of another shape")
    return kind(*parts)
