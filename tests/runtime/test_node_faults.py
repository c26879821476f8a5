"""What goes wrong around a real node, and what it makes of it: ports that a stranger took, an rqlited that dies, a binary that
vanishes, a sleeping copy that was wiped."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from runtime.rqlited_binary import VARIABLE, find_binary
from tests.runtime.node_world import World, action, event, outcome, until_asleep, world

pytestmark = pytest.mark.real


async def asleep_with_a_row(w: World) -> dict[str, int]:
    """A sleeping database ``orders`` with one row; gives its ports."""
    await w.execute("orders", "CREATE TABLE t (n INT)")
    await w.execute("orders", "INSERT INTO t VALUES (7)")
    started = await w.until(event("instance started"))
    await until_asleep([w], "orders")
    return {kind: started[f"{kind}_port"] for kind in ("http", "raft")}


@pytest.mark.parametrize("stolen", [("http",), ("raft",), ("http", "raft")])
async def test_F47_R47_a_wake_finds_other_ports_when_a_stranger_has_its_own(
    tmp_path: Path, stolen: tuple[str, ...]
) -> None:
    async with world(tmp_path, hibernation_timeout="300ms") as w:
        ports = await asleep_with_a_row(w)
        with ExitStack() as strangers:
            for kind in stolen:
                listener = strangers.enter_context(socket.socket())
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections still wait there
                listener.bind(("127.0.0.1", ports[kind]))
                listener.listen()
            at = len(w.lines)
            assert await w.rows("orders", "SELECT n FROM t") == [{"n": 7}]
            again = await w.until(event("instance started"), since=at)
            for kind in ("http", "raft"):
                assert (again[f"{kind}_port"] != ports[kind]) == (kind in stolen)
            await w.execute("orders", "INSERT INTO t VALUES (8)")
        await until_asleep([w], "orders")
        at = len(w.lines)
        assert await w.rows("orders", "SELECT n FROM t ORDER BY n") == [{"n": 7}, {"n": 8}]
        kept = await w.until(event("instance started"), since=at)
        assert (kept["http_port"], kept["raft_port"]) == (
            again["http_port"],
            again["raft_port"],
        )  # what it has now is its own


async def test_F60_a_dead_rqlited_is_noticed_and_started_again_without_being_asked(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.execute("orders", "CREATE TABLE t (n INT)")
        await w.execute("orders", "INSERT INTO t VALUES (7)")
        (process,) = w.rqliteds()
        at = len(w.lines)
        process.kill()
        died = await w.until(event("instance died"), since=at)
        assert "killed" in died["because"]
        await w.until(event("instance started"), since=at)
        (second,) = w.rqliteds()
        assert second.pid != process.pid
        assert not process.is_running()  # reaped: no zombie
        assert await w.rows("orders", "SELECT n FROM t") == [{"n": 7}]


async def test_F9_a_vanished_binary_fails_the_creation_with_its_cause_and_frees_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "bin" / "rqlited"
    binary.parent.mkdir()
    shutil.copy2(find_binary().path, binary)
    monkeypatch.setenv(VARIABLE, str(binary))
    async with world(tmp_path) as w:
        binary.rename(binary.with_name("away"))
        reply = await w.post("exec", "orders", "CREATE TABLE t (n INT)")
        assert reply.status_code == 503
        assert "binary_missing" in reply.json()["detail"]
        assert str(binary) in reply.json()["detail"]
        await w.until(action("ReleasePorts"))
        binary.with_name("away").rename(binary)
        await w.execute("orders", "CREATE TABLE t (n INT)")
        assert len(w.rqliteds()) == 1
        assert len(list((w.data / "shop_orders").iterdir())) == 1


async def test_F54_P54_a_wiped_sleeper_never_comes_back_as_an_empty_database(tmp_path: Path) -> None:
    async with world(tmp_path, hibernation_timeout="300ms") as w:
        await asleep_with_a_row(w)
        (incarnation,) = (w.data / "shop_orders").iterdir()
        shutil.rmtree(incarnation / "rqlite")
        reply = await w.post("exec", "orders", "CREATE TABLE IF NOT EXISTS t (n INT)")
        assert reply.status_code == 503
        assert "data_missing" in reply.json()["detail"]
        assert w.rqliteds() == []
        assert w.count(outcome("InstanceExited", cause="data_missing")) >= 1


async def test_R43_F46_data_that_cannot_be_opened_ends_the_wake_with_its_cause(tmp_path: Path) -> None:
    async with world(tmp_path, hibernation_timeout="300ms", gateway={"wake_timeout": "4s"}) as w:
        await asleep_with_a_row(w)
        (incarnation,) = (w.data / "shop_orders").iterdir()
        good = (incarnation / "rqlite" / "raft.db").read_bytes()
        (incarnation / "rqlite" / "raft.db").write_bytes(os.urandom(65536))
        reply = await w.post("query", "orders", "SELECT n FROM t")
        assert reply.status_code in (503, 504)
        assert reply.json()["detail"]
        await w.until(event("wake failed"))
        (incarnation / "rqlite" / "raft.db").write_bytes(good)
        assert await w.rows("orders", "SELECT n FROM t") == [{"n": 7}]


async def test_P1_a_node_whose_store_cannot_be_written_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.execute("orders", "CREATE TABLE t (n INT)")
        await w.execute("orders", "INSERT INTO t VALUES (7)")
        resource.prlimit(w.node.pid, resource.RLIMIT_FSIZE, (0, 0))  # no file of its may grow any more: a full disk
        with pytest.raises(httpx.HTTPError):
            await w.execute("another", "CREATE TABLE t (n INT)")
        assert await w.node.process.wait() == 1
        said = await w.until(event("not a log line"))
        assert said["text"].startswith("torpor: the store cannot be written")
        assert w.leftovers() == []
        await w.start()
        assert await w.rows("orders", "SELECT n FROM t") == [{"n": 7}]
