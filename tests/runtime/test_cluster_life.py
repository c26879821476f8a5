"""A database's life on a real cluster: created through one node, used through the others, asleep on all, woken through any; whatever
clients do meanwhile, nothing that was acknowledged is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from runtime.spawned_cluster import ask
from tests.runtime.cluster_world import cluster, members
from tests.runtime.node_world import APP, ELSE, Line, Seen, World, action, event, inspected, listening, until_asleep

pytestmark = pytest.mark.real


async def test_R1_R2_R3_R40_R41_R42_R43_two_databases_live_their_lives_on_three_nodes(tmp_path: Path) -> None:
    async with cluster(tmp_path, hibernation_timeout="600ms") as nodes:
        first, second, third = nodes
        await first.execute("users", "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
        await first.execute("users", "CREATE TABLE t (id INTEGER PRIMARY KEY, cake TEXT)", app=ELSE)
        await second.execute("users", "INSERT INTO t (name) VALUES ('ada')")
        await third.execute("users", "INSERT INTO t (cake) VALUES ('opera')", app=ELSE)
        for node in nodes:
            assert await node.rows("users", "SELECT * FROM t") == [{"id": 1, "name": "ada"}]
            assert await node.rows("users", "SELECT * FROM t", app=ELSE) == [{"id": 1, "cake": "opera"}]
        started = [
            await node.until(event("instance started", database=f"{app}_users"))
            for node in nodes
            for app in (APP, ELSE)
        ]
        ports = [line[kind] for line in started for kind in ("http_port", "raft_port")]
        assert len(set(ports)) == 12

        for app in (APP, ELSE):
            told = await until_asleep(nodes, app=app, sealed=True)  # all stopped cleanly, at one index
            assert sorted(member["peer"] for member in told["members"]) == sorted(node.peer for node in nodes)
            for node in nodes:
                one = await inspected(node, app=app)
                assert (one["seal"], one["epoch"], one["state"]) == (told["seal"], told["epoch"], "hibernating")
                assert "falling asleep" in [why["event"] for why in one["decisions"]]
        assert [port for port in ports if listening(port)] == []
        for node in nodes:
            status = await ask(node.node, "status")
            assert (status["awake"], status["hosted"], status["advice"]) == (0, 2, [])

        since = [len(node.lines) for node in nodes]
        assert await third.rows("users", "SELECT name FROM t") == [{"name": "ada"}]
        for node, seen in zip(nodes, since, strict=True):
            woken = await node.until(event("woken", database="shop_users"), since=seen)
            before = await node.until(event("instance started", database="shop_users"))
            assert woken["http_port"] == before["http_port"]  # R43: the original ports
            assert node.rqliteds("bakery_users") == []  # nobody asked for that one
            async with node.client() as client:
                assert (await client.get("/v1/database/list")).json() == {"databases": ["users"]}


async def test_F3_F45_F51_three_clients_create_one_database_and_three_hundred_wake_it_once(tmp_path: Path) -> None:
    async with cluster(tmp_path, hibernation_timeout="2s") as nodes:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.execute, "users", "CREATE TABLE IF NOT EXISTS t (n INT)")
        await nodes[0].execute("users", "INSERT INTO t VALUES (7)")
        (incarnation,) = {one["incarnation"] for one in [await inspected(node) for node in nodes]}
        for node in nodes:
            assert [place.name for place in (node.data / "shop_users").iterdir()] == [incarnation]
            assert node.count(action("Start")) == 1
        await until_asleep(nodes)

        since = [len(node.lines) for node in nodes]
        async with nodes[0].client() as one, nodes[1].client() as two, nodes[2].client() as three:

            async def query(client: Any) -> None:
                body = {"database": "users", "sql": "SELECT n FROM t"}
                reply = await client.post("/v1/database/query", json=body)
                assert (reply.status_code, reply.text) == (200, '{"items":[{"n":7}],"count":1}')

            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    for client in (one, two, three):
                        nursery.start_soon(query, client)
        for node, seen in zip(nodes, since, strict=True):
            await node.until(event("woken"), since=seen)
            assert node.count(event("wakeup request received"), since=seen) == 1
            assert node.count(action("Start"), since=seen) == 1
            assert len(node.rqliteds()) <= 1  # it may sleep again by now


def door_closes(line: Line) -> bool:
    return line.get("event") == "action" and line.get("kind") == "Door" and line.get("open") is False


MOMENTS: dict[str, Seen] = {
    "idle": event("database idle"),
    "the drain": door_closes,
    "the commit": event("falling asleep"),
    "the snapshot": action("Snapshot"),
    "SIGTERM": action("Terminate"),
    "the first exit": event("outcome", kind="InstanceExited"),
}


async def test_F41_R5_queries_through_members_and_others_at_any_moment_of_a_sleep_lose_nothing(tmp_path: Path) -> None:
    """Four nodes, three of them members. At each moment of a sleep, as its first member comes to it, all four take a write and a read."""
    three = {"replication_factor": 3}
    async with (
        cluster(tmp_path, 4, hibernation_timeout="500ms", database=three) as nodes,
        trio.open_nursery() as nursery,
    ):
        await nodes[0].execute("users", "CREATE TABLE t (n INT)")
        its, (outside,) = members(nodes, await inspected(nodes[0]))
        assert outside.rqliteds() == []
        written: list[int] = []

        async def write(node: World, n: int, done: trio.Event) -> None:
            await node.execute("users", "INSERT INTO t VALUES (?)", [n])
            written.append(n)
            assert {"n": n} in await node.rows("users", "SELECT n FROM t")
            done.set()

        for number, (_moment, seen) in enumerate(MOMENTS.items()):
            done = [trio.Event() for _ in nodes]
            struck: list[World] = []

            def strike(
                member: World, number: int = number, done: list[trio.Event] = done, struck: list[World] = struck
            ) -> None:
                if not struck:
                    struck.append(member)
                    for place, node in enumerate(nodes):
                        nursery.start_soon(write, node, 10 * number + place, done[place])

            for member in its:
                member.trap(seen, lambda member=member, strike=strike: strike(member))
            # The traps are set: from here it falls asleep past them, also when it slept already while this process waited for its turn.
            await outside.rows("users", "SELECT 1 AS x")
            with trio.fail_after(20):
                for each in done:
                    await each.wait()
            for member in its:
                member.traps.clear()
        told = await until_asleep(nodes)
        assert told["phase"] == "hibernating"
        rows = await outside.rows("users", "SELECT n FROM t ORDER BY n")
        assert [row["n"] for row in rows] == sorted(written)
        for member in its:
            assert member.count(event("instance died")) == 0
