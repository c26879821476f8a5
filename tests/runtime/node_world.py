"""What the tests of a whole node share: a node in its own process on free ports, its log as it is written, HTTP clients, and
the processes that belong to it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import trio
from attrs import define, field

from runtime import control
from runtime.gateway.auth import new_key
from runtime.spawned import SpawnedNode, children, sections, spawned, write_settings
from runtime.spawned_cluster import ask

APP = "shop"
ELSE = "bakery"
"""Another application."""
_TOLD, _WIDTH = 60, 250
"""Lines of a node's log that a failed test shows, and the characters of each."""

LOOK = 0.05
"""Seconds between two questions to a node."""

Line = dict[str, Any]
Seen = Callable[[Line], bool]


def event(name: str, **fields: Any) -> Seen:
    """A log line of this event with these fields."""
    return lambda line: line.get("event") == name and all(line.get(key) == value for key, value in fields.items())


def action(kind: str, **fields: Any) -> Seen:
    """The line that the executor writes when it carries this out."""
    return event("action", kind=kind, **fields)


def outcome(kind: str, **fields: Any) -> Seen:
    """The line of this input on its way to the engine."""
    return event("outcome", kind=kind, **fields)


@define(eq=False)
class World:
    directory: Path
    settings: dict[str, dict[str, Any]]
    keys: dict[str, str]
    nursery: trio.Nursery
    node: SpawnedNode
    peer: str = ""
    lines: list[Line] = field(factory=list)
    incarnations: dict[str, str] = field(factory=dict)
    traps: list[tuple[Seen, Callable[[], object]]] = field(factory=list)
    _news: trio.Event = field(factory=trio.Event)
    _stack: AsyncExitStack = field(factory=AsyncExitStack)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def config(self) -> Path:
        return self.directory / "node.yaml"

    def configure(self, **overrides: dict[str, Any]) -> None:
        """Settings for its next start: sections, whose values come over those of before."""
        for section, values in overrides.items():
            self.settings[section] = self.settings.get(section, {}) | values
        write_settings(self.config, self.settings)

    async def start(self, *arguments: str) -> None:
        """The node again, after its end."""
        reading, writing = os.pipe()
        # A node that logs faster than a busy test reads would wait for it: not what these stories are about.
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
        try:
            coming = spawned(self.config, *arguments, data=self.data, stderr=writing)
            self.nursery.start_soon(self._read, reading)
            self.node = await self._stack.enter_async_context(coming)
            self.peer = self.node.status()["node_id"]
        finally:
            os.close(writing)

    async def _read(self, descriptor: int) -> None:
        async with trio.lowlevel.FdStream(descriptor) as stream:
            rest = b""
            while chunk := await stream.receive_some(65536):
                *whole, rest = (rest + chunk).split(b"\n")
                for text in whole:
                    self._heard(text)

    def _heard(self, text: bytes) -> None:
        try:
            line = json.loads(text)
        except ValueError:
            line = {"event": "not a log line", "text": text.decode(errors="replace")}
        self.lines.append(line)
        if line.get("kind") == "Start":
            self.incarnations[line["incarnation"]] = line["internal"]
        for trap in [trap for trap in self.traps if trap[0](line)]:
            self.traps.remove(trap)
            trap[1]()
        self._news.set()
        self._news = trio.Event()

    def tell(self) -> None:
        """What the node said last, for whoever reads why a test failed."""
        print(f"node {self.peer}, of {len(self.lines)} lines the last, without rqlited's own:")
        for line in [line for line in self.lines if line.get("event") != "rqlited"][-_TOLD:]:
            print(json.dumps(line)[:_WIDTH])

    def concerns(self, line: Line, database: str) -> bool:
        """Whether a line speaks of this database, or of none that could be told."""
        internal = f"{APP}_{database}"
        said = {line.get("database"), line.get("internal"), self.incarnations.get(line.get("incarnation", ""))} - {None}
        if line.get("kind") == "Ask":
            said = {f"{line['app']}_{line['name']}"}
        return not said or said == {internal}

    def trap(self, seen: Seen, do: Callable[[], object]) -> None:
        """Do this once, at the moment when such a line is read."""
        self.traps.append((seen, do))

    async def until(self, seen: Seen, *, since: int = 0, within: float = 20.0) -> Line:
        """The first such line after the first ``since`` ones."""
        at = since
        with trio.fail_after(within):
            while True:
                while at < len(self.lines):
                    if seen(self.lines[at]):
                        return self.lines[at]
                    at += 1
                await self._news.wait()

    def count(self, seen: Seen, *, since: int = 0) -> int:
        return sum(1 for line in self.lines[since:] if seen(line))

    @property
    def key(self) -> str:
        return self.keys[APP]

    def client(self, *, timeout: float = 35.0, app: str = APP) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.node.gateway,
            headers={"Authorization": f"Bearer {self.keys[app]}"},
            timeout=timeout,
            limits=httpx.Limits(max_connections=2000),
            verify=False,  # plain HTTP: reading the certificates would cost 50 ms a client
        )

    async def post(
        self, what: str, database: str, sql: str, args: list[Any] | None = None, app: str = APP
    ) -> httpx.Response:
        """One request on a connection of its own."""
        async with self.client(app=app) as client:
            return await client.post(
                f"/v1/database/{what}", json={"database": database, "sql": sql, "args": args or []}
            )

    async def execute(self, database: str, sql: str, args: list[Any] | None = None, app: str = APP) -> dict[str, Any]:
        reply = await self.post("exec", database, sql, args, app)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def rows(
        self, database: str, sql: str, args: list[Any] | None = None, app: str = APP
    ) -> list[dict[str, Any]]:
        reply = await self.post("query", database, sql, args, app)
        assert reply.status_code == 200, reply.text
        return reply.json()["items"]

    def rqliteds(self, internal: str = "") -> list[psutil.Process]:
        """Living rqlited processes on this data directory."""
        below = str(self.data / internal) if internal else str(self.data)
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                argv = process.cmdline()
            except psutil.Error:
                continue
            if argv and argv[0].endswith("rqlited") and argv[-1].startswith(below + "/"):
                found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """Living gateway workers of the node."""
        return children(self.node.pid, "runtime.gateway.worker")

    def kill(self) -> None:
        """SIGKILL to the node itself."""
        os.kill(self.node.pid, signal.SIGKILL)

    async def killed(self) -> None:
        """SIGKILL to the node, and wait until it is gone."""
        self.kill()
        await self.node.process.wait()

    def leftovers(self) -> list[str]:
        """Command lines of all processes that name this world's directory."""
        found: list[str] = []
        for process in psutil.process_iter():
            try:
                text = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if str(self.directory) in text and process.pid != os.getpid():
                found.append(text)
        return found


