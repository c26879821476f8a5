"""``make run``: a node on fresh ports and data, and a walk through one database's life, each step beside the raw rqlited's time
for the same step in the same run. Law: what is shown is measured or looked up in this very run, and exit code 0 means that
every step held.

The node is a process of its own, started as an operator would; what it needs is in its directory: ``node.yaml``,
``node.log``, ``data/``, and ``cluster.json`` (gateways, pids, the API key; mode 0600) for tools.
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
from typing import Any, Final

import httpx
import psutil
import trio
from attrs import define, field
from rich import box
from rich.console import Console
from rich.table import Table

from runtime.gateway.auth import new_key
from runtime.ports import Ports, can_bind
from runtime.rqlited_binary import RqlitedMissing, find_binary
from runtime.rqlited_floor import Floor, FloorFailed, floor_create, floor_stop, floor_wake
from runtime.rqlited_start import Timers
from runtime.settings import load
from runtime.spawned import NodeDidNotStart, SpawnedNode, port_block, sections, spawned, write_settings

APP: Final = "demo"
DATABASE: Final = "notes"
HIBERNATION: Final = "2s"
ASLEEP_WITHIN: Final = 20.0
_LOOK: Final = 0.02

_CREATE: Final = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)"
_INSERT: Final = "INSERT INTO notes (text) VALUES (?)"
_SELECT: Final = "SELECT text FROM notes ORDER BY id"
_TEXTS: Final = ("created on first access", "asleep when idle", "awake with the next query")


class DidNotHold(Exception):
    """A step's outcome was not what it has to be."""


@define
class Step:
    """One line of the result: milliseconds of ours and of the raw rqlited (None: there is no such step there)."""

    name: str
    ours: float
    raw: float | None
    note: str


@define(eq=False)
class Walk:
    """The walk through one database's life, on a running node and a raw rqlited."""

    console: Console
    node: SpawnedNode
    client: httpx.AsyncClient
    floor_directory: Path
    heartbeat: float
    steps: list[Step] = field(factory=list[Step])
    floor: Floor | None = None

    async def run(self) -> None:
        """All steps. Raises :class:`DidNotHold` at the first that does not hold."""
        raw_create = await self._raw_create()
        ours, _ = await self._ours("creating", "exec", _CREATE)
        self._told(Step("first access creates", ours, raw_create, "until the CREATE TABLE was acknowledged"))
        for text in _TEXTS:
            ours, reply = await self._ours("inserting", "exec", _INSERT, [text])
            _held(reply.get("rows_affected") == 1, f"insert: {reply}")
        raw = await self._raw("execute", ["CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)"])
        raw = await self._raw("execute", [_INSERT, _TEXTS[0]])
        self._told(Step("insert", ours, raw, "the last of three"))
        ours, reply = await self._ours("querying", "query", _SELECT)
        self._all_there(reply)
        raw = await self._raw("query", ["SELECT text FROM notes"])
        self._told(Step("query", ours, raw, f"{len(_TEXTS)} rows"))
        await self._falls_asleep()
        assert self.floor is not None
        raw_stop = await floor_stop(self.floor) * 1e3
        self.steps[-1].raw = raw_stop
        raw_wake = await floor_wake(self.floor) * 1e3
        ours, reply = await self._ours("waking", "query", _SELECT)
        self._all_there(reply)
        self._told(Step("awake with the next query", ours, raw_wake, "all rows there"))

    async def _falls_asleep(self) -> None:
        began = time.perf_counter()
        processes = self.node.rqliteds()
        _held(len(processes) == 1, f"{len(processes)} rqlited processes for one database")
        ports = [int(text.rpartition(":")[2]) for text in processes[0].cmdline() if "-addr=" in text]
        with self.console.status(f"idle: it goes to sleep after {HIBERNATION} of silence"):
            with trio.move_on_after(ASLEEP_WITHIN):
                while self.node.rqliteds():  # noqa: ASYNC110 (children of another process announce their end to it alone)
                    await trio.sleep(_LOOK)
        _held(not self.node.rqliteds(), f"not asleep after {ASLEEP_WITHIN:g} s")
        _held(all(can_bind("127.0.0.1", port) for port in ports), f"a socket is left on one of {ports}")
        left = [file.path for file in psutil.Process(self.node.pid).open_files() if DATABASE in file.path]
        _held(not left, f"open files are left: {left}")
        took = (time.perf_counter() - began) * 1e3
        size = sum(
            path.stat().st_size for path in self.node.data.glob(f"{APP}_{DATABASE}/*/rqlite/**/*") if path.is_file()
        )
        note = f"after {HIBERNATION} of silence: no process, no socket, no open file; {size // 1024} KiB on disk"
        self._told(Step("asleep", took, None, note))

    def _all_there(self, reply: dict[str, Any]) -> None:
        _held([row.get("text") for row in reply.get("items", [])] == list(_TEXTS), f"rows are missing: {reply}")

    async def _ours(self, doing: str, what: str, sql: str, args: Sequence[Any] = ()) -> tuple[float, dict[str, Any]]:
        body = {"database": DATABASE, "sql": sql, "args": list(args)}
        with self.console.status(f"{doing} …"):
            return await _timed(self.client, f"/v1/database/{what}", body)

    async def _raw_create(self) -> float:
        first = port_block()[0]
        ports = Ports((first, first + 15), (first + 16, first + 31))
        with self.console.status("the raw rqlited first: creating …"):
            self.floor, seconds = await floor_create(find_binary(), self.floor_directory, Timers(self.heartbeat), ports)
        return seconds * 1e3

    async def _raw(self, what: str, statement: list[Any]) -> float:
        assert self.floor is not None
        url = f"http://127.0.0.1:{self.floor.addresses[0][0]}/db/{what}"
        return (await _timed(self.client, url, [statement]))[0]

    def _told(self, step: Step) -> None:
        self.steps.append(step)
        beside = "" if step.raw is None else f", raw rqlited {_ms(step.raw)}"
        self.console.print(f"  {step.name}: {_ms(step.ours)}{beside} ({step.note})")


