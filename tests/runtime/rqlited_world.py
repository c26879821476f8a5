"""What the tests of rqlited share: a real binary, ports of their own, one run that a story can start, question and end."""

from __future__ import annotations

import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import trio
from attrs import define, field

from runtime import processes
from runtime.database_keys import Fetch
from runtime.directories import Directories, Instance
from runtime.ports import Ports
from runtime.rqlite_http import RqliteHttp
from runtime.rqlited import Exit, Ready, StartSpec, Supervisor
from runtime.rqlited_binary import Binary, find_binary
from runtime.rqlited_confined import Walls, settle

NAME, INCARNATION, NODE_ID = "app_users", "s1-1-abcd", "QmPeer.s1-1-abcd.1"
SPEED = 0.05
"""Heartbeat timeout of the tests: a lone voter elects itself within 100 ms."""


@cache
def binary() -> Binary:
    return find_binary()


@cache
def walls() -> Walls:
    return settle("auto", binary())


def free_ports() -> Ports:
    """Below the ephemeral range, random, so that parallel runs of the tests hardly ever meet."""
    return Ports((20000, 24999), (25000, 29999), rng=random.Random())


@define(eq=False)
class Run:
    """One run in the background of a story."""

    supervisor: Supervisor
    spec: StartSpec
    place: Instance
    ready: Ready | None = None
    exit: Exit | None = None
    heard: trio.Event = field(factory=trio.Event)
    ended: trio.Event = field(factory=trio.Event)

    async def until_ready(self) -> Ready:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._either, nursery, self.heard)
            nursery.start_soon(self._either, nursery, self.ended)
        assert self.ready is not None, self.exit
        return self.ready

    async def _either(self, nursery: trio.Nursery, event: trio.Event) -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    async def until_ended(self) -> Exit:
        with trio.fail_after(30):
            await self.ended.wait()
        assert self.exit is not None
        return self.exit

    async def stop(self) -> Exit:
        self.supervisor.terminate(self.spec.incarnation, self.spec.run, 10)
        return await self.until_ended()

    def client(self) -> RqliteHttp:
        return RqliteHttp("127.0.0.1", self.spec.http_port)

    async def insert(self, n: int) -> None:
        async with self.client() as client:
            await client.execute("CREATE TABLE IF NOT EXISTS t (n)", f"INSERT INTO t VALUES ({n})", within=5)

    async def rows(self) -> object:
        async with self.client() as client:
            return await client.query("SELECT n FROM t ORDER BY n", 5, "strong")


@define(eq=False)
class World:
    """A data directory and its supervisor. ``start`` gives a run; all are ended with the story."""

    data: Path
    directories: Directories
    supervisor: Supervisor
    ports: Ports
    nursery: trio.Nursery
    runs: int = 0

    def spec(self, mode: str = "found", **changes: object) -> StartSpec:
        self.runs += 1
        http, raft = self.ports.reserve(1)
        given = {"http_port": http, "raft_port": raft, "mode": mode, "run": self.runs} | changes
        return StartSpec(**{"name": NAME, "incarnation": INCARNATION, "node_id": NODE_ID} | given)  # type: ignore[arg-type]

    def launch(self, spec: StartSpec) -> Run:
        run = Run(self.supervisor, spec, self.directories.instance(spec.name, spec.incarnation))
        self.nursery.start_soon(self._follow, run)
        return run

    async def start(self, mode: str = "found", **changes: object) -> Run:
        run = self.launch(self.spec(mode, **changes))
        await run.until_ready()
        return run

    async def _follow(self, run: Run) -> None:
        def on_ready(ready: Ready) -> None:
            assert run.ready is None, "ready at most once"
            run.ready = ready
            run.heard.set()

        run.exit = await self.supervisor.run(run.spec, on_ready)
        run.ended.set()


@asynccontextmanager
async def world(
    data: Path,
    heartbeat: float = SPEED,
    of: Binary | None = None,
    *,
    fetch: Fetch | None = None,
    on_line: Callable[[str, str], None] | None = None,
    max_memory: int | None = None,
    confine: bool | None = None,
) -> AsyncIterator[World]:
    directories = Directories(data)
    directories.prepare()
    supervisor = Supervisor(
        of or binary(),
        directories,
        heartbeat_timeout=heartbeat,
        stop_timeout=5,
        confine=walls().confine if confine is None else confine,
        fetch=fetch,
        on_line=on_line,
        max_memory=max_memory,
    )
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(120):
                yield World(data, directories, supervisor, free_ports(), nursery)
            nursery.cancel_scope.cancel()
        assert supervisor.pids() == {}
    finally:  # orphans of a story that failed half way
        for who, argv in processes.find(str(binary().path)):
            if Path(argv[-1]).is_relative_to(data):
                processes.send(who, signal.SIGKILL)
