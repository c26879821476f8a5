"""Whole databases, out and in: ``GET export`` and ``POST import``. The laws kept here:

- An export is one state of the database, as SQLite's own file; it passes the door and is counted until its last byte is read, or given up (P30); it
  is streamed, no faster than its client reads, and ends by ``transfer_timeout`` (R37).
- What is imported was looked at first. rqlited loads any bytes, and answers 200 (8.26): a file that is damaged would be the end of the database on every
  replica. And no statement comes in by a file that would not come in as a statement (F85): views and triggers are vetted alike.
- An import takes only a database without tables, so that nothing is lost by it but what others do at that very moment.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final

import orjson
from attrs import frozen

from runtime.gateway import idempotency, vetting
from runtime.gateway.bodies import Named, decode
from runtime.gateway.calls import MEMBERS, Call
from runtime.gateway.doors import Doors, Passage
from runtime.gateway.forwarding import Forwarding, refusal_of
from runtime.gateway.frames import Hop
from runtime.gateway.hops import Hops
from runtime.gateway.names import checked
from runtime.gateway.problems import Refusal
from runtime.gateway.queries import Elsewhere, Queries
from runtime.gateway.rqlite_answers import failure, results_of
from runtime.gateway.schema import SchemaQuestion
from runtime.gateway.sql_rules import OURS
from runtime.gateway.upstream import Upstream
from runtime.gateway.upstream_connection import Broken, Incoming, NotSent, Response
from runtime.gateway.vetting import Write
from runtime.gateway.worker_config import WorkerConfig

SQLITE: Final = "application/vnd.sqlite3"
OCTETS: Final = "application/octet-stream"
_BACKUP: Final = "/db/backup"
_LOAD: Final = "/db/load"
_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100
"""Bytes of a database's header, in which the two at 18 are 2 where it is used with a write-ahead log, and 1 where not."""
_INTERNAL: Final = frozenset({"sqlite_sequence", "sqlite_stat1", "sqlite_stat4"})
_TRIES: Final = 5

Sink = Callable[[bytes], Awaitable[None]]


def plain(file: bytes) -> bytes:
    """The same database, for whoever opens it without a write-ahead log; there is none with it."""
    return file[:18] + b"\x01\x01" + file[20:]


class Exports:
    """The exports of one worker."""

    def __init__(
        self, config: WorkerConfig, doors: Doors, queries: Queries, upstream: Upstream, forwarding: Forwarding
    ) -> None:
        self._doors = doors
        self._queries = queries
        self._upstream = upstream
        self._forwarding = forwarding
        self._hops: Hops = forwarding.hops
        self._refusal_bytes = config.result_bytes

    async def run(self, call: Call, sink: Sink) -> None:
        """The file, piece by piece. Raises :class:`Refusal`; :class:`Broken` when it is too late for one."""
        name = checked(call.app, decode(call.body, Named).database)
        try:
            async with asyncio.timeout_at(call.deadline):
                for refused in range(_TRIES):
                    way = await self._queries.way(call, name, refused)
                    if await self._by(way, call, _Once(sink)):
                        return
        except TimeoutError:
            raise Refusal("query-timeout", call.too_late) from None
        raise Refusal("unavailable", "no replica could be read")

    async def _by(self, way: Passage | tuple[Hop, ...], call: Call, sink: _Once) -> bool:
        """Whether it was sent. Not: nothing of it was, and it may be tried again."""
        try:
            if isinstance(way, Passage):
                await self._local(way, sink)
            else:
                await self._elsewhere(way, call, sink)
        except (NotSent, Broken):
            if sink.begun:
                raise
            return False
        except Refusal as refusal:
            if refusal.type != "unavailable" or sink.begun:
                raise
            return False
        return True

    async def _local(self, passage: Passage, sink: _Once) -> None:
        try:
            async with self._upstream.stream(passage.url, _BACKUP, None) as incoming:
                if await incoming.begun != 200:
                    raise failure((await self._all(incoming)).decode("utf-8", "replace").strip(), write=False)
                head = b""
                async for chunk in incoming:
                    head += chunk
                    if len(head) >= _HEADER:
                        break
                if not head.startswith(_MAGIC):
                    raise Refusal("unavailable", "rqlited's backup is none")
                await sink(plain(head))
                async for chunk in incoming:
                    await sink(chunk)
        finally:
            self._doors.leave(passage)

    async def _elsewhere(self, hops: tuple[Hop, ...], call: Call, sink: _Once) -> None:
        hop = self._hops.best_first(hops)[0]
        headers = call.hop_headers(call.deadline - asyncio.get_running_loop().time())
        self._forwarding.in_flight += 1
        try:
            async with self._hops.stream(hop, MEMBERS + call.endpoint, headers, call.body) as incoming:
                status = await incoming.begun
                if status != 200:
                    raise refusal_of(Response(status, await self._all(incoming)), hop, writes=False)
                async for chunk in incoming:
                    await sink(chunk)
        except (NotSent, Broken):
            self._hops.avoid(hop)
            raise
        finally:
            self._forwarding.in_flight -= 1

    async def _all(self, incoming: Incoming) -> bytes:
        """The body of a failure."""
        body = b""
        async for chunk in incoming:
            body += chunk
            if len(body) > self._refusal_bytes:
                break
        return body


