"""The edge of a real node as its operator has it: TLS, new workers on demand, and what ``torpor status`` says of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from runtime import landlock
from tests.runtime.node_world import World, event, world
from tests.runtime.rqlited_world import walls
from tests.runtime.test_ctl import answer, torpor
from tests.runtime.test_node_start import node
from tests.runtime.tls_world import Authority

pytestmark = pytest.mark.real


async def replaced(w: World, before: set[int]) -> set[int]:
    """Waits until the workers of before are gone; those that are there then."""
    with trio.fail_after(30):
        while before & (now := {worker.pid for worker in w.workers()}):  # noqa: ASYNC110  what an operator can see
            await trio.sleep(0.05)
    return now


async def test_new_workers_by_command_and_by_SIGHUP_over_TLS_with_a_database_in_use(tmp_path: Path) -> None:
    certificate, key = Authority().pair().write(tmp_path)
    tls = {"tls_certificate": str(certificate), "tls_key": str(key), "workers": 2}
    async with world(tmp_path, gateway={"listen": "127.0.0.1:0"} | tls) as w:
        assert w.node.gateway.startswith("https://127.0.0.1:")
        await w.execute("orders", "CREATE TABLE t (n INTEGER)")
        first = {worker.pid for worker in w.workers()}
        code, text = await torpor(w, "gateway", "restart")
        assert (code, text) == (0, "2 of 2 workers are new; those before them end what they have begun\n")
        await w.execute("orders", "INSERT INTO t VALUES (1)")
        second = await replaced(w, first)
        assert len(second) == 2
        os.kill(w.node.pid, signal.SIGHUP)
        third = await replaced(w, second)
        assert len(third) == 2
        assert await w.rows("orders", "SELECT n FROM t") == [{"n": 1}]

        status = await answer(w, "status")
        assert status["confinement"] == walls().said
        assert status["tls"]["problem"] == ""
        code, text = await torpor(w, "status")
        assert f"certificate until {status['tls']['ends']}" in text
        certificate.write_text("no certificate")
        await w.until(event("the gateway's certificate was not renewed"))
        code, text = await torpor(w, "status")
        assert f"! gateway.tls_certificate {certificate} holds no certificate in PEM" in text
        assert await w.rows("orders", "SELECT n FROM t") == [{"n": 1}]


async def test_R60_requests_are_logged_where_the_node_s_log_goes_also_by_new_workers(tmp_path: Path) -> None:
    file = tmp_path / "torpor.log"

    async def logged(path: str, count: int) -> list[dict[str, Any]]:
        with trio.fail_after(20):
            while True:  # a request is logged after its answer
                *whole, _ = file.read_text().split("\n")
                lines = [json.loads(line) for line in whole]  # no line stands within another one
                if sum(line.get("path") == path for line in lines) == count:
                    return lines
                await trio.sleep(0.05)

    logging = {"level": "info", "format": "json", "file": str(file), "access": True}
    async with world(tmp_path, logging=logging, gateway={"workers": 2}) as w:
        await w.execute("orders", "CREATE TABLE t (n INTEGER)")
        lines = await logged("/v1/database/exec", 1)
        assert {"request", "database created"} <= {line["event"] for line in lines}
        before = {worker.pid for worker in w.workers()}
        os.kill(w.node.pid, signal.SIGHUP)
        await replaced(w, before)
        for _ in range(20):
            await w.rows("orders", "SELECT n FROM t")
        assert len({line.get("worker") for line in await logged("/v1/database/query", 20)} - {None}) > 1
    assert w.lines == [], "nothing on standard error"


def test_R13_a_wrong_pair_ends_the_start_with_one_line(tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(f"node:\n  data_dir: {tmp_path / 'data'}\ngateway:\n  tls_key: k.pem\n  tls_certificate: c.pem\n")
    for arguments in (["--check"], ["--found"]):
        done = node(config, *arguments)
        assert done.returncode == 2
        wrong = "gateway.tls_certificate: c.pem cannot be read: No such file or directory"
        assert done.stderr == f"torpor: {config}:5: {wrong}\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(landlock.abi() < landlock.LEAST, reason="this kernel has no Landlock")
async def test_F85_a_node_confines_its_rqlited_by_default_and_not_when_it_is_told_so(tmp_path: Path) -> None:
    for confine in ("auto", "off"):
        directory = tmp_path / confine
        directory.mkdir()
        async with world(directory, rqlite={"heartbeat_timeout": "60ms", "confine": confine}) as w:
            await w.execute("orders", "CREATE TABLE t (n INTEGER)")
            (rqlited,) = w.rqliteds()
            status = await trio.Path(f"/proc/{rqlited.pid}/status").read_text()
            assert ("NoNewPrivs:\t1" in status) == (confine == "auto")
