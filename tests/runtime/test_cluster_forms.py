"""Three real nodes become one cluster: one founds, two join with the secret and an address, and a database lives on all three."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from runtime.identity import DIRECTORY, SECRET, IdentityUnusable, cluster_id, load
from runtime.node import found_cluster, join_cluster
from runtime.spawned import sections, write_settings
from runtime.store import FILE, Store
from tests.runtime.cluster_world import cluster, merged
from tests.runtime.node_world import event


@pytest.mark.real
async def test_R7_R12_P60_three_nodes_form_a_cluster_and_create_a_database(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        await nodes[1].execute("users", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
        await nodes[1].execute("users", "INSERT INTO users (name) VALUES (?)", ["ada"])
        assert await nodes[1].rows("users", "SELECT name FROM users") == [{"name": "ada"}]
        assert [len(node.rqliteds("shop_users")) for node in nodes] == [1, 1, 1]


@pytest.mark.real
async def test_F24_R45_a_killed_node_returns_and_is_heard_and_served_again(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        await nodes[0].execute("users", "CREATE TABLE users (name TEXT)")
        me = nodes[2].node.status()["node_id"]
        since = [len(node.lines) for node in nodes]
        await nodes[2].killed()
        await nodes[0].until(event("peer disconnected", peer=me), since=since[0])
        await nodes[2].start()
        for node, seen in zip(nodes[:2], since[:2], strict=True):
            await node.until(event("peer connected", peer=me), since=seen)
            await nodes[2].until(event("node heard", peer=node.node.status()["node_id"]), since=since[2])
        await nodes[0].execute("users", "INSERT INTO users VALUES ('ada')")
        assert await nodes[0].rows("users", "SELECT name FROM users") == [{"name": "ada"}]


@pytest.mark.real
async def test_F33_three_nodes_that_restart_at_once_meet_again_and_listen_no_more(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        await nodes[0].execute("users", "CREATE TABLE users (name TEXT)")
        since = [len(node.lines) for node in nodes]
        for node in nodes:
            await node.killed()
        for node in nodes:
            await node.start()
        for node, seen in zip(nodes, since, strict=True):
            for other in nodes:
                if other is not node:
                    await node.until(event("node heard", peer=other.node.status()["node_id"]), since=seen)
            await node.until(merged, since=seen)


async def test_P60_R61_joining_without_the_clusters_secret_says_what_to_copy_from_where(tmp_path: Path) -> None:
    peer = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
    settings = sections(tmp_path, {}) | {"discovery": {"bootstrap_peers": [peer]}}
    config = write_settings(tmp_path / "node.yaml", settings)
    done = await trio.run_process(
        [sys.executable, "-m", "runtime.node", "--config", str(config)], capture_stderr=True, check=False
    )
    said = done.stderr.decode()
    assert done.returncode == 2
    assert said.startswith("torpor: no cluster secret: copy identity/cluster.secret from")
    assert "security.cluster_secret_file" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "data" / FILE).exists()


def test_P60_a_node_joins_once_and_keeps_to_its_cluster(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for one in (first, second, third):
        one.mkdir()
    found_cluster(first)
    join_cluster(second, first / DIRECTORY / SECRET)
    mine, theirs = load(first), load(second)
    assert (mine.secret, mine.peer) != (theirs.secret, theirs.peer)
    assert mine.secret == theirs.secret
    assert ((second / DIRECTORY / SECRET).stat().st_mode & 0o777) == 0o600
    with Store(first) as one, Store(second) as two:
        assert one.facts()["cluster"] == two.facts()["cluster"] == cluster_id(mine.secret)
        assert mine.secret.hex() not in cluster_id(mine.secret)
        assert ("joined" in one.facts(), "joined" in two.facts()) == (False, True)
    join_cluster(second, None)  # every later start
    assert load(second) == theirs
    # The secret of another cluster is refused: a directory that has one keeps it.
    found_cluster(third)
    (third / FILE).unlink()
    with pytest.raises(IdentityUnusable, match="two clusters"):
        join_cluster(third, first / DIRECTORY / SECRET)


def test_P60_a_store_with_the_secret_of_another_cluster_does_not_start(tmp_path: Path) -> None:
    config = write_settings(tmp_path / "node.yaml", sections(tmp_path, {}))
    data = tmp_path / "data"
    data.mkdir()
    found_cluster(data)
    secret = data / DIRECTORY / SECRET
    text = secret.read_text()
    secret.write_text(text[:-2] + ("0" if text[-2] != "0" else "1") + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "runtime.node", "--config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "restore the secret that belongs to this store" in done.stderr
