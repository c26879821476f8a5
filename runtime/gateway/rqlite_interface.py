"""rqlite's own HTTP, for clients of rqlite as they are (``gateway.rqlite_listen``). The laws kept here:

- The user of basic authentication names the database, the password is the API key, and the key alone names the application (R36).
- A failed statement is an error in the answer's results; a write of which nobody knows what became is one too, never a 5xx, which such
  clients send again by themselves (F86). What certainly did not happen is a status, with its cause as text.
- A request for a database that other nodes serve goes there whole, one hop at most (F93).

What a client asks beside statements (``/status``, ``/nodes``, ``/readyz``) is answered as one node that leads: a client that looks for
the leader of its database finds this gateway, which finds the database wherever it is.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlencode

import orjson
from attrs import frozen
from starlette.datastructures import QueryParams
from starlette.routing import Route

from runtime.gateway.arguments import Bound
from runtime.gateway.calls import MEMBERS, Call, Caller
from runtime.gateway.endpoint import CALLER, LEFT, REQUEST, Headers, Receive, Scope, Send, body_of_request, respond
from runtime.gateway.endpoints import Endpoints, checked
from runtime.gateway.problems import Refusal
from runtime.gateway.queries import Elsewhere, Queries
from runtime.gateway.rqlite_requests import Options, passed, refused, seconds, statements_of, unknown
from runtime.gateway.vetting import Read, Write
from runtime.gateway.worker_config import WorkerConfig

PUBLIC: Final = "/db/"
FORWARDED: Final = "rqlite/"
"""Below :data:`MEMBERS`."""
DATABASE: Final = "torpor.database"
"""What the user of basic authentication named, in an ASGI scope."""
_JSON: Final = "application/json; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"
_OPERATIONS: Final = {"query": "read", "execute": "write", "request": "read"}
"""Each with the least scope that its key needs; a request that turns out to write needs more."""


@frozen
class RqliteInterface:
    """``sql``: what is known of statements, whatever the interface. ``ready``: raises :class:`Refusal` while requests should go to
    another gateway."""

    config: WorkerConfig
    queries: Queries
    sql: Endpoints
    ready: Callable[[], Awaitable[None]]

    def public(self) -> list[Route]:
        """What a client of rqlite finds."""
        return [
            *(Route(PUBLIC + name, _Operation(self, name), methods=["GET", "POST"]) for name in _OPERATIONS),
            Route("/status", _Told(_status), methods=["GET"]),
            Route("/nodes", _Told(_nodes), methods=["GET"]),
            Route("/readyz", _Told(self._readyz), methods=["GET"]),
        ]

    async def _readyz(self, _address: str) -> tuple[str, bytes]:
        await self.ready()
        return _TEXT, b"[+]node ok\n[+]leader ok\n[+]store ok"

    def between(self) -> list[Route]:
        """What the gateway of another node finds."""
        return [Route(MEMBERS + FORWARDED + name, _Operation(self, name), methods=["POST"]) for name in _OPERATIONS]

    async def answer(self, call: Call, database: str, operation: str, options: Options) -> bytes:
        """Rqlite's answer. Raises :class:`Refusal`."""
        name = checked(call.app, database)
        given = statements_of(call.body, self.config.statements)
        verdicts: list[Read | Write] = []
        bound: list[Bound] = []
        for n, one in enumerate(given):
            try:
                verdicts.append(_fitting(await self.sql.vet(one.sql), operation))
                bound.append(self.sql.bound(verdicts[-1], one.args, first=n == 0))
            except Refusal as refusal:
                if refusal.type not in ("sql-error", "sql-refused", "wrong-endpoint", "sql-too-long"):
                    raise
                return refused(len(given), n, refusal.detail)
        longest = seconds(options.get("db_timeout", ""), call.timeout_s)
        try:
            question = passed(bound, verdicts, options, self.config.rows, longest)
        except Refusal as refusal:
            return refused(len(given), 0, refusal.detail)
        if question.writes and not call.caller.may("write"):
            raise Refusal("forbidden", f"this key is for scope {call.caller.scope}; writing needs write")
        try:
            ask = self.queries.write if question.writes else self.queries.read
            answer = await ask(call, name, question)
        except Refusal as refusal:
            if not refusal.may_have_committed or call.caller.forwarded:
                raise
            return unknown(len(given), refusal.detail)
        return answer.body if isinstance(answer, Elsewhere) else answer


