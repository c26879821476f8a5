"""Messages and durable rows as bytes: CBOR, positional arrays, versioned. ``specs/messages.cddl`` is generated from the
very classes that are encoded here, and a test validates one against the other.

On the wire: ``[VERSION, tag, [field, …]]``; nested values are arrays of their fields, an absent one is null. Positional arrays
cost two thirds of maps in bytes and time (specs/decisions). Decoding trusts nothing: every length, type and literal is
checked, and anything else than a message raises :class:`CodecError`, whatever the bytes (F82, F92).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

import attrs
import cbor2

from protocol import limits, messages, records, rows

VERSION: Final = 1

TAGS: Final[dict[int, type]] = {
    1: messages.CreateRequest,
    2: messages.CreateAnswer,
    3: messages.StoreBirth,
    4: messages.BirthAnswer,
    5: messages.CreateConfirm,
    6: messages.CreateFailed,
    7: messages.Dropped,
    8: messages.Report,
    9: messages.RecordNews,
    10: messages.PromiseAsk,
    11: messages.PromiseAnswer,
    12: messages.IdleNews,
    13: messages.SleepProposal,
    14: messages.SleepVote,
    15: messages.SealAsk,
    16: messages.SealAnswer,
    17: messages.SleepCommit,
    18: messages.SleepAbort,
    19: messages.SleepReport,
    20: messages.WakeIntent,
    21: messages.Heartbeat,
    22: messages.SyncAsk,
    23: messages.SyncPage,
    24: messages.SyncDone,
    25: messages.Standing,
    26: messages.StandingAsk,
    27: messages.StoreMembers,
    28: messages.MembersStored,
    29: messages.CreateSuperseded,
    # Durable rows: never on the wire, but encoded alike, so that a store can be read by the tools that read messages.
    64: rows.Identity,
    65: rows.NamePromise,
    66: rows.EpochPromise,
    67: rows.Instance,
    68: rows.Seen,
    69: records.Record,
    70: rows.Known,
    71: rows.Moved,
}
"""Wire tags. A tag is never reused for another meaning; a class that changes shape gets a new one."""

WIRE: Final = frozenset(tag for tag in TAGS if tag < 64)


class CodecError(ValueError):
    """Bytes that are no message of this version."""


def _is_named_tuple(kind: Any) -> bool:
    return hasattr(kind, "_fields")


def shape(kind: Any) -> tuple[tuple[str, Any], ...]:
    """(field name, type) of an encoded class, in wire order."""
    hints = get_type_hints(kind)
    names: tuple[str, ...] = kind._fields if _is_named_tuple(kind) else tuple(f.name for f in attrs.fields(kind))
    return tuple((name, hints[name]) for name in names)


# --- encoding -------------------------------------------------------------------------------------------------------

_Encoder = Callable[[Any], Any]


def _encoder(kind: Any) -> _Encoder | None:
    """A function from a value to what cbor2 encodes, or None where the value is encoded as it is."""
    if attrs.has(kind):
        parts = [(name, _encoder(hint)) for name, hint in shape(kind)]
        getters = ", ".join(f"v.{name}" if part is None else f"e{i}(v.{name})" for i, (name, part) in enumerate(parts))
        scope: dict[str, Any] = {f"e{i}": part for i, (_, part) in enumerate(parts) if part is not None}
        return cast("_Encoder", eval(f"lambda v: [{getters}]", scope))  # names come from our own classes only
    if _is_named_tuple(kind):
        assert all(_encoder(hint) is None for _, hint in shape(kind)), f"{kind} must hold plain values"
        return None
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        encode = _encoder(inner)
        return None if encode is None else (lambda v: None if v is None else encode(v))
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        encode = _encoder(arguments[0])
        return None if encode is None else (lambda v: [encode(item) for item in v])
    return None


_ENCODERS: Final = {kind: (tag, cast("_Encoder", _encoder(kind))) for tag, kind in TAGS.items()}


def encode(value: Any) -> bytes:
    """The bytes of a message or row. Raises CodecError for a message above ``limits.MESSAGE_BYTES``."""
    tag, plain = _ENCODERS[type(value)]
    data = cbor2.dumps([VERSION, tag, plain(value)])
    if len(data) > limits.MESSAGE_BYTES and tag in WIRE:
        raise CodecError(f"{type(value).__name__} of {len(data)} bytes is above the bound of {limits.MESSAGE_BYTES}")
    return data


# --- decoding -------------------------------------------------------------------------------------------------------


def _fail(expected: str, value: object) -> Any:
    raise CodecError(f"expected {expected}, got {type(value).__name__}")


def _array(value: Any, count: int | None, expected: str) -> list[Any]:
    """The value as a list, of ``count`` items when that is given."""
    if type(value) is not list or (count is not None and len(cast("list[Any]", value)) != count):
        raise CodecError(f"expected {expected}, got {type(cast('object', value)).__name__}")
    return cast("list[Any]", value)


def _decoder(kind: Any) -> Callable[[Any], Any]:
    if attrs.has(kind) or _is_named_tuple(kind):
        fields = [(name, _decoder(hint)) for name, hint in shape(kind)]
        count, expected = len(fields), f"{kind.__name__} of {len(fields)} fields"

        def build(value: Any) -> Any:
            items = _array(value, count, expected)
            return kind(*[decode_field(item) for (_, decode_field), item in zip(fields, items, strict=True)])

        return build
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        allowed = frozenset(arguments)
        return lambda v: v if type(v) is str and v in allowed else _fail(f"one of {sorted(allowed)}", v)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        decode_inner = _decoder(inner)
        return lambda v: None if v is None else decode_inner(v)
    if origin is tuple:
        return _tuple_decoder(arguments)
    if kind in (int, str, bool, bytes):
        return lambda v: v if type(v) is kind else _fail(kind.__name__, v)
    raise TypeError(f"the codec does not model {kind!r}")


def _tuple_decoder(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        decode_item = _decoder(arguments[0])
        return lambda v: tuple([decode_item(item) for item in _array(v, None, "an array")])
    decoders = [_decoder(argument) for argument in arguments]

    def build(value: Any) -> Any:
        items = _array(value, len(decoders), f"an array of {len(decoders)}")
        return tuple([decode_item(item) for decode_item, item in zip(decoders, items, strict=True)])

    return build


_DECODERS: Final = {tag: _decoder(kind) for tag, kind in TAGS.items()}


def _decode(data: bytes, tags: typing.Container[int]) -> Any:
    try:
        outer = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise CodecError(f"not CBOR: {type(error).__name__}") from error
    version, tag, body = _array(outer, 3, "[version, tag, fields]")
    if version != VERSION:
        raise CodecError(f"version {version!r} is not spoken here (this node speaks {VERSION})")
    if type(tag) is not int or tag not in tags:
        raise CodecError(f"unknown tag {tag!r}")
    try:
        return _DECODERS[tag](body)
    except CodecError:
        raise
    except (ValueError, AssertionError, TypeError) as error:
        raise CodecError(f"{TAGS[tag].__name__}: {error}") from error


def decode(data: bytes) -> messages.Message:
    """The message of these bytes. Raises CodecError; never anything else."""
    if len(data) > limits.MESSAGE_BYTES:
        raise CodecError(f"{len(data)} bytes are above the bound of {limits.MESSAGE_BYTES}")
    return cast("messages.Message", _decode(data, WIRE))


def decode_row(data: bytes) -> Any:
    """The durable row of these bytes. Raises CodecError."""
    return _decode(data, TAGS.keys() - WIRE)
