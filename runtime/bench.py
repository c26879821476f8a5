"""``python -m runtime.bench lifecycle``: what the node costs beyond the raw rqlited, both measured in one run, turn by turn, on
this machine. Law: the raw side is the fastest known way to the same outcome (:mod:`runtime.rqlited_floor`), with the same binary,
timers and disk; what is compared ends with the same event.

create: until the first acknowledged write of a database that nobody knew (ours: one HTTP request to the gateway, since the first
access creates); all replicas are voters then, and each has passed a strong read. wake: until the first answer of a
database that was stopped cleanly (ours: one HTTP query to the first node; before it is answered that node made a strong read, as
the raw side's first member does). Each of our nodes is a process of its own, one for each replica.

Raft elects within one to two heartbeat timeouts at random, so single turns differ by that much on both sides: medians are shown,
and the fastest and the slowest beside them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import trio
from attrs import define, field
from rich.console import Console
from rich.table import Table

from protocol.limits import MEMBERS
from runtime.gateway.auth import new_key
from runtime.identity import DIRECTORY, SECRET
from runtime.ports import Ports
from runtime.rqlited_binary import RqlitedMissing, find_binary
from runtime.rqlited_floor import floor_create, floor_stop, floor_wake
from runtime.rqlited_start import Timers
from runtime.settings import load
from runtime.spawned import NodeDidNotStart, SpawnedNode, port_block, sections, spawned, write_settings

HIBERNATION: Final = "300ms"
"""Short, so that each turn's database is asleep when the next turn is measured."""
ASLEEP_WITHIN: Final = 30.0
FORMED_WITHIN: Final = 60.0
"""Seconds until the nodes have heard each other and create databases."""
OBJECTIVES: Final = {1: {"create": 1.5, "wake": 1.5}, 3: {"create": 1.4, "wake": 1.3}}
"""Ratios that are accepted (R63), by the number of replicas; the goal is 1.1. Numbers between follow the smaller one."""

_CREATE: Final = "CREATE TABLE IF NOT EXISTS floor (id INTEGER PRIMARY KEY, value TEXT)"


class BenchFailed(Exception):
    """A turn did not end as it has to. One line."""


@define
class Measure:
    """Milliseconds of each turn."""

    ours: list[float] = field(factory=list[float])
    raw: list[float] = field(factory=list[float])

    def figures(self) -> dict[str, float | int]:
        """The form that every bench of this project prints with ``--json``."""
        ours, raw = statistics.median(self.ours), statistics.median(self.raw)
        return {
            "ours_ms": round(ours, 2),
            "raw_ms": round(raw, 2),
            "ratio": round(ours / raw, 3),
            "runs": len(self.ours),
            "ours_min_ms": round(min(self.ours), 2),
            "ours_max_ms": round(max(self.ours), 2),
            "raw_min_ms": round(min(self.raw), 2),
            "raw_max_ms": round(max(self.raw), 2),
        }


@define
class Ours:
    """The nodes, and a client that sends to the gateway of the first one."""

    nodes: list[SpawnedNode]
    client: httpx.AsyncClient


@asynccontextmanager
async def running(directory: Path, replicas: int) -> AsyncGenerator[Ours]:
    """One node for each replica: the first founds, the others join it, as an operator would do it. Raises
    :class:`BenchFailed`."""
    key, digest = new_key()
    client = httpx.AsyncClient(timeout=30.0, verify=False)  # noqa: S501 (plain HTTP on loopback)
    client.headers["Authorization"] = f"Bearer {key}"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(client)
        nodes: list[SpawnedNode] = []
        for number in range(replicas):
            place = directory / f"node{number}"
            place.mkdir()
            settings = sections(place, {digest: "bench"}, hibernation_timeout=HIBERNATION, log=place / "node.log")
            settings["database"]["replication_factor"] = replicas
            settings["discovery"] = {"health_check_interval": "1s"}
            if nodes:
                settings["discovery"]["bootstrap_peers"] = nodes[0].status()["addresses"]
                settings["security"]["cluster_secret_file"] = str(nodes[0].data / DIRECTORY / SECRET)
            config = write_settings(place / "node.yaml", settings)
            found = () if nodes else ("--found",)
            nodes.append(await stack.enter_async_context(spawned(config, *found, data=place / "data", stderr=None)))
        ours = Ours(nodes, client)
        await _formed(ours)
        yield ours


async def _formed(ours: Ours) -> None:
    """Wait until each node creates databases: it has heard the others by then."""
    with trio.move_on_after(FORMED_WITHIN):
        for number, node in enumerate(ours.nodes):
            # Polled: a node does not say when it has heard enough others.
            while not await _succeeds(ours.client, node, f"formed-{number}"):  # noqa: ASYNC110
                await trio.sleep(0.1)
        await _asleep(ours)
        return
    raise BenchFailed(f"the nodes do not create databases after {FORMED_WITHIN:g} s; see node*/node.log")


async def _succeeds(client: httpx.AsyncClient, node: SpawnedNode, database: str) -> bool:
    reply = await client.post(f"{node.gateway}/v1/database/exec", json={"database": database, "sql": _CREATE})
    return reply.status_code == 200


