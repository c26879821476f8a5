"""``torpor`` against a real node: what it says, what it refuses, and that whatever is wrong is one line with its cause (R61)."""

from __future__ import annotations

import json
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from runtime.control import LINE, SOCKET, short
from runtime.ctl import main
from tests.runtime.cluster_world import cluster
from tests.runtime.node_world import APP, World, event, world


async def torpor(w: World, *arguments: str) -> tuple[int, str]:
    """The command as a user runs it, in a process of its own."""
    done = await trio.run_process(
        [sys.executable, "-m", "runtime.ctl", "--data-dir", str(w.data), *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode()


async def answer(w: World, *arguments: str) -> Any:
    code, text = await torpor(w, "--json", *arguments)
    assert code == 0, text
    return json.loads(text)


@pytest.mark.real
async def test_R60_R61_status_nodes_databases_and_inspect_tell_what_is_and_why(tmp_path: Path) -> None:
    async with world(tmp_path, hibernation_timeout="300ms") as w:
        await w.execute("orders", "CREATE TABLE t (n INTEGER)")
        status = await answer(w, "status")
        assert (status["databases"], status["hosted"], status["listening"]) == (1, 1, False)
        assert status["pid"] == w.node.pid
        assert status["gateway"] == w.node.gateway
        assert status["advice"] == []
        assert status["sent"]["direct"] == {}
        assert status["sent"]["broadcast"].keys() == {"Heartbeat"}, "it is alone"
        assert 0 < status["heartbeat"]["bytes"] < 1_000
        assert status["heartbeat"]["heard"] == 1
        (me,) = await answer(w, "nodes")
        assert (me["me"], me["heard"], me["eligible"]) == (True, True, True)
        await w.until(event("hibernated", database=f"{APP}_orders"))
        (known,) = await answer(w, "databases", "--app", APP)
        assert (known["app"], known["name"], known["phase"]) == (APP, "orders", "hibernating")
        assert await answer(w, "databases", "--app", "another") == []
        (one,) = await answer(w, "inspect", f"{APP}/orders")
        assert one["seal"]["epoch"] == one["epoch"]
        assert [member["peer"] for member in one["members"]] == [me["peer"]]
        told = {why["event"]: why for why in one["decisions"]}
        assert told["hibernated"]["law"] == "P34"
        assert told["hibernated"]["because"]
        assert 0 <= told["hibernated"]["ago_s"] <= told["instance started"]["ago_s"]

        for command, word in (
            ("status", "serving"),
            ("status", " Heartbeat"),
            ("nodes", "this node"),
            ("databases", "hibernating"),
        ):
            code, text = await torpor(w, command)
            assert (code, word in text) == (0, True), text
        code, text = await torpor(w, "inspect", f"{APP}/orders")
        assert (code, "all stopped cleanly" in text) == (0, True), text

        code, text = await torpor(w, "inspect", f"{APP}/never")
        assert (code, text) == (
            1,
            f"Error: no database {APP}/never is known here; torpor databases lists those that are\n",
        )
        code, text = await torpor(w, "inspect", "orders")
        assert code == 2
        assert "is not APP/NAME" in text


@pytest.mark.real
async def test_R61_a_lone_node_is_told_that_it_can_create_nothing_of_three_replicas(tmp_path: Path) -> None:
    async with world(tmp_path, database={"replication_factor": 3}) as w:
        (advice,) = (await answer(w, "status"))["advice"]
        assert advice.startswith("database.replication_factor is 3 and 1 node is known")


@pytest.mark.real
async def test_R61_the_control_socket_is_its_users_own_survives_nonsense_and_ends_with_the_node(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30)  # longer than the address of a Unix socket may be
    deep.mkdir()
    async with world(deep) as w:
        path = w.data / SOCKET
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for nonsense in (
            b"\n",
            b"[1]\n",
            b"{}\n",
            b'{"do": "run"}\n',
            b"\xff\n",
            b"x" * (LINE + 2),
            b'{"do": "inspect"}\n',
        ):
            with short(w.data) as directory, socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"{directory}/{SOCKET}")
                connection.sendall(nonsense)
                reply = await trio.to_thread.run_sync(_all_of, connection)
                assert "error" in json.loads(reply), nonsense
        assert (await answer(w, "status"))["pid"] == w.node.pid
        await w.node.stop()
        assert not path.exists()
        code, text = await torpor(w, "status")
        assert (code, "no node serves" in text) == (2, True)


def _all_of(connection: socket.socket) -> bytes:
    said = b""
    while more := connection.recv(65536):
        said += more
    return said


def test_R61_without_a_node_or_with_bad_settings_there_is_one_line(tmp_path: Path) -> None:
    run = CliRunner().invoke(main, ["--data-dir", str(tmp_path / "none"), "status"])
    assert (run.exit_code, run.output.count("\n")) == (2, 1)
    bad = tmp_path / "node.yaml"
    bad.write_text("node: {data_dirr: x}\n")
    run = CliRunner().invoke(main, ["--config", str(bad), "status"])
    assert (run.exit_code, run.output.count("\n"), "did you mean" in run.output) == (2, 1, True)


@pytest.mark.real
async def test_P64_F33_a_node_that_is_gone_for_good_is_retired_and_ends_should_it_return(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, database={"replication_factor": 1}) as (first, second):
        peer = second.node.status()["node_id"]
        code, text = await torpor(first, "node", "retire", "--yes", "12D3KooWNobody")
        assert (code, "is no known node" in text) == (1, True), text
        await second.killed()
        await until_advised(first, "torpor node retire PEER")
        code, text = await torpor(first, "node", "retire", "--yes", peer)
        assert (code, f"{peer} is retired for good; 1 nodes are known" in text) == (0, True), text
        assert [node["me"] for node in await answer(first, "nodes")] == [True]
        assert (await answer(first, "status"))["advice"] == []

        await second.start()
        assert await second.node.process.wait() == 1
        await second.until(event("node halts"))
        await second.until(lambda line: line.get("text", "").startswith("torpor: an operator retired this node"))


async def until_advised(w: World, text: str) -> None:
    with trio.fail_after(20):
        while not any(text in advice for advice in (await answer(w, "status"))["advice"]):
            await trio.lowlevel.checkpoint()
