"""Messages to one peer: one standing stream in each direction. Laws: the sender is the authenticated peer at the other end (F81); a
peer that sends more than its share is read more slowly, and waits, not the others (F92).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import structlog
import trio

from protocol import codec, limits
from runtime.rates import Rates
from runtime.transport import bounds
from runtime.transport.framing import Frames, FrameTooLong, framed
from runtime.transport.hearing import Hearing
from runtime.transport.outbox import Outbox

PROTOCOL: Final = "/torpor/direct/1"

log = structlog.stdlib.get_logger("transport")


class Direct:
    """``open_stream``: a new stream to a connected peer. ``hung``: called for the connection of a stream
    that takes nothing any more: its peer was stopped, or its machine is gone."""

    def __init__(
        self, hearing: Hearing, open_stream: Callable[[str], Awaitable[Any]], hung: Callable[[Any], None]
    ) -> None:
        self._hearing: Final = hearing
        self._open: Final = open_stream
        self._hung: Final = hung
        self._rates: Final = Rates[str](bounds.DIRECT_RATE, bounds.DIRECT_BURST, bounds.PEERS)
        self._inbound: dict[str, Any] = {}

    async def on_stream(self, sender: str, stream: Any) -> None:
        """Read one stream to its end. The newest of a peer is the one that counts: an older one is a connection that the
        peer has given up, and this side has not noticed yet."""
        older = self._inbound.get(sender)
        self._inbound[sender] = stream
        if older is not None:
            with trio.move_on_after(bounds.GOODBYE), suppress(Exception):
                await older.reset()
        frames = Frames(stream, limits.MESSAGE_BYTES)
        try:
            while self._inbound.get(sender) is stream:
                self._take(sender, await frames.next())
                wait = self._rates.owed(sender, trio.current_time())
                if wait:
                    self._hearing.count("direct_slowed")
                    await trio.sleep(wait)
        except FrameTooLong:
            self._hearing.count("direct_too_long")
        finally:
            if self._inbound.get(sender) is stream:
                del self._inbound[sender]
            with trio.CancelScope(shield=True), trio.move_on_after(bounds.GOODBYE), suppress(Exception):
                await stream.reset()  # what was read to its end, or given up, is of no more use to either side

    def _take(self, sender: str, frame: bytes) -> None:
        if self._hearing.banned(sender):
            return
        try:
            message = codec.decode(frame)
        except codec.CodecError as error:
            # Not the end of the stream: a newer version may say things that are not understood here.
            self._hearing.count("undecodable")
            log.debug("message not understood", peer=sender, because=str(error))
            return
        self._hearing.message(sender, message)

    async def write(self, peer: str, outbox: Outbox) -> None:
        """Send what comes into the outbox, until cancelled; a stream that fails is opened anew."""
        while True:
            try:
                with trio.fail_after(bounds.NEGOTIATION_TIMEOUT):
                    stream = await self._open(peer)
            except Exception as error:
                log.debug("no direct stream", peer=peer, because=repr(error)[:200])
                await trio.sleep(bounds.REOPEN)
                continue
            try:
                await self._pour(outbox, stream)
            except trio.TooSlowError:
                self._hearing.count("direct_hung")
                self._hung(stream.muxed_conn)
            except Exception as error:
                log.debug("direct stream ended", peer=peer, because=repr(error)[:200])
            finally:
                with trio.CancelScope(shield=True), trio.move_on_after(bounds.GOODBYE), suppress(Exception):
                    await stream.reset()
            await trio.sleep(bounds.REOPEN)

    async def _pour(self, outbox: Outbox, stream: Any) -> None:
        while True:
            batch = bytearray()
            message = await outbox.get()
            while message is not None:
                batch += self._encoded(message)
                if len(batch) + limits.MESSAGE_BYTES > bounds.WRITE_BYTES:
                    break
                message = outbox.ready(trio.current_time())
            if batch:
                with trio.fail_after(bounds.WRITE_TIMEOUT):
                    await stream.write(bytes(batch))
                self._hearing.count("sent")

    def _encoded(self, message: Any) -> bytes:
        try:
            return framed(codec.encode(message))
        except codec.CodecError as error:
            log.exception("message not sent", kind=type(message).__name__, because=str(error))
            return b""
