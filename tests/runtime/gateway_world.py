"""What the tests of the gateway share: a real rqlited, real workers under a real GatewayHost, and a keeper in the place of the
engine: it opens doors when it is asked, as a node does, and remembers every frame.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from signal import Signals
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import trio
from attrs import define, evolve, field

from runtime.gateway.auth import new_key
from runtime.gateway.bind import bound, reached_at
from runtime.gateway.calls import CLIENTS
from runtime.gateway.certificates import Certificate
from runtime.gateway.endpoints import Endpoints
from runtime.gateway.frames import (
    Ask,
    DoorAck,
    FromWorker,
    Hop,
    Key,
    ListNames,
    Problem,
    ReadSealed,
    SealedCopy,
    WorkerJoined,
)
from runtime.gateway.host import GatewayHost
from runtime.gateway.openapi import KEYED
from runtime.gateway.public_tls import PublicTls
from runtime.gateway.worker_config import WorkerConfig
from runtime.processes import bound_memory
from runtime.rqlited_binary import find_binary
from runtime.spawned import children

SLOW = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {rows}) SELECT count(*) AS n FROM c"
"""A read whose time grows with its rows; some millions take about a second."""
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


MEMORY = 1 << 30
"""Of each rqlited; a machine that runs tests has little."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@define(eq=False)
class Rqlited:
    """A single rqlited by hand, as far from our supervisor as can be."""

    directory: Path
    http: int = field(factory=free_port)
    raft: int = field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def start(self) -> None:
        binary = find_binary()
        command = [str(binary.path), "-node-id", "n", "-http-addr", f"127.0.0.1:{self.http}"]
        command += ["-raft-addr", f"127.0.0.1:{self.raft}", f"-{binary.heartbeat_flag}", "100ms"]
        command += ["-raft-election-timeout", "100ms", "-raft-leader-lease-timeout", "100ms", str(self.directory)]
        with (self.directory.parent / f"{self.directory.name}.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        bound_memory(self.process.pid, MEMORY)

    async def ready(self) -> None:
        async with httpx.AsyncClient(base_url=self.url) as client:
            with trio.fail_after(20):
                while True:
                    try:
                        answer = await client.post("/db/query?level=strong", json=[["SELECT 1"]])
                        if answer.status_code == 200 and "error" not in answer.json():
                            return
                    except httpx.TransportError:
                        pass
                    await trio.sleep(0.02)

    def signal(self, number: Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def rqliteds(directory: Path, *names: str) -> Iterator[dict[str, Rqlited]]:
    """Started, one for each name; killed at the end."""
    running = {name: Rqlited(directory / name) for name in names}
    try:
        for each in running.values():
            each.start()
        yield running
    finally:
        for each in running.values():
            each.kill()


@define(eq=False)
class Keeper:
    """The engine's place. ``urls``: (app, name) → the rqlited whose door it opens when asked; ``refuse``: instead, this problem.
    ``hops``: (app, name) → where others serve it; the first of several lists is given once."""

    urls: dict[tuple[str, str], str] = field(factory=dict)
    hops: dict[tuple[str, str], list[tuple[Hop, ...]]] = field(factory=dict)
    copies: dict[tuple[str, str], SealedCopy] = field(factory=dict)
    """(app, name) → the sealed copy that a worker is told of when it asks."""
    refuse: Problem | None = None
    silent: bool = False
    directory: tuple[Key, ...] = ()
    """API keys that a worker is told when it joins."""
    frames: list[FromWorker] = field(factory=list)
    generation: int = 0
    _changed: trio.Event = field(factory=trio.Event)
    host: GatewayHost | None = None

    def deliver(self, frame: FromWorker) -> None:
        assert self.host is not None
        self.frames.append(frame)
        self._changed.set()
        self._changed = trio.Event()
        if isinstance(frame, Ask) and not self.silent:
            self.reply(frame)
        if isinstance(frame, WorkerJoined):
            self.host.keys(frame.worker, self.directory, complete=True)
        if isinstance(frame, ReadSealed) and not self.silent:
            nothing = SealedCopy(frame.app, frame.name)
            self.host.sealed_copy(frame.worker, self.copies.get((frame.app, frame.name), nothing))
        if isinstance(frame, ListNames):
            self.host.names(frame.request, [name for app, name in self.urls if app == frame.app])

    def reply(self, ask: Ask) -> None:
        assert self.host is not None
        if self.refuse is not None:
            self.host.answer(ask.request, error=self.refuse)
        elif hops := self.hops.get((ask.app, ask.name)):
            self.host.route(ask.request, ask.app, ask.name, hops.pop(0) if len(hops) > 1 else hops[0])
        elif (ask.app, ask.name) not in self.urls:
            self.host.answer(ask.request, error=Problem("max-databases", "this node hosts 0 databases already"))
        else:
            self.door(ask.app, ask.name, is_open=True, worker=ask.worker)
            self.host.answer(ask.request, error=None)

    def door(self, app: str, name: str, *, is_open: bool, worker: int | None = None) -> int:
        assert self.host is not None
        self.generation += 1
        self.host.door(
            worker,
            incarnation=f"{app}-{name}",
            app=app,
            name=name,
            generation=self.generation,
            open=is_open,
            url=self.urls.get((app, name), "http://127.0.0.1:1"),
        )
        return self.generation

    def of(self, kind: type[Any]) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def until(self, holds: Callable[[], Any], seconds: float = 20) -> Any:
        """Wait until frames make something hold; what held."""
        with trio.fail_after(seconds):
            while not (what := holds()):
                await self._changed.wait()
            return what

    async def drained(self, generation: int) -> DoorAck:
        """The acknowledgement that would enable this generation's vote."""
        return await self.until(
            lambda: next((a for a in self.of(DoorAck) if (a.generation, a.in_flight) == (generation, 0)), None)
        )


@define(eq=False)
class World:
    """A gateway with one worker (or more) and its keeper; keys of two applications. ``between``: where it takes the queries of
    other gateways."""

    host: GatewayHost
    keeper: Keeper
    address: str
    keys: dict[str, str]
    between: str = ""
    certificate: Certificate | None = None

    @property
    def hop(self) -> Hop:
        """This gateway, as another is told of it."""
        assert self.certificate is not None
        return Hop("member", self.between, self.certificate.fingerprint)

    @asynccontextmanager
    async def client(self, app: str = "one", **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        headers = {"Authorization": f"Bearer {self.keys[app]}"} if app else {}
        given = {"base_url": self.address, "headers": headers, "timeout": 40} | options
        async with httpx.AsyncClient(**given) as client:
            yield client

    def workers(self) -> list[psutil.Process]:
        return _workers()


def _workers() -> list[psutil.Process]:
    return children(os.getpid(), "runtime.gateway.worker")


@asynccontextmanager
async def gateway(
    urls: dict[tuple[str, str], str] | None = None,
    *,
    workers: int = 1,
    certificate: Certificate | None = None,
    public: PublicTls | None = None,
    within: float = 100,
    **config: Any,
) -> AsyncIterator[World]:
    """A running gateway; ``config``: fields of WorkerConfig. With a ``certificate`` it takes queries of other gateways, and sends
    some; clients are shown the ``public`` one. Nothing of it is left at the end."""
    alone = not _workers()
    keys = {app: new_key() for app in ("one", "two")}
    keeper = Keeper(dict(urls or {}))
    settings = WorkerConfig({digest: app for app, (_key, digest) in keys.items()}, **config)
    between = None
    if certificate is not None:
        between = await bound("127.0.0.1:0", "between")
        settings = evolve(settings, identity=str(certificate.file), authority=certificate.authority)
    host = keeper.host = GatewayHost(
        listen="127.0.0.1:0",
        workers=workers,
        config=settings,
        deliver=keeper.deliver,
        between=between,
        rqlite=await bound("127.0.0.1:0", "rqlite"),
        tls=public,
    )
    internal = reached_at(between, "") if between is not None else ""
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        given = {app: key for app, (key, _digest) in keys.items()}
        world = World(host, keeper, host.url, given, internal, certificate)
        await keeper.until(lambda: len(keeper.of(WorkerJoined)) == workers)
        with trio.fail_after(within):
            yield world
        nursery.cancel_scope.cancel()
    assert not alone or not _workers()


async def post(client: httpx.AsyncClient, endpoint: str, **members: Any) -> httpx.Response:
    """``exec`` or ``query`` on the database ``users``, unless ``database`` says otherwise."""
    return await client.post(f"/v1/database/{endpoint}", json={"database": "users"} | members)


def kind_of(answer: httpx.Response) -> str:
    """The problem's kind, of an answer that must be a whole problem document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    kind: str = document["type"].removeprefix("urn:torpor:problem:")
    described = _described().get((answer.request.method, answer.request.url.path))
    assert described is None or kind in described, f"{kind} is not in the OpenAPI document"
    return kind


@functools.cache
def _described() -> dict[tuple[str, str], tuple[str, ...]]:
    """Method and path → what the OpenAPI document says that it can come to, beside what any endpoint can."""
    nothing: Any = SimpleNamespace(run=None)
    table = Endpoints(WorkerConfig({}), nothing, nothing, nothing, nothing).table()
    return {(m, CLIENTS + e.path): (*e.problems, *KEYED) for e in table for m in e.methods}
