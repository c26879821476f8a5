"""The raw floor for the benchmark: the same rqlited, with the same timers, started by hand in the fastest way known, with
nothing of ours around it: no marker, no record, no supervision. What the node needs beyond this is what it costs.

Fastest known: spawn (vfork), read stderr until rqlited says that a leader is known, then ask at once, on a bare socket, and
again without a pause until the answer is right. Three members: the first elects itself, the others try to join it as often as
ours do. Nothing is encrypted here; ours is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import trio
from attrs import define

from runtime.directories import Instance
from runtime.ports import Ports
from runtime.rqlited_binary import Binary
from runtime.rqlited_start import StartSpec, Timers, arguments, environment

_AGAIN: Final = 0.001
_SAID: Final = (b"is now Leader", b"HTTP API available")
_WRITE: Final = json.dumps(["CREATE TABLE IF NOT EXISTS floor (id INTEGER PRIMARY KEY, value TEXT)"]).encode()


class FloorFailed(Exception):
    """The raw rqlited did not come up within the deadline."""


@define
class Floor:
    """Raw processes of one database: their directory, their ports, and they themselves while they run."""

    binary: Binary
    directory: Path
    timers: Timers
    addresses: tuple[tuple[int, int], ...]
    processes: tuple[subprocess.Popen[bytes], ...] = ()


async def floor_create(
    binary: Binary, directory: Path, timers: Timers, ports: Ports, *, n: int = 1, deadline: float = 30.0
) -> tuple[Floor, float]:
    """Found a cluster of ``n`` in ``directory`` (made anew); gives it and the seconds until the first acknowledged write, which
    follows a strong read on each member: a joiner answers one when it is a voter."""
    _empty(directory)
    floor = Floor(binary, directory, timers, tuple(ports.reserve(-1 - member) for member in range(n)))
    start = time.perf_counter()
    await _start(floor, found=True, deadline=deadline)
    await _until(floor, 0, b"POST /db/execute", _WRITE, b"", start + deadline)
    return floor, time.perf_counter() - start


async def floor_wake(floor: Floor, *, deadline: float = 30.0) -> float:
    """Restart a stopped floor on its data: the seconds until its first member gave a strong answer. Returns when each has."""
    start = time.perf_counter()
    return await _start(floor, found=False, deadline=deadline) - start


async def floor_stop(floor: Floor) -> float:
    """SIGTERM to all; the seconds until all have ended."""
    start = time.perf_counter()
    for process in floor.processes:
        process.terminate()
    for process in floor.processes:
        await trio.to_thread.run_sync(process.wait)
        assert process.stderr is not None
        process.stderr.close()
    floor.processes = ()
    return time.perf_counter() - start


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


async def _start(floor: Floor, *, found: bool, deadline: float) -> float:
    """Returns when each member gave a strong answer; gives when the first one did."""
    assert not floor.processes, "the floor is already up"
    until = time.perf_counter() + deadline
    answered = [0.0] * len(floor.addresses)

    async def follow(member: int, process: subprocess.Popen[bytes]) -> None:
        await _member(floor, member, process, until)
        answered[member] = time.perf_counter()

    try:
        async with trio.open_nursery() as nursery:
            for member in range(len(floor.addresses)):
                process = _spawn(floor, member, found=found)
                floor.processes += (process,)
                nursery.start_soon(follow, member, process)
    except BaseException:
        for process in floor.processes:
            process.kill()
        with trio.CancelScope(shield=True):
            await floor_stop(floor)
        raise
    return answered[0]


def _spawn(floor: Floor, member: int, *, found: bool) -> subprocess.Popen[bytes]:
    http, raft = floor.addresses[member]
    spec = StartSpec(
        "floor",
        "floor",
        0,
        f"floor-{member}",
        http,
        raft,
        mode="join" if found and member else "restart",
        join=(f"127.0.0.1:{floor.addresses[0][1]}",) if found and member else (),
    )
    directory = Instance("floor", "floor", floor.directory / str(member)).rqlite
    directory.parent.mkdir(exist_ok=True)
    return subprocess.Popen(
        arguments(floor.binary, spec, floor.timers, directory, None),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment({}),
        start_new_session=True,
    )


async def _member(floor: Floor, member: int, process: subprocess.Popen[bytes], until: float) -> None:
    assert process.stderr is not None
    # A copy of the descriptor: trio closes its own. The few lines after these fit in the pipe.
    async with trio.lowlevel.FdStream(os.dup(process.stderr.fileno())) as stderr:
        heard = b""
        with trio.move_on_after(until - time.perf_counter()):
            while not all(words in heard for words in _SAID):
                chunk = await stderr.receive_some(65536)
                if not chunk:
                    raise FloorFailed(heard[-500:].decode(errors="replace"))
                heard += chunk
    target = b"GET /db/query?level=strong&q=SELECT%201"
    await _until(floor, member, target, b"", b'"values":[[1]]', until)


async def _until(floor: Floor, member: int, target: bytes, body: bytes, wanted: bytes, until: float) -> None:
    """Ask until the answer is a 200 without an error that holds ``wanted``."""
    head = b"%s HTTP/1.1\r\nHost: floor\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    request = head % (target, len(body)) + body
    while time.perf_counter() < until:
        with trio.socket.socket() as sock:
            try:
                await sock.connect(("127.0.0.1", floor.addresses[member][0]))
                await sock.send(request)
                reply = await sock.recv(65536)
                if reply.startswith(b"HTTP/1.1 200") and b'"error"' not in reply and wanted in reply:
                    return
            except OSError:
                pass
        await trio.sleep(_AGAIN)
    raise FloorFailed(f"member {member} did not answer within the deadline")
