"""HTTP for clients (R30–R37), and for the gateways of other nodes: who calls, which endpoint it is, and how a failure looks. The laws kept here:

- Everything under ``/v1`` needs a key, which carries the application (R36); nothing in a request can name another. (Another node's
  gateway has looked at the key, and names the application; who that gateway is was seen to before its first byte was read, F93.)
- Every failure is a problem document (RFC 9457), whatever went wrong and wherever, and never holds a traceback.
- The access log never holds arguments, statements or keys.

Starlette routes; its middlewares and its Request objects are not on the way of a query, which costs rqlited half a millisecond.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from runtime.gateway import bodies, rqlite_interface
from runtime.gateway.allowances import Allowances
from runtime.gateway.callers import Callers
from runtime.gateway.calls import APPLICATION, CLIENTS, MEMBERS, MILLISECONDS, REQUEST_ID, Call, Caller
from runtime.gateway.doors import Doors
from runtime.gateway.endpoint import (
    CALLER,
    LEFT,
    REQUEST,
    Bounds,
    Endpoint,
    Headers,
    Receive,
    Scope,
    Send,
    Told,
    respond,
)
from runtime.gateway.endpoints import Endpoints
from runtime.gateway.hops import HELLO
from runtime.gateway.log import Log
from runtime.gateway.openapi import Description
from runtime.gateway.problems import RETRY_AFTER, Refusal
from runtime.gateway.queries import Queries
from runtime.gateway.rqlite_interface import RqliteInterface
from runtime.gateway.transfers import Exports
from runtime.gateway.waiting import Waiting
from runtime.gateway.worker_config import WorkerConfig

_PROBLEM: Final = "application/problem+json"
_REQUEST_ID: Final = re.compile(rb"[0-9a-f]{16}")

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Whose = Callable[[Scope], Awaitable[tuple[Caller, Application]]]
"""Whose request it is, and what answers it. Raises :class:`Refusal`."""
Refuse = Callable[[Refusal, str, Send], Awaitable[None]]
"""Renders a refusal, of a request of this id."""


class Gateway:
    """The ASGI application of one worker."""

    def __init__(
        self,
        config: WorkerConfig,
        doors: Doors,
        waiting: Waiting,
        queries: Queries,
        exports: Exports,
        callers: Callers,
        allowances: Allowances,
        log: Log,
    ) -> None:
        self._callers = callers
        self._allowances = allowances
        self._doors = doors
        self._log = log
        sql = Endpoints(config, waiting, queries, ThreadPoolExecutor(1, "vetting"), exports)
        endpoints = sql.table()
        rqlite = RqliteInterface(config, queries, sql, self._ready)
        bounds = Bounds(config.query_timeout_s, config.body_bytes)
        healthz = Endpoint("/healthz", ("GET",), "", self._healthz, bounds, gives=bodies.Health, problems=("stopping",))
        unready = ("stopping", "listening")
        readyz = Endpoint("/readyz", ("GET",), "", self._readyz, bounds, gives=bodies.Health, problems=unready)
        described = Description((*endpoints, healthz, readyz))
        pages = [healthz, readyz, *described.pages(bounds)]
        self._open = {page.path: _router([page], "") for page in pages}
        self._keyed = _router(endpoints, CLIENTS)
        self._at = {(method, CLIENTS + e.path): e for e in endpoints for method in e.methods}
        """What is found without a search."""
        hello = Route(HELLO, Endpoint(HELLO, ("GET",), "", self._hello, bounds), methods=["GET"])
        self._between = _router(endpoints, MEMBERS, hello, *rqlite.between())
        self._rqlite = Router(rqlite.public(), redirect_slashes=False, default=_nothing)
        self._paths = {*self._open, *(below + each.path for each in endpoints for below in (CLIENTS, MEMBERS))}
        self._paths |= {route.path for route in (*rqlite.public(), *rqlite.between())}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request of a client."""
        return self._answer(scope, receive, send, _new_id(), self._of_client, _refuse)

    def rqlite(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request of a client of rqlite."""
        return self._answer(scope, receive, send, _new_id(), self._of_rqlite, rqlite_interface.refuse)

    def between(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request of another node's gateway, which is believed; it is answered here or not at all (F93)."""
        given = _header(scope["headers"], REQUEST_ID) or b""
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else _new_id()
        return self._answer(scope, receive, send, request_id, self._of_gateway, _refuse)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, whose: Whose, refuse: Refuse
    ) -> None:
        """Find out whose request it is, answer, and render whatever went wrong."""
        began = time.monotonic()
        path: str = scope["path"]
        app = ""
        told = Told(send)
        refusal: Refusal | None = None
        try:
            scope["app"], scope[REQUEST] = self, request_id
            caller, application = await whose(scope)
            scope[CALLER] = caller
            app = caller.app
            with self._allowances.of(caller):
                await application(scope, receive, told)
        except Refusal as refused:
            refusal = refused
        except HTTPException as error:  # Starlette's, of a path that is there but does not know the method
            allowed = (error.headers or {}).get("Allow", "")
            refusal = Refusal("method-not-allowed", f"allowed: {allowed}", headers=(("allow", allowed),))
        except Exception as error:  # noqa: BLE001  the last resort of a server: told in the log, not to the client
            refusal = Refusal("internal-error", f"quote request {request_id}")
            self._log.failed(request_id, error)
        # An answer that has begun is not taken for a whole one: uvicorn ends the connection.
        if refusal is not None and not told.begun:
            await refuse(refusal, request_id, told)
        known = path if path in self._paths else ""  # a client can write anything there, a key too
        status, problem = (200, "") if refusal is None else (refusal.status, refusal.type)
        self._log.access(request_id, scope["method"], known, app, status, time.monotonic() - began, problem)

    async def _of_client(self, scope: Scope) -> tuple[Caller, Application]:
        if (router := self._open.get(scope["path"])) is not None:
            return Caller(""), router
        # Before the path is looked at: without a key, nothing tells which paths there are.
        caller = await self._callers.of(scope["headers"])
        return caller, self._at.get((scope["method"], scope["path"]), self._keyed)

    async def _of_rqlite(self, scope: Scope) -> tuple[Caller, Application]:
        caller, database = await rqlite_interface.caller_of(scope["headers"], self._callers.who)
        scope[rqlite_interface.DATABASE] = database
        return caller, self._rqlite

    async def _of_gateway(self, scope: Scope) -> tuple[Caller, Application]:
        headers: Headers = scope["headers"]
        app = (_header(headers, APPLICATION) or b"").decode("latin-1")
        left = _header(headers, MILLISECONDS) or b""
        if left.isdigit():
            scope[LEFT] = int(left[:9]) / 1000
        return Caller(app, forwarded=True), self._between

    async def _hello(self, _call: Call) -> bytes:
        """On each new connection of another gateway: its certificate was believed, a query may follow."""
        return b"{}"

    async def _healthz(self, _call: Call) -> bytes:
        if not self._doors.serving:
            raise Refusal("stopping", "this gateway has lost its node")
        return b'{"status":"ok"}'

    async def _readyz(self, _call: Call) -> bytes:
        await self._ready()
        return b'{"status":"ready"}'

    async def _ready(self) -> None:
        if self._doors.stopping or not self._doors.serving:
            raise Refusal("stopping", "this gateway is stopping, or has lost its node")
        if not await self._callers.complete():
            waits = "the directories of a majority of its cluster"
            raise Refusal("listening", f"this node still waits for {waits}, see `torpor status` and its log")


def _router(endpoints: Iterable[Endpoint], below: str, *more: Route) -> Router:
    routes = [Route(below + e.path, e, methods=["POST"] if below == MEMBERS else list(e.methods)) for e in endpoints]
    return Router([*routes, *more], redirect_slashes=False, default=_nothing)


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise Refusal("not-found", "there is nothing at this path")


def _ids() -> Iterator[str]:
    """Random ones, many for one call of the system."""
    while True:
        many = os.urandom(4096).hex()
        yield from [many[at : at + 16] for at in range(0, len(many), 16)]


_new_id: Final = functools.partial(next, _ids())


def _header(headers: Headers, wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)


async def _refuse(refusal: Refusal, request_id: str, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers]
    headers.append((b"x-request-id", request_id.encode()))
    if refusal.type in RETRY_AFTER:
        headers.append((b"retry-after", b"1"))
    await respond(send, refusal.status, _PROBLEM, refusal.document(request_id), headers)
