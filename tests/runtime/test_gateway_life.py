"""Doors, waiting and deaths, with real workers and real rqlited: what must hold when something closes, hangs up, dies or stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import trio

from runtime.gateway import bind as bind_module
from runtime.gateway import host as host_module
from runtime.gateway.auth import new_key
from runtime.gateway.bind import GatewayFailed
from runtime.gateway.frames import Ask, DoorAck, Used, WorkerJoined, WorkerLeft
from runtime.gateway.host import GatewayHost
from runtime.gateway.worker_config import WorkerConfig
from tests.runtime.gateway_world import ENDLESS, SLOW, Rqlited, World, free_port, gateway, kind_of, post, rqliteds

pytestmark = pytest.mark.real


@pytest.fixture
async def rqlited(tmp_path: Path) -> AsyncIterator[Rqlited]:
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        yield running["one"]


async def counted(rqlited: Rqlited, beyond: int = -1) -> int:
    """Executions that rqlited has begun, once they are more than ``beyond``."""
    count = -1
    async with httpx.AsyncClient() as client:
        with trio.fail_after(15):
            while count <= beyond:
                answer = await client.get(f"{rqlited.url}/debug/vars")
                count = int(answer.json()["http"]["executions"])
    return count


async def in_flight(world: World) -> Used:
    """The first report that a query has passed a door."""
    return await world.keeper.until(lambda: next((u for u in world.keeper.of(Used) if u.in_flight), None))


async def test_F41_P30_a_query_during_the_drain_is_answered_and_the_vote_waits_for_it(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}) as world, world.client() as client:
        answers: list[httpx.Response] = []

        async def slow() -> None:
            answers.append(await post(client, "query", sql=SLOW.format(rows=3_000_000)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            await in_flight(world)
            world.keeper.silent = True  # the engine is asleep to asks while it proposes
            closed = world.keeper.door("one", "users", is_open=False)
            first = await world.keeper.until(lambda: [a for a in world.keeper.of(DoorAck) if a.generation == closed])
            assert first[0].in_flight == 1, "acknowledged at once, with what is still on its way"
            nursery.start_soon(slow)  # arrives during the drain
            await world.keeper.until(lambda: len(world.keeper.of(Ask)) == 2)
            await world.keeper.drained(closed)
            world.keeper.reply(world.keeper.of(Ask)[-1])  # the engine vetoes, and opens again
        assert [a.json()["items"] for a in answers] == [[{"n": 3_000_000}]] * 2


async def test_F51_however_many_queries_wait_the_node_is_asked_once(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}, waiting_per_database=200) as world:
        world.keeper.silent = True
        answers: list[httpx.Response] = []
        refused = trio.Event()
        limits = httpx.Limits(max_connections=300)
        async with world.client(limits=limits) as client, trio.open_nursery() as nursery:

            async def one() -> None:
                answers.append(await post(client, "query", sql="SELECT 1 AS x"))
                refused.set()

            for _ in range(201):
                nursery.start_soon(one)
            await refused.wait()  # the one too many: the 200 others wait now
            assert [kind_of(a) for a in answers] == ["busy"]
            (ask,) = world.keeper.of(Ask)
            world.keeper.reply(ask)
        assert [a.status_code for a in answers].count(200) == 200
        assert len(world.keeper.of(Ask)) == 1


async def test_R37_waiting_for_a_door_ends_too(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}, wait_timeout_s=0.3) as world, world.client() as client:
        world.keeper.silent = True
        late = await post(client, "query", sql="SELECT 1")
        assert (kind_of(late), late.status_code) == ("wake-timeout", 504)
        world.keeper.reply(world.keeper.of(Ask)[0])  # too late for that one, not for the next
        assert (await post(client, "query", sql="SELECT 1 AS x")).json()["items"] == [{"x": 1}]


async def test_F89_a_client_that_hangs_up_stays_counted_until_rqlited_is_done(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}, query_timeout_s=1.5) as world:
        async with world.client() as client, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: post(client, "query", sql=ENDLESS))
            await in_flight(world)
            nursery.cancel_scope.cancel()
        closed = world.keeper.door("one", "users", is_open=False)
        first = await world.keeper.until(lambda: [a for a in world.keeper.of(DoorAck) if a.generation == closed])
        assert first[0].in_flight == 1, "the client is gone, its read is not"
        await world.keeper.drained(closed)


async def test_F60_a_dead_rqlited_is_asked_for_again_and_reads_and_writes_arrive_once(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}) as world, world.client() as client:
        await post(client, "exec", sql="CREATE TABLE t (v)")
        rqlited.kill()
        world.keeper.silent = True
        asked = len(world.keeper.of(Ask))
        answers: dict[str, httpx.Response] = {}

        async def send(endpoint: str, sql: str) -> None:
            answers[endpoint] = await post(client, endpoint, sql=sql)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, "exec", "INSERT INTO t VALUES (1)")
            nursery.start_soon(send, "query", "SELECT 1 AS x")
            ask = await world.keeper.until(lambda: world.keeper.of(Ask)[asked:])
            rqlited.start()
            await rqlited.ready()
            world.keeper.silent = False
            world.keeper.reply(ask[0])
        assert answers["exec"].json()["rows_affected"] == 1
        assert answers["query"].json()["items"] == [{"x": 1}]
        assert (await post(client, "query", sql="SELECT count(*) AS n FROM t")).json()["items"] == [{"n": 1}]


async def test_F86_a_write_whose_rqlited_dies_may_have_committed_and_is_not_repeated(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}) as world, world.client() as client:
        await slow_write_tables(rqlited)
        executions = await counted(rqlited)
        asked = len(world.keeper.of(Ask))
        answers: list[httpx.Response] = []

        async def write() -> None:
            answers.append(await post(client, "exec", sql="INSERT INTO big SELECT a.n FROM small a, small b"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await in_flight(world)
            await counted(
                rqlited, executions
            )  # killed before a byte of it was sent, the write could safely be tried again
            rqlited.kill()
        assert kind_of(answers[0]) == "may-have-committed"
        assert answers[0].status_code == 503
        assert answers[0].json()["may_have_committed"] is True
        assert len(world.keeper.of(Ask)) == asked + 1, "asked for the door once, and not again for a second try"


async def test_R37_F90_a_write_beyond_its_deadline_is_told_and_stays_counted(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}, query_timeout_s=0.5) as world, world.client() as client:
        await slow_write_tables(rqlited)
        late = await post(client, "exec", sql="INSERT INTO big SELECT a.n FROM small a, small b")
        assert (kind_of(late), late.status_code) == ("query-timeout", 504)
        assert late.json()["may_have_committed"] is True
        closed = world.keeper.door("one", "users", is_open=False)
        first = await world.keeper.until(lambda: [a for a in world.keeper.of(DoorAck) if a.generation == closed])
        assert first[0].in_flight == 1, "rqlited still runs it: the database must not fall asleep now"
        await world.keeper.drained(closed)


async def slow_write_tables(rqlited: Rqlited) -> None:
    """``small`` has so many rows that ``big`` takes seconds to fill with their square."""
    async with httpx.AsyncClient(base_url=rqlited.url, timeout=30) as raw:
        rows = ", ".join(f"({n})" for n in range(2_500))
        for sql in ("CREATE TABLE small (n)", "CREATE TABLE big (n)", f"INSERT INTO small VALUES {rows}"):
            answer = await raw.post("/db/execute", json=[[sql]])
            assert "error" not in answer.text


async def test_a_killed_worker_has_left_and_a_new_one_serves(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}) as world:
        async with world.client() as client:
            assert (await post(client, "query", sql="SELECT 1 AS x")).status_code == 200
        (worker,) = world.workers()
        worker.kill()
        await world.keeper.until(lambda: world.keeper.of(WorkerLeft))
        assert not worker.is_running(), "it was reaped before it counted as gone"
        await world.keeper.until(lambda: len(world.keeper.of(WorkerJoined)) == 2)
        assert [w.worker for w in world.keeper.of(WorkerJoined)] == [1, 2], "numbers are never used twice"
        async with world.client() as client:
            assert (await post(client, "query", sql="SELECT 1 AS x")).json()["items"] == [{"x": 1}]


async def test_F56_a_stopped_worker_is_replaced_so_that_votes_do_not_wait_for_ever(
    rqlited: Rqlited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "SILENCE_S", 2.0)
    async with gateway({("one", "users"): rqlited.url}) as world:
        (worker,) = world.workers()
        worker.suspend()
        closed = world.keeper.door("one", "users", is_open=False)
        await world.keeper.until(lambda: world.keeper.of(WorkerLeft))
        assert not [a for a in world.keeper.of(DoorAck) if a.generation == closed], "it never acknowledged"
        await world.keeper.until(lambda: len(world.keeper.of(WorkerJoined)) == 2)


async def test_stopping_answers_what_is_in_flight_and_leaves_nothing(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}, workers=2, drain_s=20.0) as world, world.client() as client:
        answers: list[httpx.Response] = []

        async def slow() -> None:
            answers.append(await post(client, "query", sql=SLOW.format(rows=2_000_000)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            await in_flight(world)
            await world.host.stop_accepting()
        assert answers[0].json()["items"] == [{"n": 2_000_000}]
        assert not world.workers()
        assert len(world.keeper.of(WorkerLeft)) == 2
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")


async def test_R61_a_taken_port_is_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bind_module, "PORT_RETRY_S", 0.1)
    async with gateway() as world:
        address = world.address.removeprefix("http://")
        second = GatewayHost(listen=address, workers=1, config=WorkerConfig({}), deliver=lambda _: None)
        with pytest.raises(GatewayFailed, match=f"cannot listen on {address}: the port is taken") as failed:
            await second.run()
        assert "\n" not in str(failed.value)
    for wrong in ("nowhere", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:x"):
        with pytest.raises(GatewayFailed, match="no host:port"):
            await GatewayHost(listen=wrong, workers=1, config=WorkerConfig({}), deliver=lambda _: None).run()


@contextmanager
def parent(
    listen: str, lease_s: float, url: str, digest: str
) -> Iterator[tuple[subprocess.Popen[str], str, psutil.Process]]:
    """Another process that hosts a gateway: itself, the address, its worker."""
    command = [sys.executable, "-m", "tests.runtime.gateway_parent", listen, str(lease_s), url, digest]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    worker: psutil.Process | None = None
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        worker = psutil.Process(int(process.stdout.readline()))
        yield process, f"http://{address}", worker
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        if worker is not None and worker.is_running():
            worker.kill()


async def until_gone(process: psutil.Process) -> None:
    """A zombie is gone: nobody may have reaped it yet (F91)."""
    with trio.fail_after(15):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110  not our child: there is no event
            await trio.sleep(0.02)


async def test_P30_a_worker_does_not_outlive_its_killed_node_and_the_next_node_gets_the_port(rqlited: Rqlited) -> None:
    key, digest = new_key()
    listen = f"127.0.0.1:{free_port()}"
    with parent(listen, 60, rqlited.url, digest) as (process, address, worker):
        async with httpx.AsyncClient(base_url=address, headers={"X-API-Key": key}) as client:
            assert (await post(client, "query", sql="SELECT 1 AS x")).json()["count"] == 1
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        with parent(listen, 60, rqlited.url, digest) as (_next, again, _worker):  # at once: it tries the port again
            async with httpx.AsyncClient(base_url=again, headers={"X-API-Key": key}) as client:
                assert (await post(client, "query", sql="SELECT 1 AS x")).json()["count"] == 1
        await until_gone(worker)


async def test_P30_a_worker_whose_node_is_stopped_serves_no_more(rqlited: Rqlited) -> None:
    key, digest = new_key()
    with parent("127.0.0.1:0", 1.0, rqlited.url, digest) as (process, address, worker):
        async with httpx.AsyncClient(base_url=address, headers={"X-API-Key": key}) as client:
            assert (await post(client, "query", sql="SELECT 1 AS x")).json()["count"] == 1
            os.kill(process.pid, signal.SIGSTOP)
            try:
                await until_gone(worker)  # while its node still exists, its channel still open
            finally:
                os.kill(process.pid, signal.SIGCONT)


async def test_P30_a_worker_that_was_paused_past_its_lease_serves_nothing_it_finds_waiting(rqlited: Rqlited) -> None:
    """The request is already in its socket when it goes on; the channel's frames may be read later. Only the lease can tell."""
    key, digest = new_key()
    with parent("127.0.0.1:0", 1.0, rqlited.url, digest) as (process, address, worker):
        async with httpx.AsyncClient(base_url=address, headers={"X-API-Key": key}) as client:
            assert (await post(client, "query", sql="SELECT 1 AS x")).json()["count"] == 1
            os.kill(process.pid, signal.SIGSTOP)
            worker.suspend()
            outcome: list[httpx.Response | httpx.TransportError] = []

            async def late() -> None:
                try:
                    outcome.append(await post(client, "query", sql="SELECT 1 AS x"))
                except httpx.TransportError as error:
                    outcome.append(error)

            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(late)
                    await trio.sleep(1.5)  # the lease itself: time is what is tested here
                    worker.resume()
            finally:
                os.kill(process.pid, signal.SIGCONT)
            if isinstance(outcome[0], httpx.Response):
                assert kind_of(outcome[0]) == "stopping"
