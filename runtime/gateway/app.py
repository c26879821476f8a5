"""HTTP for clients: the endpoints of R30, R31, R35 and ``/healthz``; and for the gateways of other nodes. The laws kept here:

- Everything under ``/v1`` needs a key, which carries the application (R36); nothing in a request can name another. (Another node's
  gateway has looked at the key, and names the application; who that gateway is was seen to before its first byte was read, F93.)
- Every failure is a problem document (RFC 9457), whatever went wrong and wherever, and never holds a traceback.
- Bodies, statements, arguments, rows and results are bounded before they are used (F85).
- The access log never holds arguments, statements or keys.

Plain ASGI, without a framework: a query costs rqlited half a millisecond, everything here is on top of it, and what a framework
would bring (routing by path, JSON in and out) is the two tables and two functions at the end.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final

import orjson

from protocol.ids import DatabaseName, InvalidName
from runtime.gateway import vetting
from runtime.gateway.auth import KeyRing, presented_key
from runtime.gateway.doors import Doors
from runtime.gateway.forwarding import APPLICATION, MILLISECONDS, READ, REQUEST_ID, WRITE, Call
from runtime.gateway.frames import WorkerConfig
from runtime.gateway.hops import HELLO
from runtime.gateway.log import Log
from runtime.gateway.problems import RETRY_AFTER, Refusal
from runtime.gateway.queries import Queries
from runtime.gateway.statements import Arguments, arguments
from runtime.gateway.vetting import Read, Refused, Verdict, Write
from runtime.gateway.waiting import Waiting

_JSON: Final = b"application/json"
_PROBLEM: Final = b"application/problem+json"
_INLINE_CHARACTERS: Final = 8_192
"""A longer statement is vetted in a thread: the event loop would stand still for tens of milliseconds."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Endpoint = Callable[[Call, Receive], Awaitable[bytes]]
"""Gives the JSON body of a 200."""
Whose = Callable[[Scope, str], tuple[Call, "dict[str, Endpoint] | None"]]
"""Takes a request and its id; gives whose it is, and the endpoints at its path. Raises :class:`Refusal`."""
_REQUEST_ID: Final = re.compile(rb"[0-9a-f]{16}")


@lru_cache(4096)
def _checked(app: str, name: str) -> str:
    """The name, if it is a valid one (R3, F82). Raises InvalidName."""
    return DatabaseName(app, name).name


