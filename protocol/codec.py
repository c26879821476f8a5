"""Messages and durable rows as bytes: CBOR, positional arrays, versioned. ``specs/messages.cddl`` is generated from the
very classes that are encoded here, and a test validates one against the other.

On the wire: ``[VERSION, tag, [field, …]]``; nested values are arrays of their fields, an absent one is null. Positional arrays
cost two thirds of maps in bytes and time (specs/decisions). Decoding trusts nothing: every length, type and literal is
checked, and anything else than a message raises :class:`CodecError`, whatever the bytes (F82, F92).
"""

from __future__ import annotations

import typing
from typing import Any, Final, cast

import cbor2

from protocol import limits, messages, records, rows
from protocol.structure import CodecError, Encode, array, decoder, encoder, loads, shape

__all__ = ["TAGS", "VERSION", "WIRE", "CodecError", "decode", "decode_row", "encode", "shape"]

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
    23: messages.SyncPage,
    24: messages.SyncDone,
    25: messages.SyncNames,
    26: messages.SyncWant,
    27: messages.SyncRecords,
    28: messages.Echo,
    29: messages.Recall,
    30: messages.Recalled,
    31: messages.Standing,
    32: messages.StandingAsk,
    33: messages.StoreMembers,
    34: messages.MembersStored,
    35: messages.Twin,
    36: messages.CreateSuperseded,
    37: messages.StoreOutcome,
    38: messages.OutcomeStored,
    41: messages.SyncKeys,
    42: messages.KeyNews,
    43: messages.SyncAsk,
    # Durable rows: never on the wire, but encoded alike, so that a store can be read by the tools that read messages.
    64: rows.Identity,
    65: rows.NamePromise,
    66: rows.EpochPromise,
    67: rows.Instance,
    68: rows.Seen,
    69: records.Record,
    70: rows.Known,
    71: rows.Retired,
    72: rows.Forgotten,
    74: records.ApiKey,
    75: rows.Moved,
    76: rows.Outcome,
}
"""Wire tags. A tag is never reused for another meaning; a class that changes shape gets a new one."""

WIRE: Final = frozenset(tag for tag in TAGS if tag < 64)
ROWS: Final = TAGS.keys() - WIRE


# --- encoding -------------------------------------------------------------------------------------------------------


def _head(tag: int) -> bytes:
    """An array of three, up to its last: what all values of one tag begin with."""
    return cbor2.dumps([VERSION, tag, None])[:-1]


_ENCODERS: Final = {kind: (tag, _head(tag), cast("Encode", encoder(kind))) for tag, kind in TAGS.items()}


def encode(value: Any) -> bytes:
    """The bytes of a message or row. Raises CodecError for a message above ``limits.MESSAGE_BYTES``."""
    tag, head, plain = _ENCODERS[type(value)]
    data = head + cbor2.dumps(plain(value))
    if len(data) > limits.MESSAGE_BYTES and tag in WIRE:
        raise CodecError(f"{type(value).__name__} of {len(data)} bytes is above the bound of {limits.MESSAGE_BYTES}")
    return data


# --- decoding -------------------------------------------------------------------------------------------------------


_DECODERS: Final = {tag: decoder(kind) for tag, kind in TAGS.items()}


def _decode(data: bytes, tags: typing.Container[int]) -> Any:
    version, tag, body = array(loads(data), 3, "[version, tag, fields]")
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
    return _decode(data, ROWS)
