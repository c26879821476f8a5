"""One read of the file that a sleeping database left behind, in a thread. The laws kept here are F53 and P34:

- The file is opened read-only and immutable: no lock is taken, nothing is created or written beside it, its times stay what they were.
- It has to be the file that the node saw at the clean stop, with an empty WAL, before the first byte is read *and* after the last one. An
  immutable reader of a file that somebody writes sees torn pages without any error; whatever it saw is thrown away.
- Everything is bounded: time, rows, bytes, memory. A reader that is cut off ends within an instruction of SQLite's machine.
- What the copy cannot answer (an SQL error, too) is no answer: rqlited shall say it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import apsw
from attrs import define, field, frozen

from runtime.gateway import sql_allowed
from runtime.gateway.sealed_values import Inexact, Table

PROGRESS_STEPS: Final = 50_000
"""Instructions of SQLite's machine between two looks at the clock: some hundred microseconds. More often would keep the event loop from the
interpreter; an interrupt is seen at once."""
LIKE_CHARACTERS: Final = 1_000
"""Longest pattern of LIKE and GLOB: they are matched within one instruction."""
HEAP_BYTES: Final = 256 << 20
"""What all readers of one process may use: sorts happen in memory, since a worker leaves no files behind."""
_VALUE_BYTES: Final = 16
"""What a value counts beside its text or bytes."""


@frozen
class Stamp:
    """What changes when somebody writes to a file; reading changes none of it."""

    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: str) -> Stamp:
        """Raises OSError."""
        found = Path(path).stat()
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@frozen
class Bounds:
    """``deadline``: on ``time.monotonic``."""

    rows: int
    result_bytes: int
    deadline: float


class Unreadable(Exception):
    """The copy gave no answer that could be believed: the query goes the ordinary way. The text is for the log."""


class TooLate(Exception):
    """The query's time was over."""


class TooLarge(Exception):
    """More bytes than are returned."""


class TooMany(Exception):
    """More rows than are returned."""


@define(eq=False)
class Reader:
    """One read, made in one thread and cut off from any other."""

    path: str
    stamp: Stamp
    _connection: apsw.Connection | None = field(default=None, init=False)
    _cut: bool = field(default=False, init=False)

    def cut(self) -> None:
        """End it as soon as can be: :meth:`read` raises :class:`Unreadable`."""
        self._cut = True
        connection = self._connection
        if connection is not None:
            try:
                connection.interrupt()
            except apsw.ConnectionClosedError:
                return  # it has ended by itself

    def read(self, sql: str, args: list[Any] | dict[str, Any], bounds: Bounds) -> dict[str, Any]:
        """One result as rqlited has it. Raises :class:`Unreadable`, :class:`TooLate`, :class:`TooLarge`, :class:`TooMany`."""
        self._check()
        connection = self._open(bounds)
        try:
            result = self._read(connection, sql, args, bounds)
        except (apsw.Error, Inexact, TypeError, OverflowError, UnicodeError) as error:
            if time.monotonic() >= bounds.deadline:
                raise TooLate from error
            raise Unreadable(f"{type(error).__name__}: {error}") from error
        except MemoryError as error:
            raise Unreadable("it needs too much memory") from error
        finally:
            self._connection = None
            connection.close(True)
        self._check()
        return result

    def _check(self) -> None:
        """The file is as the node saw it, and nobody has told this reader to end."""
        try:
            found = Stamp.of(self.path)
        except OSError as error:
            raise Unreadable(f"{error.strerror}") from error
        try:
            unfolded = Path(f"{self.path}-wal").stat().st_size
        except FileNotFoundError:
            unfolded = 0
        if found != self.stamp or unfolded:
            raise Unreadable("it is not the file any more that the clean stop left")
        if self._cut:
            raise Unreadable("its database starts")

    def _open(self, bounds: Bounds) -> apsw.Connection:
        uri = f"file:{quote(self.path)}?mode=ro&immutable=1"
        try:
            connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        except apsw.Error as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, bounds.result_bytes)
        connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
        connection.limit(apsw.SQLITE_LIMIT_WORKER_THREADS, 0)
        connection.limit(apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LIKE_CHARACTERS)
        settings: Any = connection.cursor()  # apsw's own hints name a class that Python 3.11 has not
        settings.execute("PRAGMA mmap_size = 0")  # a mapped file that shrinks kills the process
        settings.execute("PRAGMA temp_store = MEMORY")
        connection.authorizer = _authorize
        connection.set_progress_handler(lambda: self._cut or time.monotonic() >= bounds.deadline, PROGRESS_STEPS)
        self._connection = connection
        if self._cut:  # before there was anything to interrupt
            connection.interrupt()
        return connection

    def _read(
        self, connection: apsw.Connection, sql: str, args: list[Any] | dict[str, Any], bounds: Bounds
    ) -> dict[str, Any]:
        described: list[tuple[str, str | None]] = []

        def before(cursor: apsw.Cursor, _sql: str, _bindings: Any) -> bool:
            described[:] = [(name, declared) for name, declared in cursor.get_description()]  # also when no row comes
            return True

        cursor: Any = connection.cursor()
        cursor.exec_trace = before
        table: Table | None = None
        size = 0
        for row in cursor.execute(sql, args, can_cache=False):
            table = table or Table(described)
            size += sum(len(value) if isinstance(value, str | bytes) else 0 for value in row) + _VALUE_BYTES * len(row)
            if len(table.rows) >= bounds.rows:
                raise TooMany(f"more than {bounds.rows} rows are not returned: use LIMIT")
            if size > bounds.result_bytes:
                raise TooLarge(f"more than {bounds.result_bytes} bytes: use LIMIT")
            if self._cut:
                raise Unreadable("its database starts")
            table.add(row)
        return (table or Table(described)).result


def _authorize(operation: int, first: str | None, second: str | None, _database: str | None, _by: str | None) -> int:
    """The statement was vetted as a read; this is the second wall. What speaks of the engine or the connection, rqlited has to say."""
    if operation in _READS:
        return apsw.SQLITE_OK
    if operation == apsw.SQLITE_FUNCTION and second not in _OF_THE_CONNECTION:
        return apsw.SQLITE_OK
    if operation == apsw.SQLITE_PRAGMA and first is not None and first.lower() in sql_allowed.PRAGMAS_WITH_ARGUMENT:
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY


_READS: Final = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE})
_OF_THE_CONNECTION: Final = frozenset(
    {"load_extension", "sqlite_version", "sqlite_source_id", "last_insert_rowid", "changes", "total_changes"}
)
