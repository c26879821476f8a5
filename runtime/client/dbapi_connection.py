"""A DB-API connection and its cursors: when a statement is sent, and what is kept until a commit. The laws are those of
:mod:`runtime.client.dbapi`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeAlias, TypeVar, cast

from runtime.client import calls
from runtime.client.blocking import Client
from runtime.client.calls import Call, Consistency, Statement
from runtime.client.dbapi_errors import InterfaceError, NotSupportedError, ProgrammingError, translated
from runtime.client.errors import TorporError
from runtime.client.values import Arguments, Rows, Value, Written

P = ParamSpec("P")
T = TypeVar("T")

Column: TypeAlias = tuple[str, str, None, None, None, None, None]
"""Name and declared type; the rest of PEP 249's seven is not known."""

_LEADING: Final = re.compile(r"(?:\s|\ufeff|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*(\w*)", re.DOTALL)
_READS: Final = frozenset({"SELECT", "VALUES", "WITH", "PRAGMA", "EXPLAIN"})
"""First words of statements that are sent as reads first; the gateway, which parses them, says so when one writes."""
_RETURNING: Final = re.compile(r"\bRETURNING\b", re.IGNORECASE)
_BATCH: Final = 200
"""Statements of one request of ``executemany``."""
_BATCH_CHARACTERS: Final = 200_000
"""Of SQL and arguments in one request: a fifth of what a gateway takes by default, since JSON and base64 make more of it."""


