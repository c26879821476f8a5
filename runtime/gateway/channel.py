"""Frames on a stream socket: four bytes of length, big-endian, then the frame. Used by both sides.

The law kept here: nothing that the other side sends can make this side hold more than one frame of bounded size.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from runtime.gateway.frames import Alive, ChannelBroken, FromWorker, ToWorker, decode, encode

FRAME_BYTES: Final = 4 << 20
"""Largest frame. The largest real ones are the keys of a WorkerConfig and the answer to ListNames."""

_LENGTH: Final = struct.Struct(">I")


def pack(frame: ToWorker | FromWorker | Alive) -> bytes:
    """A frame as it goes on the wire. Raises :class:`ChannelBroken` when it is too large to be read again."""
    payload = encode(frame)
    if len(payload) > FRAME_BYTES:
        raise ChannelBroken(f"a {type(frame).__name__} of {len(payload)} bytes")
    return _LENGTH.pack(len(payload)) + payload


class FrameReader:
    """Cuts a byte stream into frames, in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The frames that are complete now. Raises :class:`ChannelBroken`."""
        buffer = self._buffer
        buffer += data
        frames: list[Any] = []
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            if length > FRAME_BYTES:
                raise ChannelBroken(f"a frame of {length} bytes")
            end = _LENGTH.size + length
            if len(buffer) < end:
                break
            frames.append(decode(bytes(buffer[_LENGTH.size : end])))
            del buffer[:end]
        return frames
