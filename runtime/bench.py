"""``python -m runtime.bench lifecycle``: what the node costs beyond the raw rqlited, both measured in one run, turn by turn, on
this machine. Law: the raw side is the fastest known way to the same outcome (:mod:`runtime.rqlited_floor`), with the same binary,
timers and disk; what is compared ends with the same event.

create: until the first acknowledged write of a database that nobody knew (ours: one HTTP request to the gateway, since the first
access creates). wake: until the first answer of a database that was stopped cleanly (ours: one HTTP query; before it is answered
the node made a strong read, as the raw side does). Raft elects within one to two heartbeat timeouts at random, so single turns differ
by that much on both sides: medians are shown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import trio
from attrs import define, field
from rich.console import Console
from rich.table import Table

from runtime.gateway.auth import new_key
from runtime.ports import Ports
from runtime.rqlited_binary import RqlitedMissing, find_binary
from runtime.rqlited_floor import floor_create, floor_stop, floor_wake
from runtime.rqlited_start import Timers
from runtime.settings import load
from runtime.spawned import SpawnedNode, port_block, sections, spawned, write_settings

HIBERNATION: Final = "300ms"
"""Short, so that each turn's database is asleep when the next turn is measured."""
ASLEEP_WITHIN: Final = 30.0
OBJECTIVES: Final = {"create": 1.5, "wake": 1.5}
"""Ratios that are accepted (R63); the goal is 1.1."""

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
        }


async def lifecycle(directory: Path, runs: int, console: Console) -> dict[str, Measure]:
    """``runs`` turns of create and wake, ours and raw, and one before them that does not count: files and pages are warm
    then on both sides. Raises :class:`BenchFailed`."""
    key, digest = new_key()
    settings = sections(directory, {digest: "bench"}, hibernation_timeout=HIBERNATION, log=directory / "node.log")
    config = write_settings(directory / "node.yaml", settings)
    timers = Timers(load(config).rqlite.heartbeat_timeout)
    first = port_block()[0]
    ports = Ports((first, first + 31), (first + 32, first + 63))
    measures = {"create": Measure(), "wake": Measure()}
    client = httpx.AsyncClient(timeout=30.0, verify=False)  # noqa: S501 (plain HTTP on loopback)
    async with spawned(config, "--found", data=directory / "data", stderr=None) as node, client:
        client.base_url = node.gateway
        client.headers["Authorization"] = f"Bearer {key}"
        await client.get("/healthz")
        for turn in range(runs + 1):
            with console.status(f"turn {turn} of {runs}" if turn else "warming up"):
                one = await _turn(node, client, turn, directory, timers, ports)
            if turn:
                for name, ours, raw in one:
                    measures[name].ours.append(ours)
                    measures[name].raw.append(raw)
    return measures


async def _turn(
    node: SpawnedNode, client: httpx.AsyncClient, turn: int, directory: Path, timers: Timers, ports: Ports
) -> tuple[tuple[str, float, float], ...]:
    """The two sides one after the other, who is first changing from turn to turn."""

    async def ours() -> tuple[float, float]:
        create = await _timed(client, "exec", f"turn-{turn}", _CREATE)
        await _asleep(node)
        return create, await _timed(client, "query", f"turn-{turn}", "SELECT 1")

    async def raw() -> tuple[float, float]:
        floor, create = await floor_create(find_binary(), directory / "raw", timers, ports)
        await floor_stop(floor)
        wake = await floor_wake(floor)
        await floor_stop(floor)
        return create * 1e3, wake * 1e3

    if turn % 2:
        (our_create, our_wake), (raw_create, raw_wake) = await ours(), await raw()
    else:
        (raw_create, raw_wake), (our_create, our_wake) = await raw(), await ours()
    await _asleep(node)
    return ("create", our_create, raw_create), ("wake", our_wake, raw_wake)


async def _timed(client: httpx.AsyncClient, what: str, database: str, sql: str) -> float:
    began = time.perf_counter()
    reply = await client.post(f"/v1/database/{what}", json={"database": database, "sql": sql})
    took = (time.perf_counter() - began) * 1e3
    if reply.status_code != 200:
        raise BenchFailed(f"{what} on {database}: HTTP {reply.status_code} {reply.text[:300]}")
    return took


async def _asleep(node: SpawnedNode) -> None:
    """Wait until no rqlited of the node runs."""
    with trio.move_on_after(ASLEEP_WITHIN):
        # Polled: children of another process announce their end to it alone.
        while node.rqliteds():  # noqa: ASYNC110
            await trio.sleep(0.05)
        return
    raise BenchFailed(f"a database is not asleep after {ASLEEP_WITHIN:g} s")


def _table(measures: dict[str, Measure]) -> Table:
    table = Table("", "ours", "raw rqlited", "ratio", "accepted", "fastest to slowest, ours", "raw", box=None)
    for name, measure in measures.items():
        figures = measure.figures()
        table.add_row(
            name,
            f"{figures['ours_ms']:.0f} ms",
            f"{figures['raw_ms']:.0f} ms",
            f"{figures['ratio']:.2f}",
            f"≤ {OBJECTIVES[name]:g}",
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
    command.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    given: Any = parser.parse_args(arguments)
    if given.runs < 1:
        parser.error("--runs: at least 1")
    console = Console(highlight=False, stderr=given.json, width=None if sys.stdout.isatty() else 160)
    directory = Path(tempfile.mkdtemp(prefix="torpor-bench-"))
    try:
        find_binary()
        measures = trio.run(lifecycle, directory, given.runs, console)
    except RqlitedMissing as missing:
        console.print(f"torpor: {missing}", soft_wrap=True, markup=False)
        return 2
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if given.json:
        sys.stdout.write(json.dumps({name: measure.figures() for name, measure in measures.items()}) + "\n")
    else:
        console.print(_table(measures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
