"""One real rqlited's life under the supervisor: start, ready, write, seal, stop, restart, and every way to end."""

import signal
import sqlite3
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing

from runtime import processes
from runtime.rqlite_http import RqliteError
from tests.runtime.rqlited_world import NODE_ID, SPEED, world

pytestmark = pytest.mark.real


async def test_F12_ready_means_that_a_strong_read_passed_and_data_outlives_restarts(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        assert run.ready is not None
        assert run.ready.voters == (NODE_ID,)
        assert run.ready.leader
        assert run.ready.http_url == f"http://127.0.0.1:{run.spec.http_port}"
        applied = run.ready.applied_index
        async with run.client() as client:
            await client.strong_read(5)
            await client.execute("CREATE TABLE t (n)", within=5)
        for n in range(3):
            async with run.client() as client:
                await client.execute(f"INSERT INTO t VALUES ({n})", within=5)
            ended = await run.stop()
            assert (ended.cause, ended.code, ended.run) == ("stopped", 0, run.spec.run)
            assert not run.place.run.exists()
            run = await w.start("restart")
            assert run.ready is not None
            assert run.ready.applied_index > applied
            applied = run.ready.applied_index
            async with run.client() as client:
                assert await client.query("SELECT count(*) FROM t", 5, "strong") == [[n + 1]]
        assert (await run.stop()).cause == "stopped"


async def test_P34_snapshot_then_SIGTERM_leaves_exit_0_an_empty_WAL_and_the_whole_database_in_one_file(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        async with run.client() as client:
            await client.execute("CREATE TABLE t (n, text)", within=5)
            for n in range(20):
                values = ", ".join(f"({n * 100 + m}, '{'x' * 40}')" for m in range(100))
                await client.execute(f"INSERT INTO t VALUES {values}", within=5)
        for _again in range(2):
            before = await w.supervisor.probe(run.spec.incarnation, strong=True, timeout=5)
            sealed = await w.supervisor.snapshot(run.spec.incarnation, 5)
            assert sealed.ok, sealed.error
            assert sealed.applied_index == before.applied_index
            ended = await run.stop()
            assert (ended.cause, ended.code, ended.wal_empty) == ("stopped", 0, True)
            with sqlite3.connect(f"file:{run.place.database}?mode=ro&immutable=1", uri=True) as reader:
                assert reader.execute("SELECT count(*) FROM t").fetchone() == (2000,)
            reader.close()
            run = await w.start("restart")  # and once more, with nothing written since the last snapshot
        await run.stop()


async def test_P34_a_second_snapshot_with_nothing_new_is_well(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        for _ in range(3):
            taken = await w.supervisor.snapshot(run.spec.incarnation, 5)
            assert taken.ok, taken.error
        await run.stop()


async def test_F60_a_killed_rqlited_is_noticed_at_once_and_leaves_no_zombie(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        assert run.ready is not None
        psutil.Process(run.ready.pid).send_signal(signal.SIGKILL)
        with trio.fail_after(10):
            ended = await run.until_ended()
        assert (ended.cause, ended.code) == ("killed", -9)
        assert "from outside" in ended.detail
        assert not psutil.pid_exists(run.ready.pid), "reaped: not even a zombie is left"
        assert w.supervisor.pids() == {}
        again = await w.start("restart")
        assert again.ready is not None
        await again.stop()


async def test_F60_an_exit_that_nobody_asked_for_is_a_crash_even_with_status_0(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        assert run.ready is not None
        psutil.Process(run.ready.pid).terminate()
        ended = await run.until_ended()
        assert (ended.cause, ended.code) == ("crashed", 0)
        assert "without being asked" in ended.detail


async def test_F60_cancelling_the_supervisor_kills_and_reaps(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        assert run.ready is not None
        w.nursery.cancel_scope.cancel()
    assert not psutil.pid_exists(run.ready.pid)
    assert not run.place.run.exists()


async def test_P32_a_stop_of_another_run_changes_nothing_and_the_same_stop_twice_is_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        key, number = run.spec.incarnation, run.spec.run
        w.supervisor.terminate(key, number + 1, 0)
        w.supervisor.kill(key, number - 1)
        w.supervisor.terminate("another", number, 0)
        async with run.client() as client:
            await client.strong_read(5)
        w.supervisor.terminate(key, number, 10)
        w.supervisor.terminate(key, number, 20)
        assert (await run.until_ended()).cause == "stopped"
        w.supervisor.terminate(key, number, 10)  # after the end: nothing


async def test_P32_a_stop_that_comes_before_the_process_is_up_ends_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = w.launch(w.spec("found"))
        await trio.testing.wait_all_tasks_blocked()
        w.supervisor.terminate(run.spec.incarnation, run.spec.run, 5)
        ended = await run.until_ended()
        assert ended.cause in ("stopped", "killed")
        assert run.ready is None


async def test_F90_a_write_that_never_ends_blocks_SIGTERM_and_SIGKILL_after_the_deadline_does_not(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        endless = (
            "INSERT INTO t WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c WHERE x < 0"
        )
        async with run.client() as client:
            await client.execute("CREATE TABLE t (n)", within=5)
            with pytest.raises(RqliteError, match="no answer"):
                await client.execute(endless, within=0.5)
        probe = await w.supervisor.probe(run.spec.incarnation, strong=True, timeout=0.5)
        assert not probe.ok
        assert "no answer" in probe.error
        w.supervisor.terminate(run.spec.incarnation, run.spec.run, 1.0)
        ended = await run.until_ended()
        assert (ended.cause, ended.code, ended.detail) == ("killed", -9, "by this node")


async def test_F40_the_counter_sees_direct_clients_and_not_our_own_probes_and_goes_back_after_a_restart(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        key = run.spec.incarnation

        async def counter(*, strong: bool = False) -> int:
            probe = await w.supervisor.probe(key, strong=strong, timeout=5)
            assert probe.ok, probe.error
            assert probe.leader
            assert probe.voters == (NODE_ID,)
            return probe.counter

        assert [await counter(), await counter(strong=True), await counter()] == [0, 0, 0]
        async with trio.open_nursery() as nursery:  # probes at the same time are no traffic either
            for _ in range(5):
                nursery.start_soon(w.supervisor.probe, key)
        async with run.client() as client:
            await client.execute("CREATE TABLE t (n)", within=5)
            await client.query("SELECT count(*) FROM t", 5)
            with pytest.raises(RqliteError, match="no such table"):
                await client.query("SELECT * FROM missing", 5)
            assert await counter(strong=True) == 3
            await client.request("POST", "/db/request", 5, b'["SELECT 1"]')
            assert await counter() == 4
        await run.stop()
        again = await w.start("restart")
        assert await counter() == 0
        await again.stop()
        gone = await w.supervisor.probe(key)
        assert (gone.ok, gone.error) == (False, "not running")
        assert not (await w.supervisor.snapshot(key, 1)).ok


async def test_R62_pids_and_resources_of_what_runs(tmp_path: Path) -> None:
    async with world(tmp_path, SPEED) as w:
        run = await w.start("found")
        assert run.ready is not None
        assert w.supervisor.pids() == {run.spec.incarnation: run.ready.pid}
        assert w.supervisor.resources()[run.spec.incarnation].rss > 10_000_000
        assert processes.command(run.ready.pid)[-1] == str(run.place.rqlite)
        await run.stop()
