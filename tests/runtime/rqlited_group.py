"""Several real members of one database, each on a node of its own: data directory, supervisor and ports, and the question for
the TLS identity going straight from one node to the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

import trio
from attrs import define, evolve, field

from runtime.database_keys import KeyService, asking
from runtime.directories import Directories
from runtime.rqlite_http import RqliteError
from runtime.rqlited import Exit, Ready, StartSpec
from tests.runtime.rqlited_world import INCARNATION, NAME, SPEED, Run, World, free_ports, world

WITHIN = 30.0
PORTS = free_ports()
"""One book for all groups of a story: they may not meet by chance."""
_OWNERS = count(1)


@define(eq=False)
class Group:
    """``specs``: each member's last start. ``down``: peers that do not answer. ``lines``: what each member's rqlited said."""

    worlds: list[World]
    incarnation: str
    specs: list[StartSpec]
    runs: list[Run] = field(factory=list)
    lines: list[list[str]] = field(factory=list)

    @property
    def voters(self) -> tuple[str, ...]:
        return tuple(sorted(spec.node_id for spec in self.specs))

    def address(self, member: int) -> str:
        return self.specs[member].raft_address

    def launch(self, member: int, mode: str = "restart", **changes: object) -> Run:
        """Start a member, whose sources are all others."""
        self.worlds[member].runs += 1
        others = tuple(f"n{other}" for other in range(len(self.worlds)) if other != member)
        given = {"run": self.worlds[member].runs, "mode": mode, "join": (), "peers": None, "sources": others} | changes
        self.specs[member] = evolve(self.specs[member], **given)  # type: ignore[arg-type]
        run = self.worlds[member].launch(self.specs[member])
        self.runs[member : member + 1] = [run]
        return run

    async def create(self) -> list[Ready]:
        """Found and join at once; returns when each is ready and every member's own configuration has all of them."""
        self.launch(0, "found")
        for member in range(1, len(self.worlds)):
            self.launch(member, "join", join=(self.address(0),))
        ready = [await run.until_ready() for run in self.runs]
        for member in range(len(self.worlds)):
            await self.until_voters(member, self.voters)
        return ready

    async def until_voters(self, member: int, voters: tuple[str, ...]) -> None:
        with trio.fail_after(WITHIN):
            while (await self.worlds[member].supervisor.probe(self.incarnation, strong=True)).voters != voters:
                assert self.runs[member].exit is None, self.runs[member].exit
                await trio.lowlevel.checkpoint()

    async def until_addresses(self, member: int, wanted: dict[str, str]) -> None:
        with trio.fail_after(WITHIN):
            while await self.configuration(member) != wanted:
                await trio.lowlevel.checkpoint()

    async def start(self, *members: int) -> None:
        """Start members again as they were, all at once, until each is ready."""
        for member in members or range(len(self.worlds)):
            self.launch(member)
        for member in members or range(len(self.worlds)):
            await self.runs[member].until_ready()

    async def stop(self, *members: int) -> list[Exit]:
        chosen = [self.runs[member] for member in members or range(len(self.worlds))]
        for run in chosen:
            run.supervisor.terminate(run.spec.incarnation, run.spec.run, 10)
        return [await run.until_ended() for run in chosen]

    async def leader(self) -> int:
        """The member that leads now."""
        with trio.fail_after(WITHIN):
            while True:
                await trio.lowlevel.checkpoint()
                for member, each in enumerate(self.worlds):
                    if (await each.supervisor.probe(self.incarnation)).leader:
                        return member

    async def insert(self, n: int, member: int = 0) -> None:
        async with self.runs[member].client() as client:
            await client.execute("CREATE TABLE IF NOT EXISTS t (n)", f"INSERT INTO t VALUES ({n})", within=5)

    async def rows(self, member: int = 0, level: str = "strong") -> list[int]:
        """Asked until there is an answer: a leader may just be gone."""
        with trio.fail_after(WITHIN):
            async with self.runs[member].client() as client:
                while True:
                    try:
                        found = await client.query("SELECT n FROM t ORDER BY n", 5, level)  # type: ignore[arg-type]
                        return [row[0] for row in found]
                    except RqliteError:
                        await trio.lowlevel.checkpoint()

    async def remove(self, node_id: str) -> None:
        """Take a server out of the Raft configuration."""
        async with self.runs[await self.leader()].client() as client:
            reply = await client.request("DELETE", "/remove", 5, json.dumps({"id": node_id}).encode())
        assert reply.status == 200, reply

    async def configuration(self, member: int = 0) -> dict[str, str]:
        """Node id → Raft address of every voter in this member's own Raft configuration."""
        async with self.runs[member].client() as client:
            return dict((await client.store(5)).addresses)


@asynccontextmanager
async def group(
    data: Path, n: int = 3, *, incarnation: str = INCARNATION, heartbeat: float = SPEED
) -> AsyncIterator[Group]:
    services: dict[str, KeyService] = {}

    def requester(asker: str):
        async def request(peer: str, _kind: str, question: bytes, _within: float) -> bytes:
            return await services[peer].answer(asker, question)

        return request

    async with AsyncExitStack() as stack:
        lines: list[list[str]] = [[] for _ in range(n)]
        worlds: list[World] = []
        for k in range(n):
            directory = data / f"n{k}"
            services[f"n{k}"] = KeyService(
                Directories(directory), lambda asker, of: NAME if asker in services and of == incarnation else None
            )
            heard = lines[k].append
            one = world(
                directory, heartbeat, fetch=asking(requester(f"n{k}")), on_line=lambda _, line, heard=heard: heard(line)
            )
            worlds.append(await stack.enter_async_context(one))
        owners = [next(_OWNERS) for _ in range(n)]
        specs = [
            StartSpec(NAME, incarnation, 0, f"n{k}.{incarnation}.0", *PORTS.reserve(owner))
            for k, owner in enumerate(owners)
        ]
        yield Group(worlds, incarnation, specs, lines=lines)
        for owner in owners:
            PORTS.release(owner)
