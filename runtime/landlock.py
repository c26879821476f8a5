"""Landlock: what a process and its children may open, decided by itself before they begin, and never taken back (Linux 5.19 and later). The laws
kept here: the confinement belongs to one thread, which lives for one spawn, so that the child has it and nothing else does; it is there
before the child's first instruction, or the child is not started.

Three system calls without wrappers in the C library, by ``ctypes``: the one package for them is a pre-release. See ``man 7 landlock``; numbers
are alike on all architectures, structures grow with the version (ABI) of the kernel's interface.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
import subprocess
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import trio
from attrs import frozen

LEAST: Final = 2
"""ABI 1 forbids every rename between directories, which rqlited needs for its snapshots."""

_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION: Final = 1  # flag of _CREATE
_BENEATH, _PORT = 1, 2  # kinds of rules
_NO_NEW_PRIVS: Final = 38  # prctl

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE: Final = 1 << 4 | 1 << 5  # directories, files
_MAKE: Final = 1 << 7 | 1 << 8  # directories, files; no devices, sockets, pipes, links
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_BIND: Final = 1 << 0
_SCOPES: Final = 1 << 0 | 1 << 1  # abstract sockets, signals

READ: Final = _READ_FILE | _READ_DIR
RUN: Final = READ | _EXECUTE
DEVICE: Final = _READ_FILE | _WRITE_FILE
OWN: Final = READ | _WRITE_FILE | _REMOVE | _MAKE | _REFER | _TRUNCATE

_libc: Final = ctypes.CDLL(None, use_errno=True)


@frozen
class Confinement:
    """What is left to the child. ``files``: each path with what it may do there and below; paths that are not there are left out.
    ``ports``: the TCP ports that it may listen on, where the kernel can tell them apart (ABI 4); it may connect to any."""

    files: tuple[tuple[Path, int], ...]
    ports: tuple[int, ...] = ()


def abi() -> int:
    """The kernel's version of the interface, 0 when there is none (not built in, or switched off)."""
    return max(0, _libc.syscall(ctypes.c_long(_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION)))


async def open_process(confinement: Confinement, command: Sequence[str], **options: Any) -> trio.Process:
    """:func:`trio.lowlevel.open_process` of a process that is confined. ``options``: of :class:`subprocess.Popen`, without pipes to be
    made. Not cancellable. Raises OSError, when the kernel refuses the confinement too."""
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()
    outcome: list[subprocess.Popen[bytes] | BaseException] = []

    def work() -> None:
        try:
            _restrict(confinement)
            outcome.append(cast("subprocess.Popen[bytes]", subprocess.Popen(command, **options)))
        except BaseException as error:  # noqa: BLE001  raised again below, in the task that asked
            outcome.append(error)
        finally:
            token.run_sync_soon(done.set)

    # No thread of trio's: those are used again, and would have the confinement for ever.
    thread = threading.Thread(target=work, name="spawn")
    with trio.CancelScope(shield=True):
        thread.start()
        await done.wait()
    thread.join()
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    # What open_process does with its Popen, which it makes in a thread of trio's.
    return trio.Process._create(result, None, None, None)  # pyright: ignore[reportPrivateUsage]


def runs(confinement: Confinement, command: Sequence[str], within: float) -> bool:
    """Whether a program that ends by itself does so well under a confinement. ``within``: seconds."""
    ended: list[int] = []

    def work() -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # as good as a program that fails
            _restrict(confinement)
            ran = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=within,
                check=False,
            )
            ended.append(ran.returncode)

    thread = threading.Thread(target=work, name="spawn")
    thread.start()
    thread.join()
    return ended == [0]


def _restrict(confinement: Confinement) -> None:
    """The calling thread, and what it will start, for ever."""
    version = abi()
    handled = _all_of(version)
    attributes = struct.pack("=QQQ", handled, _BIND if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    attributes = attributes[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _call(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    try:
        for path, may in confinement.files:
            _allow(ruleset, path, may & handled)
        for port in confinement.ports if version >= 4 else ():
            _call(
                _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PORT), struct.pack("=QQ", _BIND, port), ctypes.c_uint(0)
            )
        if _libc.prctl(_NO_NEW_PRIVS, *(ctypes.c_ulong(n) for n in (1, 0, 0, 0))):
            _fail()
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def _all_of(version: int) -> int:
    """Every right to files that this version knows: what is handled and not granted is denied."""
    return (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1


def _allow(ruleset: int, path: Path, may: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            may &= _OF_FILES
        rule = struct.pack("=Qi", may, fd)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_BENEATH), rule, ctypes.c_uint(0))
    finally:
        os.close(fd)


def _call(number: int, *arguments: bytes | ctypes.c_int | ctypes.c_uint | ctypes.c_size_t) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        _fail()
    return result


def _fail() -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"Landlock: {os.strerror(number)}")


def all_with(may: int, paths: Iterable[str]) -> tuple[tuple[Path, int], ...]:
    """Each of these paths, with the same right."""
    return tuple((Path(path), may) for path in paths)
