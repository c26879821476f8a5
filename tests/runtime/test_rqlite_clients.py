"""Clients of rqlite, as they are, on a cluster of three real nodes: what they do with rqlite they do here, and a database that has fallen
asleep between two of their calls is awake with the second."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest
import rqdb
import sqlalchemy as sa
import trio
from pyrqlite import dbapi2
from pyrqlite.exceptions import Error as PyrqliteError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from runtime.spawned_cluster import ask
from tests.runtime.cluster_world import cluster
from tests.runtime.node_world import APP, ELSE, World, until_asleep

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

T = TypeVar("T")


class Listener:
    """Where one node serves clients of rqlite."""

    def __init__(self, node: World, url: str) -> None:
        self.node = node
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        self.url = url
        self.key = node.keys[APP]


@asynccontextmanager
async def listeners(directory: Path, **settings: Any) -> AsyncGenerator[list[Listener]]:
    async with cluster(directory, gateway={"rqlite_listen": "127.0.0.1:0"}, **settings) as nodes:
        yield [Listener(node, (await ask(node.node, "status"))["rqlite"]) for node in nodes]


async def blocking(call: Callable[..., T], *args: Any) -> T:
    return await trio.to_thread.run_sync(partial(call, *args))


async def test_R30_R31_pyrqlite_as_it_is(tmp_path: Path) -> None:
    def connect(to: Listener, key: str = "") -> Any:
        return dbapi2.connect(host=to.host, port=to.port, user="users", password=key or to.key)

    def first(to: Listener) -> None:
        connection = connect(to)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, face BLOB)")
            cursor.executemany("INSERT INTO people (name) VALUES (?)", [("Ada",), ("Grace 'O'",)])
            cursor.execute("INSERT INTO people (name) VALUES (:name)", {"name": "Lin"})
            assert cursor.lastrowid == 3
            cursor.execute("UPDATE people SET name = name || '!' WHERE id <= ?", (2,))
            assert cursor.rowcount == 2
        connection.close()

    def second(to: Listener) -> None:
        connection = connect(to)
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, name FROM people ORDER BY id")
            assert [tuple(row.values()) for row in cursor.fetchall()] == [(1, "Ada!"), (2, "Grace 'O'!"), (3, "Lin")]
            assert [column[0] for column in cursor.description] == ["id", "name"]
            with pytest.raises(PyrqliteError, match="no such table"):
                cursor.execute("SELECT * FROM nobody")
            with pytest.raises(PyrqliteError, match="not allowed"):
                cursor.execute("ATTACH DATABASE '/tmp/elsewhere' AS other")
        connection.close()

    async with listeners(tmp_path, hibernation_timeout="700ms") as (one, two, three):
        await blocking(first, one)
        await until_asleep([one.node, two.node, three.node])
        await blocking(second, three)
        wrong = connect(two, "torpor_00000000_" + 22 * "x")
        with pytest.raises(PyrqliteError, match="401"):
            await blocking(wrong.execute, "SELECT 1")
        wrong.close()


async def test_R32_rqdb_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def story(to: Listener) -> None:
        # It has no option for credentials; requests, which it uses, takes them from here.
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine {to.host} login users password {to.key}\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        connection = rqdb.connect([f"{to.host}:{to.port}"])
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        done = cursor.execute("INSERT INTO people (name) VALUES (?)", ["Ada"])
        assert (done.rows_affected, done.last_insert_id) == (1, 1)
        with pytest.raises(rqdb.errors.DBError, match="UNIQUE"):
            cursor.executemany2(["INSERT INTO people (name) VALUES (?)"] * 2, [["Grace"], ["Ada"]], raise_on_error=True)
        for consistency in ("none", "weak", "strong"):
            rows = cursor.execute("SELECT name FROM people", read_consistency=consistency)
            assert rows.results == [["Ada"]], "all or nothing"
        several = cursor.executeunified2(["SELECT 1", "SELECT ?"], [[], ["two"]])
        assert [item.results for item in several.items] == [[[1]], [["two"]]]
        both = cursor.executeunified2(["DELETE FROM people", "SELECT count(*) FROM people"], transaction=False)
        assert (both.items[0].rows_affected, both.items[1].results) == (1, [[0]])

    async with listeners(tmp_path) as (one, *_others):
        await blocking(story, one)


async def test_R20_sqlalchemy_rqlite_as_it_is(tmp_path: Path) -> None:
    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "people"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    def engine(to: Listener) -> sa.Engine:
        return sa.create_engine(f"rqlite+pyrqlite://users:{to.key}@{to.host}:{to.port}/")

    def write(to: Listener) -> None:
        made = engine(to)
        Base.metadata.create_all(made)
        with Session(made) as session:
            session.add_all([Person(name="Ada"), Person(name="Grace")])
            session.commit()
        made.dispose()

    def read(to: Listener) -> None:
        made = engine(to)
        with Session(made) as session:
            assert session.scalars(sa.select(Person.name).order_by(Person.id)).all() == ["Ada", "Grace"]
            session.execute(sa.delete(Person).where(Person.name == "Ada"))
            assert session.scalar(sa.select(sa.func.count()).select_from(Person)) == 1
        assert sa.inspect(made).get_table_names() == ["people"]
        made.dispose()

    async with listeners(tmp_path, hibernation_timeout="700ms") as (one, two, three):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            await blocking(write, one)
            await until_asleep([one.node, two.node, three.node])
            await blocking(read, two)


async def test_F85_F86_F89_F93_what_rqlites_form_may_not_do(tmp_path: Path) -> None:
    """Through the node that hosts the database, and through one that does not."""
    async with listeners(tmp_path, database={"replication_factor": 1}) as found:
        member, other = found[0], found[1]
        async with client(member) as here:
            await here.post("/db/execute", json=["CREATE TABLE t (a, b BLOB)"])
        hosting = [one for one in found if one.node.rqliteds(f"{APP}_users")]
        assert len(hosting) == 1
        member, other = hosting[0], next(one for one in found if one is not hosting[0])
        for at in (member, other):
            async with client(at) as asking:
                await one_by_one(asking)
        async with client(other, ELSE) as stranger:
            answer = await stranger.post("/db/query", json=["SELECT * FROM t"])
            assert "no such table" in answer.json()["results"][0]["error"], "its own database of that name"


async def one_by_one(asking: httpx.AsyncClient) -> None:
    async def results(path: str, *statements: Any) -> list[dict[str, Any]]:
        answer = await asking.post(path, json=list(statements))
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    assert "error" not in (await results("/db/execute?transaction", "DELETE FROM t", "DELETE FROM t"))[1]
    (wrong,) = await results("/db/query", "INSERT INTO t VALUES (1, 2)")
    assert "change database via query" in wrong["error"]
    (wrong,) = await results("/db/execute", "SELECT 1")
    assert "/db/query" in wrong["error"]
    for statement in ("ATTACH 'x' AS y", "VACUUM INTO 'x'", "BEGIN", "/* */", "SELECT load_extension('x')"):
        for path in ("/db/execute", "/db/query", "/db/request"):
            (wrong,) = await results(path, statement)
            assert wrong["error"]
    two = await results("/db/execute", "INSERT INTO t VALUES (1, 2)", "BEGIN")
    assert ["not carried out" in one["error"] for one in two] == [True, False]
    assert await results("/db/query?level=strong", "SELECT count(*) FROM t") == [
        {"columns": ["count(*)"], "types": ["integer"], "values": [[0]]}
    ]
    await results("/db/execute?queue&noparse", ["INSERT INTO t VALUES (?, ?)", 1, [0, 255, 7]])
    (row,) = await results("/db/query?associative&blob_array", "SELECT * FROM t")
    assert row["rows"] == [{"a": 1, "b": [0, 255, 7]}]
    (named,) = await results("/db/request", ["SELECT :x AS x", {"x": 5}])
    assert named["values"] == [[5]]
    endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"
    answer = await asking.get("/db/query", params={"q": endless, "db_timeout": "300ms"})
    assert "interrupted" in answer.text or "timeout" in answer.text
    for body in (b"", b"{}", b"[]", b"[1]", b'[["SELECT ?", {"a": 1}, 2]]', b'[["SELECT ?", [256]]]'):
        assert (await asking.post("/db/query", content=body)).status_code == 400
    assert (await asking.get("/db/query")).status_code == 400
    assert (await asking.get("/db/load")).status_code == 404
    assert (await asking.delete("/remove")).status_code in (404, 405)
    assert (await asking.get("/status")).json()["store"]["leader"]["addr"]
    assert next(iter((await asking.get("/nodes")).json().values()))["leader"]
    assert "leader ok" in (await asking.get("/readyz")).text


def client(to: Listener, app: str = APP, database: str = "users") -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=to.url, auth=(database, to.node.keys[app]), timeout=40)


async def test_R36_who_is_refused_is_told_how_to_come_in(tmp_path: Path) -> None:
    async with listeners(tmp_path, size=1) as (one,):
        for auth in (None, ("users", "nonsense"), ("users", "")):
            async with httpx.AsyncClient(base_url=one.url, auth=auth) as asking:
                for path in ("/db/query?q=SELECT%201", "/status", "/nowhere"):
                    answer = await asking.get(path)
                    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Basic realm="torpor"')
        for bad in ("../up", "", "a/b"):
            async with client(one, database=bad) as asking:
                assert (await asking.get("/db/query?q=SELECT%201")).status_code == 400
