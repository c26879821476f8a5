"""The synchronous client. The law kept here: it decides nothing, :mod:`runtime.client.policy` does; it may be used by several threads."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from runtime.client import calls
from runtime.client.calls import Call, Consistency, Key, Statement
from runtime.client.policy import Answered, Failed, Gateways, Pause, Rested, Send, conversation
from runtime.client.values import Arguments, Rows, Schema, Written
from runtime.client.wire import failed, late, timeouts, wire

T = TypeVar("T")


class Database:
    """One database of the application; the first call creates it. From :meth:`Client.database`."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def __repr__(self) -> str:
        return f"<Database {self.name!r} of {self._client!r}>"

    def query(
        self,
        sql: str,
        args: Arguments = None,
        *,
        consistency: Consistency | None = None,
        max_stale: float | str | None = None,
        timeout: float | None = None,
    ) -> Rows:
        """One statement that reads. ``max_stale``: seconds, or a text such as "30s": an answer from the copy of a sleeping database may be so
        old; it is not woken then. Raises :class:`~runtime.client.errors.TorporError`."""
        return self._client.carry_out(calls.query(self.name, sql, args, consistency, max_stale), timeout)

    def execute(
        self, sql: str, args: Arguments = None, *, idempotency_key: Key = False, timeout: float | None = None
    ) -> Written:
        """One statement that writes. With an ``idempotency_key`` (True: a new one) it is tried again also where nobody knows what became
        of it, and happens once. Raises :class:`~runtime.client.errors.TorporError`."""
        return self._client.carry_out(calls.execute(self.name, sql, args, idempotency_key), timeout)

    def transaction(
        self, statements: Iterable[Statement], *, idempotency_key: Key = False, timeout: float | None = None
    ) -> tuple[Rows | Written, ...]:
        """All statements, or none of them; a result for each. Raises :class:`~runtime.client.errors.TorporError`."""
        return self._client.carry_out(calls.transaction(self.name, statements, idempotency_key), timeout)

    def create_table(self, schema: str, *, idempotency_key: Key = False, timeout: float | None = None) -> int:
        """``schema``: the whole CREATE TABLE statement. Gives the rows affected: 0."""
        return self._client.carry_out(calls.create_table(self.name, schema, idempotency_key), timeout)

    def drop_table(self, table: str, *, idempotency_key: Key = False, timeout: float | None = None) -> int:
        """Gives the rows affected: 0."""
        return self._client.carry_out(calls.drop_table(self.name, table, idempotency_key), timeout)

    def schema(self, *, timeout: float | None = None) -> Schema:
        """Its tables, and their columns."""
        return self._client.carry_out(calls.schema(self.name), timeout)


class Client:
    """A client of one application (R20).

    ``app``: its name, as in the key; the key alone decides (R36). ``peers``: addresses of gateways, ``http://host:port``; any number of
    them, any of them answers for all. ``timeout``: seconds for a whole call, tries and pauses included. ``patience``: seconds in which what
    certainly did not happen is tried again. ``tls``: whom to believe at https addresses; without one, the system's authorities.
    """

    def __init__(
        self,
        app: str,
        peers: Sequence[str],
        key: str,
        *,
        timeout: float = 40.0,
        patience: float = 5.0,
        tls: ssl.SSLContext | None = None,
        connections: int = 100,
    ) -> None:
        self.app = app
        self._gateways = Gateways(peers)
        self._wire = wire(peers, key, tls, connections)
        self._timeout = timeout
        self._patience = patience
        self._opening = threading.Lock()
        self._http: httpx.Client | None = None

    def __repr__(self) -> str:
        return f"<Client of {self.app!r}>"

    def connect(self) -> Self:
        """Find a gateway and prove the key, so that what is wrong is said now; it is not needed before a call."""
        self.list()
        return self

    def disconnect(self) -> None:
        """Close all connections. A later call opens new ones."""
        with self._opening:
            opened, self._http = self._http, None
        if opened is not None:
            opened.close()

    def __enter__(self) -> Self:
        try:
            return self.connect()
        except BaseException:
            self.disconnect()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def database(self, name: str) -> Database:
        """One of the application's databases; it need not exist yet."""
        return Database(self, name)

    def list(self, *, timeout: float | None = None) -> tuple[str, ...]:
        """The names of the application's databases."""
        return self.carry_out(calls.databases(), timeout)

    def carry_out(self, call: Call[T], timeout: float | None = None) -> T:
        """Any call, to its end."""
        talk = conversation(
            call,
            self._gateways,
            now=time.monotonic(),
            timeout=self._timeout if timeout is None else timeout,
            patience=self._patience,
            chance=random.random(),
        )
        try:
            step = next(talk)
            while True:
                step = talk.send(self._send(call, step) if isinstance(step, Send) else _rest(step))
        except StopIteration as end:
            return end.value

    def _send(self, call: Call[Any], send: Send) -> Answered | Failed:
        deadline = time.monotonic() + send.timeout
        path, limit = send.peer + call.path, timeouts(send.timeout)
        http = self._opened()
        try:
            with http.stream(call.method, path, content=call.body, headers=call.headers, timeout=limit) as response:
                parts: list[bytes] = []
                for part in response.iter_bytes():
                    parts.append(part)
                    if time.monotonic() > deadline:
                        return late(time.monotonic())
            return Answered(time.monotonic(), response.status_code, response.headers, b"".join(parts))
        except httpx.RequestError as error:
            return failed(error, time.monotonic())

    def _opened(self) -> httpx.Client:
        with self._opening:
            if self._http is None:
                self._http = httpx.Client(**self._wire.options())
            return self._http


def _rest(pause: Pause) -> Rested:
    time.sleep(pause.seconds)
    return Rested(time.monotonic())
