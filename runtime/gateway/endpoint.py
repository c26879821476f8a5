"""One endpoint, as the routes and the OpenAPI document have it, and as an ASGI application: from a request whose caller is known to
its answer.

The laws kept here: what the key's scope does not allow is refused before a byte of the body is read (R36); no body is held that is larger
than it may be (F85).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import orjson
from attrs import frozen
from starlette.datastructures import QueryParams

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
class Answered:
    """A whole answer."""

    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


Run = Callable[[Call], Awaitable[bytes | Answered]]
"""Answers a call; bytes are a JSON body. Raises :class:`Refusal`."""


@frozen
class Endpoint:
    """``path``: below ``/v1/database/`` for those that need a key of ``scope``, else (scope empty) whole. ``takes``: the type of its JSON
    body. ``timeout_s``, ``body_bytes``: bounds. ``problems``: what it can answer beside those that any can."""

    path: str
    methods: tuple[str, ...]
    scope: str
    run: Run
    timeout_s: float
    body_bytes: int
    takes: type | None = None
    gives: type | None = None
    writes: bool = False
    keyed: bool = False
    """It takes an ``Idempotency-Key``."""
    summary: str = ""
    problems: tuple[str, ...] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = await self._call(scope, receive)
        answer = await self.run(call)
        if isinstance(answer, bytes):
            answer = Answered(answer)
        headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
        await respond(
            send, 200, answer.content_type, answer.body, [*headers, (b"x-request-id", call.request_id.encode())]
        )

    async def _call(self, scope: Scope, receive: Receive) -> Call:
        caller: Caller = scope[CALLER]
        if self.scope and not caller.may(self.scope):
            raise Refusal("forbidden", f"this key is for scope {caller.scope}; {self.path} needs {self.scope}")
        timeout_s = min(self.timeout_s, scope.get(LEFT, self.timeout_s))
        path: str = scope["path"]
        endpoint = path.removeprefix(MEMBERS if caller.forwarded else CLIENTS)
        if scope["method"] == "POST":
            body = await _body(receive, self.body_bytes)
        else:
            body = _body_of_query(scope["query_string"])
        return Call(
            caller,
            scope[REQUEST],
            endpoint,
            body,
            timeout_s,
            asyncio.get_running_loop().time() + timeout_s,
            self.writes,
            _idempotency_key(scope["headers"]) if self.keyed else "",
        )


def _idempotency_key(headers: Headers) -> str:
    given = [value for name, value in headers if name == IDEMPOTENCY_KEY]
    if not given:
        return ""
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise Refusal("bad-request", "Idempotency-Key must be 1 to 128 printable ASCII characters without spaces")
    return given[0].decode("ascii")


def _body_of_query(query_string: bytes) -> bytes:
    """The parameters of a GET as the JSON body that the same endpoint takes with POST."""
    given = QueryParams(query_string)
    members = dict(given.multi_items())
    if len(members) < len(given.multi_items()):
        raise Refusal("bad-request", "a query parameter is given twice")
    return orjson.dumps(members)


async def _body(receive: Receive, most: int) -> bytes:
    """Raises :class:`Refusal`."""
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
        raise Refusal("body-too-large", f"more than {most} bytes")
    return body


async def respond(send: Send, status: int, kind: str, body: bytes, more: Headers) -> None:
    """Send a whole answer."""
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
