"""Why an rqlited ended, in one of eight causes (R61): what the caller does next depends on it, so each is read from the
exit code, from what we had asked for, and from rqlited's own last words, in that order.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from typing import Final, Literal

from attrs import frozen

Cause = Literal["stopped", "killed", "port_taken", "binary_missing", "data_missing", "key_missing", "disk", "crashed"]

DETAIL: Final = 500
_LAST_WORDS: Final = 3
_PORT: Final = re.compile(r"address already in use")
_DISK: Final = re.compile(
    r"permission denied|no space left on device|read-only file system|not a directory|input/output error|disk I/O error"
    r"|database or disk is full|disk quota exceeded|failed to open store: mkdir",
    re.IGNORECASE,
)


@frozen
class Exit:
    """The end of a run. ``code``: exit status, negative the signal that ended it, None when nothing was ever started.
    ``cause``: ``stopped`` is exit 0 after our SIGTERM; ``killed`` is SIGKILL, ours or another's, or a SIGTERM too early to be
    heard; ``key_missing``: no member gave the database's TLS identity. ``detail``: what was last said on stderr, bounded. ``wal_empty``: half of a seal (P34)."""

    run: int
    code: int | None
    cause: Cause
    detail: str
    wal_empty: bool


def cause_of(code: int, said: Sequence[str], *, terminated: bool, killed: bool) -> tuple[Cause, str]:
    """The cause and the detail of an exit. ``said``: the last lines of stderr, ``terminated`` and ``killed``: which signals
    we had sent."""
    for line in reversed(said) if code > 0 else ():
        if _PORT.search(line):
            return "port_taken", line[:DETAIL]
        if _DISK.search(line):
            return "disk", line[:DETAIL]
    words = " | ".join(said[-_LAST_WORDS:])[-DETAIL:]
    if code == 0:
        return ("stopped", "") if terminated else ("crashed", f"ended without being asked: {words}"[:DETAIL])
    if code == -signal.SIGKILL:
        if killed:
            return "killed", "by this node"
        return "killed", "from outside: out of memory, or by an operator"
    if code == -signal.SIGTERM and terminated:
        return "killed", "by SIGTERM before it could listen to it"
    kind = f"signal {-code}" if code < 0 else f"exit status {code}"
    return "crashed", f"{kind}: {words}"[:DETAIL]
