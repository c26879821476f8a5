"""One worker's process, as the node has it: started with its sockets and nothing else, ended for certain."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio
from attrs import define, field

QUEUE: Final = 10_000
"""Frames that may wait for one worker."""


@define(eq=False)
class WorkerProcess:
    """``heard``: when, in trio's time. ``joined``: it serves."""

    number: int
    process: trio.Process
    stream: trio.SocketStream
    outgoing: trio.MemorySendChannel[bytes]
    pending: trio.MemoryReceiveChannel[bytes]
    heard: float
    joined: bool = False
    closing: dict[str, tuple[int, float]] = field(factory=dict[str, tuple[int, float]])
    """Incarnation → the generation under which its sealed copy was closed, and when; until it has no reader any more."""


async def start(number: int, sockets: Mapping[str, socket.socket], stderr: int | None) -> WorkerProcess:
    """Start a worker's process. It inherits ``sockets``, each by the name of its option, ``stderr`` (None: ours), and nothing else; its session
    is its own, so that Ctrl-C reaches the node alone."""
    ours, theirs = socket.socketpair()
    try:
        given = {"channel": theirs, **sockets}
        fds = [each.fileno() for each in given.values()]
        command = [sys.executable, "-m", "runtime.gateway.worker"]
        for name, fd in zip(given, fds, strict=True):
            command += [f"--{name}", str(fd)]
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=fds,
            start_new_session=True,
            env=_environment(),
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    outgoing, pending = trio.open_memory_channel[bytes](QUEUE)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    return WorkerProcess(number, process, stream, outgoing, pending, trio.current_time())


def _environment() -> dict[str, str]:
    """Ours, with the place from which this file was imported first: a worker is of its node's release."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


async def reap(process: trio.Process, deadline_s: float) -> None:
    """SIGTERM, SIGKILL after the deadline; returns when the process was waited for."""
    if process.returncode is None:
        process.terminate()
        with trio.move_on_after(deadline_s):
            await process.wait()
        process.kill()
        await process.wait()
