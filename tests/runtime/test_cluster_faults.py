"""What dies, hangs or is in the way on a real cluster, and that its clients hardly notice: the rest serves, nothing that was
acknowledged is lost, and what comes back follows."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import pytest
import trio

from tests.runtime.cluster_world import cluster, die, until_leader, until_silent, until_unheard
from tests.runtime.node_world import World, event, inspected, until_asleep, until_told

pytestmark = pytest.mark.real

SERVED_WITHIN = 20.0
ENDED_BY_TIME = {"query-timeout", "wake-timeout", "may-have-committed"}


async def numbers(node: World) -> list[int]:
    return [row["n"] for row in await node.rows("users", "SELECT n FROM t ORDER BY n")]


async def insert(node: World, n: int) -> bool:
    """Whether the write was acknowledged; if not, its client was told that it may have happened."""
    reply = await node.post("exec", "users", "INSERT INTO t VALUES (?)", [n])
    if reply.status_code == 200:
        return True
    assert reply.json().get("may_have_committed") is True, reply.text
    return False


@asynccontextmanager
async def kept_awake(node: World) -> AsyncIterator[None]:
    """Queries through ``node`` all the time: however slowly the rest happens, the database does not fall asleep meanwhile."""

    async def ask() -> None:
        while True:
            await node.rows("users", "SELECT 1 AS x")
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        yield
        nursery.cancel_scope.cancel()


async def served(nodes: list[World], first: int, before: list[int]) -> list[int]:
    """A write through each of these nodes, and a read that has all that was acknowledged; what is in the table then."""
    acknowledged = set(before)
    with trio.fail_after(SERVED_WITHIN):
        for n, node in enumerate(nodes, first):
            if await insert(node, n):
                acknowledged.add(n)
        for node in nodes:
            assert acknowledged <= set(await numbers(node))
    return await numbers(nodes[0])


async def test_F24_F28_F50_a_dead_member_costs_seconds_and_follows_when_it_returns(tmp_path: Path) -> None:
    async with cluster(tmp_path, hibernation_timeout="2s") as nodes:
        await nodes[0].execute("users", "CREATE TABLE t (n INT)")
        await nodes[0].execute("users", "INSERT INTO t VALUES (0)")
        dead = await until_leader(nodes)
        others = [node for node in nodes if node is not dead]
        await die(dead)
        rows = await served(others, 1, [0])
        for node in others:
            await until_unheard(node, dead)
        told = await until_asleep(others)
        assert told["seal"] is None  # not all are known to have stopped
        with trio.fail_after(SERVED_WITHIN):
            assert await numbers(others[1]) == rows
        rows = await served(others, 10, rows)

        since = [len(node.lines) for node in others]
        at = len(dead.lines)
        async with kept_awake(others[0]):
            await dead.start()
            await dead.until(event("instance started"), since=at)
        for node, before in zip(others, since, strict=True):  # else they fall asleep without it, and without a seal
            await node.until(event("node heard", peer=dead.peer), since=before)
        rows = await served([dead], 20, rows)
        told = await until_asleep([dead, *others], sealed=True)

        await others[0].rows("users", "SELECT 1 AS x")  # once more; this time it returns to a database that sleeps
        await until_told(dead, lambda one: one["epoch"] > told["epoch"])
        await die(dead)
        for node in others:
            await until_unheard(node, dead)
        await until_asleep(others)
        await dead.start()
        await until_asleep(nodes)
        await served([dead, *others], 30, rows)


async def test_F60_F61_an_rqlited_and_then_a_node_process_die_and_nothing_is_doubled(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        await nodes[0].execute("users", "CREATE TABLE t (n INT)")
        await nodes[0].execute("users", "INSERT INTO t VALUES (0)")
        leader = await until_leader(nodes)
        (killed,) = leader.rqliteds()
        since = len(leader.lines)
        killed.kill()
        rows = await served([leader, *(node for node in nodes if node is not leader)], 1, [0])
        died = await leader.until(event("instance died"), since=since)
        assert "killed" in died["because"]
        await leader.until(event("instance started"), since=since)
        assert not killed.is_running()  # reaped: no zombie

        leader = await until_leader(nodes)
        (left,) = leader.rqliteds()
        since = len(leader.lines)
        await leader.killed()
        rows = await served([node for node in nodes if node is not leader], 10, rows)
        assert left.is_running()
        await leader.start()
        stopped = await leader.until(event("orphan stopped"), since=since)
        assert stopped["pid"] == left.pid
        await leader.until(event("instance started"), since=since)
        await served([leader], 20, rows)
        assert [len(node.rqliteds()) for node in nodes] == [1, 1, 1]
        assert left.pid not in [process.pid for process in leader.rqliteds()]


async def test_F46_F47_a_member_whose_raft_port_was_taken_moves_and_all_learn_where(tmp_path: Path) -> None:
    async with cluster(tmp_path, hibernation_timeout="800ms") as nodes:
        await nodes[0].execute("users", "CREATE TABLE t (n INT)")
        await nodes[0].execute("users", "INSERT INTO t VALUES (0)")
        mover = nodes[1]
        before = await mover.until(event("instance started"))
        await until_asleep(nodes, sealed=True)
        with ExitStack() as strangers:
            listener = strangers.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections still wait there
            listener.bind(("127.0.0.1", before["raft_port"]))
            listener.listen()
            since = len(mover.lines)
            rows = await served([nodes[0], nodes[2]], 1, [0])
            after = await mover.until(event("instance started"), since=since)
            assert after["raft_port"] != before["raft_port"]
            rows = await served([mover], 10, rows)

            def moved(one: dict[str, object]) -> bool:
                return (mover.peer, after["raft_port"]) in [(it["peer"], it["raft"]) for it in one["members"]]  # type: ignore[attr-defined]

            for node in nodes:
                await until_told(node, moved)
        await until_asleep(nodes, sealed=True)
        await served([mover, *nodes], 20, rows)  # what it has now is its own, though the old one is free again
        again = [line for line in mover.lines if line.get("event") == "instance started"][-1]
        assert again["raft_port"] == after["raft_port"]


async def test_F54_P54_a_sleeper_whose_disk_was_wiped_hears_the_wake_first_and_founds_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, hibernation_timeout="800ms") as nodes:
        await nodes[0].execute("users", "CREATE TABLE t (n INT)")
        await nodes[0].execute("users", "INSERT INTO t VALUES (0)")
        await until_asleep(nodes)
        wiped = nodes[1]
        (incarnation,) = (wiped.data / "shop_users").iterdir()
        shutil.rmtree(incarnation)
        rows = await served([wiped, nodes[0], nodes[2]], 1, [0])
        assert wiped.rqliteds() == []
        assert not incarnation.exists()
        others = [nodes[0], nodes[2]]
        await until_asleep(others)
        await served([wiped, *others], 10, rows)


@contextmanager
def paused(node: World) -> Iterator[None]:
    """All processes of a node stand still, as on a machine that swaps, or is being moved."""
    processes = [psutil.Process(node.node.pid), *node.workers(), *node.rqliteds()]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


async def patiently(nodes: list[World], n: int, before: list[int]) -> list[int]:
    """As :func:`served`, by clients that try again: what was on its way to a leader that stands still is answered by nobody, and
    ends by its own timeout."""
    with trio.fail_after(SERVED_WITHIN):
        for place, node in enumerate(nodes):
            while (
                reply := await node.post("exec", "users", "INSERT INTO t VALUES (?)", [n + place])
            ).status_code != 200:
                assert reply.json()["type"].rpartition(":")[2] in ENDED_BY_TIME, reply.text
            while (reply := await node.post("query", "users", "SELECT n FROM t")).status_code != 200:
                assert reply.json()["type"].rpartition(":")[2] in ENDED_BY_TIME, reply.text
            assert {*before, n + place} <= {row["n"] for row in reply.json()["items"]}
    return await numbers(nodes[0])


async def test_F66_a_paused_node_is_missed_by_nobody_and_follows_afterwards(tmp_path: Path) -> None:
    quick = {"query_timeout": "2s"}
    async with cluster(tmp_path, hibernation_timeout="800ms", gateway=quick) as nodes:
        await nodes[0].execute("users", "CREATE TABLE t (n INT)")
        await nodes[0].execute("users", "INSERT INTO t VALUES (0)")
        rows = [0]
        for first, silence in ((10, 0.8), (20, 2.5)):  # shorter and longer than three health intervals
            slow = await until_leader(nodes)
            others = [node for node in nodes if node is not slow]
            since = [len(node.lines) for node in nodes]
            with paused(slow):
                rows = await patiently(others, first, rows)
                await until_silent(others[0], slow, silence)
                rows = await patiently(others, first + 3, rows)
            rows = await patiently([slow], first + 6, rows)
            if silence > 1.5:
                for node in others:
                    await node.until(event("node heard", peer=slow.peer), since=since[nodes.index(node)])
            for node in nodes:
                assert node.count(event("instance died")) == 0
        await until_asleep(nodes, sealed=True)
        await patiently(nodes, 30, rows)
        assert (await inspected(nodes[0]))["error"] == ""
