"""Three real nodes become one cluster: one founds, two join with the secret and an address, and a database lives on all three."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.cluster_world import cluster


@pytest.mark.real
async def test_R7_R12_P60_three_nodes_form_a_cluster_and_create_a_database(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        await nodes[1].execute("users", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
        await nodes[1].execute("users", "INSERT INTO users (name) VALUES (?)", ["ada"])
        assert await nodes[1].rows("users", "SELECT name FROM users") == [{"name": "ada"}]
        assert [len(node.rqliteds("shop_users")) for node in nodes] == [1, 1, 1]
