"""Length-prefixed frames on a libp2p stream. Law: a length is believed only up to its bound, so no peer makes this node allocate, and
reads go on however many pieces a frame comes in (py-libp2p's own ``read_exactly`` gives up after 100).
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

from runtime.transport import bounds

HEAD: Final = struct.Struct("!I")


class FrameTooLong(Exception):
    """A peer announced more than it may send."""


class ByteStream(Protocol):
    """What a frame needs of a libp2p stream."""

    async def read(self, n: int | None = None) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


def framed(data: bytes) -> bytes:
    """One frame."""
    return HEAD.pack(len(data)) + data


class Frames:
    """The frames that arrive on one stream."""

    def __init__(self, stream: ByteStream, most: int) -> None:
        self._stream: Final = stream
        self._most: Final = most
        self._buffer = bytearray()

    async def next(self) -> bytes:
        """Raises :class:`FrameTooLong`, and whatever the stream raises at its end."""
        await self._fill(HEAD.size)
        (length,) = HEAD.unpack_from(self._buffer)
        if length > self._most:
            raise FrameTooLong(f"a frame of {length} bytes is above the bound of {self._most}")
        await self._fill(HEAD.size + length)
        frame = bytes(self._buffer[HEAD.size : HEAD.size + length])
        del self._buffer[: HEAD.size + length]
        return frame

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            chunk = await self._stream.read(bounds.WRITE_BYTES)
            if not chunk:
                raise EOFError("the stream ended")
            self._buffer += chunk
