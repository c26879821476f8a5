"""DB-API 2.0 (PEP 249) over the synchronous client.

The law kept here: what this module calls a transaction is one. The gateway takes whole transactions and has none that stay open between two
requests, so there are two honest ways to write, and no third that only looks like one (decisions/0022):

- ``autocommit=True``, the default: each statement is committed when ``execute`` returns. ``commit`` has nothing to do; ``rollback`` raises
  :class:`NotSupportedError` if something was written since.
- ``autocommit=False``: writes are kept here until ``commit`` sends them as one atomic transaction; ``rollback`` forgets them. Until then nobody
  knows their ``rowcount``, ``lastrowid`` or RETURNING, and a read that should see them is refused.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from typing import Final

from runtime.client.blocking import Client
from runtime.client.calls import Consistency
from runtime.client.dbapi_connection import Connection, Cursor
from runtime.client.dbapi_errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,  # noqa: A004  (PEP 249 names it)
)
from runtime.client.dsn import parsed

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "sqlite_version_info",
    "threadsafety",
]

apilevel: Final = "2.0"
threadsafety: Final = 1
"""Threads may share the module, not a connection: it remembers what it has not committed."""
paramstyle: Final = "qmark"
""":name works too, with a mapping of arguments."""
sqlite_version_info: Final = (3, 45, 1)
"""The oldest SQLite that a database may have: that of rqlite 8.26."""


class _Kind:
    """A type object of PEP 249: equal to the declared types of its columns."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __eq__(self, declared: object) -> bool:
        if isinstance(declared, _Kind):
            return declared is self
        return isinstance(declared, str) and any(part in declared.upper() for part in self._parts)

    def __hash__(self) -> int:
        return hash(self._parts)


STRING: Final = _Kind("CHAR", "CLOB", "TEXT")
BINARY: Final = _Kind("BLOB", "BINARY")
NUMBER: Final = _Kind("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL")
DATETIME: Final = _Kind("DATE", "TIME")
ROWID: Final = _Kind("INTEGER")

Binary = bytes
Date = dt.date
Time = dt.time
Timestamp = dt.datetime


def DateFromTicks(ticks: float) -> dt.date:  # noqa: N802  (PEP 249 names them)
    return Date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> dt.time:  # noqa: N802
    return Time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> dt.datetime:  # noqa: N802
    return Timestamp(*time.localtime(ticks)[:6])


def connect(
    dsn: str | None = None,
    *,
    app: str = "",
    database: str = "",
    key: str = "",
    peers: Sequence[str] = (),
    autocommit: bool = True,
    timeout: float = 40.0,
    consistency: Consistency | None = None,
) -> Connection:
    """By ``dsn`` (:mod:`runtime.client.dsn`), whose options come over the arguments, or by its parts. Nothing is sent yet. Raises
    :class:`InterfaceError`."""
    try:
        if dsn is not None:
            where = parsed(dsn)
            app, database, key, peers = where.app, where.database, where.key, where.peers
            autocommit = autocommit if where.autocommit is None else where.autocommit
            timeout = where.timeout or timeout
            consistency = where.consistency or consistency
        client = Client(app, peers, key, timeout=timeout)
    except ValueError as error:
        raise InterfaceError(str(error)) from None
    return Connection(client, database, autocommit=autocommit, consistency=consistency)
