"""Process identity. The law kept here is F91: a process is named by its pid *and* its start time; a zombie is not alive,
and a recycled pid is not ours, so no signal ever reaches a stranger.

On Linux the start time is the kernel's own tick count (``/proc/<pid>/stat`` field 22) with the id of the boot: an exact
integer that no clock change moves, where a wall-clock start time drifts when the clock is set. Elsewhere psutil's is used.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

import psutil
import trio
from attrs import frozen

_LINUX: Final = sys.platform.startswith("linux")
_GONE_POLL: Final = 0.005
"""Seconds between looks at an orphan that was told to stop: it is not our child, so nothing announces its end."""


@frozen
class Identity:
    """One process, for as long as the machine lives: ``started`` is comparable text, equal only for the same process."""

    pid: int
    started: str


@frozen
class Resources:
    """What a process uses: resident memory in bytes, CPU time in seconds since its start."""

    rss: int
    cpu: float


def bound_memory(pid: int, most: int) -> None:
    """No more than ``most`` bytes of data for a process of ours (Linux; elsewhere nothing bounds it). Then its allocations fail: SQLite says
    *out of memory* of the one statement, Go ends the one process, and the other databases of the machine keep theirs. A process that
    has ended already is fine."""
    if _LINUX:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"


def identity(pid: int) -> Identity | None:
    """The identity of a living process; None when there is none, or only its zombie."""
    if pid <= 0:
        return None
    if _LINUX:
        try:
            # The command's name is in brackets and may hold anything, brackets and blanks included: count from the last one.
            stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        if stat[0] in (b"Z", b"X", b"x"):
            return None
        return Identity(pid, f"{_boot()}:{int(stat[19])}")
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Identity(pid, f"{process.create_time():.2f}")
    except psutil.Error:
        return None


def alive(who: Identity) -> bool:
    """Whether this very process still runs."""
    return identity(who.pid) == who


def command(pid: int) -> tuple[str, ...]:
    """The argument vector of a process, empty when it is gone, a zombie or not ours to see."""
    try:
        return tuple(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ()


def find(argv0: str) -> tuple[tuple[Identity, tuple[str, ...]], ...]:
    """All living processes of this user that were started as ``argv0``, each with its argument vector."""
    found: list[tuple[Identity, tuple[str, ...]]] = []
    for pid in psutil.pids():
        argv = command(pid)
        if argv and argv[0] == argv0 and (who := identity(pid)) is not None:
            found.append((who, argv))
    return tuple(found)


def send(who: Identity, number: signal.Signals) -> bool:
    """Send a signal, unless the process is gone or its pid is another's by now. Tells whether it was sent."""
    if not alive(who):
        return False
    try:
        os.kill(who.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def resources(pid: int) -> Resources | None:
    """What a process uses now, None when it is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Resources(process.memory_info().rss, times.user + times.system)
    except psutil.Error:
        return None


async def stop_all(those: Iterable[Identity], *, terminate_for: float, kill_for: float = 5.0) -> tuple[Identity, ...]:
    """SIGTERM all at once, SIGKILL those that are left after ``terminate_for`` seconds, and wait until they are gone.
    For processes that are not children of this one. Gives those that outlive even SIGKILL by ``kill_for`` seconds (a disk
    that hangs): the caller must not start on their directories."""
    left = tuple(those)
    for number, patience in ((signal.SIGTERM, terminate_for), (signal.SIGKILL, kill_for)):
        for who in left:
            send(who, number)
        left = await _gone(left, patience)
    return left


async def _gone(those: tuple[Identity, ...], patience: float) -> tuple[Identity, ...]:
    deadline = trio.current_time() + (patience if math.isfinite(patience) else 3600.0)
    left = tuple(who for who in those if alive(who))
    while left and trio.current_time() < deadline:
        await trio.sleep(_GONE_POLL)
        left = tuple(who for who in left if alive(who))
    return left
