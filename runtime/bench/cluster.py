"""The nodes that a bench measures, and a client that asks them as an application would. Law: what does not answer as it should ends the bench,
with what it said instead."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import trio
from attrs import define

from runtime.bench.figures import BenchFailed
from runtime.gateway.auth import new_key
from runtime.spawned import PortBlock, SpawnedNode
from runtime.spawned_cluster import ask, spawned_cluster

APP: Final = "bench"
CREATE: Final = "CREATE TABLE IF NOT EXISTS floor (id INTEGER PRIMARY KEY, value TEXT)"
HEARTBEAT: Final = "1s"
_LOOK: Final = 0.02


@define(eq=False)
class Measured:
    """Nodes, and a client for their gateways."""

    nodes: list[SpawnedNode]
    client: httpx.AsyncClient

    async def timed(self, node: int, what: str, database: str, sql: str) -> float:
        """One request to the gateway of a node: milliseconds until it was answered. Raises :class:`BenchFailed`."""
        began = time.perf_counter()
        reply = await self.send(node, what, database, sql)
        took = (time.perf_counter() - began) * 1e3
        if reply.status_code != 200:
            raise BenchFailed(f"{what} on {database}: HTTP {reply.status_code} {reply.text[:300]}")
        return took

    async def send(self, node: int, what: str, database: str, sql: str) -> httpx.Response:
        url = f"{self.nodes[node].gateway}/v1/database/{what}"
        return await self.client.post(url, json={"database": database, "sql": sql})

    async def asked(self, do: str, **arguments: str) -> list[Any]:
        """What each node answers its operator."""
        return [await ask(node, do, **arguments) for node in self.nodes]

    async def asleep(self, within: float) -> None:
        """Wait until no rqlited of the nodes runs."""
        # Children of another process announce their end to it alone.
        await until(lambda: not any(node.rqliteds() for node in self.nodes), within, "a database is not asleep")

    async def phase(self, database: str, phase: str, within: float) -> None:
        """Wait until every node knows that a database is in this phase."""

        async def there() -> bool:
            told = await self.asked("inspect", app=APP, name=database)
            return all(one["phase"] == phase for known in told for one in known)

        with trio.move_on_after(within):
            while not await there():  # noqa: ASYNC110 (a node calls nobody back)
                await trio.sleep(_LOOK)
            return
        raise BenchFailed(f"{database} is not {phase} on every node after {within:g} s")


async def until(holds: Callable[[], bool], within: float, otherwise: str) -> None:
    """Look again and again. Raises :class:`BenchFailed`."""
    with trio.move_on_after(within):
        while not holds():  # noqa: ASYNC110 (what other processes do is seen by looking)
            await trio.sleep(_LOOK)
        return
    raise BenchFailed(f"{otherwise} after {within:g} s")


@asynccontextmanager
async def measured(
    directory: Path,
    size: int,
    *,
    replicas: int,
    hibernation_timeout: str,
    database: Mapping[str, Any] | None = None,
    blocks: Sequence[PortBlock] = (),
) -> AsyncGenerator[Measured]:
    """``size`` nodes that hear each other and whose gateways answer. Raises :class:`runtime.spawned.NodeDidNotStart`."""
    key, digest = new_key()
    settings = {
        "database": {"replication_factor": replicas} | dict(database or {}),
        "discovery": {"health_check_interval": HEARTBEAT},
    }
    cluster = spawned_cluster(
        directory, size, {digest: APP}, settings, hibernation_timeout=hibernation_timeout, blocks=blocks
    )
    async with cluster as nodes:
        client = httpx.AsyncClient(timeout=60.0, verify=False)  # noqa: S501 (plain HTTP on loopback)
        client.headers["Authorization"] = f"Bearer {key}"
        async with client:
            for node in nodes:
                await client.get(f"{node.gateway}/healthz")
            yield Measured(nodes, client)
