"""Reading the file of a stopped rqlited: what a client is told is what rqlited itself would have said, or nothing; it is bounded, it can be cut
off, and a file that was touched is not believed."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import orjson
import pytest
import trio

from runtime.gateway import vetting
from runtime.gateway.problems import Refusal
from runtime.gateway.rqlite_answers import result_of
from runtime.gateway.sealed_file import Bounds, Reader, Stamp, TooLarge, TooLate, TooMany, Unreadable
from runtime.gateway.upstream_connection import Response
from runtime.gateway.values import Form, written
from tests.runtime.gateway_world import ENDLESS, Rqlited

DECLARED = (
    *("", "INTEGER", "INT", "REAL", "TEXT", "BLOB", "BOOLEAN", "boolean", "DATE", "DATETIME", "TIMESTAMP", "NUMERIC"),
    *("VARCHAR(20)", "NVARCHAR(10)", "CLOB", "JSON", "DECIMAL(10,2)", "TIMESTAMP WITH TIME ZONE"),
)
VALUES = (
    *("NULL", "0", "1", "-1", "2", "9007199254740993", "9223372036854775807", "-9223372036854775808", "1700000000"),
    *(
        "1700000000123",
        "-1500000000123",
        "1.5",
        "-0.0",
        "2.0",
        "1e18 + 1024.0",
        "1152921504606846976.0",
        "1e19",
        "-1e20",
        "1e21",
        "1e300",
        "9e999",
        "'text'",
        "''",
        "'häß'",
        "'a' || char(0) || 'b'",
    ),
    *("x'00ff'", "x''", "x'74657874'", "'2024-02-29'", "'2024-02-30'", "'2024-02-29 12:34'", "'2024-02-29T12:34:56'"),
    *(
        "'2024-02-29 12:34:56.120'",
        "'2024-02-29 12:34:56Z'",
        "'2024-02-29 12:34:56+02:00'",
        "'2024-02-29 12:34:56-00:30'",
    ),
    *("'2024-02-29 12:34:56.5+00:00'", "'12:34'", "'true'", "'1'", "'0001-01-01'", "'2024-02-29T12:34:56.123456789'"),
)
FORMS = (Form(), Form(rows=True), Form(rows=True, texts=True))


def bounds(rows: int = 100_000, result_bytes: int = 32 << 20, seconds: float = 30) -> Bounds:
    return Bounds(rows, result_bytes, time.monotonic() + seconds)


def reader(path: Path) -> Reader:
    return Reader(str(path), Stamp.of(str(path)))


async def stopped(rqlited: Rqlited) -> Path:
    """Stopped as a node stops it for a sleep; its file."""
    async with httpx.AsyncClient(base_url=rqlited.url, timeout=30) as client:
        assert (await client.post("/snapshot")).status_code == 200
    assert rqlited.process is not None
    rqlited.process.terminate()
    assert await trio.to_thread.run_sync(rqlited.process.wait) == 0
    path = rqlited.directory / "db.sqlite"
    wal = rqlited.directory / "db.sqlite-wal"
    assert not wal.exists() or wal.stat().st_size == 0
    return path


async def execute(rqlited: Rqlited, *statements: str) -> None:
    async with httpx.AsyncClient(base_url=rqlited.url, timeout=30) as client:
        answer = (await client.post("/db/execute", json=[[sql] for sql in statements])).json()
        assert [one["error"] for one in answer["results"] if "error" in one] == []


@pytest.fixture
async def rqlited(tmp_path: Path) -> AsyncIterator[Rqlited]:
    one = Rqlited(tmp_path / "one")
    try:
        one.start()
        await one.ready()
        yield one
    finally:
        one.kill()


def said(result: Callable[[], dict[str, Any]], form: Form) -> bytes:
    """What a client is told: an answer, or the type of a problem."""
    try:
        return orjson.dumps(written(result(), form))
    except Refusal as refusal:
        return refusal.type.encode()


QUERIES = (
    *(
        f"SELECT v, v AS again FROM t{n} WHERE id = {row}"
        for n in range(len(DECLARED))
        for row in range(1, len(VALUES) + 1)
    ),
    *(f"SELECT id, v FROM t{n} WHERE id IN (2, 3, 12, 22, 28)" for n in range(len(DECLARED))),
    *(f"SELECT v, typeof(v) FROM t{n} WHERE id IN (28, 22, 3) ORDER BY id DESC" for n in range(len(DECLARED))),
    *(f"SELECT max(v), count(*), v || '' FROM t{n} WHERE id = 3" for n in range(len(DECLARED))),
    *(
        "SELECT * FROM t0 WHERE 0",
        "SELECT NULL",
        "SELECT NULL, 1 UNION ALL SELECT x'01', 'a'",
        "SELECT v FROM (SELECT v FROM t6) LIMIT 3",
    ),
    *(
        "PRAGMA table_info(t3)",
        "SELECT name, type FROM pragma_table_info('t6')",
        "WITH a(b) AS (VALUES (1), ('x')) SELECT b, b AS b FROM a",
    ),
    "SELECT name, sql FROM sqlite_master ORDER BY name LIMIT 4",
    "VALUES (1, 'a', x'00'), (2.5, NULL, 1)",
    "SELECT ?1, :n, ?1 + 1",
    "SELECT json_object('a', 1), date('2024-01-01'), 1 = 1, EXISTS (SELECT 1)",
)


@pytest.mark.real
async def test_R31_F53_what_a_copy_says_is_what_rqlited_said_or_nothing(rqlited: Rqlited) -> None:
    for n, declared in enumerate(DECLARED):
        await execute(rqlited, f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY, v {declared})")
        await execute(rqlited, *(f"INSERT INTO t{n}(v) VALUES ({value})" for value in VALUES))
    answers: list[Response] = []
    asked: list[tuple[str, list[Any] | dict[str, Any]]] = []
    async with httpx.AsyncClient(base_url=rqlited.url, timeout=30) as client:
        for sql in QUERIES:
            args: list[Any] = [41, "x"] if "?1" in sql else []
            asked.append((sql.replace(":n", "?2"), args))
            answer = await client.post("/db/query?level=weak&blob_array", json=[[asked[-1][0], *args]])
            answers.append(Response(answer.status_code, answer.content))
    path = await stopped(rqlited)
    unsaid: dict[str, tuple[bytes, str]] = {}
    for (sql, args), answer in zip(asked, answers, strict=True):
        assert isinstance(vetting.vet(sql), vetting.Read), sql
        for form in FORMS:
            wanted = said(partial(result_of, answer, write=False), form)
            try:
                found = said(partial(reader(path).read, sql, args, bounds()), form)
            except Unreadable as error:
                unsaid[sql] = (wanted, str(error))
            else:
                assert found == wanted, sql
    exact = {sql: why for sql, why in unsaid.items() if why[0] != b"value-not-exact" and "a time beyond" not in why[1]}
    assert exact == {}
    assert len(unsaid) < len(QUERIES) // 10


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A file of a thousand rows, that nobody has open."""
    path = tmp_path / "with ?% space" / "db.sqlite"
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        connection.executemany("INSERT INTO t(v) VALUES (?)", [("x" * 100,)] * 1000)
    connection.close()
    return path


