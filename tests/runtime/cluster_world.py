"""A cluster of real nodes on loopback, each in a process of its own: one founds, the others join it, exactly as an operator would
do it: a copy of the secret, and the address that the first one prints. When the story is over, what each node's flight recorder kept
replays byte for byte, and no secret is in it."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from runtime import identity
from runtime.identity import DIRECTORY, SECRET
from runtime.recorder import DIRECTORY as RECORDINGS
from runtime.spawned_cluster import ask
from runtime.transport.addresses import settle
from sim.replay import Replay, files
from tests.runtime.node_world import LOOK, Line, World, inspected, world

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
async def cluster(
    directory: Path,
    size: int = 3,
    *,
    hibernation_timeout: str = "60s",
    roomy: bool = False,
    **overrides: dict[str, Any],
) -> AsyncGenerator[list[World]]:
    """``size`` nodes that have heard each other, and whose listening is over (P61). ``roomy``: the first one has the most room, and
    so founds every database."""
    database = {"replication_factor": size} | overrides.pop("database", {})
    async with AsyncExitStack() as stack:
        nodes: list[World | None] = [None] * size

        async def start(number: int, **settings: dict[str, Any]) -> None:
            place = directory / f"node{number}"
            place.mkdir()
            # The same port at every start, as in a real configuration.
            settings["node"] = {"listen_addresses": [str(address) for address in settle(["/ip4/127.0.0.1/tcp/0"])]}
            room = {"max_databases": 48} if roomy and not number else {}
            settings = settings | overrides | {"database": database | room}
            one = world(place, found=not number, hibernation_timeout=hibernation_timeout, **settings)
            nodes[number] = await stack.enter_async_context(one)

        await start(0, discovery={"health_check_interval": HEALTH})
        assert nodes[0] is not None
        for number in range(1, size):
            await start(number, **joining(nodes[0]))
        running = [node for node in nodes if node is not None]
        for one in running:
            await one.until(hears(*(other for other in running if other is not one)))
        for joiner in running[1:]:
            await joiner.until(merged)
        for one in running:  # who joined last may have been heard by all, and not yet have told so itself
            await _until_nodes(one, lambda told: all(it["eligible"] for it in told))
        yield running
    for node in running:
        replays(node)


def hears(*others: World) -> Callable[[Line], bool]:
    """Whether the node has heard all of these; for one :meth:`World.until`."""
    left = {other.peer for other in others}

    def seen(line: Line) -> bool:
        if line.get("event") == "node heard":
            left.discard(line["peer"])
        return not left

    return seen


def replays(node: World) -> None:
    """All that the node has recorded leads to the same effects again, byte for byte, and names nothing that is secret."""
    recordings = node.data / RECORDINGS
    Replay("table", lambda _line: None).run(recordings)
    who = identity.load(node.data)
    secrets = [key.encode() for key in node.keys.values()]
    for key in (who.key, who.secret):
        secrets += [key, key.hex().encode(), base64.b64encode(key)[:40]]
    for pem in node.data.rglob("*.pem"):
        secrets += pem.read_bytes().splitlines()[1:3]
    kept = b"".join(path.read_bytes() for path in files(recordings))
    assert kept
    assert [secret for secret in secrets if secret in kept] == []


def members(nodes: list[World], told: dict[str, Any]) -> tuple[list[World], list[World]]:
    """The nodes that are members of what :func:`inspected` told of, and those that are not."""
    peers = {member["peer"] for member in told["members"]}
    return [node for node in nodes if node.peer in peers], [node for node in nodes if node.peer not in peers]


async def die(*nodes: World) -> None:
    """SIGKILL to these nodes and to their rqlited, at once: as if their machines had lost power, but for the disks."""
    its = [process for node in nodes for process in node.rqliteds()]
    for node in nodes:
        node.kill()
    for process in its:
        process.kill()
    for node in nodes:
        await node.node.process.wait()


async def until_leader(nodes: list[World], database: str = "users") -> World:
    """The node whose rqlited leads the group, as it says itself."""
    with trio.fail_after(20):
        while True:
            for node in nodes:
                if (await inspected(node, database)).get("leader"):
                    return node
            await trio.sleep(LOOK)


async def until_silent(node: World, other: World, seconds: float) -> None:
    """``node`` has had no heartbeat of ``other`` for so long."""

    def silent(told: list[dict[str, Any]]) -> bool:
        (seen,) = [one for one in told if one["peer"] == other.peer]
        return seen["silent_s"] is None or seen["silent_s"] > seconds

    await _until_nodes(node, silent)


async def until_unheard(node: World, other: World) -> None:
    """``node`` does not count ``other`` among those that it hears."""

    def unheard(told: list[dict[str, Any]]) -> bool:
        (seen,) = [one for one in told if one["peer"] == other.peer]
        return not seen["heard"]

    await _until_nodes(node, unheard)


async def _until_nodes(node: World, seen: Callable[[list[dict[str, Any]]], bool]) -> None:
    """What ``torpor nodes`` would show there is so."""
    with trio.fail_after(20):
        while not seen(await ask(node.node, "nodes")):  # noqa: ASYNC110 (another process)
            await trio.sleep(LOOK)
