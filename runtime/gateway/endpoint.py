"""One endpoint, as the routes and the OpenAPI document have it, and as an ASGI application: from a request whose caller is known to
its answer.

The laws kept here: what the key's scope does not allow is refused before a byte of the body is read (R36); no body is held that is larger
than it may be (F85).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum
from typing import Any, Final, cast
from urllib.parse import urlencode

import orjson
from attrs import frozen
from starlette.datastructures import QueryParams

from runtime.gateway.bodies import Named, decode
from runtime.gateway.calls import CLIENTS, IDEMPOTENCY_KEY, JSON, MEMBERS, Call, Caller
from runtime.gateway.problems import Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CALLER: Final = "torpor.caller"
REQUEST: Final = "torpor.request_id"
LEFT: Final = "torpor.seconds_left"
"""What the application puts in an ASGI scope: a :class:`Caller`, the request's id, and of a forwarded request the seconds that are left."""

_KEY: Final = re.compile(rb"[!-~]{1,128}")


@frozen
class Page:
    """An answer that is no JSON."""

    body: bytes
    content_type: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


Run = Callable[[Call], Awaitable[bytes | Page]]
"""Answers a call, with a JSON body or another page. Raises :class:`Refusal`."""
Stream = Callable[[Call, Callable[[bytes], Awaitable[None]]], Awaitable[None]]
"""Answers a call with a file, piece by piece."""


class File(Enum):
    """The body of a request, or of its answer, is a database: ``IN``, ``OUT``."""

    IN = 1
    OUT = 2


class Told:
    """An ASGI ``send`` that knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self.begun = False
        self._send = send

    def __call__(self, message: Message) -> Awaitable[None]:
        self.begun = True
        return self._send(message)


@frozen
class Bounds:
    """Of one endpoint. ``turns``: as many of its requests at one time, before their bodies are read."""

    timeout_s: float
    body_bytes: int
    turns: asyncio.Semaphore | None = None


@frozen
class Endpoint:
    """``path``: below ``/v1/database/`` for those that need a key of ``scope``, else (scope empty) whole. ``takes``: the type of its JSON
    body, ``gives`` that of its answer. ``keyed``: it takes an ``Idempotency-Key``. ``problems``: what
    it can answer beside those that any can."""

    path: str
    methods: tuple[str, ...]
    scope: str
    run: Run | Stream
    bounds: Bounds
    takes: type | None = None
    gives: type | None = None
    writes: bool = False
    keyed: bool = False
    file: File | None = None
    problems: tuple[str, ...] = ()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        caller: Caller = scope[CALLER]
        if self.scope and not caller.may(self.scope):
            raise Refusal("forbidden", f"this key is for scope {caller.scope}; {self.path} needs {self.scope}")
        if self.bounds.turns is None:
            return self._answer(caller, scope, receive, send)
        return self._in_turn(self.bounds.turns, caller, scope, receive, send)

    async def _in_turn(
        self, turns: asyncio.Semaphore, caller: Caller, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if turns.locked():
            raise Refusal("busy", f"no more than so many {self.path}s at one time")
        async with turns:
            await self._answer(caller, scope, receive, send)

    async def _answer(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        call = await self._call(caller, scope, receive)
        request_id = (b"x-request-id", call.request_id.encode())
        if self.file is File.OUT:
            await self._stream(call, receive, send, request_id)
        else:
            body = await cast("Run", self.run)(call)
            if isinstance(body, bytes):
                await respond(send, 200, JSON, body, [request_id])
            else:
                await respond(send, 200, body.content_type, body.body, [*body.headers, request_id])

    async def _stream(self, call: Call, receive: Receive, send: Send, request_id: tuple[bytes, bytes]) -> None:
        begun = False

        async def sink(chunk: bytes) -> None:
            nonlocal begun
            if not begun:
                begun = True
                headers = [(b"content-type", b"application/vnd.sqlite3"), request_id]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        transfer = asyncio.ensure_future(cast("Stream", self.run)(call, sink))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((transfer, gone), return_when=asyncio.FIRST_COMPLETED)
            if not transfer.done():
                raise Refusal("bad-request", "the client has left")
            transfer.result()
            await send({"type": "http.response.body", "body": b""})
        finally:
            for task in (transfer, gone):
                task.cancel()
            await asyncio.gather(transfer, gone, return_exceptions=True)

    async def _call(self, caller: Caller, scope: Scope, receive: Receive) -> Call:
        timeout_s = min(self.bounds.timeout_s, scope.get(LEFT, self.bounds.timeout_s))
        path: str = scope["path"]
        endpoint = path.removeprefix(MEMBERS if caller.forwarded else CLIENTS)
        database, content_type = "", JSON
        if self.file is File.IN:
            database, content_type = decode(_members(scope["query_string"]), Named).database, "application/octet-stream"
            endpoint = f"{endpoint}?{urlencode({'database': database})}"
        if scope["method"] == "POST":
            body = await body_of_request(
                receive, self.bounds.body_bytes, "file-too-large" if self.file else "body-too-large"
            )
        else:
            body = _members(scope["query_string"])
        return Call(
            caller,
            scope[REQUEST],
            endpoint,
            body,
            timeout_s,
            asyncio.get_running_loop().time() + timeout_s,
            self.writes,
            _idempotency_key(scope["headers"]) if self.keyed else "",
            content_type,
            database,
        )


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _idempotency_key(headers: Headers) -> str:
    given = [value for name, value in headers if name == IDEMPOTENCY_KEY]
    if not given:
        return ""
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise Refusal("bad-request", "Idempotency-Key must be 1 to 128 printable ASCII characters without spaces")
    return given[0].decode("ascii")


def _members(query_string: bytes) -> bytes:
    """The parameters of a GET as the JSON body that the same endpoint takes with POST."""
    given = QueryParams(query_string)
    members = dict(given.multi_items())
    if len(members) < len(given.multi_items()):
        raise Refusal("bad-request", "a query parameter is given twice")
    return orjson.dumps(members)


async def body_of_request(receive: Receive, most: int, too_large: str = "body-too-large") -> bytes:
    """The whole body, of at most so many bytes. Raises :class:`Refusal`."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts = [body]
        size = len(body)
        while message.get("more_body") and size <= most:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise Refusal("bad-request", "the client left before its request was complete")
    if len(body) > most:
        raise Refusal(too_large, f"more than {most} bytes")
    return body


async def respond(send: Send, status: int, kind: str, body: bytes, more: Headers) -> None:
    """Send a whole answer."""
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
