"""Traffic and sleep on a real node: what keeps a database awake, and what a crowd before its door causes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from runtime.rqlite_http import RqliteHttp
from tests.runtime.node_world import Line, Seen, World, action, event, outcome, until_asleep, world

pytestmark = pytest.mark.real


async def test_F51_a_thousand_queries_on_a_sleeping_database_cause_one_wake(tmp_path: Path) -> None:
    async with world(tmp_path, hibernation_timeout="300ms", logging={"level": "info"}) as w:
        await w.execute("orders", "CREATE TABLE t (n INT)")
        await w.execute("orders", "INSERT INTO t VALUES (1)")
        await until_asleep([w], "orders")
        at = len(w.lines)
        answers: list[Any] = []
        async with w.client(timeout=60) as client:

            async def ask() -> None:
                reply = await client.post("/v1/database/query", json={"database": "orders", "sql": "SELECT n FROM t"})
                answers.append(reply.json())

            async with trio.open_nursery() as nursery:
                for _ in range(1000):
                    nursery.start_soon(ask)
        assert answers == [{"items": [{"n": 1}], "count": 1}] * 1000
        await w.until(event("woken"), since=at)
        sleeps = w.count(event("hibernated"), since=at)
        assert w.count(event("instance started"), since=at) <= 1 + sleeps
        assert w.count(event("wakeup request received"), since=at) <= 1 + sleeps


async def test_F40_direct_connections_to_rqlite_keep_it_awake(tmp_path: Path) -> None:
    async with world(tmp_path, hibernation_timeout="2s") as w:
        await w.execute("orders", "CREATE TABLE t (n INT)")
        port = (await w.until(event("instance started")))["http_port"]
        samples = outcome("Probed", ok=True)
        async with RqliteHttp("127.0.0.1", port) as direct:
            for n in range(12):
                await direct.execute(f"INSERT INTO t VALUES ({n})", within=5)
                # Until the node has looked at rqlite's counters again: a quarter of the timeout.
                await w.until(samples, since=len(w.lines))
        assert w.count(event("hibernated")) == 0
        await w.until(event("hibernated"))
        assert await w.rows("orders", "SELECT count(*) AS n FROM t") == [{"n": 12}]


async def test_R4_a_timeout_of_zero_means_never(tmp_path: Path) -> None:
    async with world(tmp_path, hibernation_timeout="0") as w:
        await w.execute("orders", "CREATE TABLE t (n INT)")
        await w.until(event("instance started"))
        assert w.count(action("Probe")) == 0


async def test_F41_queries_during_the_whole_way_into_sleep_are_answered(tmp_path: Path) -> None:
    """At each step of falling asleep a query comes in; every one is answered, and no acknowledged write is lost."""
    closing = action("Door", open=False)
    steps = {
        "ack": outcome("DoorAck", in_flight=0),
        "seal": action("Probe", strong=True),
        "snapshot": action("Snapshot"),
        "snapshotted": outcome("Snapshotted"),
        "terminate": action("Terminate"),
        "exited": outcome("InstanceExited"),
        "hibernated": event("hibernated"),
    }
    moments = {"door": closing} | {moment: _after(closing, step) for moment, step in steps.items()}
    async with world(tmp_path, hibernation_timeout="300ms") as w:
        await w.execute("orders", "CREATE TABLE t (moment TEXT)")
        for moment, seen in moments.items():
            await _write_at(w, moment, seen)
        rows = await w.rows("orders", "SELECT moment, count(*) AS n FROM t GROUP BY moment")
        assert {row["moment"]: row["n"] for row in rows} == dict.fromkeys(moments, 1)
        assert w.count(event("hibernated")) >= 1


def _after(first: Seen, then: Seen) -> Seen:
    """A line of the second kind, once there was one of the first: a door's opening and a wake have some steps of a sleep as well."""
    begun = False

    def seen(line: Line) -> bool:
        nonlocal begun
        found = begun and then(line)
        begun = begun or first(line)
        return found

    return seen


async def _write_at(w: World, moment: str, seen: Seen) -> None:
    reached = trio.Event()
    w.trap(seen, reached.set)
    # The trap is set: from here it falls asleep past it, also when it slept already while this process had to wait for its turn.
    await w.rows("orders", "SELECT 1")
    with trio.fail_after(30):
        await reached.wait()
    await w.execute("orders", "INSERT INTO t VALUES (?)", [moment])


async def test_F49_F61_as_many_databases_as_may_be_awake_and_no_more(tmp_path: Path) -> None:
    async with world(tmp_path, database={"max_databases": 2}) as w:
        await w.execute("a", "CREATE TABLE t (n INT)")
        await w.execute("b", "CREATE TABLE t (n INT)")
        reply = await w.post("exec", "c", "CREATE TABLE t (n INT)")
        assert reply.status_code == 503
        assert "max_databases (2) reached" in reply.json()["detail"]
        assert len(w.rqliteds()) == 2
