"""SIGKILL of rqlited, of the gateway worker and of the node, each at each step of create, sleep and wake, on real processes:
acknowledged writes are there afterwards, once, and nothing runs or exists twice (F9, F12, F41, F44, F46, F60, F61, F91).

A step is a line of the node's log: the victim is killed the moment that it is read. The client behaves as a careful one does:
a write whose outcome it does not know is never repeated (F86), it writes the next row instead.
"""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil
import pytest
import trio
from attrs import define, field

from tests.runtime.node_world import APP, Seen, World, action, event, outcome, until_asleep, world

pytestmark = [pytest.mark.real, pytest.mark.slow]

HIBERNATION = "600ms"
RECOVERS_WITHIN = 40.0

CREATE: dict[str, Seen] = {
    "asked": outcome("Ask"),
    "ports": action("ReservePorts"),
    "birth": event("birth confirmed"),
    "process": lambda line: line.get("event") == "rqlited" and "launch command" in line.get("line", ""),
    "leader": lambda line: line.get("event") == "rqlited" and "is now Leader" in line.get("line", ""),
    "ready": outcome("InstanceReady"),
    "answered": action("Answer"),
}
SLEEP: dict[str, Seen] = {
    "idle": event("database idle"),
    "closing": action("Door", open=False),
    "seal": action("Probe", strong=True),
    "commit": event("falling asleep"),
    "snapshot": outcome("Snapshotted"),
    "terminate": action("Terminate"),
    "exited": outcome("InstanceExited"),
    "hibernated": event("hibernated"),
}
WAKE: dict[str, Seen] = {
    "asked": outcome("Ask"),
    "intent": event("wakeup request received"),
    "process": CREATE["process"],
    "leader": CREATE["leader"],
    "ready": outcome("InstanceReady"),
    "answered": action("Answer"),
}


@define(eq=False)
class Client:
    """A client of one database, and what it was told."""

    world: World
    database: str
    acknowledged: list[int] = field(factory=list)
    tried: int = 0

    async def write(self) -> bool:
        """One try of one new row, in a table that is made when it is not there; whether it was acknowledged."""
        self.tried += 1
        made = await self._try("CREATE TABLE IF NOT EXISTS t (n INT)")
        if not made or not await self._try("INSERT INTO t VALUES (?)", self.tried):
            return False
        self.acknowledged.append(self.tried)
        return True

    async def _try(self, sql: str, *args: int) -> bool:
        try:
            return (await self.world.post("exec", self.database, sql, list(args))).status_code == 200
        except httpx.HTTPError:
            return False

    async def write_until_acknowledged(self) -> None:
        with trio.fail_after(RECOVERS_WITHIN):
            while not await self.write():  # noqa: ASYNC110 (a client of another process has no event to wait for)
                await trio.sleep(0.1)

    async def check(self) -> None:
        """Every acknowledged row is there, no row is there twice, and none that was never tried."""
        rows = await self.world.rows(self.database, "SELECT n FROM t")
        found = Counter(row["n"] for row in rows)
        assert set(self.acknowledged) <= found.keys() <= set(range(1, self.tried + 1))
        assert set(found.values()) == {1}
        internal = f"{APP}_{self.database}"
        assert len(self.world.rqliteds(internal)) == 1
        assert len(list((self.world.data / internal).iterdir())) == 1  # one incarnation: nothing was born twice


def rqlited_of(w: World, database: str) -> Callable[[], None]:
    def kill() -> None:
        for process in w.rqliteds(f"{APP}_{database}"):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    return kill


def victim_of(w: World, victim: str, database: str) -> Callable[[], object]:
    def worker() -> None:
        for process in w.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    return {"rqlited": rqlited_of(w, database), "worker": worker, "node": w.kill}[victim]


async def story(w: World, victim: str, steps: dict[str, Seen], prepare: Callable[[Client], Awaitable[object]]) -> None:
    for number, (step, seen) in enumerate(steps.items()):
        client = Client(w, f"{step}{number}")
        if steps is SLEEP:  # set before the first write: a busy machine may fall asleep between two statements of it
            struck = strike(client, victim, seen)
            meanwhile = prepare
        else:
            await prepare(client)
            struck = strike(client, victim, seen)
            meanwhile = Client.write
        async with trio.open_nursery() as nursery:
            nursery.start_soon(meanwhile, client)
            with trio.fail_after(RECOVERS_WITHIN):
                await struck.wait()
            if steps is SLEEP:  # the step may have come too early for it, and a dead node answers nobody
                nursery.cancel_scope.cancel()
        if victim == "node":  # as an operator's init system does
            await w.node.process.wait()
            await w.start()
        await client.write_until_acknowledged()
        await client.check()
    assert await w.node.stop() == 0
    assert w.leftovers() == []


def strike(client: Client, victim: str, seen: Seen) -> trio.Event:
    """Kill the victim the moment that the step is seen; the event tells of it."""
    w, struck = client.world, trio.Event()
    kill = victim_of(w, victim, client.database)

    def now() -> None:
        kill()
        struck.set()

    w.trap(lambda line: seen(line) and w.concerns(line, client.database), now)
    return struck


async def nothing(_client: Client) -> None:
    pass


async def one_row(client: Client) -> None:
    await client.write_until_acknowledged()


async def asleep(client: Client) -> None:
    await client.write_until_acknowledged()
    await until_asleep([client.world], client.database)


@pytest.mark.parametrize("victim", ["rqlited", "worker", "node"])
async def test_F9_F12_F60_F61_a_kill_at_each_step_of_a_creation(tmp_path: Path, victim: str) -> None:
    async with world(tmp_path) as w:
        await story(w, victim, CREATE, nothing)


@pytest.mark.parametrize("victim", ["rqlited", "worker", "node"])
async def test_F41_F44_F60_F61_a_kill_at_each_step_of_falling_asleep(tmp_path: Path, victim: str) -> None:
    async with world(tmp_path, hibernation_timeout=HIBERNATION) as w:
        await story(w, victim, SLEEP, one_row)


@pytest.mark.parametrize("victim", ["rqlited", "worker", "node"])
async def test_F46_F60_F61_a_kill_at_each_step_of_a_wake(tmp_path: Path, victim: str) -> None:
    async with world(tmp_path, hibernation_timeout=HIBERNATION) as w:
        await story(w, victim, WAKE, asleep)