def test_P34_reading_touches_nothing(copy: Path) -> None:
    before, names = Stamp.of(str(copy)), sorted(copy.parent.iterdir())
    assert reader(copy).read("SELECT count(*) AS n FROM t", [], bounds())["values"] == [[1000]]
    assert Stamp.of(str(copy)) == before
    assert sorted(copy.parent.iterdir()) == names


def test_F53_a_file_that_was_touched_is_not_read(copy: Path) -> None:
    one = reader(copy)
    with sqlite3.connect(copy) as connection:
        connection.execute("DELETE FROM t WHERE id = 1")
    connection.close()
    with pytest.raises(Unreadable, match="clean stop"):
        one.read("SELECT 1", [], bounds())


def test_F53_a_log_that_was_not_folded_in_is_not_overlooked(copy: Path) -> None:
    copy.with_name("db.sqlite-wal").write_bytes(b"x")
    with pytest.raises(Unreadable, match="clean stop"):
        reader(copy).read("SELECT 1", [], bounds())


def test_F53_a_file_that_is_gone_or_none_at_all_is_unreadable(copy: Path, tmp_path: Path) -> None:
    one = reader(copy)
    copy.rename(copy.with_name("elsewhere"))
    with pytest.raises(Unreadable):
        one.read("SELECT 1", [], bounds())
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    with pytest.raises(Unreadable):
        reader(garbage).read("SELECT * FROM t", [], bounds())


