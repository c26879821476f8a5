"""``make run``: three nodes on fresh ports and data, and a walk through one database's life, each step beside the time of three raw
rqlited for the same step in the same run. Law: what is shown is measured or looked up in this very run, and exit code 0 means
that every step held.

Each node is a process of its own, started as an operator would; what it needs is in its directory, ``node1`` to ``node3``: ``node.yaml``,
``node.log``, ``data/``. Beside them is ``cluster.json`` (gateways, pids, data directories, the API key; mode 0600) for tools.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx
import trio
from attrs import define
from rich import box
from rich.console import Console
from rich.table import Table

from runtime.demo_walk import APP, DATABASE, HIBERNATION, SELECT, DidNotHold, Step, Walk, milliseconds
from runtime.gateway.auth import new_key
from runtime.rqlited_binary import RqlitedMissing, find_binary
from runtime.rqlited_floor import FloorFailed, floor_stop
from runtime.settings import load
from runtime.spawned import NodeDidNotStart, SpawnedNode
from runtime.spawned_cluster import spawned_cluster

NODES: Final = 3


def _table(steps: Sequence[Step], *, plain: bool) -> Table:
    table = Table("step", "ours", "3 raw rqlited", "ratio", "", box=None if plain else box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    for step in steps:
        raw = "" if step.raw is None else milliseconds(step.raw)
        ratio = "" if step.raw is None or step.name == "asleep" else f"{step.ours / step.raw:.2f}"
        table.add_row(step.name, milliseconds(step.ours), raw, ratio, step.note)
    return table


def _write_cluster(directory: Path, nodes: Sequence[SpawnedNode], key: str) -> Path:
    path = directory / "cluster.json"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(
            {
                "gateways": [node.gateway for node in nodes],
                "pids": [node.pid for node in nodes],
                "data": [str(node.data) for node in nodes],
                "key": key,
                "application": APP,
                "database": DATABASE,
                "directory": str(directory),
            },
            file,
            indent=2,
        )
        file.write("\n")
    return path


def _invite(console: Console, nodes: Sequence[SpawnedNode], key: str, cluster: Path) -> None:
    body = " -H 'Content-Type: application/json' -d '{}'"
    query = json.dumps({"database": DATABASE, "sql": SELECT})
    insert = json.dumps({"database": "another", "sql": "CREATE TABLE t (n INTEGER)"})
    bearer = f'-H "Authorization: Bearer {key}"'
    torpor = f"{Path(sys.executable).parent / 'torpor'} --data-dir {nodes[0].data}"
    console.print("\nTry it:", highlight=False)
    for command in (
        f"curl -s {nodes[1].gateway}/v1/database/query {bearer}" + body.format(query),
        f"curl -s {nodes[2].gateway}/v1/database/exec {bearer}" + body.format(insert),
        f"curl -s {nodes[0].gateway}/v1/database/list {bearer}",
        f"{torpor} nodes",
        f"{torpor} inspect {APP}/{DATABASE}",
    ):
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)
    where = f"\nFor tools: {cluster}; the logs: {cluster.parent}/node*/node.log"
    console.print(where, highlight=False, soft_wrap=True)


@define
class Result:
    """What the exit code says."""

    held: bool = False


async def _until_interrupted(console: Console, directory: Path, result: Result, *, once: bool) -> None:
    """The demonstration, ended by Ctrl-C or SIGTERM at any moment; the node is stopped in every case."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def interrupted() -> None:
                await signals.__anext__()
                nursery.cancel_scope.cancel()

            nursery.start_soon(interrupted)
            try:
                await _demo(console, directory, result, once=once)
            except NodeDidNotStart as failure:
                console.print(f"torpor: {failure}; see {directory}/node*/node.log", soft_wrap=True, markup=False)
            nursery.cancel_scope.cancel()


async def _demo(console: Console, directory: Path, result: Result, *, once: bool) -> None:
    began = time.perf_counter()
    key, digest = new_key()
    console.print(f"starting {NODES} nodes …")
    settings = {"database": {"replication_factor": NODES}, "discovery": {"health_check_interval": "1s"}}
    ending = 0.0
    async with spawned_cluster(directory, NODES, {digest: APP}, settings, hibernation_timeout=HIBERNATION) as nodes:
        client = httpx.AsyncClient(timeout=30.0, verify=False)  # noqa: S501 (plain HTTP on loopback)
        client.headers["Authorization"] = f"Bearer {key}"
        async with client:
            with console.status("waiting for their gateways …"):
                for node in nodes:
                    await client.get(f"{node.gateway}/healthz")
            took = time.perf_counter() - began
            console.print(f"{NODES} nodes hear each other and serve after {took:.1f} s:")
            for number, node in enumerate(nodes, 1):
                line = f"  node {number}: {node.gateway}, pid {node.pid}, {node.status()['node_id']}"
                console.print(line, soft_wrap=True, markup=False)
            cluster = _write_cluster(directory, nodes, key)
            heartbeat = load(directory / "node1" / "node.yaml").rqlite.heartbeat_timeout
            walk = Walk(console, nodes, client, directory / "raw", heartbeat)
            result.held = await _walked(walk)
        console.print(_table(walk.steps, plain=not console.is_terminal))
        if not once:
            _invite(console, nodes, key, cluster)
            console.print("\nThe nodes stay up; Ctrl-C stops them.")
            try:
                await _until_one_ends(console, nodes)
                result.held = False
            except trio.Cancelled:
                console.print("stopping the nodes and their children …")
                raise
        ending = time.perf_counter()
    console.print(f"the nodes and their children are stopped ({time.perf_counter() - ending:.1f} s)")


async def _until_one_ends(console: Console, nodes: Sequence[SpawnedNode]) -> None:
    async with trio.open_nursery() as nursery:

        async def watch(number: int, node: SpawnedNode) -> None:
            code = await node.process.wait()
            console.print(f"[bold red]node {number} ended by itself, exit code {code}[/]")
            nursery.cancel_scope.cancel()

        for number, node in enumerate(nodes, 1):
            nursery.start_soon(watch, number, node)


async def _walked(walk: Walk) -> bool:
    """Walk; whether all held. The raw rqlited is gone afterwards."""
    try:
        await walk.run()
    except (DidNotHold, FloorFailed, httpx.HTTPError) as failure:
        walk.console.print(f"[bold red]did not hold:[/] {failure or type(failure).__name__}", soft_wrap=True)
        return False
    finally:
        if walk.floor is not None and walk.floor.processes:
            with trio.CancelScope(shield=True):
                await floor_stop(walk.floor)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """The demonstration; gives the exit code: 0 when every step held."""
    parser = argparse.ArgumentParser(prog="python -m runtime.demo", description="A walk through a database's life.")
    parser.add_argument("--dir", type=Path, help="keep everything in this new directory (default: a temporary one)")
    given = parser.parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    try:
        find_binary()
    except RqlitedMissing as missing:
        console.print(f"torpor: {missing}", soft_wrap=True, markup=False)
        return 2
    directory: Path = (given.dir or Path(tempfile.mkdtemp(prefix="torpor-"))).absolute()
    if (directory / "data").exists():
        console.print(f"torpor: {directory} was used before; name a new directory", soft_wrap=True, markup=False)
        return 2
    directory.mkdir(parents=True, exist_ok=True)
    result = Result()
    once = os.environ.get("ONCE", "") not in ("", "0")
    try:
        trio.run(lambda: _until_interrupted(console, directory, result, once=once))
    finally:
        if given.dir is None:
            shutil.rmtree(directory, ignore_errors=True)
    return 0 if result.held else 1


if __name__ == "__main__":
    sys.exit(main())
