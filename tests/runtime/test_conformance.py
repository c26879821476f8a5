"""Conformance, the real half: the scripts of ``tests/scripts`` play on real rqlited processes, through the node's own supervisor,
and what a client sees is what it sees of the model. A simulator whose rqlite is kinder than the real one proves nothing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from attrs import define, evolve, field

from runtime.rqlite_http import RqliteError
from runtime.rqlited import StartSpec
from tests.runtime.rqlited_world import NODE_ID, Run, World, world
from tests.scripts.script import SCRIPTS, Script
from tests.sim.model_script import Stage

pytestmark = pytest.mark.real

OTHER = NODE_ID.rpartition(".")[0] + ".2"
SECONDS = 10.0


@define
class Real:
    """One supervisor with one directory, played step by step."""

    world: World
    spec: StartSpec
    run: Run | None = None
    taken: dict[str, socket.socket] = field(factory=dict)

    async def play(self, script: Script) -> tuple[str, ...]:
        try:
            return tuple([await self.step(step) for step in script.steps])
        finally:
            for one in self.taken.values():
                one.close()

    async def step(self, step: str) -> str:
        verb, *words = step.split()
        outcome: str = await getattr(self, f"_{verb}")(*words)
        return outcome

    async def _start(self, mode: str, *words: str) -> str:
        self.world.runs += 1
        peers = ((NODE_ID, f"127.0.0.1:{self.spec.raft_port}"),) if "peers" in words else None
        node_id = OTHER if "other" in words else NODE_ID
        self.spec = evolve(self.spec, run=self.world.runs, mode=mode, node_id=node_id, peers=peers)
        self.run = self.world.launch(self.spec)
        try:
            await self.run.until_ready()
        except AssertionError:
            assert self.run.exit is not None
            return self.run.exit.cause
        return "ready"

    def _running(self) -> Run:
        assert self.run is not None
        return self.run

    async def _write(self, value: str) -> str:
        async with self._running().client() as client:
            try:
                await client.execute(
                    "CREATE TABLE IF NOT EXISTS t (n INTEGER)", f"INSERT INTO t VALUES ({int(value)})", within=SECONDS
                )
            except RqliteError as error:
                return f"error: {error}" if error.heard else "refused"
        return "acknowledged"

    async def _read(self) -> str:
        async with self._running().client() as client:
            try:
                rows = await client.query("SELECT n FROM t ORDER BY rowid", SECONDS, "strong")
            except RqliteError as error:
                if "no such table" in str(error):
                    return ""
                return f"error: {error}" if error.heard else "refused"
        return " ".join(str(row[0]) for row in rows)

    async def _stop(self) -> str:
        return (await self._running().stop()).cause

    async def _kill(self) -> str:
        self.world.supervisor.kill(self.spec.incarnation, self.spec.run)
        return (await self._running().until_ended()).cause

    async def _snapshot(self) -> str:
        taken = await self.world.supervisor.snapshot(self.spec.incarnation, SECONDS)
        return "folded" if taken.ok else "failed"

    async def _count(self, *words: str) -> str:
        probe = await self.world.supervisor.probe(self.spec.incarnation, strong=bool(words), timeout=SECONDS)
        return str(probe.counter) if probe.ok else probe.error

    async def _sealed(self) -> str:
        return "yes" if self._running().place.wal_empty else "no"

    async def _lose(self, what: str) -> str:
        place = self._running().place
        if what == "directory":
            self.world.directories.to_trash(place)
        else:
            (place.marker if what == "marker" else place.raft_log).unlink()
        return ""

    async def _take(self, which: str) -> str:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", getattr(self.spec, f"{which}_port")))
        one.listen()
        self.taken[which] = one
        return ""

    async def _free(self, which: str) -> str:
        self.taken.pop(which).close()
        return ""

    async def _move(self, which: str) -> str:
        assert which == "raft"
        self.world.ports.release(1)
        fresh = self.world.spec("restart")
        self.spec = evolve(self.spec, raft_port=fresh.raft_port, http_port=fresh.http_port)
        return ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
async def test_a_client_sees_the_same_of_the_model_and_of_real_rqlited(tmp_path: Path, script: Script) -> None:
    async with world(tmp_path) as w:
        real = await Real(w, w.spec("found")).play(script)
    assert real == Stage(1).play(script)
    assert real == script.outcomes