async def lifecycle(directory: Path, runs: int, replicas: int, console: Console) -> dict[str, Measure]:
    """``runs`` turns of create and wake, ours and raw, and one before them that does not count: files and pages are warm
    then on both sides. Raises :class:`BenchFailed`."""
    timers = Timers(load(None).rqlite.heartbeat_timeout)
    first = port_block()[0]
    ports = Ports((first, first + 31), (first + 32, first + 63))
    measures = {"create": Measure(), "wake": Measure()}
    async with running(directory, replicas) as ours:
        for turn in range(runs + 1):
            with console.status(f"turn {turn} of {runs}" if turn else "warming up"):
                one = await _turn(ours, turn, directory, timers, ports)
            if turn:
                for name, own, raw in one:
                    measures[name].ours.append(own)
                    measures[name].raw.append(raw)
    return measures


async def _turn(
    ours: Ours, turn: int, directory: Path, timers: Timers, ports: Ports
) -> tuple[tuple[str, float, float], ...]:
    """The two sides one after the other, who is first changing from turn to turn."""

    async def own() -> tuple[float, float]:
        create = await _timed(ours, "exec", f"turn-{turn}", _CREATE)
        await _asleep(ours)
        return create, await _timed(ours, "query", f"turn-{turn}", "SELECT 1")

    async def raw() -> tuple[float, float]:
        floor, create = await floor_create(find_binary(), directory / "raw", timers, ports, n=len(ours.nodes))
        await floor_stop(floor)
        wake = await floor_wake(floor)
        await floor_stop(floor)
        return create * 1e3, wake * 1e3

    if turn % 2:
        (our_create, our_wake), (raw_create, raw_wake) = await own(), await raw()
    else:
        (raw_create, raw_wake), (our_create, our_wake) = await raw(), await own()
    await _asleep(ours)
    return ("create", our_create, raw_create), ("wake", our_wake, raw_wake)


async def _timed(ours: Ours, what: str, database: str, sql: str) -> float:
    url = f"{ours.nodes[0].gateway}/v1/database/{what}"
    began = time.perf_counter()
    reply = await ours.client.post(url, json={"database": database, "sql": sql})
    took = (time.perf_counter() - began) * 1e3
    if reply.status_code != 200:
        raise BenchFailed(f"{what} on {database}: HTTP {reply.status_code} {reply.text[:300]}")
    return took


async def _asleep(ours: Ours) -> None:
    """Wait until no rqlited of the nodes runs."""
    with trio.move_on_after(ASLEEP_WITHIN):
        # Polled: children of another process announce their end to it alone.
        while any(node.rqliteds() for node in ours.nodes):  # noqa: ASYNC110
            await trio.sleep(0.05)
        return
    raise BenchFailed(f"a database is not asleep after {ASLEEP_WITHIN:g} s")


def _table(measures: dict[str, Measure], replicas: int) -> Table:
    accepted = OBJECTIVES[max(number for number in OBJECTIVES if number <= replicas)]
    table = Table("", "ours", "raw rqlited", "ratio", "accepted", "fastest to slowest, ours", "raw", box=None)
    for name, measure in measures.items():
        figures = measure.figures()
        table.add_row(
            name,
            f"{figures['ours_ms']:.0f} ms",
            f"{figures['raw_ms']:.0f} ms",
            f"{figures['ratio']:.2f}",
            f"≤ {accepted[name]:g}",
            f"{min(measure.ours):.0f} to {max(measure.ours):.0f} ms",
            f"{min(measure.raw):.0f} to {max(measure.raw):.0f} ms",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runtime.bench")
    commands = parser.add_subparsers(dest="what", required=True)
    command = commands.add_parser("lifecycle", help="creation and wake-up beside the raw rqlited")
    command.add_argument("--runs", type=int, default=10, help="turns of each (default: 10)")
    command.add_argument("--rf", type=int, default=1, help="replicas, each on a node of its own (default: 1)")
    command.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    given: Any = parser.parse_args(arguments)
    if given.runs < 1:
        parser.error("--runs: at least 1")
    if not 1 <= given.rf <= MEMBERS:
        parser.error(f"--rf: 1 to {MEMBERS}")
    console = Console(highlight=False, stderr=given.json, width=None if sys.stdout.isatty() else 160)
    directory = Path(tempfile.mkdtemp(prefix="torpor-bench-"))
    try:
        find_binary()
        measures = trio.run(lifecycle, directory, given.runs, given.rf, console)
    except RqlitedMissing as missing:
        console.print(f"torpor: {missing}", soft_wrap=True, markup=False)
        return 2
    except (BenchFailed, NodeDidNotStart) as failed:
        console.print(f"torpor: {failed}", soft_wrap=True, markup=False)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if given.json:
        figures = {name: measure.figures() for name, measure in measures.items()}
        sys.stdout.write(json.dumps({"rf": given.rf, **figures}) + "\n")
    else:
        console.print(_table(measures, given.rf))
    return 0


if __name__ == "__main__":
    sys.exit(main())
