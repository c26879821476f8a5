"""F90: a write without end that got in anyway is named, and only that database notices it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from runtime import rqlited_stuck
from runtime.rqlited_stuck import StuckWatch
from tests.runtime.node_world import APP, event
from tests.runtime.node_world import world as node_world
from tests.runtime.rqlited_world import INCARNATION, Run, world
from tests.runtime.test_ctl import answer, torpor

pytestmark = pytest.mark.real

ENDLESS = "INSERT INTO t WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x > 0) SELECT x FROM c WHERE x < 0"
"""Endless for this test: it stores no row, and counts to 2^63."""
LONG = "INSERT INTO t WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {rows}) SELECT x FROM c WHERE x < 0"


async def write(url: str, sql: str) -> None:
    """Straight to rqlited, past all vetting."""
    async with httpx.AsyncClient(timeout=None) as client:
        with contextlib.suppress(httpx.TransportError):  # it may be killed meanwhile
            await client.post(f"{url}/db/execute", json=[[sql]])


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LOOK_S", 0.1), ("CORES", 0.02), ("ANSWER_S", 0.3), ("PATIENCE_S", 0.6)):
        monkeypatch.setattr(rqlited_stuck, name, value)


async def named(watch: StuckWatch) -> None:
    with trio.fail_after(30):
        while INCARNATION not in watch.found():  # noqa: ASYNC110  it is what `torpor status` shows
            await trio.sleep(0.05)


@pytest.mark.usefixtures("soon")
async def test_F90_a_write_without_end_is_named_after_a_restart_too_and_a_busy_neighbour_is_not(tmp_path: Path) -> None:
    async with world(tmp_path) as w, trio.open_nursery() as nursery:
        run = await w.start("found")
        other: Run = await w.start("found", name="app_other", incarnation="s1-2-abcd")
        assert run.ready is not None
        watch = StuckWatch(w.supervisor)
        nursery.start_soon(watch.run)
        nursery.start_soon(busy, other)
        async with run.client() as client:
            await client.execute("CREATE TABLE t (n)", within=5)
        assert watch.found() == {}
        with capture_logs() as said:
            nursery.start_soon(write, run.ready.http_url, ENDLESS)
            await named(watch)
        (stuck,) = watch.found().values()
        assert (stuck.pid, stuck.seconds >= 0.6, stuck.cores > 0) == (run.ready.pid, True, True)
        (line,) = [line for line in said if line["event"] == "database stuck"]
        assert (line["incarnation"], line["law"]) == (INCARNATION, "F90")
        async with other.client() as client:
            await client.strong_read(5)

        w.supervisor.kill(INCARNATION, run.spec.run)
        await run.until_ended()
        again = w.launch(w.spec("restart"))  # it replays what it had logged
        with trio.fail_after(30):
            while watch.found():  # noqa: ASYNC110
                await trio.sleep(0.05)
        await named(watch)
        assert again.ready is None
        assert watch.found().keys() == {INCARNATION}
        nursery.cancel_scope.cancel()


async def busy(run: Run) -> None:
    async with run.client() as client:
        while True:
            await client.query(
                "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 300000) SELECT max(x) FROM c", 30
            )


@pytest.mark.usefixtures("soon")
async def test_F90_a_write_that_ends_after_all_is_named_no_more(tmp_path: Path) -> None:
    async with world(tmp_path) as w, trio.open_nursery() as nursery:
        run = await w.start("found")
        assert run.ready is not None
        async with run.client() as client:
            await client.execute("CREATE TABLE t (n)", within=5)
        watch = StuckWatch(w.supervisor)
        nursery.start_soon(watch.run)
        with capture_logs() as said:
            nursery.start_soon(write, run.ready.http_url, LONG.format(rows=20_000_000))
            await named(watch)
            with trio.fail_after(60):
                while watch.found():  # noqa: ASYNC110
                    await trio.sleep(0.05)
        assert [line["event"] for line in said] == ["database stuck", "database answers again"]
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_F90_the_status_of_a_node_names_the_database(tmp_path: Path) -> None:
    async with node_world(tmp_path) as w, trio.open_nursery() as nursery:
        for database in ("orders", "stock"):
            await w.execute(database, "CREATE TABLE t (n)")
        (orders,) = await answer(w, "inspect", f"{APP}/orders")
        nursery.start_soon(write, f"http://127.0.0.1:{orders['http']}", ENDLESS)
        await w.until(event("database stuck"), within=60)
        (stuck,) = (await answer(w, "status"))["stuck"]
        assert (stuck["database"], stuck["pid"]) == (f"{APP}/orders", next(p.pid for p in w.rqliteds(f"{APP}_orders")))
        _, text = await torpor(w, "status")
        assert f"! {APP}/orders answers no strong read for " in text
        assert await w.rows("stock", "SELECT count(*) AS n FROM t") == [{"n": 0}]
        assert json.dumps(stuck)
        nursery.cancel_scope.cancel()
