"""Old answers of databases that sleep, from a real node with real rqlited: in milliseconds and without waking them; never torn, never older than
they say, however often the database wakes under its readers (F53)."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.runtime.cluster_world import cluster, members
from tests.runtime.node_world import World, action, event, outcome, until_asleep, world

pytestmark = pytest.mark.real

ROWS = 20_000
STATE = "SELECT count(*) AS n, min(gen) AS least, max(gen) AS most, sum(length(pad)) AS bytes FROM t"


async def filled(w: World, rows: int = ROWS) -> None:
    await w.execute("users", "CREATE TABLE t (id INTEGER PRIMARY KEY, gen INTEGER, pad BLOB, at DATETIME, yes BOOLEAN)")
    await w.execute(
        "users",
        "INSERT INTO t(gen, pad, at, yes) SELECT 0, zeroblob(100), '2024-02-29 12:00:00', 1 FROM json_each(?)",
        [json.dumps([0] * rows)],
    )


async def query(client: httpx.AsyncClient, sql: str, **members: Any) -> dict[str, Any]:
    reply = await client.post("/v1/database/query", json={"database": "users", "sql": sql} | members)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_P34_a_sleeping_database_answers_without_waking(tmp_path: Path) -> None:
    async with world(tmp_path, hibernation_timeout="2s") as w:
        await filled(w, 100)
        acknowledged = time.monotonic()
        await until_asleep([w], sealed=True)
        at = len(w.lines)
        async with w.client() as client:
            sql = "SELECT id, pad, at, yes FROM t WHERE id = ?"
            old = await query(client, sql, args=[7], max_stale="1m")
            assert 0 < old.pop("age_s") <= time.monotonic() - acknowledged
            began = time.monotonic()
            for _ in range(50):
                rows = await query(client, sql, args=[7], max_stale=60, format="rows")
            each = (time.monotonic() - began) / 50
            assert rows["types"] == ["integer", "blob", "datetime", "boolean"]
            tables = await query(client, "SELECT count(*) AS n FROM sqlite_master", max_stale="1h")
            assert tables["items"] == [{"n": 1}]
            assert w.count(action("Start"), since=at) == 0
            assert w.count(outcome("Ask"), since=at) == 0
            new = await query(client, sql, args=[7], max_stale=0.001)
            assert w.count(action("Start"), since=at) == 1
            assert new == old, "the same answer, without an age"
            assert "age_s" not in await query(client, sql, args=[7], max_stale="1m"), "it is awake"
            for wrong in ("soon", "60", -1, 1e999, "-1s"):
                body = '{"database": "users", "sql": "SELECT 1", "max_stale": %s}'
                text = f'"{wrong}"' if isinstance(wrong, str) else str(wrong).replace("inf", "1e999")
                reply = await client.post("/v1/database/query", content=body % text)
                assert reply.status_code == 400, reply.text
        print(f"each {each * 1000:.2f} ms")


async def test_F53_an_age_that_is_not_known_is_refused(tmp_path: Path) -> None:
    """A node that was started since does not know it; and a file that somebody has written to is not the seal's."""
    async with world(tmp_path, hibernation_timeout="400ms") as w:
        await filled(w, 10)
        await until_asleep([w], sealed=True)
        await w.killed()
        await w.start()
        async with w.client() as client:
            assert "age_s" not in await query(client, STATE, max_stale="1h")
            await until_asleep([w], sealed=True)
            assert "age_s" in await query(client, STATE, max_stale="1h")
            (path,) = w.data.rglob("db.sqlite")
            path.touch()
            at = len(w.lines)
            assert "age_s" not in await query(client, STATE, max_stale="1h")
            assert w.count(action("Start"), since=at) == 1


async def test_P34_each_member_answers_from_its_own_copy_and_who_is_none_sends_to_one(tmp_path: Path) -> None:
    two = {"replication_factor": 2}
    async with cluster(tmp_path, 3, roomy=True, hibernation_timeout="2s", database=two) as nodes:
        await filled(nodes[0], 10)  # by the founder: who is no member knows the members from its directory alone
        told = await until_asleep(nodes, sealed=True)
        its, (outside,) = members(nodes, told)
        at = {node.peer: len(node.lines) for node in nodes}
        for node in its:
            async with node.client() as client:
                answer = await query(client, STATE, max_stale="1h")
                assert answer["age_s"] > 0
                assert answer["items"][0]["n"] == 10
        async with outside.client() as client:
            old = await query(client, STATE, max_stale="1h")
            assert old.pop("age_s") > 0
            assert [node.count(action("Start"), since=at[node.peer]) for node in its] == [0, 0]
            assert outside.count(outcome("Ask"), since=at[outside.peer]) == 0
            new = await query(client, STATE, max_stale=0.001)
            assert new == old, "the same answer, without an age"
        assert outside.count(outcome("Ask"), since=at[outside.peer]) == 0, "the member has woken it"
        for node in its:
            await node.until(event("woken"), since=at[node.peer])
        assert outside.count(action("Start")) == 0


async def test_F53_it_wakes_again_and_again_under_its_readers(tmp_path: Path) -> None:
    """Eight clients read the copy all the time; a writer changes all rows at once, at another moment of each sleep."""
    stale: list[float] = []
    wakes: list[float] = []
    acknowledged = {0: 0.0}
    """Change → when its writer was told of it."""

    seen, seeing = trio.open_memory_channel[None](math.inf)

    async def read(client: httpx.AsyncClient, over: trio.Event) -> None:
        while not over.is_set():
            answer = await query(client, STATE, max_stale="10m")
            told = time.monotonic()
            (state,) = answer["items"]
            assert (state["n"], state["bytes"]) == (ROWS, 100 * ROWS), state
            assert state["least"] == state["most"], "torn"
            if "age_s" in answer:
                stale.append(answer["age_s"])
                seen.send_nowait(None)
                known = [change for change, at in acknowledged.items() if at <= told - answer["age_s"]]
                assert max(known) <= state["most"], (known, answer)

    async with world(tmp_path, hibernation_timeout="300ms", gateway={"workers": 2}) as w:
        await filled(w)
        acknowledged[0] = time.monotonic()
        for change in range(1, 13):
            await until_asleep([w], sealed=True)
            over = trio.Event()
            async with w.client(timeout=30) as client, trio.open_nursery() as readers:
                for _ in range(8):
                    readers.start_soon(read, client, over)
                for _ in range(4 * change):
                    await seeing.receive()
                began = time.monotonic()
                await w.execute("users", "UPDATE t SET gen = gen + 1")
                acknowledged[change] = time.monotonic()
                wakes.append(acknowledged[change] - began)
                over.set()
        assert w.count(event("start waits")) > 0
        assert w.count(event("gateway worker killed")) == 0
    assert len(stale) >= 4 * sum(range(1, 13))
    print(f"{len(stale)} from copies; wakes {min(wakes):.3f} to {max(wakes):.3f} s")