def test_F53_what_was_written_while_it_was_read_is_thrown_away(copy: Path) -> None:
    """The reader has opened its file, and read; before it ends somebody writes."""
    read = Reader._read  # pyright: ignore[reportPrivateUsage]
    through: list[int] = []

    def slow(*given: Any) -> Any:
        result = read(*given)
        through.append(len(result["values"]))
        with sqlite3.connect(copy) as connection:
            connection.execute("UPDATE t SET v = 'y'")
        connection.close()
        return result

    with patch.object(Reader, "_read", slow), pytest.raises(Unreadable, match="clean stop"):
        reader(copy).read("SELECT v FROM t", [], bounds())
    assert through == [1000]


async def _cut_after(one: Reader, sql: str, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    done = loop.run_in_executor(None, one.read, sql, [], bounds())
    await asyncio.sleep(seconds)
    began = time.monotonic()
    one.cut()
    with pytest.raises(Unreadable):
        await done
    return time.monotonic() - began


@pytest.mark.parametrize(
    "sql",
    [
        ENDLESS,
        "SELECT a.v, b.v FROM t a, t b, t c WHERE a.id + b.id + c.id < 0",
        "SELECT a.v FROM t a, t b ORDER BY random()",
    ],
)
def test_P34_a_reader_that_is_cut_off_ends(copy: Path, sql: str) -> None:
    assert asyncio.run(_cut_after(reader(copy), sql, 0.2)) < 30


def test_P34_a_reader_that_is_cut_off_before_it_begins_reads_nothing(copy: Path) -> None:
    one = reader(copy)
    one.cut()
    with pytest.raises(Unreadable, match="starts"):
        one.read("SELECT 1", [], bounds())


def test_F85_time_rows_and_bytes_are_bounded(copy: Path) -> None:
    with pytest.raises(TooLate):
        reader(copy).read(ENDLESS, [], bounds(seconds=0.2))
    with pytest.raises(TooMany, match="999 rows"):
        reader(copy).read("SELECT * FROM t", [], bounds(rows=999))
    with pytest.raises(TooLarge, match="bytes"):
        reader(copy).read("SELECT * FROM t", [], bounds(result_bytes=50_000))
    with pytest.raises(Unreadable):
        reader(copy).read("SELECT zeroblob(50001)", [], bounds(result_bytes=50_000))


@pytest.mark.parametrize(
    "sql",
    [
        *(
            "DELETE FROM t",
            "CREATE TABLE u (x)",
            "ATTACH 'other' AS other",
            "PRAGMA user_version = 7",
            "VACUUM INTO 'other'",
        ),
        *(
            "PRAGMA journal_mode",
            "SELECT load_extension('x')",
            "SELECT sqlite_version()",
            "SELECT * FROM nowhere",
            "SELECT ?",
        ),
        "CREATE TEMP TABLE u (x)",
    ],
)
def test_F85_what_is_no_plain_read_is_left_to_rqlited(copy: Path, sql: str) -> None:
    before = Stamp.of(str(copy))
    with pytest.raises(Unreadable):
        reader(copy).read(sql, [], bounds())
    assert Stamp.of(str(copy)) == before