class Gateway:
    """The ASGI application of one worker."""

    def __init__(self, config: WorkerConfig, doors: Doors, waiting: Waiting, queries: Queries, log: Log) -> None:
        self._config = config
        self._keys = KeyRing(config.keys)
        self._doors = doors
        self._waiting = waiting
        self._queries = queries
        self._log = log
        self._vetters = ThreadPoolExecutor(1, "vetting")
        self._open: dict[str, dict[str, Endpoint]] = {"/healthz": {"GET": self._healthz}}
        self._keyed: dict[str, dict[str, Endpoint]] = {
            "/v1/database/exec": {"POST": self._exec},
            "/v1/database/query": {"POST": self._query},
            "/v1/database/list": {"GET": self._list},
        }
        self._between: dict[str, dict[str, Endpoint]] = {
            HELLO: {"GET": self._hello},
            READ: {"POST": self._query},
            WRITE: {"POST": self._exec},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of a client."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send, secrets.token_hex(8), self._of_client)

    async def between(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of another node's gateway, which is believed; its query is answered here or not at all (F93)."""
        if scope["type"] == "http":
            given = _header(scope["headers"], REQUEST_ID) or b""
            request_id = given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
            await self._answer(scope, receive, send, request_id, self._of_gateway)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str, whose: Whose) -> None:
        """Find out whose request it is, answer, and render whatever went wrong."""
        clock = asyncio.get_running_loop().time
        began = clock()
        path: str = scope["path"]
        app = problem = ""
        status = 200
        try:
            call, answers = whose(scope, request_id)
            app = call.app
            body = await _endpoint(answers, scope["method"])(call, receive)
            await _send(send, status, _JSON, body, [(b"x-request-id", request_id.encode())])
        except Refusal as refusal:
            status, problem = refusal.status, refusal.type
            await _refuse(refusal, request_id, send)
        except Exception as error:  # noqa: BLE001  the last resort of a server: told in the log, not to the client
            status, problem = 500, "internal-error"
            self._log.failed(request_id, error)
            await _refuse(Refusal("internal-error", f"quote request {request_id}"), request_id, send)
        self._log.access(request_id, scope["method"], path, app, status, clock() - began, problem)

    def _of_client(self, scope: Scope, request_id: str) -> tuple[Call, dict[str, Endpoint] | None]:
        path, timeout_s = scope["path"], self._config.query_timeout_s
        if path in self._open:
            return Call("", request_id, False, timeout_s), self._open[path]
        # Before the path is looked at: without a key, nothing tells which paths there are.
        app = self._application(scope["headers"])
        return Call(app, request_id, False, timeout_s), self._keyed.get(path)

    def _of_gateway(self, scope: Scope, request_id: str) -> tuple[Call, dict[str, Endpoint] | None]:
        headers: Headers = scope["headers"]
        app = (_header(headers, APPLICATION) or b"").decode("latin-1")
        left = _header(headers, MILLISECONDS) or b""
        timeout_s = self._config.query_timeout_s
        if left.isdigit():
            timeout_s = min(timeout_s, int(left[:9]) / 1000)
        return Call(app, request_id, True, timeout_s), self._between.get(scope["path"])

    def _application(self, headers: Headers) -> str:
        """The application of the caller's key. Raises :class:`Refusal`."""
        authorization: str | None = None
        x_api_key: str | None = None
        for name, value in headers:
            if name == b"authorization":
                authorization = value.decode("latin-1")
            elif name == b"x-api-key":
                x_api_key = value.decode("latin-1")
        key = presented_key(authorization, x_api_key)
        app = self._keys.application_of(key) if key else None
        if app is None:
            detail = "the API key is not valid" if key else "send Authorization: Bearer <key>, or X-API-Key: <key>"
            raise Refusal("unauthorized", detail, headers=(("www-authenticate", 'Bearer realm="torpor"'),))
        return app

    async def _exec(self, call: Call, receive: Receive) -> bytes:
        name, verdict, args = await self._statement(call.app, receive)
        if isinstance(verdict, Read):
            raise Refusal("wrong-endpoint", "this statement only reads: send it to /v1/database/query")
        assert isinstance(verdict, Write)
        return await self._queries.write(call, name, verdict, args)

    async def _query(self, call: Call, receive: Receive) -> bytes:
        name, verdict, args = await self._statement(call.app, receive)
        if isinstance(verdict, Write):
            raise Refusal("wrong-endpoint", "this statement writes: send it to /v1/database/exec")
        assert isinstance(verdict, Read)
        return await self._queries.read(call, name, verdict, args)

    async def _list(self, call: Call, _receive: Receive) -> bytes:
        deadline = asyncio.get_running_loop().time() + self._config.query_timeout_s
        names = await self._waiting.names(call.app, deadline)
        return orjson.dumps({"databases": sorted(names)})

    async def _hello(self, _call: Call, _receive: Receive) -> bytes:
        """On each new connection of another gateway: its certificate was believed, a query may follow."""
        return b"{}"

    async def _healthz(self, _call: Call, _receive: Receive) -> bytes:
        if not self._doors.serving:
            raise Refusal("stopping", "this gateway has lost its node")
        return b'{"status":"ok"}'

    async def _statement(self, app: str, receive: Receive) -> tuple[str, Verdict, Arguments]:
        """Database name, verdict and arguments of an exec or a query. Raises :class:`Refusal`."""
        members = await self._members(receive)
        unknown = members.keys() - {"database", "sql", "args"}
        if unknown:
            raise Refusal("bad-request", f"unknown member {min(unknown)[:64]!r}")
        sql = members.get("sql")
        if not isinstance(sql, str):
            raise Refusal("bad-request", "sql must be a text")
        try:
            name = members.get("database")
            name = _checked(app, name if isinstance(name, str) else "")
        except InvalidName as error:
            raise Refusal("invalid-name", str(error)) from None
        args = arguments(members.get("args"), self._config.parameters)
        return name, await self._vet(sql), args

    async def _vet(self, sql: str) -> Verdict:
        """The verdict, which is no :class:`Refused`."""
        if len(sql) <= _INLINE_CHARACTERS:
            verdict = vetting.vet(sql)
        else:
            if len(sql.encode()) > self._config.sql_bytes:
                raise Refusal("sql-too-long", f"more than {self._config.sql_bytes} bytes")
            verdict = await asyncio.get_running_loop().run_in_executor(self._vetters, vetting.vet, sql)
        if isinstance(verdict, Refused):
            raise Refusal("sql-error" if verdict.syntax else "sql-refused", verdict.reason)
        return verdict

    async def _members(self, receive: Receive) -> dict[str, Any]:
        """The members of a JSON body. Raises :class:`Refusal`."""
        most = self._config.body_bytes
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
        try:
            members: Any = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Refusal("bad-request", f"the body is no JSON: {error}") from None
        if not isinstance(members, dict):
            raise Refusal("bad-request", "the body must be a JSON object")
        return members  # pyright: ignore[reportUnknownVariableType]


def _header(headers: Headers, wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)


def _endpoint(answers: dict[str, Endpoint] | None, method: str) -> Endpoint:
    """The endpoint for this method; HEAD is GET whose body the server leaves out. Raises :class:`Refusal`."""
    if answers is None:
        raise Refusal("not-found", "there is nothing at this path")
    endpoint = answers.get("GET" if method == "HEAD" else method)
    if endpoint is None:
        allowed = ", ".join(answers)
        raise Refusal("method-not-allowed", f"allowed: {allowed}", headers=(("allow", allowed),))
    return endpoint


async def _refuse(refusal: Refusal, request_id: str, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers]
    headers.append((b"x-request-id", request_id.encode()))
    if refusal.type in RETRY_AFTER:
        headers.append((b"retry-after", b"1"))
    await _send(send, refusal.status, _PROBLEM, refusal.document(request_id), headers)


async def _send(send: Send, status: int, kind: bytes, body: bytes, more: Headers) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