async def inspected(node: World, database: str = "users", app: str = APP) -> dict[str, Any]:
    """What ``torpor inspect`` would show; empty while the node knows of no such database."""
    try:
        (one,) = await ask(node.node, "inspect", app=app, name=database)
    except control.Refused:
        return {}
    return one


async def until_all(
    nodes: list[World],
    seen: Callable[[dict[str, Any]], bool],
    *,
    database: str = "users",
    app: str = APP,
) -> list[dict[str, Any]]:
    """What each of these nodes says of the database, as soon as all say so in one round. Asked again and again: of what a node learns
    of others, its log tells only what it does about it."""
    told: list[dict[str, Any]] = []
    try:
        with trio.fail_after(20):
            while not (told and all(one and seen(one) for one in told)):
                told = [await inspected(node, database, app) for node in nodes]
                await trio.sleep(LOOK)
    except trio.TooSlowError:
        raise AssertionError(f"{[node.peer for node in nodes]} say {told}") from None
    return told


async def until_told(node: World, seen: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """As :func:`until_all`, of one node and the database ``users``."""
    (told,) = await until_all([node], seen)
    return told


async def until_asleep(
    nodes: list[World], database: str = "users", app: str = APP, *, sealed: bool = False
) -> dict[str, Any]:
    """All say that it sleeps, and nothing of it runs; what the first one says. ``sealed``: and that its members stopped at one index,
    which is told a moment later, when the last of them has reported.

    Asked of the nodes, and not looked for in their logs: a machine that stands still for a moment may have logged it before the test
    comes to look, or twice."""

    def asleep(one: dict[str, Any]) -> bool:
        # Its state, too: one that returns, and was awake, calls the others first.
        down = one["phase"] == "hibernating" and one["state"] in ("", "hibernating") and one["process"] in ("", "none")
        return down and (not sealed or (one["seal"] is not None and one["seal"]["epoch"] == one["epoch"]))

    told = await until_all(nodes, asleep, database=database, app=app)
    for node in nodes:
        assert node.rqliteds(f"{app}_{database}") == []
        assert open_files_below(node.data / f"{app}_{database}") == []
    return told[0]


def listening(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def open_files_below(directory: Path) -> list[str]:
    """Files there that some process has open."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            found += [file.path for file in process.open_files() if file.path.startswith(f"{directory}/")]
        except psutil.Error:
            continue
    return found


@asynccontextmanager
async def world(
    directory: Path, *, hibernation_timeout: str = "60s", found: bool = True, **overrides: dict[str, Any]
) -> AsyncGenerator[World]:
    """A founded node that serves. ``overrides``: sections of its settings. Whatever it leaves behind when the story ends is a
    failure of the story."""
    made = {app: new_key() for app in (APP, ELSE)}
    settings = sections(
        directory, {digest: app for app, (_, digest) in made.items()}, hibernation_timeout=hibernation_timeout
    )
    settings["logging"] = {"level": "debug", "format": "json"}
    settings["rqlite"] = {"heartbeat_timeout": "60ms"}
    async with trio.open_nursery() as nursery:
        it = World(directory, settings, {app: key for app, (key, _) in made.items()}, nursery, None)  # type: ignore[arg-type]
        it.configure(**overrides)
        async with it._stack:
            await it.start(*(["--found"] if found else []))
            try:
                yield it
            except BaseException:
                it.tell()
                raise
        nursery.cancel_scope.cancel()
    assert it.leftovers() == []
