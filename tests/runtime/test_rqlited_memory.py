"""One statement that asks for gigabytes takes nobody else's memory. (Measured without the bound: one ``SELECT zeroblob(300000000)`` took
8 GB, and went on after its timeout.)"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runtime.rqlite_http import RqliteError
from tests.runtime.rqlited_world import Run, world

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bounded on Linux alone"),
]

MOST = 512 << 20


def peak_bytes(run: Run) -> int:
    pid = run.supervisor.pids()[run.spec.incarnation]
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


async def test_F85_a_statement_that_asks_for_gigabytes_fails_alone(tmp_path: Path) -> None:
    async with world(tmp_path, max_memory=MOST) as w:
        run = await w.start("found")
        async with run.client() as client:
            await client.execute("CREATE TABLE t (n)", within=10)
            for sql in ("SELECT length(hex(zeroblob(499999999)))", "SELECT length(replace(hex(zeroblob(20000)), '0', hex(zeroblob(10000))))"):  # fmt: skip
                with pytest.raises(RqliteError, match="out of memory"):
                    await client.query(sql, 20)
            with pytest.raises(RqliteError, match="out of memory"):
                await client.execute("INSERT INTO t VALUES (hex(zeroblob(400000000)))", within=20)
            assert await client.query("SELECT count(*) FROM t", 10, "strong") == [[0]]
        assert peak_bytes(run) < MOST
        assert (await run.stop()).cause == "stopped"


async def test_F85_an_answer_that_does_not_fit_ends_the_one_process(tmp_path: Path) -> None:
    """rqlited makes JSON of a whole answer in its own memory, which SQLite's limit does not see."""
    async with world(tmp_path, max_memory=MOST) as w:
        run = await w.start("found")
        async with run.client() as client:
            with pytest.raises(RqliteError):
                await client.query("SELECT zeroblob(100000000), zeroblob(100000000)", 20)
        assert (await run.until_ended()).cause == "crashed"
        again = await w.start("restart")
        async with again.client() as client:
            assert await client.query("SELECT 1", 10, "strong") == [[1]]