class Connection:
    """One database. It holds nothing on the gateway's side; ``uncommitted`` is what it has not sent."""

    def __init__(self, client: Client, database: str, *, autocommit: bool, consistency: Consistency | None) -> None:
        self._client: Client | None = client
        self._database = database
        self._consistency: Consistency | None = consistency
        self._autocommit = autocommit
        self.uncommitted: list[Statement] = []
        self.written = False
        """Something was committed, statement by statement, since the last ``commit``: no ``rollback`` undoes it."""

    @property
    def autocommit(self) -> bool:
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        """Setting it commits what is kept here, as sqlite3 does."""
        self.commit()
        self._autocommit = value

    def cursor(self) -> Cursor:
        self._open()
        return Cursor(self)

    def commit(self) -> None:
        """Make what is kept here durable, all of it or nothing; after a failure nothing is kept any more. Raises :class:`Error`; one that
        says ``may_have_committed`` does not know."""
        statements, self.uncommitted = self.uncommitted, []
        self.written = False
        if statements:
            self.carry_out(calls.transaction(self._database, statements, idempotency_key=True))

    def rollback(self) -> None:
        """Forget what is kept here. Raises :class:`NotSupportedError` if something is committed already that it should undo."""
        self.uncommitted = []
        written, self.written = self.written, False
        if written:
            raise NotSupportedError("each statement was committed when it was executed (autocommit): it stays")

    def close(self) -> None:
        """What is kept here is forgotten, as PEP 249 has it."""
        client, self._client = self._client, None
        self.uncommitted = []
        if client is not None:
            client.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commits, or forgets after an exception; then closes."""
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()

    def _open(self) -> Client:
        if self._client is None:
            raise InterfaceError("the connection is closed")
        return self._client

    # What a cursor asks of it.

    def carry_out(self, call: Call[T]) -> T:
        try:
            return self._open().carry_out(call)
        except TorporError as error:
            self.written = self.written or (self._autocommit and error.may_have_committed)
            raise translated(error) from error

    def run(self, sql: str, args: Arguments) -> Rows | Written | None:
        """One statement; None when it is kept for ``commit``."""
        if _first_word(sql) in _READS:
            try:
                return self._read(sql, args)
            except ProgrammingError as error:
                if error.problem is None or error.problem.type != "wrong-endpoint":
                    raise
        if not self._autocommit:
            self._keep(sql, args)
            return None
        written = self.carry_out(_made(calls.execute, self._database, sql, args, False))
        self.written = True
        return written

    def _read(self, sql: str, args: Arguments) -> Rows:
        blind = len(self.uncommitted)
        # WITH begins reads and writes: the gateway, which parses it, is asked which it is.
        if not blind or _first_word(sql) == "WITH":
            rows = self.carry_out(_made(calls.query, self._database, sql, args, self._consistency, None))
            if not blind:
                return rows
        raise NotSupportedError(f"a read does not see the {blind} statements that are not committed yet: commit first")

    def _keep(self, sql: str, args: Arguments) -> None:
        if _RETURNING.search(sql):
            raise NotSupportedError("RETURNING has no rows before the commit: use autocommit for this statement")
        _made(calls.execute, self._database, sql, args, False)  # what cannot be sent is said now
        self.uncommitted.append((sql, args))

    def many(self, sql: str, all_args: Iterable[Arguments]) -> int:
        """The same write with many arguments; the rows affected, -1 when they are kept for ``commit``. With autocommit each batch is a
        transaction of its own."""
        if _first_word(sql) in _READS - {"WITH"}:
            raise ProgrammingError("executemany is for statements that write")
        if not self._autocommit:
            for args in all_args:
                self._keep(sql, args)
            return -1
        affected = 0
        for batch in _batches(sql, all_args):
            results = self.carry_out(_made(calls.transaction, self._database, batch, False))
            self.written = True
            affected += sum(result.rows_affected for result in results if isinstance(result, Written))
        return affected


class Cursor:
    """The statements of a connection, one after the other, and the rows of the last."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.description: tuple[Column, ...] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self._rows: tuple[tuple[Value, ...], ...] | None = None
        self._at = 0
        self._closed = False

    def execute(self, operation: str, parameters: Any = None) -> Self:
        """``parameters``: a sequence for ``?``, a mapping for ``:name``. Raises :class:`Error`."""
        self._reset()
        result = self.connection.run(operation, _adapted(parameters))
        rows = result.returned if isinstance(result, Written) else result
        if isinstance(result, Written):
            self.rowcount = result.rows_affected
            self.lastrowid = result.last_insert_id or None
        if rows is not None:
            named = zip(rows.columns, rows.types, strict=True)
            self.description = tuple((name, declared, None, None, None, None, None) for name, declared in named)
            self._rows = rows.rows
        return self

    def executemany(self, operation: str, seq_of_parameters: Iterable[Any]) -> Self:
        """A statement that writes, with each of the parameters. Raises :class:`Error`."""
        self._reset()
        self.rowcount = self.connection.many(operation, map(_adapted, seq_of_parameters))
        return self

    def fetchone(self) -> tuple[Value, ...] | None:
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int | None = None) -> list[tuple[Value, ...]]:
        rows = self._fetched()
        begin, self._at = self._at, min(self._at + (self.arraysize if size is None else size), len(rows))
        return list(rows[begin : self._at])

    def fetchall(self) -> list[tuple[Value, ...]]:
        return self.fetchmany(len(self._fetched()))

    def __iter__(self) -> Iterator[tuple[Value, ...]]:
        return iter(self.fetchone, None)

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Nothing to prepare: values carry their types."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Nothing to prepare: an answer is whole or there is none."""

    def close(self) -> None:
        self._closed = True
        self._rows = None

    def _reset(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        self.description = self._rows = self.lastrowid = None
        self.rowcount = -1
        self._at = 0

    def _fetched(self) -> tuple[tuple[Value, ...], ...]:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        if self._rows is None:
            raise ProgrammingError("the last statement gave no rows")
        return self._rows


def _first_word(sql: str) -> str:
    leading = _LEADING.match(sql)
    return "" if leading is None else leading[1].upper()


def _made(call: Callable[P, Call[T]], *args: P.args, **named: P.kwargs) -> Call[T]:
    """A call whose arguments SQLite can store. Raises :class:`InterfaceError`."""
    try:
        return call(*args, **named)
    except (TypeError, ValueError) as error:
        raise InterfaceError(str(error)) from None


def _adapted(parameters: Any) -> Arguments:
    """Dates and times as the texts that SQLite's own functions take, as sqlite3 does it."""
    if isinstance(parameters, Mapping):
        given = cast("Mapping[str, Any]", parameters)
        return {name: _stored(value) for name, value in given.items()}
    if parameters is None or isinstance(parameters, (str, bytes)):
        return parameters  # the latter is refused where arguments become JSON
    return [_stored(value) for value in parameters]


def _stored(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat(" ")
    return value.isoformat() if isinstance(value, (dt.date, dt.time)) else value


def _batches(sql: str, all_args: Iterable[Arguments]) -> Iterator[list[Statement]]:
    batch: list[Statement] = []
    weight = 0
    for args in all_args:
        weighs = len(sql) + len(repr(args))
        if batch and (len(batch) >= _BATCH or weight + weighs > _BATCH_CHARACTERS):
            yield batch
            batch, weight = [], 0
        batch.append((sql, args))
        weight += weighs
    if batch:
        yield batch
