"""The rqlited processes that an earlier node process left behind (F61). The laws kept here: one rqlited for a directory,
ever (F45); only a process whose pid and start time and program are those on record is stopped (F91).

``run.json`` is written twice: an intent before the spawn and the process right after it. A node that is killed between
the two leaves an intent, and then the process is found by its command line, which ends in the directory. No fsync: the
record only has to outlive this process, and what makes it vanish, the end of the machine, ends the orphans too.
"""

from __future__ import annotations

import json
from typing import Any, Final, cast

from attrs import frozen

from runtime import processes
from runtime.directories import Directories, Instance, write_whole
from runtime.processes import Identity

TERMINATE_FOR: Final = 5.0
"""Seconds that an orphan has after SIGTERM: more than any clean stop measured, less than a start may wait."""


@frozen
class RunRecord:
    """``identity`` None: the intent to spawn."""

    run: int
    executable: str
    identity: Identity | None


@frozen
class Orphan:
    """One process found alive. ``stopped`` false: it outlived SIGKILL, its directory must not be used."""

    name: str
    incarnation: str
    pid: int
    stopped: bool


def record(place: Instance, run: int, executable: str, identity: Identity | None) -> None:
    """Write ``run.json``: the intent (``identity`` None), then the process."""
    value = {
        "run": run,
        "executable": executable,
        "pid": identity.pid if identity else 0,
        "started": identity.started if identity else "",
    }
    write_whole(place.run, json.dumps(value).encode())


def erase(place: Instance) -> None:
    """The process was reaped: nothing of ours runs here."""
    place.run.unlink(missing_ok=True)


def recorded(place: Instance) -> RunRecord | None:
    """The record of a directory; None when there is none, or none that can be read."""
    try:
        value: Any = json.loads(place.run.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    try:
        pid, started = int(fields["pid"]), str(fields["started"])
        return RunRecord(int(fields["run"]), str(fields["executable"]), Identity(pid, started) if pid > 0 else None)
    except (KeyError, TypeError, ValueError):
        return None


def living(place: Instance) -> tuple[Identity, ...]:
    """The rqlited processes that run on this directory by its record; empty for a zombie and for a recycled pid."""
    known = recorded(place)
    if known is None:
        return ()
    if known.identity is None:
        return tuple(who for who, argv in processes.find(known.executable) if argv[-1] == str(place.rqlite))
    if not processes.alive(known.identity):
        return ()
    argv = processes.command(known.identity.pid)
    # pid and start time are proof enough of a process that was ours; that it is (still) this program on this directory is
    # a second lock before a signal is sent.
    return (known.identity,) if argv[:1] == (known.executable,) and argv[-1:] == (str(place.rqlite),) else ()


async def sweep(directories: Directories, terminate_for: float = TERMINATE_FOR) -> tuple[Orphan, ...]:
    """Stop every recorded process that still lives, all at once, and forget the records. For the start of a node, when it
    runs nothing itself yet. Gives what was found."""
    found = [(place, who) for place in directories.instances() for who in living(place)]
    left = await processes.stop_all((who for _place, who in found), terminate_for=terminate_for)
    unusable = {place.path for place, who in found if who in left}
    for place in directories.instances():
        if place.path not in unusable:
            erase(place)
    return tuple(Orphan(place.name, place.incarnation, who.pid, who not in left) for place, who in found)
