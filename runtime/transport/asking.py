"""One question to one peer, one answer: keys for those who join, backups. Laws: who asks is the authenticated peer of the stream
(F81); sizes, times and numbers are bounded for each peer (F92); an asker gets an answer or one exception, never silence.

A request is a frame ``[length of kind][kind][payload]`` on a stream of its own; a response ``[0 or 1][payload or reason]``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
import trio

from runtime.transport import bounds
from runtime.transport.framing import Frames, framed

PROTOCOL: Final = "/torpor/ask/1"
Handler = Callable[[str, bytes], Awaitable[bytes]]

_DONE: Final = b"\x00"
_REFUSED: Final = b"\x01"

log = structlog.stdlib.get_logger("transport")


class PeerUnreachable(Exception):
    """No answer came: not connected, the connection broke, or it took too long. What was asked may have been done."""


class PeerRefused(Exception):
    """The peer said no; its reason. A handler raises it to refuse."""


class Asking:
    """``serve`` says what is answered here; ``ask`` takes ``open_stream``, which gives a new stream to a connected peer."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._serving: Counter[str] = Counter()
        self._turns: dict[str, trio.Semaphore] = {}

    def serve(self, kind: str, handler: Handler) -> None:
        """Answer requests of ``kind``, until the node ends."""
        assert _named(kind), kind
        assert kind not in self._handlers, f"{kind} is served already"
        self._handlers[kind] = handler

    async def ask(
        self, open_stream: Callable[[str], Awaitable[Any]], peer: str, kind: str, payload: bytes, within: float
    ) -> bytes:
        """Raises :class:`PeerUnreachable`, :class:`PeerRefused`."""
        assert _named(kind), kind
        assert len(payload) <= bounds.REQUEST_BYTES, f"{len(payload)} bytes are too many for one request"
        turn = self._turns.setdefault(peer, trio.Semaphore(bounds.ASKED_PER_PEER))
        try:
            with trio.fail_after(within):
                async with turn:
                    answer = await self._exchange(await open_stream(peer), kind, payload)
        except trio.TooSlowError:
            raise PeerUnreachable(f"{peer} did not answer {kind} within {within:g} s") from None
        except Exception as error:
            raise PeerUnreachable(f"{peer} cannot be asked for {kind}: {error!r:.200}") from error
        if answer[:1] == _REFUSED:
            raise PeerRefused(answer[1 : 1 + bounds.DETAIL].decode(errors="replace"))
        if answer[:1] != _DONE:
            raise PeerUnreachable(f"{peer} answered {kind} with something else than an answer")
        return answer[1:]

    async def _exchange(self, stream: Any, kind: str, payload: bytes) -> bytes:
        whole = False
        try:
            name = kind.encode()
            await stream.write(framed(bytes([len(name)]) + name + payload))
            answer = await Frames(stream, bounds.REQUEST_BYTES + 1).next()
            whole = True
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(bounds.GOODBYE):
                await (stream.close() if whole else stream.reset())
        return answer

    async def on_stream(self, sender: str, stream: Any) -> None:
        """Serve one request. Whatever this raises resets the stream."""
        if self._serving[sender] >= bounds.SERVED_PER_PEER:
            await stream.write(framed(_REFUSED + b"busy: too many requests of this peer are being served"))
            await stream.close()
            return
        self._serving[sender] += 1
        try:
            with trio.fail_after(bounds.SERVE_TIMEOUT):
                request = await Frames(stream, 1 + bounds.KIND_LENGTH + bounds.REQUEST_BYTES).next()
                await stream.write(framed(await self._answer(sender, request)))
                await stream.close()
        finally:
            self._serving[sender] -= 1
            if not self._serving[sender]:
                del self._serving[sender]

    async def _answer(self, sender: str, request: bytes) -> bytes:
        size = request[0] if request else 0
        kind, payload = request[1 : 1 + size].decode("ascii", "replace"), request[1 + size :]
        handler = self._handlers.get(kind)
        if handler is None:
            return _REFUSED + f"{kind!r:.80} is not served here".encode()
        try:
            answer = await handler(sender, payload)
        except PeerRefused as refusal:
            return _REFUSED + str(refusal).encode()[: bounds.DETAIL]
        except Exception:
            log.exception("request failed", kind=kind, peer=sender)
            return _REFUSED + b"failed there; its log says why"
        assert len(answer) <= bounds.REQUEST_BYTES, f"an answer of {len(answer)} bytes to {kind}"
        return _DONE + answer


def _named(kind: str) -> bool:
    return kind.isascii() and 0 < len(kind) <= bounds.KIND_LENGTH
