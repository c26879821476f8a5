"""F85, the second wall: an rqlited that gets hostile SQL past all vetting, straight to its own HTTP, reaches no file but its own."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from runtime import landlock, rqlited_confined
from runtime.landlock import DEVICE, OWN, READ, RUN, Confinement, all_with
from runtime.rqlited_confined import CannotConfine, settle
from runtime.settings import load
from tests.runtime.rqlited_world import INCARNATION, Run, binary, world

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(landlock.abi() < landlock.LEAST, reason="this kernel has no Landlock"),
]


async def told(run: Run, endpoint: str, *statements: str) -> str:
    """What rqlited itself says to statements that nobody vetted: its errors, or nothing."""
    async with run.client() as client:
        reply = await client.request("POST", endpoint, 10, json.dumps([[sql] for sql in statements]).encode())
        return " ".join(result["error"] for result in json.loads(reply.body)["results"] if "error" in result)


@pytest.mark.parametrize("confine", [True, False])
async def test_F85_no_SQL_writes_or_reads_a_file_outside_its_directory(tmp_path: Path, confine: bool) -> None:
    """Unconfined it does all of it: that is the proof that it is this wall which holds."""
    other, made, copy = tmp_path / "other.sqlite", tmp_path / "made.sqlite", tmp_path / "copy.sqlite"
    with sqlite3.connect(other) as neighbour:
        neighbour.execute("CREATE TABLE secrets (v)")
        neighbour.execute("INSERT INTO secrets VALUES ('theirs')")
    neighbour.close()
    async with world(tmp_path / "data", confine=confine) as w:
        run = await w.start("found")
        async with run.client() as client:
            await client.execute("CREATE TABLE t (v)", within=5)
        refused = [
            await told(run, "/db/query", f"ATTACH '{other}' AS a"),
            await told(run, "/db/execute", f"ATTACH '{made}' AS b"),
            await told(run, "/db/execute", f"VACUUM INTO '{copy}'"),
        ]
        if confine:
            assert all("unable to open database" in error for error in refused), refused
            assert not made.exists()
            assert not copy.exists()
        else:
            assert refused == ["", "", ""]
            assert copy.exists()
        async with run.client() as client:  # its own database serves on
            await client.execute("INSERT INTO t VALUES (1)", within=5)
        assert (await run.stop()).cause == "stopped"


async def test_F85_a_confined_rqlited_does_all_that_its_node_asks_of_it(tmp_path: Path) -> None:
    """Sort and index more than fits in memory, snapshot, sleep, wake, give a backup and take one."""
    async with world(tmp_path, confine=True) as w:
        run = await w.start("found")
        assert run.ready is not None
        async with run.client() as client:
            await client.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, v)", within=5)
            await client.execute(
                "INSERT INTO t(v) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 60000) "
                "SELECT hex(randomblob(40)) FROM c",
                within=30,
            )
            await client.execute("CREATE INDEX i ON t (v)", "PRAGMA temp_store = 1", within=30)
            for sql in (
                "SELECT count(*) FROM (SELECT v, n FROM t ORDER BY v || n)",
                "SELECT count(DISTINCT v || n) FROM t",
            ):
                assert await client.query(sql, 30) == [[60000]]
        async with httpx.AsyncClient(base_url=run.ready.http_url, timeout=30) as plain:
            backup = (await plain.get("/db/backup")).content
            assert backup.startswith(b"SQLite format 3")
        assert await told(run, "/db/execute", "VACUUM") == ""
        sealed = await w.supervisor.snapshot(INCARNATION, 10)
        assert sealed.ok, sealed.error
        ended = await run.stop()
        assert (ended.cause, ended.wal_empty) == ("stopped", True)
        left = run.place.temporary / "left-by-a-crash"
        left.write_bytes(b"rows")
        run = await w.start("restart")
        assert run.ready is not None
        assert not left.exists()
        async with run.client() as client:
            assert await client.query("SELECT count(*) FROM t", 10, "strong") == [[60000]]
            await client.execute("DELETE FROM t", within=10)
            async with httpx.AsyncClient(base_url=run.ready.http_url, timeout=30) as plain:
                headers = {"Content-Type": "application/octet-stream"}
                assert (await plain.post("/db/load", content=backup, headers=headers)).status_code == 200
            assert await client.query("SELECT count(*) FROM t", 10, "strong") == [[60000]]
        assert (await run.stop()).cause == "stopped"


async def test_the_confinement_is_the_child_s_alone(tmp_path: Path) -> None:
    async with world(tmp_path / "data", confine=True) as w:
        run = await w.start("found")
        assert run.ready is not None
        assert no_new_privs(Path(f"/proc/{run.ready.pid}/status"))
        assert not any(no_new_privs(thread / "status") for thread in threads())
        async with trio.open_nursery() as nursery:  # in no thread that is used again, either
            for n in range(8):
                nursery.start_soon(trio.to_thread.run_sync, (tmp_path / str(n)).write_bytes, b"here")


def threads() -> list[Path]:
    return list(Path("/proc/self/task").iterdir())


def no_new_privs(status: Path) -> bool:
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("NoNewPrivs")]
    return line.split()[1] == "1"


TRIES = """
import json, os, pathlib, socket, sys
own, outside, secret, port, other = sys.argv[1:]
pathlib.Path(own, "a").mkdir(); pathlib.Path(own, "b").write_bytes(b"b"); os.rename(f"{own}/b", f"{own}/a/b")
failed = []
def tries(name, what):
    try:
        what()
    except OSError as error:
        assert error.errno in (1, 13, 18), error  # a link from elsewhere looks like one from another disk
        failed.append(name)
