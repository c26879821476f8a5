"""A restart of the gateway's workers, under load: what a client that knows HTTP loses (nothing), and what stays when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from attrs import define, field

from runtime.gateway import host as host_module
from runtime.gateway.frames import Used, WorkerJoined, WorkerLeft
from runtime.gateway.host import NotRestarted
from runtime.gateway.process import WorkerProcess
from runtime.gateway.public_tls import PublicTls
from tests.runtime.gateway_world import Rqlited, gateway, post, rqliteds
from tests.runtime.test_gateway_life import in_flight
from tests.runtime.tls_world import Authority

pytestmark = pytest.mark.real

AUTHORITY = Authority()
RESTARTS = 4


@pytest.fixture
async def rqlited(tmp_path: Path) -> AsyncIterator[Rqlited]:
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        yield running["one"]


@define(eq=False)
class Load:
    """Clients that send as fast as they are answered: some on a new connection each time, some on one that they keep for as long as
    the server lets them. Every request is sent once."""

    host: str
    port: int
    tls: Any
    request: bytes
    stop: bool = False
    seen: Counter[str] = field(factory=Counter[str])
    failures: list[str] = field(factory=list[str])

    def run(self, clients: int) -> None:
        """In a thread, until ``stop``."""

        async def all_of_them() -> None:
            await asyncio.gather(*(self._client(kept=n % 2 == 0) for n in range(clients)))

        asyncio.run(all_of_them())

    async def _client(self, *, kept: bool) -> None:
        name = "kept" if kept else "new"
        while not self.stop:
            try:
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls)
            except OSError as error:
                self.failures.append(f"{name}: {error!r}")
                continue
            try:
                goes_on = True
                while goes_on and not self.stop:
                    goes_on = await self._ask(name, reader, writer) and kept
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _ask(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        try:
            writer.write(self.request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        except (OSError, EOFError) as error:
            self.failures.append(f"{name}: {error!r}")
            return False
        if not head.startswith(b"http/1.1 200"):
            self.failures.append(f"{name}: {head!r}")
        self.seen[name] += 1
        if b"connection: close" in head:
            self.seen["told"] += 1
            return False
        return True


@pytest.mark.parametrize(("workers", "tls"), [(1, False), (2, False), (1, True)])
async def test_no_request_is_lost_by_a_restart(rqlited: Rqlited, tmp_path: Path, workers: int, tls: bool) -> None:
    public = PublicTls(*AUTHORITY.pair().write(tmp_path)) if tls else None
    async with gateway({("one", "users"): rqlited.url}, workers=workers, public=public) as world:
        body = b'{"database":"users","sql":"SELECT 1 AS x"}'
        head = f"POST /v1/database/query HTTP/1.1\r\nHost: x\r\nX-API-Key: {world.keys['one']}\r\nContent-Length: {len(body)}"
        port = int(world.address.rpartition(":")[2])
        load = Load("127.0.0.1", port, AUTHORITY.trusting() if tls else None, head.encode() + b"\r\n\r\n" + body)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, load.run, 8)
            try:
                numbers = set(range(1, workers + 1))
                for _ in range(RESTARTS):
                    before = sum(load.seen.values())
                    with trio.fail_after(60):
                        while sum(load.seen.values()) < before + 100:  # noqa: ASYNC110  counted in another thread
                            await trio.sleep(0.01)
                    assert await world.host.restart() == workers
                    left, numbers = numbers, {max(numbers) + n for n in range(1, workers + 1)}
                    await world.keeper.until(lambda left=left: left <= {w.worker for w in world.keeper.of(WorkerLeft)})
            finally:
                load.stop = True  # or its thread goes on for ever
        assert not load.failures, f"{len(load.failures)} of {load.seen}: {load.failures[:5]}"
        assert load.seen["told"] >= RESTARTS, "those that kept their connection were told that it ends"
        assert len(world.workers()) == workers


async def test_a_restart_answers_what_is_in_flight_by_the_old_worker_while_the_new_one_serves(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}) as world, world.client() as client:
        answers: list[httpx.Response] = []

        async def ask(using: httpx.AsyncClient) -> None:
            answers.append(await post(using, "query", sql="SELECT 1 AS x"))

        rqlited.signal(signal.SIGSTOP)
        async with world.client() as another, trio.open_nursery() as nursery:
            nursery.start_soon(ask, client)
            first = await in_flight(world)
            await world.host.restart()
            nursery.start_soon(ask, another)
            await world.keeper.until(
                lambda: [u for u in world.keeper.of(Used) if u.in_flight and u.worker > first.worker]
            )
            assert not answers, "the new worker has taken one, and the old one is not done"
            rqlited.signal(signal.SIGCONT)
        assert [answer.json()["items"] for answer in answers] == [[{"x": 1}]] * 2
        assert sorted(answer.headers.get("connection", "") for answer in answers) == ["", "close"]
        await world.keeper.until(lambda: world.keeper.of(WorkerLeft))


async def test_a_connection_that_said_nothing_yet_is_answered_by_the_worker_that_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_module, "IDLE_S", 60.0)
    async with gateway() as world:
        port = int(world.address.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream, world.client() as client:
            await client.get("/healthz")  # after it: so that one was accepted
            await world.host.restart()
            while (await client.get("/healthz")).headers.get("connection") != "close":
                pass  # the old worker has not heard yet that it leaves
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            async for data in stream:
                answer += data
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        await world.keeper.until(lambda: world.keeper.of(WorkerLeft))


async def test_idle_connections_do_not_keep_a_worker_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "IDLE_S", 0.3)
    async with gateway() as world, world.client() as client:
        await client.get("/healthz")
        await world.host.restart()
        await world.keeper.until(lambda: world.keeper.of(WorkerLeft))
        assert (await client.get("/healthz")).status_code == 200, "on a new connection, to the new worker"


async def test_a_restart_whose_new_worker_does_not_serve_leaves_the_old_one(
    rqlited: Rqlited, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway({("one", "users"): rqlited.url}, workers=2) as world, world.client() as client:
        before = world.workers()
        really = host_module.start

        async def stillborn(*given: Any) -> WorkerProcess:
            worker = await really(*given)
            worker.process.kill()
            return worker

        monkeypatch.setattr(host_module, "start", stillborn)
        with pytest.raises(NotRestarted, match="did not come to serve"):
            await world.host.restart()
        monkeypatch.undo()
        assert {w.pid for w in world.workers()} == {w.pid for w in before}
        assert (await post(client, "query", sql="SELECT 1 AS x")).status_code == 200
        assert await world.host.restart() == 2, "and the next try succeeds"
        assert len(world.keeper.of(WorkerJoined)) == 4
