"""Births on a real cluster whose nodes die in the middle of them, and right after: a client gets its database in the end, one and
no other, and what was acknowledged is there."""

from __future__ import annotations

import functools
import itertools
import shutil
from pathlib import Path

import httpx
import pytest
import trio

from runtime.node import main
from runtime.spawned_cluster import ask
from tests.runtime.cluster_world import cluster, die, hears, joining, merged
from tests.runtime.node_world import World, event, inspected, until_told

pytestmark = pytest.mark.real

PATIENCE = 40.0
PASSING = {"create-timeout", "instance-failed", "wake-timeout", "members-unheard", "unavailable", "insufficient-nodes"}


async def in_the_end(nodes: list[World], sql: str) -> None:
    """A client that tries again, through another node, while it is told of what passes, or by nobody."""
    with trio.fail_after(PATIENCE):
        for node in itertools.cycle(nodes):
            try:
                reply = await node.post("exec", "users", sql)
            except httpx.HTTPError:
                continue
            if reply.status_code == 200:
                return
            assert reply.json()["type"].rpartition(":")[2] in PASSING, reply.text


async def test_F8_F15_the_coordinator_dies_right_after_the_confirm_and_another_node_gets_its_database(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, 4, hibernation_timeout="60s", database={"replication_factor": 3}) as nodes:
        struck = trio.Event()
        dead: list[World] = []

        def strike(node: World) -> None:
            if not dead:
                dead.append(node)
                node.kill()
                struck.set()

        for node in nodes:
            node.trap(event("birth confirmed"), functools.partial(strike, node))
        await in_the_end(nodes, "CREATE TABLE IF NOT EXISTS t (n INT)")
        with trio.fail_after(PATIENCE):
            await struck.wait()
            (coordinator,) = dead
            await coordinator.node.process.wait()
        others = [node for node in nodes if node is not coordinator]
        await in_the_end(others, "INSERT INTO t VALUES (7)")
        for node in others:
            assert await node.rows("users", "SELECT n FROM t") == [{"n": 7}]
        since = len(coordinator.lines)
        await coordinator.start()
        await coordinator.until(merged, since=since)
        told = await until_told(others[0], lambda one: one["phase"] == "active")
        for node in nodes:
            one = await until_told(node, lambda one: one["incarnation"] == told["incarnation"])
            assert one["phase"] == "active"
            assert await node.rows("users", "SELECT n FROM t") == [{"n": 7}]
        running = {process.cmdline()[-1].split("/")[-2] for node in nodes for process in node.rqliteds()}
        assert running == {told["incarnation"]}  # one Raft group


async def test_F16_F34_the_first_node_loses_its_disk_right_after_a_birth_and_joins_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cluster(tmp_path, roomy=True) as nodes:
        first, *others = nodes
        await others[0].execute("users", "CREATE TABLE t (n INT)")
        founded = [line["because"] for node in nodes for line in node.lines if line.get("event") == "birth confirmed"]
        assert founded[0].startswith(first.peer)  # the founder, of the cluster and of the database
        await others[1].execute("users", "INSERT INTO t VALUES (7)")
        await die(first)
        shutil.rmtree(first.data)
        with trio.fail_after(20):
            for n, node in enumerate(others, 8):
                await node.execute("users", "INSERT INTO t VALUES (?)", [n])
                assert {"n": 7} in await node.rows("users", "SELECT n FROM t")

        # It does not found by itself, and says what to do.
        assert main(["--config", str(first.config)]) == 2
        said = capsys.readouterr().err
        assert "no cluster in" in said
        assert "discovery.bootstrap_peers" in said
        assert not first.data.exists()
        before, since = first.peer, len(first.lines)
        first.configure(**joining(*others))
        await first.start()
        assert first.peer != before
        await first.until(hears(*others), since=since)
        await first.until(merged, since=since)
        assert await first.rows("users", "SELECT n FROM t ORDER BY n") == [{"n": 7}, {"n": 8}, {"n": 9}]
        assert (await inspected(first))["state"] == ""  # served by the others
        told = f"torpor node retire PEER (silent: {before})"
        with trio.fail_after(20):  # its old self is known, and missed, as soon as the others have told of it
            while not any(told in advice for advice in (await ask(first.node, "status"))["advice"]):
                await trio.lowlevel.checkpoint()