tries("make", lambda: open(outside + "/made", "x"))
tries("write", lambda: open(secret, "r+"))
tries("read", lambda: open(secret))
tries("truncate", lambda: os.truncate(secret, 0))
tries("move", lambda: os.rename(f"{own}/a/b", outside + "/b"))
tries("link", lambda: os.link(secret, own + "/link"))
tries("list", lambda: os.listdir(outside))
tries("signal", lambda: os.kill(os.getppid(), 0))
tries("fd", lambda: open(f"/proc/{os.getppid()}/environ").read())
tries("bind", lambda: socket.socket().bind(("127.0.0.1", int(other))))
socket.socket().bind(("127.0.0.1", int(port)))
open("/dev/null", "w")
print(json.dumps(failed))
"""


async def test_what_is_denied_is_denied_to_any_program(tmp_path: Path) -> None:
    own, secret = tmp_path / "own", tmp_path / "secret"
    own.mkdir()
    secret.write_text("secret")
    ports: list[int] = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    interpreter = str(await trio.Path(sys.executable).resolve())
    python = all_with(RUN, {sys.prefix, sys.base_prefix, interpreter, "/lib", "/lib64", "/usr/lib"})
    confinement = Confinement(
        ((own, OWN), *python, *all_with(READ, ("/etc/ld.so.cache",)), *all_with(DEVICE, ("/dev/null",))),
        (ports[0],),
    )
    command = [sys.executable, "-S", "-c", TRIES, *map(str, (own, tmp_path, secret, *ports))]
    reading, writing = os.pipe()
    process = await landlock.open_process(confinement, command, stdout=writing, start_new_session=True)
    os.close(writing)
    with os.fdopen(reading) as said_by_it:
        assert await process.wait() == 0
        denied = set(json.loads(said_by_it.read()))
    version = landlock.abi()
    expected = {"make", "write", "read", "move", "link", "list", "fd"}
    expected |= ({"truncate"} if version >= 3 else set()) | ({"bind"} if version >= 4 else set())
    expected |= {"signal"} if version >= 6 else set()
    assert denied == expected
    assert secret.read_text() == "secret"


async def test_what_cannot_be_confined_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, confine=True) as w:
        monkeypatch.setattr(landlock, "_RESTRICT_SELF", 2**20)  # no such call
        run = w.launch(w.spec("found"))
        ended = await run.until_ended()
        assert "Landlock: Function not implemented" in ended.detail
        assert ended.code is None
        assert w.supervisor.pids() == {}
        monkeypatch.undo()
        again = await w.start("found", run=7)
        assert (await again.stop()).cause == "stopped"


@pytest.mark.parametrize(
    ("wanted", "kernel", "runs", "said"),
    [
        ("auto", landlock.abi(), True, "confined to its directories"),
        ("require", landlock.abi(), True, "confined to its directories"),
        ("off", landlock.abi(), True, "not confined: rqlite.confine is off"),
        ("auto", 1, True, "not confined: this kernel has no Landlock"),
        ("auto", landlock.abi(), False, f"not confined: {binary().path} does not run confined"),
    ],
)
def test_the_setting_the_kernel_and_the_binary_decide(
    monkeypatch: pytest.MonkeyPatch, wanted: Any, kernel: int, runs: bool, said: str
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: kernel)
    if not runs:  # as a binary whose libraries are somewhere else
        monkeypatch.setattr(rqlited_confined, "RUN", READ)
    walls = settle(wanted, binary())
    assert walls.said.startswith(said)
    assert walls.confine is said.startswith("confined")


@pytest.mark.parametrize("kernel", [0, landlock.abi()])
def test_R61_what_is_required_and_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch, kernel: int) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: kernel)
    monkeypatch.setattr(rqlited_confined, "RUN", READ)
    with pytest.raises(CannotConfine, match=r"rqlite\.confine is require, but ") as cannot:
        settle("require", binary())
    assert "\n" not in str(cannot.value)
    assert load(None, ["rqlite.confine=require"]).rqlite.confine == "require"
