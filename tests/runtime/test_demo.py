"""``make run``: the walk holds, what it leaves for tools is there while it is up, and nothing is left after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
import trio

pytestmark = pytest.mark.real

REPOSITORY = Path(__file__).resolve().parents[2]


def leftovers(directory: Path) -> list[str]:
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            text = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(directory) in text and process.pid != os.getpid():
            found.append(text)
    return found


async def demo(directory: Path, **environment: str) -> trio.Process:
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "runtime.demo", "--dir", str(directory)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
        start_new_session=True,
    )


async def said(process: trio.Process, until: str = "") -> str:
    assert process.stdout is not None
    text = ""
    with trio.fail_after(90):
        async for chunk in process.stdout:
            text += chunk.decode()
            if until and until in text:
                break
    return text


async def test_once_walks_and_leaves_nothing_running(tmp_path: Path) -> None:
    process = await demo(tmp_path / "run", ONCE="1")
    text = await said(process)
    assert await process.wait() == 0, text
    for step in ("first access creates", "insert", "query", "asleep", "awake with the next query"):
        assert step in text
    assert "no process, no socket, no open file" in text
    assert leftovers(tmp_path) == []


async def test_it_stays_up_for_tools_until_ctrl_c(tmp_path: Path) -> None:
    process = await demo(tmp_path / "run", ONCE="")
    text = await said(process, until="Ctrl-C stops them")
    path = tmp_path / "run" / "cluster.json"
    assert path.stat().st_mode & 0o777 == 0o600
    cluster = json.loads(path.read_text())
    assert all(psutil.pid_exists(pid) for pid in cluster["pids"])
    assert f"{cluster['gateways'][1]}/v1/database/query" in text  # the curl commands
    async with httpx.AsyncClient(base_url=cluster["gateways"][0], verify=False) as client:  # plain HTTP
        client.headers["Authorization"] = f"Bearer {cluster['key']}"
        reply = await client.get("/v1/database/list")
        assert reply.json() == {"databases": [cluster["database"]]}
    process.send_signal(signal.SIGINT)
    text += await said(process)
    assert await process.wait() == 0, text
    assert leftovers(tmp_path) == []


async def test_ctrl_c_during_the_walk_leaves_nothing(tmp_path: Path) -> None:
    process = await demo(tmp_path / "run")
    await said(process, until="first access creates")
    process.send_signal(signal.SIGINT)
    text = await said(process)
    assert await process.wait() == 1, text
    assert leftovers(tmp_path) == []


async def test_R61_a_missing_rqlited_is_one_line(tmp_path: Path) -> None:
    process = await demo(tmp_path / "run", TORPOR_RQLITED="/nowhere/rqlited")
    text = await said(process)
    assert await process.wait() == 2
    assert text.startswith("torpor: ")
    assert text.count("\n") == 1
    assert "/nowhere/rqlited" in text
