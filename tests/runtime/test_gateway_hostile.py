"""Ten thousand statements of strangers: none makes the vetting fail, and what it lets pass does no harm to a real rqlited behind a real
worker (F82, F85, F86, F88, F89, F90).

``TORPOR_HOSTILE`` sets how many, ``TORPOR_HOSTILE_SEED`` which.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import trio

from runtime.gateway.problems import TYPES
from runtime.gateway.vetting import Read, Refused, Verdict, Write, vet
from tests.runtime.gateway_world import Rqlited, World, gateway, kind_of, post, rqliteds
from tests.runtime.hostile_sql import MARK, Stranger

NUMBER = int(os.environ.get("TORPOR_HOSTILE", "10000"))
SEED = int(os.environ.get("TORPOR_HOSTILE_SEED", "1"))
REST = 250
"""Statements until the tables are small again: what doubles a table often enough takes for ever."""

FOUND = (
    # What once did harm, kept for ever: see the message of the commit that ended it.
    "CREATE VIRTUAL TABLE f USING fts5(file, name, content='pragma_database_list', content_rowid='seq')",
    "SELECT file FROM f",
    'WITH "a""b"(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM [a"b]) INSERT INTO t(a) SELECT x FROM [a"b]',
    "CREATE TABLE scratch(a DEFAULT (random()))",
    "CREATE TABLE scratch(a, b DEFAULT CURRENT_TIMESTAMP)",
    "INSERT INTO t(a, b) VALUES (datetime('now', 'subsec'), (SELECT random()))",
    "INSERT INTO t(a, b) VALUES (hex(randomblob(16)), unixepoch())",
    "PRAGMA journal_mode",
    "SELECT '\ud800'",
)

REFRESH = (
    "DROP TRIGGER IF EXISTS tr", "DROP VIEW IF EXISTS v2", "DROP INDEX IF EXISTS i", "DROP VIEW IF EXISTS v", "DROP TABLE IF EXISTS scratch", "DROP TABLE IF EXISTS scratch2",
    "DROP TABLE IF EXISTS scratch3", "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, a, b BLOB)", "CREATE TABLE IF NOT EXISTS u(a TEXT, b INT)",
    "DELETE FROM t", "DELETE FROM u", "INSERT INTO t(a, b) VALUES (1, 2), ('x', x'00ff'), (NULL, 1.5), ('now', 'now'), (9223372036854775807, '')", "INSERT INTO u VALUES ('a', 1), ('b', 2)",
    "CREATE VIEW v AS SELECT a, b FROM t", "CREATE TABLE IF NOT EXISTS scratch(a, b)", "CREATE VIRTUAL TABLE IF NOT EXISTS notes USING fts5(body, a, b)",
    "CREATE VIRTUAL TABLE IF NOT EXISTS boxes USING rtree(id, a, b)",
)  # fmt: skip


def hostile() -> Iterator[str]:
    yield from FOUND
    yield from Stranger(random.Random(SEED)).statements(NUMBER)


@pytest.fixture(scope="module")
def judged() -> list[tuple[str, Verdict]]:
    return [(sql, vet(sql)) for sql in hostile()]


def test_F82_F85_vetting_decides_on_everything(judged: list[tuple[str, Verdict]]) -> None:
    """And knows all kinds: a generator that only made garbage would prove nothing."""
    kinds = Counter(type(verdict) for _sql, verdict in judged)
    syntax = sum(isinstance(verdict, Refused) and verdict.syntax for _sql, verdict in judged)
    assert all(isinstance(verdict, Refused) or verdict.sql in sql for sql, verdict in judged)
    assert len(judged) >= NUMBER
    assert min(kinds[Read], kinds[Write], kinds[Refused] - syntax) > NUMBER // 10, (
        "rules must be met, not only the parser"
    )


@pytest.mark.real
@pytest.mark.slow
async def test_F85_F88_F89_F90_what_passes_does_no_harm(tmp_path: Path, judged: list[tuple[str, Verdict]]) -> None:
    with rqliteds(tmp_path, "one", "two") as running:
        one, two = running["one"], running["two"]
        passed = [verdict for _sql, verdict in judged if not isinstance(verdict, Refused)]
        await one.ready()
        await two.ready()
        await direct(two, "execute", "CREATE TABLE secret(v)", "INSERT INTO secret VALUES ('of application two')")
        urls = {("one", "users"): one.url, ("two", "users"): two.url}
        async with gateway(urls, query_timeout_s=1.0, within=600) as world, world.client("one") as client:
            answers = await send_all(world, client, one, passed, str(tmp_path))
            assert answers["200"] > NUMBER // 20, answers
            await until_quiet(one)
            assert (await post(client, "query", sql="SELECT 1 AS n")).json()["items"] == [{"n": 1}]
        assert await direct(two, "query", "SELECT * FROM secret") == [[["of application two"]]]
        for reading in range(8):  # connections that rqlited reads by; integrity_check opens an empty temp
            [schemas, temporary] = await direct(
                one, "query", "PRAGMA database_list", "SELECT * FROM temp.sqlite_schema"
            )
            assert {schema[1] for schema in schemas} <= {"main", "temp"}, reading
            assert not temporary
        before = await dump(one)
        one.kill()
        one.start()
        await one.ready()
        assert await dump(one) == before, "a replay of the log changed what had been acknowledged"
    assert not footprints(tmp_path)


def footprints(data: Path) -> set[str]:
    """What is there that should not be: next to the databases, in the directory in which all of it runs, and where temporary files are."""
    strange = {path.name for path in data.iterdir()} - {"one", "one.log", "two", "two.log"}
    for top in (data.glob("**/*"), Path.cwd().iterdir(), data.parent.iterdir(), Path(tempfile.gettempdir()).iterdir()):
        strange |= {str(path) for path in top if MARK in path.name}
    return strange


async def send_all(
    world: World, client: httpx.AsyncClient, node: Rqlited, passed: list[Read | Write], private: str
) -> Counter[str]:
    """One after another. The answers, counted by their kind."""
    counted: Counter[str] = Counter()
    for number, verdict in enumerate(passed):
        sql = verdict.sql
        if number % REST == 0:
            await direct(node, "execute", *REFRESH, strict=False)
        endpoint = "query" if isinstance(verdict, Read) else "exec"
        args = [[], [1, "x", None], {"a": 1, "b": "now", "c": 0.5}][number % 3]
        with trio.fail_after(30):
            answer = await post(client, endpoint, sql=sql, args=args)
        kind = "200" if answer.status_code == 200 else kind_of(answer)
        counted[kind] += 1
        assert kind == "200" or kind in TYPES, (sql, answer.text)
        assert answer.status_code < 500 or kind == "query-timeout", (sql, answer.text)
        assert private not in answer.text, (sql, answer.text)
        assert "application two" not in answer.text, (sql, answer.text)
    assert node.process is not None
    assert node.process.poll() is None
    assert world.workers()
    return counted


async def until_quiet(node: Rqlited) -> None:
    """Until it uses no more of a processor than an idle one: nothing that was begun goes on for ever."""
    assert node.process is not None
    process = psutil.Process(node.process.pid)
    with trio.fail_after(60):
        while True:
            before = sum(process.cpu_times()[:2])
            await trio.sleep(1)
            if sum(process.cpu_times()[:2]) - before < 0.3:
                return


async def direct(node: Rqlited, kind: str, *statements: str, strict: bool = True) -> list[Any]:
    """Past the gateway: the rows of each statement."""
    async with httpx.AsyncClient(base_url=node.url, timeout=60) as client:
        results = (await client.post(f"/db/{kind}?level=strong", json=statements)).json()["results"]
    assert not strict or not any("error" in result for result in results), results
    return [result.get("values") for result in results]


async def dump(node: Rqlited) -> list[Any]:
    """All that is in the database, as text that shows every bit."""
    [names] = await direct(
        node,
        "query",
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name",
    )
    whole: list[Any] = [names]
    for name, _sql in names:
        quoted = name.replace('"', '""')
        [columns] = await direct(node, "query", f"SELECT name FROM pragma_table_info('{name}')")
        values = ", ".join('quote("{}")'.format(column.replace('"', '""')) for (column,) in columns)
        whole += await direct(node, "query", f'SELECT {values} FROM "{quoted}"')
    return whole
