"""Machines that lose their power together, and a cluster of two that loses one: what can serve serves, and the rest says what to do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.runtime.cluster_world import cluster, die, hears, merged, until_unheard
from tests.runtime.node_world import World, event, until_asleep, until_told

pytestmark = pytest.mark.real


async def test_F33_three_machines_lose_their_power_at_once_and_serve_all_that_was_acknowledged(tmp_path: Path) -> None:
    async with cluster(tmp_path, hibernation_timeout="800ms") as nodes:
        await nodes[0].execute("sleepy", "CREATE TABLE t (n INT)")
        await nodes[0].execute("sleepy", "INSERT INTO t VALUES (1)")
        await until_asleep(nodes, "sleepy")
        await nodes[0].execute("users", "CREATE TABLE t (n INT)")
        acknowledged: list[int] = []
        enough = trio.Event()

        async def write() -> None:
            async with nodes[1].client() as client:
                for n in range(10_000):
                    body = {"database": "users", "sql": "INSERT INTO t VALUES (?)", "args": [n]}
                    if (await client.post("/v1/database/exec", json=body)).status_code == 200:
                        acknowledged.append(n)
                    if len(acknowledged) == 20:
                        enough.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await enough.wait()
            await die(*nodes)  # in the middle of a write
            nursery.cancel_scope.cancel()
        since = [len(node.lines) for node in nodes]
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.start)
        for node, seen in zip(nodes, since, strict=True):
            await node.until(hears(*(other for other in nodes if other is not node)), since=seen)
            await node.until(merged, since=seen)
            rows = [row["n"] for row in await node.rows("users", "SELECT n FROM t ORDER BY n")]
            assert rows[:20] == acknowledged[:20]
            assert set(acknowledged) <= set(rows)
            assert len(rows) == len(set(rows))
        assert await nodes[2].rows("sleepy", "SELECT n FROM t") == [{"n": 1}]
        await until_asleep(nodes)
        await until_asleep(nodes, "sleepy")


async def readiness(node: World, kind: str) -> dict[str, Any]:
    """What ``/readyz`` says, once it is of this problem's type, or ``ready``."""
    async with node.client() as client:
        with trio.fail_after(20):
            while True:  # the worker hears of it a moment after the log
                said = (await client.get("/readyz")).json()
                if kind in (said.get("status"), str(said.get("type")).rpartition(":")[2]):
                    return said


async def test_P61_a_node_that_still_listens_lives_and_is_not_ready(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as nodes:
        first, second = nodes
        await readiness(second, "ready")
        await die(first, second)
        since = len(second.lines)
        await second.start()
        said = await readiness(second, "listening")
        assert said["status"] == 503
        assert "directories of a majority" in said["detail"]
        async with second.client() as client:
            assert (await client.get("/healthz")).status_code == 200
        assert second.count(merged, since=since) == 0
        await first.start()
        await second.until(merged, since=since)
        await readiness(second, "ready")


async def torpor(node: World, command: str) -> str:
    """What ``torpor`` says to an operator."""
    done = await trio.run_process(
        [sys.executable, "-m", "runtime.ctl", "--data-dir", str(node.data), command], capture_stdout=True
    )
    return done.stdout.decode()


async def test_F33_R61_two_nodes_lose_one_and_the_other_says_what_to_do(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, gateway={"wake_timeout": "2s", "query_timeout": "4s"}) as nodes:
        left, lost = nodes
        await left.execute("users", "CREATE TABLE t (n INT)")
        await left.execute("users", "INSERT INTO t VALUES (7)")
        await die(lost)
        await until_unheard(left, lost)
        said = await torpor(left, "status")
        assert "hears 1 of 2 known nodes, 2 are needed: nothing is created or replaced" in said
        assert f"torpor node retire PEER (silent: {lost.peer})" in said
        for what, sql in (("query", "SELECT n FROM t"), ("exec", "INSERT INTO t VALUES (8)")):
            refused = await left.post(what, "users", sql)
            assert refused.status_code in (503, 504), refused.text
            assert refused.json()["detail"]
        refused = await left.post("exec", "another", "CREATE TABLE t (n INT)")
        assert refused.status_code == 503
        assert "1 of 2 known nodes" in refused.json()["detail"]
        assert len(left.rqliteds()) == 1

        since = len(left.lines)
        await lost.start()
        await left.until(event("node heard", peer=lost.peer), since=since)
        for node in nodes:
            await until_told(node, lambda one: one["phase"] == "active" and one["open"])
            assert {"n": 7} in await node.rows("users", "SELECT n FROM t")
        assert "!" not in await torpor(left, "status")
