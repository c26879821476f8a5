"""API keys of the directory on real nodes (R36, F87): made once, known everywhere, refused everywhere, also by who missed it. When the story is
over, no recording has the text of a key in it (``cluster_world.replays``)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest
import trio

from tests.runtime.cluster_world import cluster
from tests.runtime.gateway_world import kind_of
from tests.runtime.node_world import APP, World, event
from tests.runtime.test_ctl import answer, torpor

pytestmark = pytest.mark.real

WITHIN = 15.0
"""Seconds within which a revocation is in force everywhere, as it is shipped; heartbeats come twenty times as often here."""


async def asked(node: World, key: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=node.node.gateway, headers={"X-API-Key": key}, verify=False) as client:
        return await client.get("/v1/database/list")


async def until_answered(node: World, key: str, status: int, within: float = WITHIN) -> httpx.Response:
    """The first answer of this status: what the node knows comes over its channel to the worker."""
    with trio.fail_after(within):
        while True:
            said = await asked(node, key)
            if said.status_code == status:
                return said
            await trio.sleep(0.02)


async def test_R36_F87_a_key_is_shown_once_known_everywhere_and_revoked_everywhere(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, database={"replication_factor": 1}) as (first, second, third):
        made = await answer(first, "key", "create", "--app", APP, "--scope", "read", "--expires", "1h", "--name", "ci")
        key = first.keys["made"] = made["key"]
        for node in (first, second, third):
            assert (await until_answered(node, key, 200)).json() == {"databases": []}
        async with httpx.AsyncClient(base_url=third.node.gateway, headers={"X-API-Key": key}, verify=False) as client:
            wrong = await client.post("/v1/database/exec", json={"database": "d", "sql": "CREATE TABLE t (n)"})
            assert (wrong.status_code, kind_of(wrong)) == (403, "forbidden")

        (listed,) = await answer(third, "key", "list", "--app", APP)
        assert (listed["id"], listed["name"], listed["scope"], listed["revoked"]) == (made["id"], "ci", "read", False)
        assert await answer(third, "key", "list", "--app", "another") == []
        code, text = await torpor(second, "key", "list")
        assert (code, "good" in text, made["id"] in text, key in text) == (0, True, True, False)

        await third.killed()  # it will not hear of it
        code, text = await torpor(second, "key", "revoke", made["id"])
        assert (code, f"key {made['id']} of {APP} is revoked" in text) == (0, True), text
        for node in (first, second):
            refused = await until_answered(node, key, 401)
            assert refused.json()["detail"] == f"the API key {made['id']} was revoked"
        (worker,) = first.workers()
        before = len(first.lines)
        os.kill(worker.pid, signal.SIGKILL)
        await first.until(event("gateway worker serves"), since=before)
        assert kind_of(await asked(first, key)) == "unauthorized"
        await third.start()
        await until_answered(third, key, 401)
        assert [one["revoked"] for one in await answer(third, "key", "list")] == [True]

        secret = key.split("_", 2)[2]
        for node in (first, second, third):
            assert not [line for line in node.lines if secret in str(line)]
            assert not [
                path for path in node.data.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()
            ]


async def test_R36_R61_what_an_operator_gets_wrong_is_one_line(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as (node,):
        for command, why in (
            (("key", "create", "--app", "My App"), "Error: the application name 'My App' is not valid"),
            (("key", "revoke", "12345678"), "Error: no key '12345678' is known here"),
        ):
            code, text = await torpor(node, *command)
            assert (code, text.startswith(why), text.count("\n")) == (1, True, 1), text
        for command, why in (
            (("key", "create"), "Missing option '--app'"),
            (("key", "create", "--app", APP, "--scope", "all"), "'all' is not one of 'read', 'write', 'admin'"),
            (("key", "create", "--app", APP, "--expires", "soon"), "is not a duration"),
        ):
            code, text = await torpor(node, *command)
            assert (code, why in text) == (2, True), text
        made = await answer(node, "key", "create", "--app", APP, "--expires", "1s")
        node.keys["made"] = made["key"]
        said = await until_answered(node, made["key"], 401)
        assert said.json()["detail"] == f"the API key {made['id']} has expired"
        code, text = await torpor(node, "key", "create", "--app", APP, "--name", "an admin's", "--scope", "admin")
        shown, told = text.splitlines()
        node.keys["admin"] = shown
        assert (code, told.endswith("it is not shown again")) == (0, True), text
        await node.killed()
        await node.start()
        await until_answered(node, shown, 200)
