"""A real node on a real rqlited: a database's life over HTTP, and what is left of it when it sleeps and when the node stops."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from tests.runtime.node_world import action, event, listening, open_files_below, outcome, until_asleep, world

pytestmark = pytest.mark.real


async def test_R1_R4_R5_R41_R42_R43_first_access_creates_idleness_sleeps_and_the_next_query_wakes(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, hibernation_timeout="2s") as w:
        assert await w.execute("orders", "CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)") == {
            "rows_affected": 0,
            "last_insert_id": 0,
        }
        assert await w.execute("orders", "INSERT INTO t (n) VALUES (?)", [7]) == {
            "rows_affected": 1,
            "last_insert_id": 1,
        }
        assert await w.rows("orders", "SELECT n FROM t") == [{"n": 7}]
        started = await w.until(event("instance started", database="shop_orders"))
        assert {"node_id", "http_port", "raft_port", "because"} <= started.keys()  # R60
        here = w.data / "shop_orders"
        (process,) = w.rqliteds("shop_orders")
        assert listening(started["http_port"])

        await until_asleep([w], "orders")
        assert not process.is_running()
        assert not listening(started["http_port"])
        assert not listening(started["raft_port"])
        (incarnation,) = here.iterdir()
        assert (
            not (incarnation / "rqlite" / "db.sqlite-wal").exists()
            or (incarnation / "rqlite" / "db.sqlite-wal").stat().st_size == 0
        )

        assert await w.rows("orders", "SELECT n FROM t") == [{"n": 7}]
        woken = await w.until(event("woken", database="shop_orders"))
        assert woken["http_port"] == started["http_port"]  # R43: the original ports
        async with w.client() as client:
            assert (await client.get("/v1/database/list")).json() == {"databases": ["orders"]}  # R35
        for told in ("create request received", "database created", "database idle", "wakeup request received"):
            assert w.count(event(told, database="shop_orders")) == 1, told


@pytest.mark.slow
async def test_R4_R5_ten_sleeps_and_wakes_under_writes_keep_every_acknowledged_row(tmp_path: Path) -> None:
    async with world(tmp_path, hibernation_timeout="300ms") as w:
        await w.execute("orders", "CREATE TABLE t (n INT)")
        n = 0
        for sleeps in range(1, 11):
            for _ in range(5):
                await w.execute("orders", "INSERT INTO t VALUES (?)", [n])
                n += 1
            await until_asleep([w], "orders")
            assert w.count(event("hibernated", because="not all stopped cleanly: not sealed")) == 0
            assert w.count(event("hibernated")) >= sleeps  # a busy machine may be long enough between two writes
        assert [row["n"] for row in await w.rows("orders", "SELECT n FROM t ORDER BY n")] == list(range(n))


async def test_F24_a_restarted_node_finds_the_active_and_the_sleeping_database(tmp_path: Path) -> None:
    async with world(tmp_path, hibernation_timeout="2s") as w:
        await w.execute("sleepy", "CREATE TABLE t (n INT)")
        await w.execute("sleepy", "INSERT INTO t VALUES (1)")
        await until_asleep([w], "sleepy")
        await w.execute("busy", "CREATE TABLE t (n INT)")
        await w.execute("busy", "INSERT INTO t VALUES (2)")
        assert await w.node.stop() == 0
        at = len(w.lines)
        await w.start()
        results = await w.until(event("reconciliation results"), since=at)
        assert (results["active"], results["hibernating"]) == (1, 1)
        await w.until(event("instance started", database="shop_busy"), since=at)  # without being asked
        assert w.rqliteds("shop_sleepy") == []
        assert await w.rows("busy", "SELECT n FROM t") == [{"n": 2}]
        assert await w.rows("sleepy", "SELECT n FROM t") == [{"n": 1}]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_ends_children_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    async with world(tmp_path) as w:
        await w.execute("a", "CREATE TABLE t (n INT)")
        await w.execute("b", "CREATE TABLE t (n INT)")
        assert len(w.rqliteds()) == 2
        assert w.node.status()["pid"] == w.node.pid
        assert w.node.status()["gateway"] == w.node.gateway
        w.node.process.send_signal(number)
        with trio.fail_after(10):  # what is promised is 5 s; this machine may be busy
            assert await w.node.process.wait() == 0
        assert w.leftovers() == []
        assert w.node.status() == {}
        assert open_files_below(w.data) == []


async def test_a_query_in_flight_is_answered_before_the_node_ends(tmp_path: Path) -> None:
    slow = (
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300000) SELECT count(*) AS n FROM c"
    )
    async with world(tmp_path) as w:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert await w.rows("a", slow) == [{"n": 300000}]

            nursery.start_soon(ask)
            await w.until(outcome("Used", in_flight=1))  # the first use of a door is told at once
            w.node.process.terminate()
        assert await w.node.process.wait() == 0


async def test_a_second_signal_hurries(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.execute("a", "CREATE TABLE t (n INT)")
        w.node.process.send_signal(signal.SIGINT)
        w.node.process.send_signal(signal.SIGTERM)
        with trio.fail_after(10):
            assert await w.node.process.wait() == 0
        assert w.leftovers() == []


async def test_the_library_engine_runs_a_real_life(tmp_path: Path) -> None:
    async with world(tmp_path, hibernation_timeout="300ms", found=True) as w:
        assert await w.node.stop() == 0
        await w.start("--engine=library")
        await w.execute("orders", "CREATE TABLE t (n INT)")
        await w.execute("orders", "INSERT INTO t VALUES (3)")
        await until_asleep([w], "orders")
        assert await w.rows("orders", "SELECT n FROM t") == [{"n": 3}]


async def test_R40_too_few_nodes_are_told_with_numbers_and_leave_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, database={"replication_factor": 3}) as w:
        reply = await w.post("exec", "orders", "CREATE TABLE t (n INT)")
        assert reply.status_code == 503
        assert "insufficient nodes responded: got 1, need 3" in reply.json()["detail"]
        assert w.count(event("too few nodes for new databases")) == 1
        await w.until(action("ReleasePorts"))
        assert not (w.data / "shop_orders").exists()
