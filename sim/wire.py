"""Messages and rows as bytes, each encoded and decoded once. The law kept here: bytes travel between simulated nodes, never values, and what
is remembered changes nothing but time: messages are frozen, so the same bytes are the same message, whoever reads them.

A heartbeat is put into the trace of its sender, into four packets and into the traces of four receivers: without a memory it would
be encoded nine times and decoded four times, and that was half of what a simulated cluster cost.
"""

from __future__ import annotations

from typing import Any, Final

from protocol import codec
from protocol.messages import Message

KEPT: Final = 2048
"""Messages remembered, of each direction; then all are forgotten: cheaper than choosing."""

_encoded: dict[int, tuple[Any, bytes, str]] = {}
"""By identity: the message itself stands beside its bytes and their text, so that no other can take its place while it is remembered."""
_decoded: dict[bytes, Message] = {}
_texts: dict[bytes, str] = {}
_rows: dict[bytes, Any] = {}


def encode(message: Message) -> bytes:
    """As :func:`protocol.codec.encode`."""
    return (_encoded.get(id(message)) or _encode(message))[1]


def text(message: Message) -> str:
    """The bytes as a Python literal: what the traces of the sender and of each receiver say."""
    return (_encoded.get(id(message)) or _encode(message))[2]


def decode(data: bytes) -> Message:
    """As :func:`protocol.codec.decode`."""
    message = _decoded.get(data)
    if message is None:
        message = codec.decode(data)
        if len(_decoded) >= KEPT:
            _decoded.clear()
        _decoded[data] = message
    if id(message) not in _encoded:
        _remember(message, data)
    return message


def decode_row(data: bytes) -> Any:
    """As :func:`protocol.codec.decode_row`: what all members or all nodes store alike is read once."""
    row = _rows.get(data)
    if row is None:
        row = codec.decode_row(data)
        if len(_rows) >= KEPT:
            _rows.clear()
        _rows[data] = row
    return row


def _encode(message: Message) -> tuple[Any, bytes, str]:
    return _remember(message, codec.encode(message))


def _remember(message: Message, data: bytes) -> tuple[Any, bytes, str]:
    literal = _texts.get(data)
    if literal is None:
        literal = repr(data)
        if len(_texts) >= KEPT:
            _texts.clear()
        _texts[data] = literal
    if len(_encoded) >= KEPT:
        _encoded.clear()
    found = _encoded[id(message)] = (message, data, literal)
    return found
