"""SQLite's dialect over :mod:`runtime.client.dbapi`: a database is SQLite, so its name is ``sqlite`` and everything that knows SQLite works.

The law kept here: what cannot be is said. A rollback that undoes nothing warns (:class:`NothingRolledBack`); an engine whose address says
``autocommit=false`` has transactions that are atomic, and gives up what cannot be known before a commit: row counts, RETURNING, keys that
the database makes (decisions/0022).

Other than with a file there is one schema, ``main``, and no temporary tables; tables of Torpor's own are not reflected.
"""

from __future__ import annotations

import warnings
from typing import Any, Final, LiteralString, cast

from sqlalchemy import exc
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteDialect
from sqlalchemy.engine import URL, Connection, reflection
from sqlalchemy.engine.interfaces import DBAPIModule

from runtime.client import dbapi
from runtime.client.dsn import where

OWN_TABLES: Final = "_torpor_"
AUTOCOMMIT: Final = "AUTOCOMMIT"
READ_COMMITTED: Final = "READ COMMITTED"
"""What a transaction that is sent as a whole amounts to: its writes are atomic, its reads see what others have committed."""


class NothingRolledBack(UserWarning):
    """A rollback, by an engine whose statements are committed one by one."""


class _Compiler(SQLiteCompiler):
    def visit_empty_set_expr(self, element_types: Any, **kw: Any) -> LiteralString:
        """``IN ()``, which SQLite has: with a query in its place, rqlited's own parser would not know the statement's RETURNING."""
        return ""

    def visit_floordiv_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """By CAST: rqlited's SQLite has no FLOOR."""
        parent: Any = super()
        quotient: str = parent.visit_truediv_binary(binary, operator, **kw)
        return f"(CAST({quotient} AS INTEGER) - (({quotient}) < CAST({quotient} AS INTEGER)))"


class TorporDialect(SQLiteDialect):
    driver = "torpor"
    statement_compiler = _Compiler
    supports_statement_cache = True
    returns_native_bytes = True
    default_paramstyle = "qmark"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._autocommit = True

    @classmethod
    def import_dbapi(cls) -> DBAPIModule:
        return cast("DBAPIModule", dbapi)

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """Raises ArgumentError."""
        options = [(name, value) for name, values in url.normalized_query.items() for value in values]
        try:
            found = where(url.username or "", url.host, url.port, url.database or "", options)
        except ValueError as error:
            raise exc.ArgumentError(str(error)) from None
        self._autocommit = found.autocommit is not False
        if not self._autocommit:
            self.supports_sane_rowcount = self.supports_sane_multi_rowcount = False
            self.insert_returning = self.update_returning = self.delete_returning = False
            self.insert_executemany_returning = False
        given = {"app": found.app, "database": found.database, "key": found.key, "peers": found.peers}
        given |= {"autocommit": self._autocommit}
        given |= {} if found.timeout is None else {"timeout": found.timeout}
        given |= {} if found.consistency is None else {"consistency": found.consistency}
        return [], given

    # Transactions.

    def get_isolation_level_values(self, dbapi_connection: Any) -> list[Any]:
        """The one of this engine: the address decides."""
        return [AUTOCOMMIT if self._autocommit else READ_COMMITTED]

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        return AUTOCOMMIT if self._autocommit else READ_COMMITTED

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """Nothing to set: SQLAlchemy has seen to it that ``level`` is one of the values."""

    def detect_autocommit_setting(self, dbapi_conn: Any) -> bool:
        return self._autocommit

    def do_rollback(self, dbapi_connection: Any) -> None:
        if not (self._autocommit and dbapi_connection.written):
            dbapi_connection.rollback()
            return
        dbapi_connection.commit()  # it is said once
        if not self.skip_autocommit_rollback:
            text = "nothing is rolled back: each statement was committed when it was executed (autocommit)"
            warnings.warn(text, NothingRolledBack, stacklevel=2)

    def do_savepoint(self, connection: Any, name: str) -> None:
        raise NotImplementedError("the gateway has no savepoints: a transaction is sent as a whole")

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Never: a connection holds nothing on the other side that could be lost."""
        return False

    # Reflection.

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        version = cast("str", connection.exec_driver_sql("SELECT sqlite_version()").scalar())
        return tuple(map(int, version.split(".")))

    @reflection.cache
    def get_schema_names(self, connection: Connection, **kw: Any) -> list[str]:
        return ["main"]

    @reflection.cache
    def get_table_names(
        self, connection: Connection, schema: str | None = None, sqlite_include_internal: bool = False, **kw: Any
    ) -> list[str]:
        parent: Any = super()
        names: list[str] = parent.get_table_names(connection, schema, sqlite_include_internal, **kw)
        return [name for name in names if not name.startswith(OWN_TABLES)]

    @reflection.cache
    def get_temp_table_names(
        self, connection: Connection, sqlite_include_internal: bool = False, **kw: Any
    ) -> list[str]:
        return []

    @reflection.cache
    def get_temp_view_names(
        self, connection: Connection, sqlite_include_internal: bool = False, **kw: Any
    ) -> list[str]:
        return []

    def _get_table_pragma(
        self, connection: Connection, pragma: str, table_name: str, schema: str | None = None
    ) -> list[Any]:
        """By the pragma's table-valued form, with a look at ``sqlite_schema`` beside it: a pragma alone does not notice that the schema has
        changed since its connection, one of several that rqlited keeps, read it last."""
        if schema not in (None, "main"):
            return []
        seen = "(SELECT count(*) FROM sqlite_schema) >= 0"
        # Of SQLAlchemy's own pragmas alone: the table's name is an argument.
        sql = f"SELECT told.* FROM pragma_{pragma}(?) AS told WHERE {seen}"  # noqa: S608
        return list(connection.exec_driver_sql(sql, (table_name,)).fetchall())

    def _get_table_sql(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        parent: Any = super()
        return parent._get_table_sql(connection, table_name, schema or "main", **kw)
