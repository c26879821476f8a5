"""The gateway as a client sees it: real workers, real rqlited, HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from runtime.gateway.auth import new_key
from runtime.gateway.frames import Ask, Problem, Used
from tests.runtime.gateway_world import ENDLESS, World, gateway, kind_of, post, rqliteds

pytestmark = pytest.mark.real


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[World]:
    """Database ``users`` of application ``one``, and ``users`` of ``two``, each with a table."""
    with rqliteds(tmp_path, "one", "two") as running:
        for each in running.values():
            await each.ready()
        async with gateway({(app, "users"): r.url for app, r in running.items()}) as world:
            for app in running:
                async with world.client(app) as client:
                    made = await post(client, "exec", sql="CREATE TABLE t (id INTEGER PRIMARY KEY, v, b BLOB)")
                    assert made.json() == {"rows_affected": 0, "last_insert_id": 0}
            yield world


async def test_R30_R31_exec_and_query(served: World) -> None:
    async with served.client() as client:
        made = await post(client, "exec", sql="INSERT INTO t(v) VALUES (?), (?)", args=["a", None])
        assert made.json() == {"rows_affected": 2, "last_insert_id": 2}
        assert made.headers["content-type"] == "application/json"
        named = await post(client, "exec", sql="UPDATE t SET v = :new WHERE id = :id", args={"new": 1.5, "id": 2})
        assert named.json() == {"rows_affected": 1, "last_insert_id": 0}
        none = await post(client, "exec", sql="DELETE FROM t WHERE id = 99")
        assert none.json() == {"rows_affected": 0, "last_insert_id": 0}, "rqlite leaves zeros out, and repeats old ids"
        rows = await post(client, "query", sql="SELECT v, id FROM t ORDER BY id;  -- all")
        assert rows.json() == {"items": [{"v": "a", "id": 1}, {"v": 1.5, "id": 2}], "count": 2}
        assert list(rows.json()["items"][0]) == ["v", "id"], "columns keep their order"
        empty = await post(client, "query", sql="SELECT * FROM t WHERE id = ?", args=[99])
        assert empty.json() == {"items": [], "count": 0}
        pragma = await post(client, "query", sql="PRAGMA table_info(t)")
        assert [row["name"] for row in pragma.json()["items"]] == ["id", "v", "b"]


async def test_R30_returning_gives_the_rows_beside_the_counts(served: World) -> None:
    async with served.client() as client:
        made = await post(client, "exec", sql="INSERT INTO t(v) VALUES (1), (2) RETURNING id, v")
        items = [{"id": 1, "v": 1}, {"id": 2, "v": 2}]
        assert made.json() == {"rows_affected": 2, "last_insert_id": 0, "items": items, "count": 2}


async def test_R31_values_keep_their_worth(served: World) -> None:
    async with served.client() as client:
        values = [2**63 - 1, -(2**63), 0.1, 1e300, "é\n\x01\"'", "", True]
        for value in values:
            assert (await post(client, "exec", sql="INSERT INTO t(v) VALUES (?)", args=[value])).status_code == 200
        rows = (await post(client, "query", sql="SELECT v FROM t ORDER BY id")).json()["items"]
        assert [row["v"] for row in rows] == [*values[:-1], 1]
        await post(client, "exec", sql="INSERT INTO t(id, b) VALUES (50, x'0001ff')")
        blob = await post(client, "query", sql="SELECT b, hex(b) AS h FROM t WHERE id = 50")
        assert blob.json()["items"] == [{"b": {"base64": "AAH/"}, "h": "0001FF"}]
        infinite = await post(client, "query", sql="SELECT 9e999 AS x")
        assert kind_of(infinite) == "value-not-exact"


@pytest.mark.parametrize(
    ("endpoint", "sql", "args", "kind"),
    [
        ("query", "SELECT nope FROM t", [], "sql-error"),
        ("query", "SELECT * FROM nope", [], "sql-error"),
        ("query", "SELECT ?", [], "sql-error"),
        ("exec", "INSERT INTO t(id) VALUES ('x')", [], "sql-error"),
        ("query", "DELETE FROM t", [], "wrong-endpoint"),
        ("query", "WITH x AS (SELECT 1) INSERT INTO t(v) SELECT * FROM x", [], "wrong-endpoint"),
        ("exec", "SELECT 1", [], "wrong-endpoint"),
        ("exec", "PRAGMA table_info(t)", [], "wrong-endpoint"),
        ("query", "ATTACH 'x' AS y", [], "sql-refused"),
        ("exec", "VACUUM INTO 'x'", [], "sql-refused"),
        ("exec", "BEGIN", [], "sql-refused"),
        ("exec", "PRAGMA journal_mode = OFF", [], "sql-refused"),
        ("query", "SELECT load_extension('x')", [], "sql-refused"),
        ("query", "SELECT 1; SELECT 2", [], "sql-refused"),
        ("query", "SELECT ?", [[1]], "bad-request"),
        ("query", "SELECT ?", [{"a": 1}], "bad-request"),
        ("query", "SELECT ?", [2**63], "bad-request"),
        ("query", "SELECT ?", "x", "bad-request"),
        ("query", 5, [], "bad-request"),
    ],
)
async def test_F85_F86_each_refusal_has_its_kind(
    served: World, endpoint: str, sql: object, args: object, kind: str
) -> None:
    async with served.client() as client:
        answer = await post(client, endpoint, sql=sql, args=args)
        assert kind_of(answer) == kind
        assert answer.status_code == 400


async def test_F88_statements_without_a_statement_never_reach_rqlited(served: World) -> None:
    async with served.client() as client:
        for sql in ("/* c */", ";", " ", "", "-- c"):
            for endpoint in ("query", "exec"):
                assert kind_of(await post(client, endpoint, sql=sql)) == "sql-error"
        for sql in ("SELECT 1 AS x;;", "SELECT 1 AS x; -- tail", "/* head */ SELECT 1 AS x"):
            assert (await post(client, "query", sql=sql)).json()["items"] == [{"x": 1}]
    served.keeper.door("one", "users", is_open=False)
    await served.keeper.drained(served.keeper.generation)


async def test_R36_every_endpoint_needs_a_key(served: World) -> None:
    async with served.client("") as client:
        for headers in ({}, {"Authorization": "Basic x"}, {"X-API-Key": "x"}, {"X-API-Key": new_key()[0]}):
            for method, path in (("POST", "exec"), ("POST", "query"), ("GET", "list"), ("GET", "nowhere")):
                answer = await client.request(method, f"/v1/database/{path}", headers=headers)
                assert kind_of(answer) == "unauthorized"
                assert answer.headers["www-authenticate"].startswith("Bearer")
        answer = await client.get("/v1/database/list", headers={"X-API-Key": served.keys["two"]})
        assert answer.json() == {"databases": ["users"]}
        assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert not [a for a in served.keeper.of(Ask) if a.app not in ("one", "two")]


async def test_R35_R36_two_applications_never_see_each_other(served: World) -> None:
    served.keeper.urls["one", "orders"] = served.keeper.urls["one", "users"]
    async with served.client("one") as one, served.client("two") as two:
        assert (await one.get("/v1/database/list")).json() == {"databases": ["orders", "users"]}
        assert (await two.get("/v1/database/list")).json() == {"databases": ["users"]}
        await post(one, "exec", sql="INSERT INTO t(v) VALUES ('secret')")
        assert (await post(two, "query", sql="SELECT * FROM t")).json()["count"] == 0
        for name in ("one_users", "../one_users", "one/users", "USERS", "", "users\0"):
            assert kind_of(await post(two, "query", sql="SELECT 1", database=name)) in ("invalid-name", "max-databases")
        more = await two.post("/v1/database/query", json={"database": "users", "sql": "SELECT 1", "app": "one"})
        assert kind_of(more) == "bad-request"
    assert {(a.app, a.name) for a in served.keeper.of(Ask)} == {
        ("one", "users"),
        ("two", "users"),
        ("two", "one_users"),
    }


async def test_everything_that_goes_wrong_is_a_problem_document(served: World) -> None:
    async with served.client() as client:
        assert kind_of(await client.get("/nowhere")) == "not-found"
        wrong = await client.get("/v1/database/exec")
        assert (kind_of(wrong), wrong.headers["allow"]) == ("method-not-allowed", "POST")
        for body in (b"", b"{", b"[]", b"\xff", b'"x"', b'{"database": "users", "sql": "\\ud800"}'):
            assert kind_of(await client.post("/v1/database/query", content=body)) == "bad-request"
        served.keeper.refuse = Problem("insufficient-nodes", "insufficient nodes responded: got 1, need 3")
        answer = await post(client, "query", sql="SELECT 1", database="new")
        assert kind_of(answer) == "insufficient-nodes"
        assert answer.json()["detail"] == "insufficient nodes responded: got 1, need 3"
        assert (await client.head("/healthz")).status_code == 200


async def test_F85_bodies_statements_arguments_rows_and_results_are_bounded(tmp_path: Path) -> None:
    bounds = {"body_bytes": 40_000, "sql_bytes": 20_000, "parameters": 10, "rows": 100, "result_bytes": 50_000}
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        async with gateway({("one", "users"): running["one"].url}, **bounds) as world, world.client() as client:
            long = await post(client, "query", sql=f"SELECT '{'x' * 20_000}'")
            assert (kind_of(long), long.status_code) == ("sql-too-long", 413)
            large = await post(client, "query", sql="SELECT ?", args=["x" * 40_000])
            assert (kind_of(large), large.status_code) == ("body-too-large", 413)
            many = await post(client, "query", sql="SELECT 1", args=[1] * 11)
            assert (kind_of(many), many.status_code) == ("too-many-parameters", 422)
            numbers = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {}) SELECT x FROM c"
            assert (await post(client, "query", sql=numbers.format(100))).json()["count"] == 100
            assert kind_of(await post(client, "query", sql=numbers.format(101))) == "too-many-rows"
            assert kind_of(await post(client, "query", sql=numbers.format(100_000))) == "result-too-large"
            assert kind_of(await post(client, "query", sql="SELECT hex(zeroblob(30000)) AS x")) == "result-too-large"
            vetted = await post(client, "query", sql=f"SELECT {'1 + ' * 4_500}1")
            assert kind_of(vetted) == "sql-too-deep", "nested too deeply, and vetted beside the event loop"
            assert (await post(client, "query", sql="SELECT 1 AS x")).json()["items"] == [{"x": 1}]
            assert world.keeper.frames


async def test_R37_a_query_ends_by_its_timeout_and_rqlited_is_done_with_it(tmp_path: Path) -> None:
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        async with gateway({("one", "users"): running["one"].url}, query_timeout_s=1.0) as world:
            async with world.client() as client:
                answer = await post(client, "query", sql=ENDLESS)
                assert (kind_of(answer), answer.status_code) == ("query-timeout", 504)
                assert "may_have_committed" not in answer.json()
            await world.keeper.drained(world.keeper.door("one", "users", is_open=False))


async def test_R38_many_clients_at_once_lose_nothing(served: World) -> None:
    async with served.client(limits=httpx.Limits(max_connections=40)) as client:

        async def one(n: int) -> None:
            assert (await post(client, "exec", sql="INSERT INTO t(v) VALUES (?)", args=[n])).status_code == 200
            found = await post(client, "query", sql="SELECT v FROM t WHERE v = ?", args=[n])
            assert found.json() == {"items": [{"v": n}], "count": 1}

        async with trio.open_nursery() as nursery:
            for n in range(100):
                nursery.start_soon(one, n)
        assert (await post(client, "query", sql="SELECT count(*) AS n FROM t")).json()["items"] == [{"n": 100}]
    used = await served.keeper.until(
        lambda: [u for u in served.keeper.of(Used) if u.incarnation == "one-users" and u.in_flight == 0][-1:]
    )
    assert used