async def _timed(client: httpx.AsyncClient, url: str, body: Any) -> tuple[float, dict[str, Any]]:
    began = time.perf_counter()
    reply = await client.post(url, json=body)
    took = (time.perf_counter() - began) * 1e3
    _held(
        reply.status_code == 200 and '"error"' not in reply.text, f"{url}: HTTP {reply.status_code} {reply.text[:300]}"
    )
    return took, reply.json()


def _held(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DidNotHold(otherwise)


def _ms(milliseconds: float) -> str:
    return f"{milliseconds / 1e3:.2f} s" if milliseconds >= 1000 else f"{milliseconds:.1f} ms"


def _table(steps: Sequence[Step], *, plain: bool) -> Table:
    table = Table("step", "ours", "raw rqlited", "ratio", "", box=None if plain else box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    for step in steps:
        raw = "" if step.raw is None else _ms(step.raw)
        ratio = "" if step.raw is None or step.name == "asleep" else f"{step.ours / step.raw:.2f}"
        table.add_row(step.name, _ms(step.ours), raw, ratio, step.note)
    return table


def _write_cluster(directory: Path, node: SpawnedNode, key: str) -> Path:
    path = directory / "cluster.json"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(
            {
                "gateways": [node.gateway],
                "pids": [node.pid],
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


def _invite(console: Console, node: SpawnedNode, key: str, cluster: Path) -> None:
    head = f'curl -s {node.gateway}/v1/database/{{}} -H "Authorization: Bearer {key}"'
    body = " -H 'Content-Type: application/json' -d '{}'"
    query = json.dumps({"database": DATABASE, "sql": _SELECT})
    insert = json.dumps({"database": "another", "sql": "CREATE TABLE t (n INTEGER)"})
    console.print("\nTry it:", highlight=False)
    for command in (
        head.format("query") + body.format(query),
        head.format("exec") + body.format(insert),
        head.format("list"),
    ):
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"\nFor tools: {cluster}; the log: {cluster.parent / 'node.log'}", highlight=False, soft_wrap=True)


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
                console.print(f"torpor: {failure}; see {directory / 'node.log'}", soft_wrap=True, markup=False)
            nursery.cancel_scope.cancel()


async def _demo(console: Console, directory: Path, result: Result, *, once: bool) -> None:
    began = time.perf_counter()
    key, digest = new_key()
    settings = sections(directory, {digest: APP}, hibernation_timeout=HIBERNATION, log=directory / "node.log")
    config = write_settings(directory / "node.yaml", settings)
    console.print("starting a node …")
    ending = 0.0
    async with spawned(config, "--found", data=directory / "data", stderr=None) as node:
        client = httpx.AsyncClient(base_url=node.gateway, timeout=30.0, verify=False)  # noqa: S501 (plain HTTP on loopback)
        client.headers["Authorization"] = f"Bearer {key}"
        async with client:
            with console.status("waiting for its gateway …"):
                await client.get("/healthz")
            console.print(f"a node serves {node.gateway} after {time.perf_counter() - began:.1f} s (pid {node.pid})")
            cluster = _write_cluster(directory, node, key)
            walk = Walk(console, node, client, directory / "raw", load(config).rqlite.heartbeat_timeout)
            result.held = await _walked(walk)
        console.print(_table(walk.steps, plain=not console.is_terminal))
        if not once:
            _invite(console, node, key, cluster)
            console.print("\nThe node stays up; Ctrl-C stops it.")
            try:
                code = await node.process.wait()
                console.print(f"[bold red]the node ended by itself, exit code {code}[/]")
                result.held = False
            except trio.Cancelled:
                console.print("stopping the node and its children …")
                raise
        ending = time.perf_counter()
    console.print(f"the node and its children are stopped ({time.perf_counter() - ending:.1f} s)")


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
