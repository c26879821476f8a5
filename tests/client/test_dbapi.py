"""DB-API 2.0 against a real gateway: what PEP 249 asks, and that a transaction is one or is refused (R20)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio

from runtime.client import dbapi
from runtime.client.dbapi import Connection
from runtime.client.dsn import Where, parsed
from tests.client.test_client import users
from tests.runtime.gateway_world import World

pytestmark = pytest.mark.real

Story = Callable[[World], None]


def connection(world: World, options: str = "") -> Connection:
    host = world.address.removeprefix("http://")
    return dbapi.connect(f"torpor://{world.keys['one']}@{host}/one/users{options}")


def _a_cursor(world: World) -> None:
    with connection(world) as it:
        cursor = it.cursor()
        cursor.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born DATE, photo BLOB)")
        assert cursor.description is None
        with pytest.raises(dbapi.ProgrammingError):
            cursor.fetchone()
        cursor.execute(
            "INSERT INTO people (name, born, photo) VALUES (?, ?, ?)",
            ("Ada", dbapi.Date(1815, 12, 10), dbapi.Binary(b"\xff\xd8")),
        )
        assert (cursor.rowcount, cursor.lastrowid) == (1, 1)
        cursor.executemany("INSERT INTO people (name) VALUES (:name)", ({"name": str(n)} for n in range(450)))
        assert (cursor.rowcount, cursor.lastrowid) == (450, None)
        cursor.execute("-- who\nSELECT * FROM people ORDER BY id")
        assert cursor.description is not None
        assert [column[0] for column in cursor.description] == ["id", "name", "born", "photo"]
        types = [column[1] for column in cursor.description]
        assert types == [dbapi.ROWID, dbapi.STRING, dbapi.DATETIME, dbapi.BINARY]
        assert cursor.fetchone() == (1, "Ada", "1815-12-10", b"\xff\xd8")
        assert [row[1] for row in cursor.fetchmany(2)] == ["0", "1"]
        assert len(cursor.fetchall()) == 448
        assert cursor.fetchone() is None
        assert list(cursor.execute("WITH a AS (SELECT 1 AS x) SELECT x FROM a")) == [(1,)]
        cursor.execute("WITH a AS (SELECT 2 AS x) DELETE FROM people WHERE id > 2")
        assert cursor.rowcount == 449
        assert list(cursor.execute("DELETE FROM people WHERE id = 2 RETURNING name")) == [("0",)]
        cursor.close()
        with pytest.raises(dbapi.InterfaceError):
            cursor.execute("SELECT 1")
    with pytest.raises(dbapi.InterfaceError):
        it.cursor()


def _errors(world: World) -> None:
    with connection(world) as it:
        cursor = it.cursor()
        cursor.execute("CREATE TABLE t (a UNIQUE, b NOT NULL)")
        cursor.execute("INSERT INTO t VALUES (1, 1)")
        for sql, kind in {
            "INSERT INTO t VALUES (1, 1)": dbapi.IntegrityError,
            "INSERT INTO t VALUES (2, NULL)": dbapi.IntegrityError,
            "SELECT * FROM nowhere": dbapi.ProgrammingError,
            "SELEC 1": dbapi.ProgrammingError,
            "BEGIN": dbapi.NotSupportedError,
            "ATTACH 'x' AS y": dbapi.NotSupportedError,
            "INSERT INTO t VALUES (?, ?)": dbapi.ProgrammingError,
        }.items():
            with pytest.raises(dbapi.Error) as caught:
                cursor.execute(sql)
            assert type(caught.value) is kind, sql
            assert caught.value.problem is not None
            assert not caught.value.may_have_committed
        for wrong in (object(), 1 << 64):
            with pytest.raises(dbapi.InterfaceError):
                cursor.execute("SELECT ?", [wrong])
        with pytest.raises(dbapi.ProgrammingError):
            cursor.executemany("SELECT ?", [(1,)])
    stranger = dbapi.connect(app="one", database="users", key="wrong", peers=[world.address])
    with closing(stranger), pytest.raises(dbapi.OperationalError):
        stranger.cursor().execute("SELECT 1")


def _autocommit(world: World) -> None:
    with connection(world) as it, connection(world) as other:
        it.cursor().execute("CREATE TABLE t (a)")
        it.commit()
        it.rollback()
        it.cursor().execute("INSERT INTO t VALUES (1)")
        assert list(other.cursor().execute("SELECT a FROM t")) == [(1,)]
        with pytest.raises(dbapi.NotSupportedError):
            it.rollback()
        it.rollback()  # said once


def _whole_transactions(world: World) -> None:
    with connection(world) as setup:
        setup.cursor().execute("CREATE TABLE t (a UNIQUE)")
    with connection(world, "?autocommit=false") as it, connection(world) as other:

        def seen() -> list[object]:
            return [a for (a,) in other.cursor().execute("SELECT a FROM t ORDER BY a")]

        cursor = it.cursor()
        cursor.execute("INSERT INTO t VALUES (1)")
        cursor.executemany("INSERT INTO t VALUES (?)", [(2,), (3,)])
        cursor.execute("WITH b AS (SELECT 4 AS x) INSERT INTO t SELECT x FROM b WHERE 1")
        assert (cursor.rowcount, cursor.lastrowid) == (-1, None)
        assert seen() == []
        for sql in ("SELECT a FROM t", "WITH b AS (SELECT 1) SELECT a FROM t"):
            with pytest.raises(dbapi.NotSupportedError, match="commit first"):
                cursor.execute(sql)
        with pytest.raises(dbapi.NotSupportedError, match="RETURNING"):
            cursor.execute("INSERT INTO t VALUES (9) RETURNING a")
        it.rollback()
        it.commit()
        assert seen() == []
        cursor.execute("INSERT INTO t VALUES (1)")
        cursor.execute("INSERT INTO t VALUES (2)")
        it.commit()
        assert seen() == [1, 2]
        assert list(cursor.execute("SELECT count(*) FROM t")) == [(2,)]
        cursor.execute("INSERT INTO t VALUES (3)")
        cursor.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(dbapi.IntegrityError):
            it.commit()
        it.commit()
        assert seen() == [1, 2]
        cursor.execute("INSERT INTO t VALUES (3)")
        it.autocommit = True
        assert seen() == [1, 2, 3]
    with suppress(ZeroDivisionError), connection(world, "?autocommit=false") as it:
        it.cursor().execute("DELETE FROM t")
        raise ZeroDivisionError
    with connection(world) as it:
        assert list(it.cursor().execute("SELECT count(*) FROM t")) == [(3,)]


@pytest.mark.parametrize("story", [_a_cursor, _errors, _autocommit, _whole_transactions])
async def test_R20_a_dbapi_connection(story: Story, tmp_path: Path, rqlited_path: Path) -> None:
    async with users(tmp_path) as world:
        await trio.to_thread.run_sync(story, world)


def test_pep_249_names_are_there() -> None:
    assert (dbapi.apilevel, dbapi.threadsafety, dbapi.paramstyle) == ("2.0", 1, "qmark")
    assert dbapi.Timestamp(2026, 1, 31, 12, 0) == dt.datetime.fromisoformat("2026-01-31 12:00:00")
    assert issubclass(dbapi.IntegrityError, dbapi.DatabaseError)
    assert dbapi.STRING == "VARCHAR(30)"
    assert dbapi.NUMBER != "text"


def test_an_address_says_all() -> None:
    where = parsed("torpor://k%2Fey@host:1/app/db?peer=other:2&tls=true&autocommit=false&timeout=5&consistency=strong")
    assert where == Where("app", "db", "k/ey", ("https://host:1", "https://other:2"), False, 5.0, "strong")
    assert parsed("torpor://key@[::1]/app/db").peers == ("http://[::1]:8080",)


@pytest.mark.parametrize(
    "address",
    [
        "sqlite://key@host/app/db",
        "torpor://host/app/db",
        "torpor://key@host/app",
        "torpor://key@host/app/db?autocommit=no",
        "torpor://key@host/app/db?peers=other",
        "torpor://key@host/app/db?consistency=eventual",
    ],
)
def test_an_address_that_is_not_understood_is_refused(address: str) -> None:
    with pytest.raises(dbapi.InterfaceError):
        dbapi.connect(address)
