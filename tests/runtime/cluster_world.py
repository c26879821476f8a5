"""A cluster of real nodes on loopback, each in a process of its own: one founds, the others join it, exactly as an operator would
do it: a copy of the secret, and the address that the first one prints."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from runtime.identity import DIRECTORY, SECRET
from tests.runtime.node_world import World, event, world

HEALTH = "500ms"


def joining(first: World, *others: World) -> dict[str, Any]:
    """The settings with which a node joins."""
    addresses = [address for one in (first, *others) for address in one.node.status()["addresses"]]
    return {
        "discovery": {"bootstrap_peers": addresses, "health_check_interval": HEALTH, "discovery_interval": "2s"},
        "security": {"cluster_secret_file": str(first.data / DIRECTORY / SECRET)},
    }


@asynccontextmanager
async def cluster(directory: Path, size: int = 3, **overrides: dict[str, Any]) -> AsyncGenerator[list[World]]:
    """``size`` nodes that have heard each other, and whose listening is over (P61)."""
    async with AsyncExitStack() as stack:
        nodes: list[World] = []
        for number in range(size):
            place = directory / f"node{number}"
            place.mkdir()
            settings = {"database": {"replication_factor": size}} | overrides
            settings |= joining(nodes[0]) if nodes else {"discovery": {"health_check_interval": HEALTH}}
            nodes.append(await stack.enter_async_context(world(place, found=not nodes, **settings)))
        for one in nodes:
            for other in nodes:
                if other is not one:
                    await one.until(event("node heard", peer=other.node.status()["node_id"]))
        for joiner in nodes[1:]:
            await joiner.until(
                lambda line: (
                    line.get("event") == "reconciliation results" and line["because"].startswith("the directories of")
                )
            )
        yield nodes
