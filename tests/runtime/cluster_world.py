"""A cluster of real nodes on loopback, each in a process of its own: one founds, the others join it, exactly as an operator would
do it: a copy of the secret, and the address that the first one prints."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from runtime.identity import DIRECTORY, SECRET
from runtime.transport.addresses import settle
from tests.runtime.node_world import Line, World, event, world

HEALTH = "500ms"


def merged(line: Line) -> bool:
    """The line that ends a node's listening."""
    return line.get("event") == "reconciliation results" and line.get("because", "").endswith("other nodes are merged")


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
            # The same port at every start, as in a real configuration.
            settings["node"] = {"listen_addresses": [str(address) for address in settle(["/ip4/127.0.0.1/tcp/0"])]}
            settings |= joining(nodes[0]) if nodes else {"discovery": {"health_check_interval": HEALTH}}
            nodes.append(await stack.enter_async_context(world(place, found=not nodes, **settings)))
        for one in nodes:
            for other in nodes:
                if other is not one:
                    await one.until(event("node heard", peer=other.node.status()["node_id"]))
        for joiner in nodes[1:]:
            await joiner.until(merged)
        yield nodes
