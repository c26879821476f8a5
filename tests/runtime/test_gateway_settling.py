"""Writes mean the same on every copy, and after every replay: what is settled, what is refused, and that rqlited itself would not."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.gateway.settling import settle, settled_now
from runtime.gateway.sql_rules import Forbidden
from runtime.gateway.vetting import Refused, Write, vet
from tests.runtime.gateway_world import gateway, kind_of, post, rqliteds

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)


def settled(sql: str) -> str:
    verdict = vet(sql)
    assert isinstance(verdict, Write), verdict
    counted = itertools.count(1)
    return settle(verdict.sql, verdict.open.gaps, MOMENT, lambda size: next(counted).to_bytes(size, "big"))


@pytest.mark.parametrize(
    ("sql", "sent"),
    [
        ("INSERT INTO t VALUES ('é', 1-random ( /**/ ), \"RANDOM\"()) -- x", "INSERT INTO t VALUES ('é', 1-(1), (2))"),
        ("/* é */ UPDATE t SET a = Current_Timestamp;", "UPDATE t SET a = '2026-01-02 03:04:05'"),
        ("INSERT INTO t VALUES (CURRENT_DATE, CURRENT_TIME)", "INSERT INTO t VALUES ('2026-01-02', '03:04:05')"),
        ("DELETE FROM t WHERE at < datetime('NOW', '-1 day')", "DELETE FROM t WHERE at < datetime('2026-01-02 03:04:05.678', '-1 day')"),
        ("INSERT INTO t VALUES (date ( ), 'now', ('now'))", "INSERT INTO t VALUES (date ( '2026-01-02 03:04:05.678'), 'now', ('now'))"),
        ("INSERT INTO t VALUES (strftime('%s', 'now', 'utc '))", "INSERT INTO t VALUES (strftime('%s', '2026-01-02 03:04:05.678', 'utc '))"),
        ("INSERT INTO t VALUES (timediff('now', a), timediff(?, 'now'))", "INSERT INTO t VALUES (timediff('2026-01-02 03:04:05.678', a), timediff(?, '2026-01-02 03:04:05.678'))"),
        ("INSERT INTO t VALUES (hex(randomblob(2)), randomblob(0))", "INSERT INTO t VALUES (hex(x'0001'), x'02')"),
        ("INSERT INTO t VALUES (1) RETURNING 'random()', unixepoch('2020-01-01')", "INSERT INTO t VALUES (1) RETURNING 'random()', unixepoch('2020-01-01')"),
    ],
)  # fmt: skip
def test_F86_what_differs_from_copy_to_copy_is_settled(sql: str, sent: str) -> None:
    assert settled(sql) == sent


PRESENT = {
    "date('now')": "2026-01-02",
    "time()": "03:04:05",
    "datetime('now', '+1 day')": "2026-01-03 03:04:05",
    "unixepoch()": 1_767_323_045,
    "strftime('%f', 'now')": "05.678",
    "strftime('%f', 'now', 'start of day')": "00.000",
    "CURRENT_TIMESTAMP": "2026-01-02 03:04:05",
    "CURRENT_DATE": "2026-01-02",
    "CURRENT_TIME": "03:04:05",
}


@pytest.mark.parametrize("call", PRESENT)
def test_F86_the_settled_present_is_what_sqlite_makes_of_it(call: str) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t (v)")
        db.execute(settled(f"INSERT INTO t VALUES ({call})"))
        assert db.execute("SELECT v FROM t").fetchone()[0] == PRESENT[call]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("INSERT INTO t SELECT a FROM u ORDER BY random() LIMIT 1", "ORDER BY"),
        ("INSERT INTO t VALUES (randomblob(?))", "plain size"),
        ("INSERT INTO t VALUES (randomblob(1000000000))", "plain size"),
        ("INSERT INTO t VALUES (randomblob(1025))", "plain size"),
        ("INSERT INTO t VALUES (random(1))", "plainly"),
        ("INSERT INTO t VALUES (randomblob(1 + 1))", "plainly"),
        ("INSERT INTO t VALUES (datetime(('now')))", "plainly"),
        ('INSERT INTO t VALUES (datetime("now"))', "plainly"),
        ("INSERT INTO t VALUES (datetime(coalesce(?, 'now')))", "plainly"),
        ("INSERT INTO t VALUES (strftime('%s'))", "without a time"),
        ("INSERT INTO t VALUES (time('subsec'))", "subsec"),
        ("INSERT INTO t VALUES (datetime(a, 'localtime'))", "localtime"),
        ("INSERT INTO t VALUES (datetime(a, 'UTC'))", "utc"),
        ("INSERT INTO t VALUES (total_changes())", "total_changes"),
        ("UPDATE t SET a = changes()", "changes"),
        ("INSERT INTO t VALUES (sqlite_version())", "sqlite_version"),
        ("INSERT INTO t(current_date) VALUES (current_date)", "plainly"),
        ("CREATE TABLE t(a DEFAULT CURRENT_TIMESTAMP)", "definition"),
        ("CREATE TABLE t(a DEFAULT (random()))", "definition"),
        ("CREATE TABLE t(a DEFAULT (hex(randomblob(16))))", "definition"),
        ("CREATE TABLE t(a DEFAULT (datetime('now')))", "definition"),
        ("CREATE TABLE t AS SELECT random()", "definition"),
        ("ALTER TABLE t ADD COLUMN a DEFAULT (unixepoch())", "definition"),
        ("CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE t SET a = datetime('now'); END", "definition"),
        ("CREATE VIEW v AS SELECT * FROM t WHERE a > CURRENT_DATE", "definition"),
    ],
)  # fmt: skip
def test_F86_what_cannot_be_settled_is_refused(sql: str, reason: str) -> None:
    verdict = vet(sql)
    assert isinstance(verdict, Refused), verdict
    assert reason in verdict.reason


def test_F86_a_write_tells_what_it_hangs_on() -> None:
    def opened(sql: str) -> tuple[bool, bool]:
        verdict = vet(sql)
        assert isinstance(verdict, Write), verdict
        return verdict.open.follows, verdict.open.dated

    assert opened("INSERT INTO t VALUES (last_insert_rowid())") == (True, False)
    assert opened("INSERT INTO t VALUES (datetime(?))") == (False, True)
    assert opened("INSERT INTO t VALUES (datetime('now', ?))") == (False, True)
    assert opened("INSERT INTO t VALUES (datetime('2020-01-01', '+1 day'), unixepoch(5))") == (False, False)
    assert opened("CREATE TRIGGER x AFTER INSERT ON t BEGIN INSERT INTO u VALUES (last_insert_rowid()); END") == (False, False)  # fmt: skip


def test_F86_arguments_cannot_say_what_the_statement_may_not() -> None:
    def sent(sql: str, *args: Any, first: bool = True) -> str:
        verdict = vet(sql)
        assert isinstance(verdict, Write), verdict
        return settled_now(verdict.sql, verdict.open, args, first=first)

    dated, follows = "INSERT INTO t VALUES (datetime(?, ?))", "INSERT INTO t VALUES (last_insert_rowid())"
    assert sent(dated, "2020-01-01", "+1 day") == dated
    assert sent("INSERT INTO t VALUES (?)", "now") == "INSERT INTO t VALUES (?)"
    assert sent(follows, first=False) == follows
    for refused in (lambda: sent(dated, "NOW", None), lambda: sent(dated, 1, "LocalTime"), lambda: sent(follows)):
        with pytest.raises(Forbidden):
            refused()


@pytest.mark.real
async def test_F86_acknowledged_values_survive_a_replay_once_settled(tmp_path: Path) -> None:
    """And did not before: the same write unsettled is the proof that this test would see it."""
    write = "INSERT INTO t VALUES (datetime('now', 'subsec'), CURRENT_TIMESTAMP, (SELECT random()), hex(randomblob(8)))"
    with rqliteds(tmp_path, "one") as running:
        node = running["one"]
        await node.ready()

        async def ask(kind: str, sql: str) -> Any:
            async with httpx.AsyncClient(base_url=node.url, timeout=20) as client:
                result = (await client.post(f"/db/{kind}", json=[sql])).json()["results"][0]
                assert "error" not in result
                return result.get("values")

        await ask("execute", "CREATE TABLE t (a, b, c, d)")
        await ask("execute", settled(write))
        await ask("execute", write)
        kept, lost = await ask("query", "SELECT * FROM t ORDER BY rowid")
        node.kill()
        node.start()
        await node.ready()
        assert await ask("query", "SELECT a, b, c, d FROM t WHERE rowid = 1") == [kept]
        assert await ask("query", "SELECT a, b, c, d FROM t WHERE rowid = 2") != [lost]


@pytest.mark.real
async def test_F86_a_repeat_with_its_key_is_the_same_request_though_its_time_is_another(tmp_path: Path) -> None:
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        async with gateway({("one", "users"): running["one"].url}) as world, world.client() as client:
            await post(client, "exec", sql="CREATE TABLE t (v, w)")
            write = {"database": "users", "sql": "INSERT INTO t VALUES (random(), CURRENT_TIMESTAMP)"}
            for repeated in (False, True):
                answer = await client.post("/v1/database/exec", json=write, headers={"Idempotency-Key": "k"})
                assert answer.json().get("repeated", False) is repeated, answer.text
            whole = {"database": "users", "queries": [write["sql"], "UPDATE t SET w = last_insert_rowid()"]}
            for repeated in (False, True):
                answer = await client.post("/v1/database/transaction", json=whole, headers={"Idempotency-Key": "l"})
                assert answer.json().get("repeated", False) is repeated, answer.text
            rows = await post(client, "query", sql="SELECT count(*) AS n, count(DISTINCT v) AS m, max(w) AS w FROM t")
            assert rows.json()["items"] == [{"n": 2, "m": 2, "w": 2}]
            for sql, args in (
                ("INSERT INTO t VALUES (datetime(?), 1)", ["now"]),
                ("UPDATE t SET w = last_insert_rowid()", []),
            ):
                assert kind_of(await post(client, "exec", sql=sql, args=args)) == "sql-refused"