def _fitting(verdict: Read | Write, operation: str) -> Read | Write:
    if operation == "query" and isinstance(verdict, Write):
        raise Refusal("wrong-endpoint", "attempt to change database via query operation")
    if operation == "execute" and isinstance(verdict, Read):
        raise Refusal("wrong-endpoint", "this statement only reads: send it to /db/query")
    return verdict


@frozen(eq=False)
class _Operation:
    """One of :data:`_OPERATIONS`, for clients and for the gateways of other nodes, as an ASGI application."""

    interface: RqliteInterface
    name: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        config, caller = self.interface.config, scope[CALLER]
        options = dict(QueryParams(scope["query_string"]))
        database = options.get("database", "") if caller.forwarded else scope[DATABASE]
        if not caller.may(_OPERATIONS[self.name]):
            raise Refusal("forbidden", f"this key is for scope {caller.scope}; /db/{self.name} needs more")
        if scope["method"] == "POST":
            body = await body_of_request(receive, config.body_bytes)
        elif self.name == "query" and "q" in options:
            body = orjson.dumps([options.pop("q")])
        else:
            raise Refusal("bad-request", "send the statements in the body of a POST")
        timeout_s = config.transaction_timeout_s if "transaction" in options else config.query_timeout_s
        timeout_s = min(timeout_s, scope.get(LEFT, timeout_s))
        options["database"] = database
        call = Call(
            caller,
            scope[REQUEST],
            f"{FORWARDED}{self.name}?{urlencode(options)}",
            body,
            timeout_s,
            asyncio.get_running_loop().time() + timeout_s,
            self.name != "query",
        )
        answer = await self.interface.answer(call, database, self.name, options)
        await respond(send, 200, _JSON, answer, [(b"x-request-id", call.request_id.encode())])


@frozen(eq=False)
class _Told:
    """Something that every client may ask, as an ASGI application."""

    tell: Callable[[str], Awaitable[tuple[str, bytes]]]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        host, port = scope["server"] or ("localhost", 0)
        kind, body = await self.tell(f"{host}:{port}")
        await respond(send, 200, kind, body, [(b"x-request-id", scope[REQUEST].encode())])


async def _status(address: str) -> tuple[str, bytes]:
    node = {"node_id": "torpor", "addr": address}
    status = {
        "build": {"version": "torpor"},
        "http": {"bind_addr": address, "auth": "enabled"},
        "node": {"version": "torpor"},
        "store": {
            "node_id": "torpor",
            "leader": node,
            "nodes": [{"id": "torpor", "addr": address, "suffrage": "Voter"}],
        },
    }
    return _JSON, orjson.dumps(status)


async def _nodes(address: str) -> tuple[str, bytes]:
    node = {"api_addr": f"http://{address}", "addr": address, "voter": True, "reachable": True, "leader": True}
    return _JSON, orjson.dumps({"torpor": node})


def credentials(headers: Headers) -> tuple[str, str]:
    """Database and key, of basic authentication. Raises :class:`Refusal`."""
    given = next((value for name, value in headers if name == b"authorization"), b"")
    scheme, _, encoded = given.partition(b" ")
    try:
        if scheme.lower() != b"basic":
            raise ValueError
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        if not colon:
            raise ValueError
    except (ValueError, binascii.Error):
        raise challenge("the user of basic authentication names the database, the password is the API key") from None
    return user, password


def challenge(detail: str) -> Refusal:
    """Whoever is refused is told how to come in."""
    return Refusal("unauthorized", detail, headers=(("www-authenticate", 'Basic realm="torpor"'),))


async def refuse(refusal: Refusal, request_id: str, send: Send) -> None:
    """As rqlite would: a status, and the cause as text."""
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers]
    headers.append((b"x-request-id", request_id.encode()))
    await respond(send, refusal.status, _TEXT, f"{refusal.type}: {refusal.detail}\n".encode(), headers)


async def caller_of(headers: Headers, who: Callable[[str], Awaitable[Caller]]) -> tuple[Caller, str]:
    """Who calls, and the database that they name. Raises :class:`Refusal`."""
    database, key = credentials(headers)
    try:
        return await who(key), database
    except Refusal as refusal:
        raise (challenge(refusal.detail) if refusal.type == "unauthorized" else refusal) from None
