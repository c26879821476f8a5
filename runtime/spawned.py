"""A node in a process of its own, as the demonstration, the benchmark and the tests start it: exactly as an operator would,
by ``python -m runtime.node`` and a configuration file. Law: whoever starts one ends it, whatever happens in between.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import trio
from attrs import define, frozen

from runtime.life import STATUS
from runtime.ports import Range, can_bind

START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 10.0
"""Seconds: twice what a node promises, before it is killed."""
_BLOCK: Final = 64
_LOWEST: Final = 15_000
_HIGHEST: Final = 32_000
"""Port blocks are taken here: below the ports that Linux gives to outgoing connections."""


class NodeDidNotStart(Exception):
    """The node's exit code and what it said."""


@frozen
class PortBlock:
    """Two ranges of ports for the databases of one node, first and last of each."""

    http: Range
    raft: Range


def port_blocks(count: int, http: int = _BLOCK, raft: int = _BLOCK) -> list[PortBlock]:
    """Blocks for ``count`` nodes of one machine, of ``http`` and ``raft`` ports each, most of which are free now and which no two of them
    share: a Raft port stays with its sleeping database, so nobody else may find it free. What is taken nevertheless, each node finds out by
    its own probes. Raises :class:`NodeDidNotStart`."""
    size = count * (http + raft)
    for _ in range(100 if _LOWEST + size <= _HIGHEST else 0):
        first = random.randrange(_LOWEST, _HIGHEST - size + 1)
        if all(can_bind("127.0.0.1", port) for port in range(first, first + size, 8)):
            firsts = range(first, first + size, http + raft)
            return [PortBlock((one, one + http - 1), (one + http, one + http + raft - 1)) for one in firsts]
    raise NodeDidNotStart(f"no {size} free ports in a row between {_LOWEST} and {_HIGHEST}")


def sections(
    directory: Path,
    keys: Mapping[str, str],
    *,
    hibernation_timeout: str = "60s",
    log: Path | None = None,
    block: PortBlock | None = None,
) -> dict[str, dict[str, Any]]:
    """Settings of a node that is alone, on free ports, with its data in ``directory/data``. ``keys``: SHA-256 of an API key
    → application."""
    block = block or port_blocks(1)[0]
    return {
        "node": {"data_dir": str(directory / "data"), "listen_addresses": ["/ip4/127.0.0.1/tcp/0"]},
        "database": {
            "replication_factor": 1,
            "hibernation_timeout": hibernation_timeout,
            "max_databases": 32,
            "port_range_http_start": block.http[0],
            "port_range_http_end": block.http[1],
            "port_range_raft_start": block.raft[0],
            "port_range_raft_end": block.raft[1],
        },
        "gateway": {"listen": "127.0.0.1:0"},
        "security": {"api_keys": [{"application": app, "sha256": digest} for digest, app in keys.items()]},
        "logging": {"file": str(log)} if log is not None else {},
    }


def write_settings(path: Path, settings: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write a configuration file; each value is JSON, which YAML contains."""
    lines: list[str] = []
    for section, values in settings.items():
        lines += [f"{section}:", *(f"  {key}: {json.dumps(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def children(pid: int, program: str) -> list[psutil.Process]:
    """Children of a process, zombies included, that ``program`` names. One that ends between being listed and being asked for its
    name is gone: whoever waits for an end looks at just that moment. Raises psutil.NoSuchProcess when ``pid`` itself is gone."""
    found: list[psutil.Process] = []
    for child in psutil.Process(pid).children():
        try:
            if program in child.name() or program in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


@define(eq=False)
class SpawnedNode:
    """``gateway``: ``http://host:port``. ``data``: its data directory."""

    process: trio.Process
    gateway: str
    data: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def rqliteds(self) -> list[psutil.Process]:
        """The node's rqlited processes, those included that it has not reaped yet."""
        return children(self.pid, "rqlited")

    def status(self) -> dict[str, Any]:
        """What the node says of itself while it serves; empty when it was stopped."""
        try:
            return json.loads((self.data / STATUS).read_bytes())
        except FileNotFoundError:
            return {}

    async def stop(self) -> int:
        """SIGTERM; gives the exit code. A node that does not end within :data:`STOP_TIMEOUT` is killed (then: -9)."""
        self.process.terminate()
        with trio.move_on_after(STOP_TIMEOUT):
            return await self.process.wait()
        self.process.kill()
        return await self.process.wait()


@asynccontextmanager
async def spawned(
    config: Path, *arguments: str, data: Path, stderr: int | None = subprocess.DEVNULL
) -> AsyncGenerator[SpawnedNode]:
    """A node that serves, until the block ends. Raises :class:`NodeDidNotStart`. ``stderr``: a descriptor, None for ours."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "runtime.node", "--config", str(config), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=_environment(),
        start_new_session=True,  # Ctrl-C is for the one who started it
    )
    node = SpawnedNode(process, "", data)
    try:
        node.gateway = await _serving(process)
        yield node
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                await node.stop()
            assert process.stdout is not None
            await process.stdout.aclose()


async def _serving(process: trio.Process) -> str:
    """The address in the one line that a node prints once it serves."""
    assert process.stdout is not None
    said = b""
    with trio.move_on_after(START_TIMEOUT):
        while chunk := await process.stdout.receive_some():
            said += chunk
            words = said.decode(errors="replace").split()
            if b"\n" in said and "serving" in words:
                return words[words.index("serving") + 1]
        raise NodeDidNotStart(f"the node ended with exit code {await process.wait()}")
    raise NodeDidNotStart(f"the node does not serve after {START_TIMEOUT:g} s")


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
