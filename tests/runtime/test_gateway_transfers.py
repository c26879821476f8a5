"""Whole databases out and in, with real workers and real rqlited, here and over the hop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import trio

from runtime.gateway.certificates import Certificate, provide
from runtime.gateway.frames import Ask, DoorAck
from runtime.gateway.problems import Refusal
from runtime.gateway.transfers import check_file
from runtime.gateway.upstream_connection import Broken, Incoming
from tests.runtime.gateway_world import World, gateway, kind_of, post, rqliteds

pytestmark = pytest.mark.real

IMPORT = "/v1/database/import?database=users"
EXPORT = "/v1/database/export?database=users"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[World]:
    """Two empty databases, ``users`` of two applications."""
    with rqliteds(tmp_path, "one", "two") as running:
        for each in running.values():
            await each.ready()
        urls = {(app, "users"): r.url for app, r in running.items()}
        async with gateway(urls, import_bytes=300_000) as world:
            yield world


def database(*statements: str) -> bytes:
    with closing(sqlite3.connect(":memory:")) as made:
        for statement in statements:
            made.execute(statement)
        made.commit()
        return made.serialize()


def rows_of(file: bytes, sql: str, directory: Path) -> list[tuple[object, ...]]:
    path = directory / "export.db"
    path.write_bytes(file)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert opened.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        return opened.execute(sql).fetchall()


async def test_a_database_goes_out_and_into_another(served: World, tmp_path: Path) -> None:
    async with served.client("one") as one, served.client("two") as two:
        await post(one, "create-table", schema="CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
        await one.post(
            "/v1/database/exec",
            json={"database": "users", "sql": "INSERT INTO t(v) VALUES (?), ('x')", "args": [{"base64": "AP8="}]},
            headers={"Idempotency-Key": "k"},
        )
        out = await one.get(EXPORT)
        assert out.headers["content-type"] == "application/vnd.sqlite3"
        assert rows_of(out.content, "SELECT id, v FROM t", tmp_path) == [(1, b"\0\xff"), (2, "x")]
        done = await two.post(IMPORT, content=out.content)
        assert done.json() == {"success": True}
        rows = await post(two, "query", sql="SELECT v FROM t ORDER BY id")
        assert rows.json()["items"] == [{"v": {"base64": "AP8="}}, {"v": "x"}]
        assert (await post(two, "exec", sql="INSERT INTO t(v) VALUES (3)")).json()["last_insert_id"] == 3
        again = await two.post(IMPORT, content=out.content)
        assert (kind_of(again), again.status_code) == ("not-empty", 409)
        repeated = await two.post(
            "/v1/database/exec",
            json={"database": "users", "sql": "INSERT INTO t(v) VALUES (?), ('x')", "args": [{"base64": "AP8="}]},
            headers={"Idempotency-Key": "k"},
        )
        assert repeated.json()["repeated"] is True, "keys go along"


def damaged(file: bytes) -> bytes:
    page = int.from_bytes(file[16:18], "big")
    return file[:page] + bytes(100) + file[page + 100 :]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: b"", "not an SQLite"),
        (lambda: b"SQLite format 3\0garbage" * 100, ""),
        (lambda: database("CREATE TABLE t (v)", "INSERT INTO t VALUES (1)")[:-4096], "malformed"),
        (lambda: damaged(database("CREATE TABLE t (v)", "INSERT INTO t VALUES (1)")), "damaged"),
        (lambda: database("CREATE TABLE t (v)")[:-1000], "cut short"),
        (lambda: database("CREATE TABLE t (v)", "CREATE VIEW w AS SELECT load_extension('x')"), "load_extension"),
        (
            lambda: database(
                "CREATE TABLE t (v)",
                "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO t SELECT * FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x FROM c); END",
            ),
            "recursive",
        ),
        (lambda: database("CREATE TABLE _torpor_idempotency (key)"), "gateway's own"),
    ],
)
async def test_F85_what_is_damaged_or_not_allowed_never_reaches_rqlited(
    served: World, made: Callable[[], bytes], reason: str
) -> None:
    async with served.client() as client:
        refused = await client.post(IMPORT, content=made())
        assert (kind_of(refused), refused.status_code) == ("invalid-file", 422)
        assert reason in refused.json()["detail"]
        assert (await post(client, "query", sql="SELECT 1 AS x")).json()["items"] == [{"x": 1}]


def test_a_file_with_what_SQLite_itself_keeps_is_allowed() -> None:
    check_file(
        database(
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE)",
            "INSERT INTO t(v) VALUES (1)",
            "ANALYZE",
            "CREATE VIRTUAL TABLE f USING fts5(x)",
            "CREATE INDEX i ON t(v)",
        )
    )
    with pytest.raises(Refusal):
        check_file(b"SQLite format 3\0" + bytes(1000))


async def test_F85_the_file_is_bounded(served: World) -> None:
    async with served.client() as client:
        refused = await client.post(IMPORT, content=bytes(300_001))
        assert (kind_of(refused), refused.status_code) == ("file-too-large", 413)
        for target in ("/v1/database/import", f"{IMPORT}&x=1", f"{IMPORT}&database=b"):
            assert kind_of(await client.post(target, content=b"x")) == "bad-request"
        assert kind_of(await client.get("/v1/database/export?database=../x")) == "invalid-name"


async def test_P30_an_export_is_counted_until_its_client_has_it_or_has_left(served: World) -> None:
    """A client that reads nothing holds the door; one that leaves does not."""
    async with served.client() as client:
        await post(client, "create-table", schema="CREATE TABLE t (v)")
        for _ in range(24):
            await post(client, "exec", sql="INSERT INTO t VALUES (zeroblob(1000000))")
        async with client.stream("GET", EXPORT) as out:
            assert out.status_code == 200
            generation = served.keeper.door("one", "users", is_open=False)
            ack = await served.keeper.until(
                lambda: next((a for a in served.keeper.of(DoorAck) if a.generation == generation), None)
            )
            assert ack.in_flight == 1
        await served.keeper.drained(generation)
        served.keeper.door("one", "users", is_open=True)
        size = 0
        async with client.stream("GET", EXPORT) as out:
            async for chunk in out.aiter_raw():
                size += len(chunk)
        assert size > 24_000_000
        await served.keeper.drained(served.keeper.door("one", "users", is_open=False))


async def test_F85_a_streamed_answer_is_read_no_faster_than_it_is_wanted() -> None:
    class Transport(asyncio.Transport):
        reading = True

        def pause_reading(self) -> None:
            self.reading = False

        def resume_reading(self) -> None:
            self.reading = True

        def is_closing(self) -> bool:
            return False

    async def both() -> None:
        transport = Transport()
        incoming = Incoming(transport)
        chunk, fed, read = bytes(100_000), 0, 0
        while transport.reading and fed < 10_000_000:
            incoming.feed(chunk)
            fed += len(chunk)
        assert fed < 1_500_000
        while not transport.reading:
            read += len(await anext(incoming))
        assert 0 < read < fed
        incoming.end(Broken("half of it"))
        for _ in range((fed - read) // len(chunk)):
            read += len(await anext(incoming))
        assert read == fed, "what came is given"
        with pytest.raises(Broken):
            await anext(incoming)

    await trio.to_thread.run_sync(asyncio.run, both())


async def test_R37_an_export_that_nobody_reads_ends(tmp_path: Path) -> None:
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        url = running["one"].url
        async with gateway({("one", "users"): url}, transfer_timeout_s=2.0) as world, world.client() as client:
            await post(client, "create-table", schema="CREATE TABLE t (v)")
            for _ in range(24):
                await post(client, "exec", sql="INSERT INTO t VALUES (zeroblob(1000000))")
            async with client.stream("GET", EXPORT) as out:
                await world.keeper.drained(world.keeper.door("one", "users", is_open=False))
                with pytest.raises(httpx.RemoteProtocolError):
                    async for _ in out.aiter_raw():
                        pass


async def test_F93_both_go_over_the_hop(tmp_path: Path) -> None:
    made = [certificate(tmp_path, name) for name in ("outside", "member")]
    users = ("one", "users")
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        async with (
            gateway(certificate=made[0]) as outside,
            gateway({users: running["one"].url}, certificate=made[1]) as member,
            outside.client() as client,
        ):
            outside.keeper.hops[users] = [(member.hop,)]
            member.host.believe(None, (made[0].fingerprint,))
            file = database("CREATE TABLE t (v)", "INSERT INTO t VALUES (5)")
            assert (await client.post(IMPORT, content=file)).json() == {"success": True}
            out = await client.get(EXPORT)
            assert rows_of(out.content, "SELECT v FROM t", tmp_path) == [(5,)]
            assert kind_of(await client.post(IMPORT, content=file)) == "not-empty"
            assert kind_of(await client.get("/v1/database/export?database=other")) == "max-databases"
            assert len(member.keeper.of(Ask)) == 1
            assert len(outside.keeper.of(Ask)) == 2


def certificate(directory: Path, name: str) -> Certificate:
    identity = directory / f"identity-{name}"
    identity.mkdir(mode=0o700)
    return provide(identity, bytes(32), name)
