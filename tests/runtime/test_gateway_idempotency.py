"""Idempotency keys, with real workers and a real rqlited: what is repeated has one effect, whatever became of the first answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.runtime.gateway_world import World, gateway, kind_of, rqliteds

pytestmark = pytest.mark.real


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[World]:
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        async with gateway({("one", "users"): running["one"].url}) as world:
            async with world.client() as client:
                await keyed(client, "", "exec", sql="CREATE TABLE t (id INTEGER PRIMARY KEY, v, u UNIQUE)")
            yield world


async def keyed(client: httpx.AsyncClient, key: str, endpoint: str, **members: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post(f"/v1/database/{endpoint}", json={"database": "users"} | members, headers=headers)


async def rows(client: httpx.AsyncClient, sql: str = "SELECT count(*) AS n FROM t") -> list[dict[str, Any]]:
    return (await keyed(client, "", "query", sql=sql)).json()["items"]


@pytest.mark.parametrize(
    ("sql", "first", "repeat"),
    [
        ("INSERT INTO t(v) VALUES (1), (2)", {"rows_affected": 2, "last_insert_id": 2}, None),
        ("DELETE FROM t", {"rows_affected": 0, "last_insert_id": 0}, None),
        ("CREATE TABLE x (y)", {"rows_affected": 0, "last_insert_id": 0}, None),
        (
            "INSERT INTO t(v) VALUES (7), (8) RETURNING v",
            {"rows_affected": 2, "last_insert_id": 0, "items": [{"v": 7}, {"v": 8}], "count": 2},
            {"rows_affected": 2, "last_insert_id": 0},
        ),
    ],
)
async def test_F86_a_repeat_has_no_effect_and_the_same_answer(
    served: World, sql: str, first: dict[str, Any], repeat: dict[str, Any] | None
) -> None:
    async with served.client() as client:
        assert (await keyed(client, "a key!", "exec", sql=sql)).status_code == 400, "a space is not allowed"
        assert (await keyed(client, "k" * 129, "exec", sql=sql)).status_code == 400
        assert (await keyed(client, "key-1", "exec", sql=sql)).json() == first
        before = await rows(client)
        for _ in range(2):
            again = await keyed(client, "key-1", "exec", sql=f"{sql} ;")
            assert again.json() == (repeat or first) | {"repeated": True}
        assert await rows(client) == before


async def test_the_key_s_own_row_is_no_last_insert_id(served: World) -> None:
    """SQLite keeps the last id over statements that have none."""
    async with served.client() as client:
        await keyed(client, "", "exec", sql="CREATE TABLE w (k PRIMARY KEY) WITHOUT ROWID")
        await keyed(client, "", "exec", sql="INSERT INTO t(id) VALUES (50)")
        plain = await keyed(client, "", "exec", sql="INSERT INTO w VALUES (1)")
        assert (await keyed(client, "key", "exec", sql="INSERT INTO w VALUES (2)")).json() == plain.json()


async def test_F86_a_key_is_for_one_request(served: World) -> None:
    async with served.client() as client:
        await keyed(client, "key", "exec", sql="INSERT INTO t(v) VALUES (?)", args=[1])
        for endpoint, members in (
            ("exec", {"sql": "INSERT INTO t(v) VALUES (?)", "args": [2]}),
            ("exec", {"sql": "DELETE FROM t"}),
            ("transaction", {"queries": [{"sql": "INSERT INTO t(v) VALUES (?)", "args": [1]}]}),
        ):
            refused = await keyed(client, "key", endpoint, **members)
            assert (kind_of(refused), refused.status_code) == ("idempotency-key-reused", 422)
        assert await rows(client) == [{"n": 1}]


async def test_F86_what_failed_leaves_no_key_behind(served: World) -> None:
    """Each of these fails in its own way in rqlited, which does not roll all of them back by itself."""
    async with served.client() as client:
        await keyed(client, "", "exec", sql="INSERT INTO t(u) VALUES (1)")
        for sql in (
            "INSERT INTO t(u) VALUES (1)",
            "INSERT INTO t(u) VALUES (1) RETURNING id",
            "INSERT INTO t(u) VALUES (2), (1) RETURNING id",
            "INSERT INTO nope VALUES (1)",
            "INSERT INTO nope VALUES (1) RETURNING id",
            "INSERT INTO t(u) VALUES (?) RETURNING id",
        ):
            for _ in range(2):
                assert kind_of(await keyed(client, "key", "exec", sql=sql)) == "sql-error"
        for queries in (
            ["INSERT INTO t(u) VALUES (3)", "INSERT INTO t(u) VALUES (1)"],
            ["DELETE FROM t", "DELETE FROM nope"],
        ):
            assert kind_of(await keyed(client, "key", "transaction", queries=queries)) == "sql-error"
        assert await rows(client) == [{"n": 1}]
        assert (await keyed(client, "key", "exec", sql="INSERT INTO t(u) VALUES (2)")).json()["rows_affected"] == 1


async def test_F86_a_RETURNING_that_changes_nothing_needs_no_key_unless_there_are_triggers(served: World) -> None:
    async with served.client() as client:
        sql = "UPDATE t SET v = 1 WHERE id = 99 RETURNING id"
        none = await keyed(client, "key", "exec", sql=sql)
        assert none.json() == {"rows_affected": 0, "last_insert_id": 0, "items": [], "count": 0}
        await keyed(client, "", "exec", sql="CREATE VIEW w AS SELECT v FROM t")
        trigger = "CREATE TRIGGER g INSTEAD OF INSERT ON w BEGIN INSERT INTO t(v) VALUES (NEW.v); END"
        assert (await keyed(client, "", "exec", sql=trigger)).status_code == 200
        refused = await keyed(client, "key", "exec", sql="INSERT INTO w VALUES (1) RETURNING v")
        assert kind_of(refused) == "sql-refused", "SQLite does not count what a trigger does in the place of a view"
        assert await rows(client) == [{"n": 0}]
        assert (await keyed(client, "key", "exec", sql="INSERT INTO w VALUES (1)")).status_code == 200
        assert (await keyed(client, "key", "exec", sql="INSERT INTO w VALUES (1)")).json()["repeated"] is True
        assert await rows(client) == [{"n": 1}]


async def test_R32_F86_transactions_are_repeated_as_a_whole(served: World) -> None:
    async with served.client() as client:
        queries = [
            "INSERT INTO t(v) VALUES (1), (2)",
            "SELECT v FROM t ORDER BY id",
            "UPDATE t SET v = v + 1",
            {"sql": "SELECT sum(v) AS s FROM t WHERE v > ?", "args": [0]},
        ]
        first = await keyed(client, "key", "transaction", queries=queries)
        assert first.json() == {
            "success": True,
            "results": [
                {"rows_affected": 2, "last_insert_id": 2},
                {"items": [{"v": 1}, {"v": 2}], "count": 2},
                {"rows_affected": 2, "last_insert_id": 0},
                {"items": [{"s": 5}], "count": 1},
            ],
        }
        again = await keyed(client, "key", "transaction", queries=queries)
        assert again.json() == {
            "success": True,
            "repeated": True,
            "results": [
                {"rows_affected": 2, "last_insert_id": 2},
                {},
                {"rows_affected": 2, "last_insert_id": 0},
                {},
            ],
        }
        assert await rows(client, "SELECT v FROM t ORDER BY id") == [{"v": 2}, {"v": 3}]


async def test_R34_F86_tables_are_made_and_dropped_once(served: World) -> None:
    async with served.client() as client:
        for endpoint, members in (
            ("create-table", {"schema": "CREATE TABLE x (y)"}),
            ("drop-table", {"table_name": "x"}),
        ):
            assert (await keyed(client, endpoint, endpoint, **members)).json() == {"rows_affected": 0}
            again = await keyed(client, endpoint, endpoint, **members)
            assert again.json() == {"rows_affected": 0, "repeated": True}
            assert kind_of(await keyed(client, "another", endpoint, **members)) == "sql-error"


async def test_F86_many_repeats_at_once_have_one_effect(served: World) -> None:
    answers: list[httpx.Response] = []
    async with served.client(limits=httpx.Limits(max_connections=30)) as client:

        async def one() -> None:
            answers.append(await keyed(client, "key", "exec", sql="INSERT INTO t(v) VALUES (1)"))

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(one)
        assert await rows(client) == [{"n": 1}]
    assert [a.status_code for a in answers] == [200] * 30
    assert sum("repeated" not in a.json() for a in answers) == 1


async def test_keys_are_hidden_and_nobody_s_business(served: World) -> None:
    async with served.client() as client:
        await keyed(client, "key", "exec", sql="INSERT INTO t(v) VALUES (1)")
        assert [t["name"] for t in (await client.get("/v1/database/schema?database=users")).json()["tables"]] == ["t"]
        for endpoint, sql in (
            ("query", "SELECT * FROM _torpor_idempotency"),
            ("exec", "DELETE FROM _TORPOR_idempotency"),
            ("exec", 'DROP TABLE "_torpor_idempotency"'),
            ("exec", "DROP TABLE '_torpor_idempotency'"),
            ("exec", "DROP INDEX [_torpor_idempotency_at]"),
            ("exec", "ALTER TABLE t RENAME TO `_torpor_x`"),
        ):
            assert kind_of(await keyed(client, "", endpoint, sql=sql)) == "sql-refused"


async def test_old_keys_are_swept_a_few_at_a_time(tmp_path: Path) -> None:
    """By the clock of the gateway that writes."""
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        url = running["one"].url
        async with gateway({("one", "users"): url}, idempotency_ttl_s=3600.0) as world, world.client() as client:
            await keyed(client, "first", "exec", sql="CREATE TABLE t (v)")
            old = [f"('old-{n}', 1, 'd', '')" for n in range(20)]
            async with httpx.AsyncClient(base_url=url) as rqlited:
                made = await rqlited.post(
                    "/db/execute", json=[f"INSERT INTO _torpor_idempotency VALUES {','.join(old)}"]
                )
                assert made.json()["results"][0]["rows_affected"] == 20
                left: list[int] = []
                for n in range(3):
                    await keyed(client, f"new-{n}", "exec", sql="INSERT INTO t VALUES (1)")
                    found = await rqlited.post(
                        "/db/query", json=["SELECT count(*) FROM _torpor_idempotency WHERE at = 1"]
                    )
                    left.append(found.json()["results"][0]["values"][0][0])
                assert left == [4, 0, 0]
                rest = await rqlited.post("/db/query", json=["SELECT count(*) FROM _torpor_idempotency"])
                assert rest.json()["results"][0]["values"] == [[4]], "the younger ones stay"
