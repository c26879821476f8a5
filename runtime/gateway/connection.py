"""One connection of a client: uvicorn's, with bounds. The laws kept here:

- A client that sends slowly, or takes its answer slowly, keeps nothing for ever: there is a time for the head of a request, for its
  body by its size, and for what was answered (F85).
- The head of a request is bounded in bytes; so is whatever comes between two pieces of a body (chunk extensions, trailers).
- Bytes that are no HTTP end in a problem document too.
- A worker that leaves says ``Connection: close`` with every answer from then on, and closes no connection of which it does not know
  that nothing is on its way: one that has not said anything yet is answered when it does.

The times are looked at by :meth:`Connection.look`, once a second for all connections, not by timers of their own: those would cost each
request more than what they guard against.
"""

from __future__ import annotations

import asyncio
import secrets
import urllib.parse
from typing import Any, Final, Protocol

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from runtime.gateway.exchange import HARDENED, Exchange
from runtime.gateway.problems import Refusal

HEAD_BYTES: Final = 64 << 10
RATE: Final = 32 << 10
"""Bytes a second that a client sends or takes at least, beyond its first patience."""
KEEP_ALIVE_S: Final = 75
"""Longer than clients keep an idle connection (httpx 5 s, browsers a minute): who closes first should be who knows whether it is about
to send."""

_ASGI: Final[Any] = {"version": "3.0", "spec_version": "2.3"}

_WAITING: Final = 0  # no byte of a request yet, or of the next one
_HEAD: Final = 1
_BODY: Final = 2
_ANSWERING: Final = 3


class Keeper(Protocol):
    """Who counts connections."""

    def began(self, connection: Connection) -> None: ...

    def ended(self, connection: Connection) -> None: ...


class Connection(HttpToolsProtocol):
    """``patience``: seconds for the head of a request."""

    def __init__(self, config: Config, state: ServerState, app: Any, patience: float, keeper: Keeper) -> None:
        super().__init__(config, state, {})
        self.app = app
        self.keep_alive_s = KEEP_ALIVE_S
        self.leaving = False
        self._patience = patience
        self._keeper = keeper
        self._asked = False  # there was a request
        self._phase = _WAITING
        self._since = self.loop.time()  # of the phase
        self._unread = 0  # bytes since a request began, or a piece of its body came
        self._received = 0  # bytes of the body
        self._full = 0.0  # when the answer began to wait for its taker; 0: it does not
        self._owed = 0  # bytes that waited then

    @property
    def idle(self) -> bool:
        """Nothing is on its way, as far as can be known here."""
        return self._phase == _WAITING and not self._running and not self._full

    @property
    def _running(self) -> bool:
        """The application has not answered all of it."""
        return self._asked and not self.cycle.response_complete

    @property
    def since(self) -> float:
        """Loop time at which it became what it is now."""
        return self._since

    def leave(self) -> None:
        """The next answer is the last."""
        self.leaving = True
        if self._running:
            self.cycle.keep_alive = False

    def look(self, now: float) -> None:
        """End what takes too long; ``now``: loop time."""
        if self._full and now - self._full > self._patience + self._owed / RATE:
            self.transport.abort()
        elif self.flow.read_paused:
            self._since = now  # we keep it waiting, not it us
        elif self._phase == _HEAD and now - self._since > self._patience:
            self.refuse(Refusal("request-timeout", f"its head has not arrived within {self._patience:g} s"))
        elif self._phase == _BODY and now - self._since > self._patience + self._received / RATE:
            self.refuse(Refusal("request-timeout", f"its body arrives more slowly than {RATE} bytes a second"))
        elif self.idle and now - self._since > (self.keep_alive_s if self._asked else self._patience):
            self.transport.close()

    def refuse(self, refusal: Refusal) -> None:
        """Answer without the application, if nothing was answered yet, and end."""
        if self.transport.is_closing():
            return
        running = self._running
        if not running or not self.cycle.response_started:
            self._write(refusal)
        if running:  # whatever it would still say, nobody hears
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def _write(self, refusal: Refusal) -> None:
        request_id = secrets.token_hex(8)
        body = refusal.document(request_id)
        head = {
            "content-type": "application/problem+json",
            "content-length": str(len(body)),
            "x-request-id": request_id,
            "connection": "close",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.transport.write(STATUS_LINE[refusal.status] + lines.encode() + HARDENED + b"\r\n" + body)

    # What uvicorn calls.

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words are for its log
        self.refuse(Refusal("bad-request", "this is not HTTP/1.1"))

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._since = self.loop.time()
        self._keeper.began(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._keeper.ended(self)

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_BYTES and self._phase in (_HEAD, _BODY):
            self.refuse(Refusal("head-too-large", f"more than {HEAD_BYTES} bytes"))

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._phase, self._since = _HEAD, self.loop.time()
        self._unread = self._received = 0

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        version: str = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path: str = url.path.decode("ascii")
        self.scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "root_path": "",
            "method": self.parser.get_method().decode("ascii"),
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self.headers,
        }
        behind = self._running
        self.cycle = cycle = Exchange(
            self.scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            False,
            [],
            asyncio.Event(),
            self.expect_100_continue,
            not self.leaving and version != "1.0" and self.parser.should_keep_alive(),
            self.on_response_complete,
        )
        cycle.running = self.tasks
        self._asked = True
        self._phase, self._since = _BODY, self.loop.time()
        self._unread = 0
        if behind:  # the client did not wait for the answer before
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._start_asgi_task(cycle, self.app)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        cycle.task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(cycle.task)

    def on_body(self, body: bytes) -> None:
        self._received += len(body)
        self._unread = 0
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._phase = _ANSWERING
        self._unread = 0
        cycle = self.cycle
        if cycle.response_complete:  # answered before it was all here
            self._phase, self._since = _WAITING, self.loop.time()
        else:
            cycle.more_body = False
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        if self._phase == _ANSWERING:
            self._phase, self._since = _WAITING, self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full, self._owed = self.loop.time(), self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._full = 0.0