class _Once:
    """A sink that knows whether something went into it."""

    def __init__(self, sink: Sink) -> None:
        self.begun = False
        self._sink = sink

    async def __call__(self, chunk: bytes) -> None:
        self.begun = True
        await self._sink(chunk)


@frozen
class _Load:
    """Answers with the JSON body of an import's answer."""

    body: bytes

    def target(self, _seconds_left: float) -> str:
        return _LOAD

    def answer(self, response: Response) -> bytes:
        for result in results_of(response, write=True):
            if "error" in result:
                raise Refusal("may-have-committed", f"rqlited: {result['error']}", may_have_committed=True)
        return orjson.dumps({"success": True})


@frozen
class Imports:
    """The imports of one worker."""

    queries: Queries
    executor: ThreadPoolExecutor

    async def run(self, call: Call) -> bytes:
        name = checked(call.app, call.database)
        await asyncio.get_running_loop().run_in_executor(self.executor, check_file, call.body)
        before = await self.queries.read(call, name, SchemaQuestion())
        if isinstance(before, Elsewhere):
            return before.body
        if tables := orjson.loads(before)["tables"]:
            raise Refusal("not-empty", f"it has {len(tables)} tables, {tables[0]['name']!r} among them")
        done = await self.queries.write(call, name, _Load(plain(call.body)))
        return done.body if isinstance(done, Elsewhere) else done


def check_file(file: bytes) -> None:
    """Whether a database may be loaded: whole, and nothing in its schema that could not come in as a statement. Raises :class:`Refusal`."""
    if not file.startswith(_MAGIC) or len(file) < 512:
        raise Refusal("invalid-file", "it is not an SQLite database")
    page = int.from_bytes(file[16:18], "big") or 1
    if len(file) % (65536 if page == 1 else page):
        raise Refusal("invalid-file", "it is cut short: its last page is not whole")
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(plain(file))
            database.executescript("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")
            found: list[Any] = database.execute("PRAGMA quick_check(1)").fetchall()
            if found != [("ok",)]:
                raise Refusal("invalid-file", f"it is damaged: {found[0][0]}")
            schema: list[tuple[str, str | None]] = database.execute("SELECT name, sql FROM sqlite_schema").fetchall()
    except sqlite3.Error as error:
        raise Refusal("invalid-file", f"SQLite cannot read it: {error}") from None
    for name, sql in schema:
        _check_part(name, sql)


def _check_part(name: str, sql: str | None) -> None:
    if sql is None or name in _INTERNAL:
        return
    if name.lower().startswith(OURS):
        expected = (idempotency.CREATE, idempotency.INDEX)
        if sql not in [each.replace("IF NOT EXISTS ", "") for each in expected]:
            raise Refusal("invalid-file", f"{name!r}: names that begin with {OURS} are the gateway's own")
        return
    verdict = vetting.vet(sql)
    if not isinstance(verdict, Write) or not verdict.definition:
        reason = verdict.reason if isinstance(verdict, vetting.Refused) else "it is no definition"
        raise Refusal("invalid-file", f"{name!r}: {reason}")
