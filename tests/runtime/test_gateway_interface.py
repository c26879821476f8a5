"""The rest of the HTTP interface: transactions, the schema, tables, forms of values, consistency; real workers, real rqlited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import evolve

from runtime.gateway.arguments import Bound
from runtime.gateway.idempotency import Key
from runtime.gateway.transactions import Atomic, Preflight, Undone
from runtime.gateway.upstream_connection import Response
from runtime.gateway.values import ITEMS
from runtime.gateway.vetting import Read, Write
from tests.runtime.gateway_world import ENDLESS, World, gateway, kind_of, post, rqliteds

pytestmark = pytest.mark.real


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[World]:
    """The database ``users`` with a table ``t``."""
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        async with gateway({("one", "users"): running["one"].url}, statements=20) as world:
            async with world.client() as client:
                made = await post(
                    client, "create-table", schema="CREATE TABLE t (id INTEGER PRIMARY KEY, v, b BLOB, u UNIQUE)"
                )
                assert made.json() == {"rows_affected": 0}
            yield world


async def count(client: httpx.AsyncClient) -> int:
    return (await post(client, "query", sql="SELECT count(*) AS n FROM t")).json()["items"][0]["n"]


async def test_R32_a_transaction_is_all_of_it(served: World) -> None:
    async with served.client() as client:
        done = await post(
            client,
            "transaction",
            queries=[
                "INSERT INTO t(v) VALUES (1), (2)",
                {"sql": "UPDATE t SET v = :v WHERE id = :id", "args": {"v": 5, "id": 2}},
                {"sql": "INSERT INTO t(b) VALUES (?)", "args": [{"base64": "AAH/"}]},
                "CREATE TABLE other (x)",
            ],
        )
        assert done.json() == {
            "success": True,
            "results": [
                {"rows_affected": 2, "last_insert_id": 2},
                {"rows_affected": 1, "last_insert_id": 0},
                {"rows_affected": 1, "last_insert_id": 3},
                {"rows_affected": 0, "last_insert_id": 0},
            ],
        }
        read = await post(
            client, "transaction", queries=["SELECT v FROM t WHERE id = 2", "SELECT b FROM t WHERE id = 3"]
        )
        assert [r["items"] for r in read.json()["results"]] == [[{"v": 5}], [{"b": {"base64": "AAH/"}}]]


async def test_R32_a_transaction_may_read_what_it_writes(served: World) -> None:
    async with served.client() as client:
        done = await post(
            client,
            "transaction",
            queries=[
                "SELECT count(*) AS n FROM t",
                {"sql": "INSERT INTO t(v, b) VALUES (:v, :b)", "args": {"v": 1, "b": {"base64": "AP8="}}},
                {"sql": "SELECT v, b FROM t WHERE v = ?", "args": [1]},
                "VALUES (1)",
            ],
        )
        assert done.json()["results"] == [
            {"items": [{"n": 0}], "count": 1},
            {"rows_affected": 1, "last_insert_id": 1},
            {"items": [{"v": 1, "b": {"base64": "AP8="}}], "count": 1},
            {"items": [{"column1": 1}], "count": 1},
        ]


@pytest.mark.parametrize(
    ("last", "kind", "detail"),
    [
        ("SELECT * FROM nope", "sql-error", "queries[2]: no such table"),
        ("INSERT INTO nope VALUES (1)", "sql-error", "queries[2]: no such table"),
        ("INSERT INTO t(u) VALUES (1)", "sql-error", "queries[2]: UNIQUE"),
        ("SELECT abs(-9223372036854775808)", "sql-error", "queries[2]: integer overflow"),
        ({"sql": "SELECT ?", "args": []}, "sql-error", "queries[2]: not enough args"),
        ({"sql": "DELETE FROM t WHERE id = ?", "args": []}, "sql-error", "queries[2]: not enough args"),
        ("CREATE TABLE x (y)", "sql-refused", "queries[2]: the schema"),
        ("PRAGMA table_info(t)", "sql-refused", "queries[2]: in a transaction"),
        (f"{ENDLESS}", "sql-refused", "queries[2]: in a transaction"),
    ],
)
async def test_R32_what_reads_and_writes_happens_whole_or_not_at_all(
    served: World, last: object, kind: str, detail: str
) -> None:
    """rqlited itself goes on after a statement that it could not prepare, and commits the rest."""
    async with served.client() as client:
        await post(client, "exec", sql="INSERT INTO t(u) VALUES (1)")
        queries = ["INSERT INTO t(u) VALUES (2)", "SELECT 1", last, "INSERT INTO t(u) VALUES (3)"]
        refused = await post(client, "transaction", queries=queries)
        assert kind_of(refused) == kind
        assert detail in refused.json()["detail"]
        assert await count(client) == 1


async def test_R32_a_schema_that_changes_under_a_transaction_undoes_it(tmp_path: Path) -> None:
    """Between the preflight and the transaction: as if the preflight had been for another schema."""
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        async with httpx.AsyncClient(base_url=running["one"].url) as rqlited:
            made = await rqlited.post("/db/execute", json=["CREATE TABLE t (v)", "CREATE TABLE _torpor_x (v)"])
            assert "error" not in made.text
            statements = (Bound("INSERT INTO t VALUES (?)", [1]), Bound("SELECT v FROM t", []))
            verdicts = (Write("", insert=True), Read("", ends=True))

            async def ask(question: Any) -> Any:
                got = await rqlited.post(question.target(5.0), content=question.body)
                return question.answer(Response(got.status_code, got.content))

            schema = await ask(Preflight(statements))
            assert schema == "CREATE TABLE t (v)"
            for key in (None, Key("k", "digest", 0, 60)):
                other = Atomic(statements, verdicts, 10, ITEMS, key, f"{schema} ")
                assert await ask(other) is Undone.MOVED
            assert [r.get("count") for r in await ask(evolve(other, schema=schema))] == [None, 1]
            assert await ask(other) is Undone.REPEATED, "it has happened, whatever the schema is by now"


@pytest.mark.parametrize(
    ("last", "kind", "detail"),
    [
        ("INSERT INTO nope VALUES (1)", "sql-error", "queries[1]: no such table"),
        ("INSERT INTO t(u) VALUES (1)", "sql-error", "queries[1]: UNIQUE"),
        ({"sql": "INSERT INTO t(v) VALUES (?)", "args": []}, "sql-error", "queries[1]: not enough args"),
        ("INSERT INTO t(v) VALUES (1) RETURNING id", "sql-refused", "queries[1]: RETURNING"),
        ("BEGIN", "sql-refused", "queries[1]: "),
        ("nonsense", "sql-error", "queries[1]: "),
        ({"sql": "SELECT 1", "nonsense": 1}, "bad-request", "nonsense"),
    ],
)
async def test_R32_or_nothing(served: World, last: object, kind: str, detail: str) -> None:
    async with served.client() as client:
        await post(client, "exec", sql="INSERT INTO t(u) VALUES (1)")
        refused = await post(client, "transaction", queries=["INSERT INTO t(u) VALUES (2)", last, "DELETE FROM t"])
        assert kind_of(refused) == kind
        assert detail in refused.json()["detail"]
        assert "may_have_committed" not in refused.json()
        assert await count(client) == 1


async def test_F85_the_statements_of_a_transaction_are_bounded(served: World) -> None:
    async with served.client() as client:
        assert kind_of(await post(client, "transaction", queries=["DELETE FROM t"] * 21)) == "too-many-statements"
        assert kind_of(await post(client, "transaction", queries=[])) == "bad-request"
        assert (await post(client, "transaction", queries=["DELETE FROM t"] * 20)).status_code == 200


async def test_R33_R34_tables_and_their_schema(served: World) -> None:
    async with served.client() as client:
        odd = 'a "b"; DROP TABLE t; --'
        quoted = '"' + odd.replace('"', '""') + '"'
        await post(client, "create-table", schema=f'CREATE TABLE {quoted} (x, "y z")')
        expected = {
            "tables": [
                {"name": odd, "columns": ["x", "y z"], "sql": f'CREATE TABLE {quoted} (x, "y z")'},
                {
                    "name": "t",
                    "columns": ["id", "v", "b", "u"],
                    "sql": "CREATE TABLE t (id INTEGER PRIMARY KEY, v, b BLOB, u UNIQUE)",
                },
            ]
        }
        assert (await post(client, "schema")).json() == expected
        assert (await client.get("/v1/database/schema?database=users")).json() == expected
        assert kind_of(await client.get("/v1/database/schema?database=users&x=1")) == "bad-request"
        assert kind_of(await client.get("/v1/database/schema")) == "bad-request"
        assert (await post(client, "drop-table", table_name=odd)).json() == {"rows_affected": 0}
        assert [t["name"] for t in (await post(client, "schema")).json()["tables"]] == ["t"]
        for name, kind in (
            ("", "bad-request"),
            ("nope", "sql-error"),
            ("a\0b", "bad-request"),
            ("_torpor_x", "sql-refused"),
        ):
            assert kind_of(await post(client, "drop-table", table_name=name)) == kind
        for schema in ("DROP TABLE t", "SELECT 1", "CREATE INDEX i ON t(v)"):
            assert kind_of(await post(client, "create-table", schema=schema)) == "wrong-endpoint"


async def test_R31_forms_of_rows_and_values(served: World) -> None:
    async with served.client() as client:
        big = 2**53
        await post(client, "exec", sql="INSERT INTO t(id, v, b) VALUES (?, ?, ?)", args=[1, big, {"base64": "AP8="}])
        await post(
            client,
            "exec",
            sql="INSERT INTO t(id, v, b) VALUES (:i, :n, :b)",
            args={"i": 2, "n": None, "b": {"base64": ""}},
        )
        await post(client, "exec", sql="INSERT INTO t(id, v, b) VALUES (3, 1.5, 'text in a BLOB column')")
        sql = "SELECT id, v, b, v FROM t ORDER BY id"
        items = (await post(client, "query", sql=sql)).json()["items"]
        assert items == [
            {"id": 1, "v": big, "b": {"base64": "AP8="}, "v:1": big},
            {"id": 2, "v": None, "b": {"base64": ""}, "v:1": None},
            {"id": 3, "v": 1.5, "b": "text in a BLOB column", "v:1": 1.5},
        ]
        rows = (await post(client, "query", sql=sql, format="rows", big_integers="text")).json()
        assert rows["columns"] == ["id", "v", "b", "v"]
        assert len(rows["types"]) == 4
        assert rows["count"] == 3
        assert rows["rows"][0] == [1, str(big), {"base64": "AP8="}, str(big)]
        returned = await post(client, "exec", sql="UPDATE t SET v = 2 WHERE id = 1 RETURNING id, b", format="rows")
        assert returned.json()["rows"] == [[1, {"base64": "AP8="}]]


async def test_R31_what_cannot_be_told_exactly_is_refused(served: World) -> None:
    async with served.client() as client:
        await post(client, "exec", sql="INSERT INTO t(id, v) VALUES (1, x'00ff'), (2, ?)", args=["\\ufffd \ufffd \\"])
        refused = await post(client, "query", sql="SELECT v FROM t WHERE id = 1")
        assert (kind_of(refused), refused.status_code) == ("value-not-exact", 422)
        assert (await post(client, "query", sql="SELECT hex(v) AS v FROM t WHERE id = 1")).json()["items"] == [
            {"v": "00FF"}
        ]
        text = await post(client, "query", sql="SELECT v FROM t WHERE id = 2")
        assert text.json()["items"] == [{"v": "\\ufffd \ufffd \\"}]
        await post(client, "create-table", schema="CREATE TABLE times (at DATETIME)")
        await post(client, "exec", sql="INSERT INTO times VALUES ('2020-01-01'), ('tomorrow')")
        assert kind_of(await post(client, "query", sql="SELECT at FROM times")) == "value-not-exact"
        again = await post(client, "exec", sql="UPDATE times SET at = at RETURNING at")
        assert (kind_of(again), again.json()["may_have_committed"]) == ("value-not-exact", True)
        cast = await post(client, "query", sql="SELECT CAST(at AS TEXT) AS at FROM times")
        assert cast.json()["items"] == [{"at": "2020-01-01"}, {"at": "tomorrow"}]


async def test_consistency_is_the_caller_s_choice(served: World) -> None:
    async with served.client() as client:
        for level in ("weak", "strong", "none"):
            assert (await post(client, "query", sql="SELECT 1 AS x", consistency=level)).json()["items"] == [{"x": 1}]
        assert kind_of(await post(client, "query", sql="SELECT 1", consistency="linear")) == "bad-request"


async def test_R37_a_transaction_has_a_time_of_its_own(tmp_path: Path) -> None:
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        users = {("one", "users"): running["one"].url}
        async with gateway(users, transaction_timeout_s=1.0) as world, world.client() as client:
            late = await post(client, "transaction", queries=["SELECT 1", ENDLESS])
            assert (kind_of(late), late.status_code) == ("query-timeout", 504)
            assert "may_have_committed" not in late.json()
            await world.keeper.drained(world.keeper.door("one", "users", is_open=False))
