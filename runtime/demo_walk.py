"""The walk of ``make run`` through one database's life on several nodes, each step beside the same step of raw rqliteds, by hand. Law: a step
that does not hold ends the walk with what was seen instead.

It writes through one node and reads through another; it looks at what runs, not at what nodes say of themselves, except for who
the members are, which is asked as ``torpor inspect`` does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import trio
from attrs import define, field
from rich.console import Console

from runtime.ports import Ports, can_bind
from runtime.rqlited_binary import find_binary
from runtime.rqlited_floor import Floor, floor_create, floor_stop, floor_wake
from runtime.rqlited_start import Timers
from runtime.spawned import SpawnedNode, port_blocks
from runtime.spawned_cluster import ask

APP: Final = "demo"
DATABASE: Final = "notes"
HIBERNATION: Final = "2s"
ASLEEP_WITHIN: Final = 20.0
_LOOK: Final = 0.02

CREATE: Final = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)"
INSERT: Final = "INSERT INTO notes (text) VALUES (?)"
SELECT: Final = "SELECT text FROM notes ORDER BY id"
_TEXTS: Final = ("created on first access", "asleep when idle", "awake with the next query")


class DidNotHold(Exception):
    """A step's outcome was not what it has to be."""


@define
class Step:
    """One line of the result: milliseconds of ours and of the raw rqliteds (None: there is no such step there)."""

    name: str
    ours: float
    raw: float | None
    note: str


@define(eq=False)
class Walk:
    """On running nodes, one for each replica, and as many raw rqliteds."""

    console: Console
    nodes: list[SpawnedNode]
    client: httpx.AsyncClient
    floor_directory: Path
    heartbeat: float
    steps: list[Step] = field(factory=list[Step])
    floor: Floor | None = None

    async def run(self) -> None:
        """All steps. Raises :class:`DidNotHold` at the first that does not hold."""
        raw_create = await self._raw_create()
        ours, _ = await self._ours(0, "creating", "exec", CREATE)
        self._told(Step("first access creates", ours, raw_create, "node 1; until the CREATE TABLE was acknowledged"))
        for text in _TEXTS:
            ours, reply = await self._ours(0, "inserting", "exec", INSERT, [text])
            _held(reply.get("rows_affected") == 1, f"insert: {reply}")
        await self._raw("execute", ["CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)"])
        raw = await self._raw("execute", [INSERT, _TEXTS[0]])
        self._told(Step("insert", ours, raw, "node 1; the last of three"))
        ours, reply = await self._ours(1, "querying", "query", SELECT)
        self._all_there(reply)
        raw = await self._raw("query", ["SELECT text FROM notes"], member=1)
        self._told(Step("query", ours, raw, f"node 2; {len(_TEXTS)} rows, written through node 1"))
        await self._members()
        await self._falls_asleep()
        assert self.floor is not None
        self.steps[-1].raw = await floor_stop(self.floor) * 1e3
        raw_wake = await floor_wake(self.floor) * 1e3
        ours, reply = await self._ours(2, "waking", "query", SELECT)
        self._all_there(reply)
        self._told(Step("awake with the next query", ours, raw_wake, "node 3; all rows there"))

    async def _members(self) -> None:
        (seen,) = await ask(self.nodes[0], "inspect", app=APP, name=DATABASE)
        numbers = {node.status()["node_id"]: number for number, node in enumerate(self.nodes, 1)}
        told = [
            f"node {numbers[member['peer']]} (…{member['peer'][-8:]}, Raft {member['host']}:{member['raft']})"
            for member in seen["members"]
        ]
        _held(len(told) == len(self.nodes), f"{len(told)} members: {told}")
        _held(all(len(node.rqliteds()) == 1 for node in self.nodes), "not one rqlited on each node")
        self.console.print(f"  its members: {', '.join(told)}", soft_wrap=True)

    async def _falls_asleep(self) -> None:
        began = time.perf_counter()
        running = [process for node in self.nodes for process in node.rqliteds()]
        ports = [int(text.rpartition(":")[2]) for process in running for text in process.cmdline() if "-addr=" in text]
        with self.console.status(f"idle: it goes to sleep after {HIBERNATION} of silence"):
            with trio.move_on_after(ASLEEP_WITHIN):
                while self._awake():  # noqa: ASYNC110 (children of another process announce their end to it alone)
                    await trio.sleep(_LOOK)
        _held(not self._awake(), f"not asleep after {ASLEEP_WITHIN:g} s")
        _held(all(can_bind("127.0.0.1", port) for port in ports), f"a socket is left on one of {ports}")
        nodes = [psutil.Process(node.pid) for node in self.nodes]
        left = [file.path for node in nodes for file in node.open_files() if DATABASE in file.path]
        _held(not left, f"open files are left: {left}")
        took = (time.perf_counter() - began) * 1e3
        files = [path for node in self.nodes for path in node.data.glob(f"{APP}_{DATABASE}/*/rqlite/**/*")]
        size = sum(path.stat().st_size for path in files if path.is_file())
        note = f"after {HIBERNATION} of silence: no process, no socket, no open file; {size // 1024} KiB on three disks"
        self._told(Step("asleep", took, None, note))

    def _awake(self) -> bool:
        return any(node.rqliteds() for node in self.nodes)

    def _all_there(self, reply: dict[str, Any]) -> None:
        _held([row.get("text") for row in reply.get("items", [])] == list(_TEXTS), f"rows are missing: {reply}")

    async def _ours(
        self, node: int, doing: str, what: str, sql: str, args: Sequence[Any] = ()
    ) -> tuple[float, dict[str, Any]]:
        body = {"database": DATABASE, "sql": sql, "args": list(args)}
        with self.console.status(f"{doing} …"):
            return await _timed(self.client, f"{self.nodes[node].gateway}/v1/database/{what}", body)

    async def _raw_create(self) -> float:
        (block,) = port_blocks(1)
        ports = Ports(block.http, block.raft)
        timers, size = Timers(self.heartbeat), len(self.nodes)
        with self.console.status("the raw rqliteds first: creating …"):
            self.floor, seconds = await floor_create(find_binary(), self.floor_directory, timers, ports, n=size)
        return seconds * 1e3

    async def _raw(self, what: str, statement: list[Any], member: int = 0) -> float:
        assert self.floor is not None
        url = f"http://127.0.0.1:{self.floor.addresses[member][0]}/db/{what}"
        return (await _timed(self.client, url, [statement]))[0]

    def _told(self, step: Step) -> None:
        self.steps.append(step)
        beside = "" if step.raw is None else f", raw rqlited {milliseconds(step.raw)}"
        self.console.print(f"  {step.name}: {milliseconds(step.ours)}{beside} ({step.note})", soft_wrap=True)


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


def milliseconds(value: float) -> str:
    """As a person reads it."""
    return f"{value / 1e3:.2f} s" if value >= 1000 else f"{value:.1f} ms"
