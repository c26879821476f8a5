"""R20 and F86 against a real gateway and a real rqlited: both clients, both event loops, and workers that end under them."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from runtime.client import (
    AsyncClient,
    Client,
    MayHaveCommitted,
    Refused,
    Rows,
    SQLError,
    SQLRefused,
    Timeout,
    Unauthorized,
    Unreachable,
    Written,
)
from runtime.gateway.frames import WorkerJoined
from tests.runtime.gateway_world import World, free_port, gateway, rqliteds

pytestmark = pytest.mark.real

PEOPLE = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, weight REAL, photo BLOB)"


@asynccontextmanager
async def users(directory: Path, workers: int = 1) -> AsyncIterator[World]:
    """A gateway of two applications, each with a database ``users``."""
    with rqliteds(directory, "one", "two") as running:
        for each in running.values():
            await each.ready()
        urls = {(app, "users"): each.url for app, each in running.items()}
        async with gateway(urls, workers=workers) as world:
            yield world


def speak(world: World) -> Client:
    return Client(app="one", peers=[world.address], key=world.keys["one"])


async def test_R20_the_synchronous_client(tmp_path: Path, rqlited_path: Path) -> None:
    async with users(tmp_path) as world:
        await trio.to_thread.run_sync(_a_life, world)


def _a_life(world: World) -> None:
    with speak(world) as client:
        assert client.list() == ("users",)
        users = client.database("users")
        assert users.create_table(PEOPLE) == 0
        assert users.schema()["people"].columns == ("id", "name", "weight", "photo")
        written = users.execute("INSERT INTO people (name, weight) VALUES (?, ?)", ["Ada", 60.0])
        assert written == Written(rows_affected=1, last_insert_id=1)
        assert users.query("SELECT id, name FROM people").dicts() == [{"id": 1, "name": "Ada"}]
        results = users.transaction(
            [
                ("INSERT INTO people (name) VALUES (:name)", {"name": "Grace"}),
                "UPDATE people SET weight = 1.5",
            ]
        )
        assert [result.rows_affected for result in results if isinstance(result, Written)] == [1, 2]
        with pytest.raises(SQLError) as caught:
            users.transaction(["DELETE FROM people", "DELETE FROM nowhere"])
        assert caught.value.status == 400
        assert caught.value.request_id
        assert not caught.value.may_have_committed
        assert users.query("SELECT count(*) FROM people").scalar() == 2
        returned = users.execute("DELETE FROM people WHERE id = 2 RETURNING name").returned
        assert returned is not None
        assert returned.rows == (("Grace",),)
        assert users.drop_table("people") == 0
        assert "people" not in users.schema()


async def test_R20_the_asynchronous_client_on_trio(tmp_path: Path, rqlited_path: Path) -> None:
    async with users(tmp_path) as world:
        await _an_async_life(world)


async def test_R20_the_asynchronous_client_on_asyncio(tmp_path: Path, rqlited_path: Path) -> None:
    async with users(tmp_path) as world:
        await trio.to_thread.run_sync(asyncio.run, _an_async_life(world))


async def _an_async_life(world: World) -> None:
    async with AsyncClient(app="one", peers=[world.address], key=world.keys["one"]) as client:
        assert await client.list() == ("users",)
        users = client.database("users")
        for _ in range(2):
            await users.create_table(PEOPLE, idempotency_key="create")
        await users.execute("INSERT INTO people (name) VALUES (?)", ["Ada"])
        await users.transaction([("INSERT INTO people (name) VALUES (?)", ["Grace"])])
        rows = await users.query("SELECT name FROM people ORDER BY id", consistency="strong")
        assert rows.rows == (("Ada",), ("Grace",))
        assert (await users.schema())["people"].columns[0] == "id"
        with pytest.raises(SQLRefused):
            await users.query("ATTACH 'x' AS y")
        await users.drop_table("people")


VALUES = [None, 0, -(1 << 63), (1 << 63) - 1, (1 << 53) + 1, 1.0, -0.5, 1e300, "", "é€😀\n", "2026-01-31T00:00:00Z"]
BLOBS = [b"", b"text", b"\x00\xff" * 100]
TIMES = ["2026-01-31 12:00:00", "2026-01-31 12:00:00.5", "0099-12-31 23:59:59"]


async def test_what_is_stored_is_what_comes_back(tmp_path: Path, rqlited_path: Path) -> None:
    async with users(tmp_path) as world:
        await trio.to_thread.run_sync(_values_and_back, world)


def _values_and_back(world: World) -> None:
    with speak(world) as client:
        users = client.database("users")
        users.create_table("CREATE TABLE t (v, r REAL, b BLOB, w DATETIME, d DATE, y BOOLEAN)")
        kinds = {type(None): "null", int: "integer", float: "real", str: "text"}
        for value in VALUES:
            users.execute("DELETE FROM t")
            users.execute("INSERT INTO t (v, r) VALUES (?, ?)", [value, value])
            (found,) = users.query("SELECT v, typeof(v), r FROM t")
            assert found[:2] == (value, kinds[type(value)])
            if isinstance(value, float):
                assert found[2] == value
                assert type(found[2]) is float
        for blob in BLOBS:
            users.execute("UPDATE t SET b = ?", [blob])
            assert users.query("SELECT b, typeof(b), length(b) FROM t").rows == ((blob, "blob", len(blob)),)
        for time in TIMES:
            users.execute("UPDATE t SET w = :w, d = :d, y = :y", {"w": time, "d": time[:10], "y": True})
            assert users.query("SELECT w, d, y, typeof(y) FROM t").rows == ((time, time[:10], True, "integer"),)
        users.execute("UPDATE t SET v = ?, r = ?, b = ?", [math.nan, True, memoryview(bytearray(b"cd"))])
        assert users.query("SELECT v, r, b FROM t").rows == ((None, 1.0, b"cd"),)
        assert users.query("SELECT 1 AS a, 2 AS a").columns == ("a", "a")


@pytest.mark.parametrize("value", [1 << 63, math.inf, object(), {1: 2}, ["x"]])
def test_what_sqlite_cannot_store_is_refused_before_it_is_sent(value: object) -> None:
    client = Client("one", ["http://127.0.0.1:1"], "torpor_key")
    with pytest.raises((TypeError, ValueError)):
        client.database("users").execute("INSERT INTO t VALUES (?)", [value])


async def test_R36_a_wrong_key_is_said_at_once(tmp_path: Path, rqlited_path: Path) -> None:
    async with users(tmp_path) as world:
        with pytest.raises(Unauthorized):
            async with AsyncClient("one", [world.address], world.keys["one"][:-1] + "!"):
                pass


async def test_an_idempotency_key_makes_one_write_of_two(tmp_path: Path, rqlited_path: Path) -> None:
    async with users(tmp_path) as world, AsyncClient("one", [world.address], world.keys["one"]) as client:
        users_ = client.database("users")
        await users_.execute("CREATE TABLE t (v)")
        for again in (False, True):
            written = await users_.execute("INSERT INTO t VALUES (1)", idempotency_key="once")
            assert written == Written(1, 1, repeated=again)
        assert (await users_.query("SELECT count(*) FROM t")).scalar() == 1
        with pytest.raises(Refused) as caught:
            await users_.execute("INSERT INTO t VALUES (2)", idempotency_key="once")
        assert caught.value.type == "idempotency-key-reused"


async def test_the_next_gateway_is_asked_where_one_is_gone(tmp_path: Path, rqlited_path: Path) -> None:
    async with users(tmp_path) as world:
        gone = f"http://127.0.0.1:{free_port()}"
        async with AsyncClient("one", [gone, world.address], world.keys["one"]) as client:
            assert (await client.database("users").query("SELECT 1")).scalar() == 1
        with pytest.raises(Unreachable) as caught:
            await AsyncClient("one", [gone], world.keys["one"], patience=0).list()
        assert gone in caught.value.detail


async def test_F86_a_connection_that_ends_under_a_write_is_not_tried_again() -> None:
    taken: list[bytes] = []

    async def take_and_leave(stream: trio.SocketStream) -> None:
        async with stream:
            taken.append(await stream.receive_some(65536))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, take_and_leave, 0)
        port = listeners[0].socket.getsockname()[1]
        client = AsyncClient("one", [f"http://127.0.0.1:{port}"], "torpor_key", patience=0.5)
        with pytest.raises(MayHaveCommitted):
            await client.database("users").execute("DELETE FROM t")
        assert len(taken) == 1
        with pytest.raises(MayHaveCommitted) as caught:
            await client.database("users").execute("DELETE FROM t", idempotency_key=True)
        assert caught.value.idempotency_key
        assert len(taken) > 2
        keys = [head.partition(b"idempotency-key: ")[2][:32] for head in taken[1:]]
        assert set(keys) == {caught.value.idempotency_key.encode()}
        await client.disconnect()
        nursery.cancel_scope.cancel()


async def test_R37_an_answer_that_never_ends_is_given_up() -> None:
    async def begin_and_wait(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, begin_and_wait, 0)
        peer = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        client = AsyncClient("one", [peer], "torpor_key", timeout=0.2)
        with pytest.raises(Timeout):
            await client.database("users").query("SELECT 1")
        with pytest.raises(MayHaveCommitted):
            await client.database("users").execute("DELETE FROM t")
        await client.disconnect()
        blocking = Client("one", [peer], "torpor_key", timeout=0.2)
        with pytest.raises(Timeout):
            await trio.to_thread.run_sync(blocking.database("users").query, "SELECT 1")
        blocking.disconnect()
        nursery.cancel_scope.cancel()


REQUESTS = 500
LANES = 8


async def test_F86_workers_that_are_ended_one_after_the_other_lose_no_request(
    tmp_path: Path, rqlited_path: Path
) -> None:
    async with users(tmp_path, workers=2) as world:
        client = AsyncClient("one", [world.address], world.keys["one"])
        table = client.database("users")
        await table.execute("CREATE TABLE t (v INTEGER PRIMARY KEY)")
        written: list[int] = []
        reached = {quarter: trio.Event() for quarter in (1, 2, 3, 4)}

        async def lane(first: int) -> None:
            for number in range(first, REQUESTS, LANES):
                await table.execute("INSERT INTO t VALUES (?)", [number], idempotency_key=True)
                written.append(number)
                if len(written) % (REQUESTS // 4) == 0:
                    reached[4 * len(written) // REQUESTS].set()
                rows = await table.query("SELECT v FROM t WHERE v = ?", [number])
                assert rows.scalar() == number

        async def end_workers() -> None:
            for ended, worker in enumerate(world.workers(), start=1):
                await reached[ended].wait()
                worker.terminate()
                # The host reaps it and starts another.
                await world.keeper.until(lambda joined=2 + ended: len(world.keeper.of(WorkerJoined)) == joined)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_workers)
            for first in range(LANES):
                nursery.start_soon(lane, first)
        assert sorted(written) == list(range(REQUESTS))
        rows = await table.query("SELECT v FROM t ORDER BY v")
        assert isinstance(rows, Rows)
        assert rows.rows == tuple((number,) for number in range(REQUESTS))
        await client.disconnect()


def test_the_client_brings_no_node_with_it() -> None:
    program = "import runtime.client, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"trio", "libp2p", "uvicorn", "uvloop", "starlette", "structlog", "protocol"} & set(done.stdout.split())
