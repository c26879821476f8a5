"""One request of a client and its answer: uvicorn's cycle, with an answer that costs less. The laws kept here:

- The head of an answer leaves with the first piece of its body, in one write: a second one would cost as much again as all of the gateway's own
  work on the system's side, and wake the client twice.
- Every answer, whatever made it, tells browsers to keep nothing of it, to guess nothing about it, to run nothing in it, and to tell
  nobody where it came from.
- Nothing that an application says of an answer's head becomes another line of it.
- An answer that is not whole ends the connection, and no part of its head alone is sent.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

from runtime.gateway.endpoint import Message

HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Of every answer that does not say otherwise itself."""
_LINES: Final = {name + b": ": name + b": " + value + b"\r\n" for name, value in HEADERS}
HARDENED: Final = b"".join(_LINES.values())
_LENGTH: Final = b"content-length: "
_CONNECTION: Final = b"connection: "
_HEEDED: Final = frozenset({_LENGTH, _CONNECTION, *_LINES})
_CONTROLS: Final = bytes(range(9)) + bytes(range(10, 32)) + b"\x7f"
"""Not the tab: a value may hold one."""


class Exchange(RequestResponseCycle):
    """``running``: the tasks of all requests; ``task``, that of this one, is there for as long as the application runs."""

    running: set[asyncio.Task[None]]
    task: asyncio.Task[None]
    _head = b""  # what waits for the first piece of the body

    async def run_asgi(self, app: Any) -> None:
        try:
            await super().run_asgi(app)
        finally:
            # Not by a callback of the task, which would cost a turn of the event loop.
            self.running.discard(self.task)

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._begin(message)
        elif not self.response_complete:
            self._go_on(message)
        else:
            raise RuntimeError(f"{message['type']} after the end of the answer")

    def _begin(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            raise RuntimeError(f"an answer begins with {message['type']}")
        self.response_started = True
        self.waiting_for_100_continue = False
        status: int = message["status"]
        parts = [STATUS_LINE[status]]
        lines = 2  # with the empty one
        closes = False
        own: list[bytes] = []
        for name, value in message.get("headers", ()):
            begin = _name(name)
            lines += 1
            parts += (begin, value, b"\r\n")
            if begin not in _HEEDED:
                continue
            if begin == _LENGTH:
                self.chunked_encoding = False
                self.expected_content_length = int(value)
            elif begin == _CONNECTION:
                closes = value.lower() == b"close"
            else:
                own.append(begin)
        parts.append(HARDENED if not own else b"".join(_LINES[begin] for begin in _LINES if begin not in own))
        lines += len(_LINES) - len(own)
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines += 1
            parts.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            lines += 1
            parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(b"\r\n")
        head = b"".join(parts)
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * lines:
            raise RuntimeError("a header holds a control character")
        self._head = head

    def _go_on(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            raise RuntimeError(f"an answer goes on with {message['type']}")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            body = b""
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if more else b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("an answer is longer than it said")
        if not more and self.expected_content_length:
            raise RuntimeError("an answer is shorter than it said")
        if head or body:
            self.transport.write(head + body)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


@lru_cache(256)
def _name(name: bytes) -> bytes:
    """How its line begins."""
    if HEADER_RE.search(name):
        raise RuntimeError("that is no name of a header")
    return name.lower() + b": "
