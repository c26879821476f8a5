"""The endpoints of SQL (R30–R35): what each takes, how it is decided, and what it answers. The laws kept here:

- What reads goes to query, what writes to exec; which is which decides SQLite's own grammar, never the client (F86).
- Names and statements are checked before anything is asked of a node (R3, F82, F85).
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import orjson
from attrs import evolve, frozen

from runtime import durations
from runtime.gateway import bodies, transactions, vetting
from runtime.gateway.arguments import Bound, bind
from runtime.gateway.calls import Call
from runtime.gateway.endpoint import Bounds, Endpoint, File
from runtime.gateway.idempotency import Key, Stored, digest_of
from runtime.gateway.names import checked
from runtime.gateway.problems import NODE, Refusal
from runtime.gateway.queries import Elsewhere, Queries
from runtime.gateway.schema import SchemaQuestion, drop_table
from runtime.gateway.settling import SETTLED, settled_now
from runtime.gateway.sql_rules import Forbidden
from runtime.gateway.statements import Question, ReadOne, WriteOne
from runtime.gateway.transactions import Atomic, Preflight, ReadAll, Undone
from runtime.gateway.transfers import Exports, Imports
from runtime.gateway.values import ITEMS, Form
from runtime.gateway.vetting import Read, Refused, Write
from runtime.gateway.waiting import Waiting
from runtime.gateway.worker_config import WorkerConfig

_INLINE_CHARACTERS: Final = 8_192
"""A longer statement is vetted in a thread: the event loop would stand still for tens of milliseconds."""
_SCHEMAS: Final = 5
"""So often a transaction that reads and writes is prepared, when the schema changes in between."""
_CREATE_TABLE: Final = re.compile(r"CREATE\s+(VIRTUAL\s+)?TABLE\b", re.IGNORECASE)


_DATABASE: Final = (
    "bad-request",
    "body-too-large",
    "invalid-name",
    "result-too-large",
    "storage-failed",
    "unavailable",
    "busy",
    "stopping",
    "query-timeout",
    *sorted(NODE),
)
"""What any call about a database can come to."""
_SQL: Final = ("sql-error", "sql-refused", "sql-too-long", "sql-too-deep", "too-many-parameters")
_ROWS: Final = ("too-many-rows", "value-not-exact")


@frozen
class Endpoints:
    """All endpoints below ``/v1/database/``."""

    config: WorkerConfig
    waiting: Waiting
    queries: Queries
    vetters: ThreadPoolExecutor
    exports: Exports

    def table(self) -> tuple[Endpoint, ...]:
        """The most used first: routes are looked through in order."""
        config = self.config
        json = Bounds(config.query_timeout_s, config.body_bytes)
        several = Bounds(config.transaction_timeout_s, config.body_bytes)
        out = Bounds(config.transfer_timeout_s, config.body_bytes, asyncio.Semaphore(config.transfers))
        into = Bounds(config.transfer_timeout_s, config.import_bytes, asyncio.Semaphore(config.transfers))
        write = (*_DATABASE, *_SQL, "may-have-committed")
        key = "idempotency-key-reused"
        definition = (*_DATABASE, *_SQL, "wrong-endpoint", "may-have-committed", key)
        return (
            Endpoint(
                "query",
                ("POST",),
                "read",
                self.query,
                json,
                bodies.Query,
                bodies.Rows,
                problems=(*_DATABASE, *_SQL, *_ROWS, "wrong-endpoint"),
            ),
            Endpoint(
                "exec",
                ("POST",),
                "write",
                self.exec,
                json,
                bodies.Exec,
                bodies.Executed,
                writes=True,
                keyed=True,
                problems=(*write, *_ROWS, "wrong-endpoint", key),
            ),
            Endpoint(
                "transaction",
                ("POST",),
                "write",
                self.transaction,
                several,
                bodies.Transaction,
                bodies.Done,
                writes=True,
                keyed=True,
                problems=(*write, *_ROWS, "too-many-statements", key),
            ),
            Endpoint(
                "schema",
                ("GET", "POST"),
                "read",
                self.schema,
                json,
                bodies.Named,
                bodies.Schema,
                problems=(*_DATABASE, "value-not-exact"),
            ),
            Endpoint(
                "create-table",
                ("POST",),
                "write",
                self.create_table,
                json,
                bodies.CreateTable,
                bodies.Affected,
                writes=True,
                keyed=True,
                problems=definition,
            ),
            Endpoint(
                "drop-table",
                ("POST",),
                "write",
                self.drop_table,
                json,
                bodies.DropTable,
                bodies.Affected,
                writes=True,
                keyed=True,
                problems=definition,
            ),
            Endpoint(
                "list",
                ("GET",),
                "read",
                self.list,
                json,
                None,
                bodies.Databases,
                problems=("busy", "stopping", "query-timeout"),
            ),
            Endpoint(
                "export", ("GET",), "read", self.exports.run, out, bodies.Named, file=File.OUT, problems=_DATABASE
            ),
            Endpoint(
                "import",
                ("POST",),
                "admin",
                Imports(self.queries, self.vetters).run,
                into,
                None,
                bodies.Success,
                writes=True,
                file=File.IN,
                problems=(
                    *_DATABASE,
                    "may-have-committed",
                    "not-empty",
                    "file-too-large",
                    "invalid-file",
                    "value-not-exact",
                ),
            ),
        )

    async def query(self, call: Call) -> bytes:
        body = bodies.decode(call.body, bodies.Query)
        name = checked(call.app, body.database)
        verdict = await self.vet(body.sql)
        if isinstance(verdict, Write):
            raise Refusal("wrong-endpoint", "this statement writes: send it to /v1/database/exec")
        question = ReadOne(self._asked(verdict, body.args), self.config.rows, body.consistency, _form(body))
        if (age := _max_stale_s(body)) and (answer := await self.queries.read_sealed(call, name, question, age)):
            return answer
        return await self._read(call, name, question)

    async def exec(self, call: Call) -> bytes:
        body = bodies.decode(call.body, bodies.Exec)
        name = checked(call.app, body.database)
        verdict = await self.vet(body.sql)
        if isinstance(verdict, Read):
            raise Refusal("wrong-endpoint", "this statement only reads: send it to /v1/database/query")
        statement = self.bound(verdict, body.args, first=True)
        if not call.idempotency_key:
            return await self._write(call, name, WriteOne(statement, verdict, _form(body)))
        asked = (self._asked(verdict, body.args),)
        return await self._atomic(call, name, Atomic((statement,), (verdict,), self.config.rows, _form(body)), asked)

    async def transaction(self, call: Call) -> bytes:
        body = bodies.decode(call.body, bodies.Transaction)
        name = checked(call.app, body.database)
        if not 0 < len(body.queries) <= self.config.statements:
            detail = f"{len(body.queries)} statements; at least 1 and at most {self.config.statements} are allowed"
            raise Refusal("too-many-statements" if body.queries else "bad-request", detail)
        verdicts: list[Read | Write] = []
        statements: list[Bound] = []
        asked: list[Bound] = []
        for n, each in enumerate(body.queries):
            given = each if isinstance(each, bodies.Statement) else bodies.Statement(each)
            try:
                verdicts.append(await self.vet(given.sql))
                statements.append(self.bound(verdicts[-1], given.args, first=n == 0))
                asked.append(self._asked(verdicts[-1], given.args))
            except Refusal as refusal:
                raise Refusal(refusal.type, f"queries[{n}]: {refusal.detail}") from None
        transactions.check(verdicts)
        if not any(isinstance(verdict, Write) for verdict in verdicts):
            call = evolve(call, writes=False)
            return await self._read(call, name, ReadAll(tuple(statements), self.config.rows, _form(body)))
        atomic = Atomic(tuple(statements), tuple(verdicts), self.config.rows, _form(body))
        return await self._atomic(call, name, atomic, asked, whole=True)

    async def _atomic(
        self, call: Call, name: str, atomic: Atomic, asked: Sequence[Bound], *, whole: bool = False
    ) -> bytes:
        """``asked``: the statements as they were before they were settled, which a repeat says again. ``whole``: the answer is a
        transaction's, else that of its one statement."""
        if call.idempotency_key:
            digest = digest_of(call.endpoint, asked)
            key = Key(call.idempotency_key, digest, int(time.time()), round(self.config.idempotency_ttl_s))
            atomic = evolve(atomic, key=key)
        for _ in range(_SCHEMAS):
            if any(isinstance(verdict, Read) for verdict in atomic.verdicts):
                schema = await self.queries.read(call, name, Preflight(atomic.statements))
                if isinstance(schema, Elsewhere):
                    return schema.body
                atomic = evolve(atomic, schema=schema)
            results = await self.queries.write(call, name, atomic)
            if isinstance(results, Elsewhere):
                return results.body
            if isinstance(results, list):
                return transactions.done(results) if whole else orjson.dumps(results[0])
            if results is Undone.REPEATED:
                return await self._repeated(call, name, atomic, whole)
        raise Refusal("unavailable", "the database's schema changes all the time")

    async def _repeated(self, call: Call, name: str, atomic: Atomic, whole: bool) -> bytes:
        """The answer that the request with this key has had, without rows."""
        assert atomic.key is not None
        results = await self.queries.read(call, name, Stored(atomic.key, atomic.verdicts))
        if isinstance(results, Elsewhere):
            return results.body
        return transactions.done(results, repeated=True) if whole else orjson.dumps(results[0] | {"repeated": True})

    async def schema(self, call: Call) -> bytes:
        name = checked(call.app, bodies.decode(call.body, bodies.Named).database)
        return await self._read(call, name, SchemaQuestion())

    async def create_table(self, call: Call) -> bytes:
        body = bodies.decode(call.body, bodies.CreateTable)
        return await self._definition(call, body.database, body.schema, "schema must be a CREATE TABLE statement")

    async def drop_table(self, call: Call) -> bytes:
        body = bodies.decode(call.body, bodies.DropTable)
        return await self._definition(call, body.database, drop_table(body.table_name), "")

    async def _definition(self, call: Call, database: str, sql: str, otherwise: str) -> bytes:
        name = checked(call.app, database)
        verdict = await self.vet(sql)
        if not isinstance(verdict, Write) or (otherwise and not _CREATE_TABLE.match(verdict.sql)):
            raise Refusal("wrong-endpoint", otherwise)
        statement = self.bound(verdict, None, first=True)
        if call.idempotency_key:
            asked = (self._asked(verdict, None),)
            told = await self._atomic(call, name, Atomic((statement,), (verdict,), self.config.rows, ITEMS), asked)
        else:
            told = await self._write(call, name, WriteOne(statement, verdict))
        answer: dict[str, Any] = orjson.loads(told)
        answer.pop("last_insert_id", None)
        return orjson.dumps(answer)

    async def list(self, call: Call) -> bytes:
        names = await self.waiting.names(call.app, call.deadline)
        return orjson.dumps({"databases": sorted(names)})

    def _asked(self, verdict: Read | Write, args: bodies.Arguments) -> Bound:
        return bind(verdict.sql, args, self.config.parameters)

    def bound(self, verdict: Read | Write, args: bodies.Arguments, *, first: bool) -> Bound:
        """With its arguments, and with what would differ from copy to copy settled. ``first``: of a transaction. Raises :class:`Refusal`."""
        sql = verdict.sql
        if isinstance(verdict, Write) and verdict.open is not SETTLED:
            values = args.values() if isinstance(args, dict) else args or ()
            try:
                sql = settled_now(sql, verdict.open, values, first=first)
            except Forbidden as refusal:
                raise Refusal("sql-refused", str(refusal)) from None
        return bind(sql, args, self.config.parameters)

    async def _read(self, call: Call, name: str, question: Question[bytes]) -> bytes:
        answer = await self.queries.read(call, name, question)
        return answer.body if isinstance(answer, Elsewhere) else answer

    async def _write(self, call: Call, name: str, question: Question[bytes]) -> bytes:
        answer = await self.queries.write(call, name, question)
        return answer.body if isinstance(answer, Elsewhere) else answer

    async def vet(self, sql: str) -> Read | Write:
        """What kind of statement it is. Raises :class:`Refusal`."""
        if len(sql) <= _INLINE_CHARACTERS:
            verdict = vetting.vet(sql, self.config.depth)
        else:
            if len(sql.encode()) > self.config.sql_bytes:
                raise Refusal("sql-too-long", f"more than {self.config.sql_bytes} bytes")
            verdict = await asyncio.get_running_loop().run_in_executor(
                self.vetters, vetting.vet, sql, self.config.depth
            )
        if isinstance(verdict, Refused):
            kind = "sql-too-deep" if verdict.deep else "sql-error" if verdict.syntax else "sql-refused"
            raise Refusal(kind, verdict.reason)
        return verdict


def _max_stale_s(body: bodies.Query) -> float:
    """How old an answer may be while the database sleeps, in seconds. Raises :class:`Refusal`."""
    given = body.max_stale
    age = 0.0 if given is None else durations.seconds(given) if isinstance(given, str) else float(given)
    if age is None or not 0 <= age < math.inf:
        raise Refusal("bad-request", "max_stale must be a number of seconds, or a duration as 30s, 5m or 1h")
    if age and body.consistency == "strong":
        raise Refusal("bad-request", "consistency strong accepts no old answer: leave max_stale out")
    return age


def _form(body: bodies.Query | bodies.Exec | bodies.Transaction) -> Form:
    if body.format == "items" and body.big_integers == "number":
        return ITEMS
    return Form(body.format == "rows", body.big_integers == "text")
