"""What a kill or a power cut in the middle of a snapshot leaves, mended before the next start. The law kept here is F46 (a replica whose process died
comes back by itself).

rqlited 8 and 9 write a snapshot's ``meta.json`` durably, bring the data in place, and then write the file once more where it stands, for the size
alone. Killed between the two halves of that, it leaves an empty file, and never starts again: "failed to read meta for snapshot". Nothing is lost
by then. The snapshot before stays until this one is finished, and so does Raft's log of everything since, so one of two things is true:

- It is the first one. The log has all that it holds: set aside, it is made again.
- There is one before, and its data went into this one's. Index and term stand in its name; the voters are those of the snapshot before, as no
  operation changes them after a birth. An address may have changed since: the others tell it, or find this member by its own.

rqlited 10 has another layout, and none of this.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import structlog

from runtime.directories import Instance, sync_directory, write_whole

SNAPSHOTS: Final = "rsnapshots"
META: Final = "meta.json"
ASIDE: Final = "torn"
"""In the instance's directory, beside rqlited's own: the last snapshot that was set aside."""


log = structlog.stdlib.get_logger("node")


def mend(place: Instance) -> None:
    """Before a start. Raises OSError (disk)."""
    if told := _mend(place):
        log.warning("snapshot mended", database=place.path.parent.name, incarnation=place.incarnation, because=told)


def _mend(place: Instance) -> str:
    """What was mended; empty when there was nothing to mend, or nothing that can be."""
    found = [path for path in place.rqlite.joinpath(SNAPSHOTS).glob("*-*-*") if path.joinpath(META).exists()]
    whole = {path: meta for path in found if (meta := _read(path)) is not None}
    torn = [path for path in found if path not in whole]
    if len(torn) != 1 or (order := _order(torn[0])) is None:
        return ""  # more than one was never seen to happen: somebody has to look
    (path,) = torn
    if not whole:
        _set_aside(place, path)
        return f"snapshot {path.name} was cut off while it was made: set aside, the log has what it holds"
    before = max(whole, key=lambda one: (whole[one]["Term"], whole[one]["Index"]))
    if (whole[before]["Term"], whole[before]["Index"]) > order:
        return ""
    term, index = order
    meta = whole[before] | {"ID": path.name, "Term": term, "Index": index}
    # Durably: with the next snapshot the one before goes, and then nothing could be mended.
    write_whole(path / META, json.dumps(meta).encode(), durable=True)
    return f"snapshot {path.name} was cut off while it was made: its description is that of {before.name}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        meta = json.loads(path.joinpath(META).read_bytes())
        return meta if isinstance(meta["Term"], int) and isinstance(meta["Index"], int) else None
    except (ValueError, TypeError, KeyError):
        return None


def _order(path: Path) -> tuple[int, int] | None:
    """Term and index: ``<term>-<index>-<milliseconds>``."""
    term, index, _made = path.name.split("-")
    return (int(term), int(index)) if term.isdecimal() and index.isdecimal() else None


def _set_aside(place: Instance, path: Path) -> None:
    aside = place.path / ASIDE
    if aside.exists():
        shutil.rmtree(aside)
    aside.mkdir(mode=0o700)
    for part in path.parent.glob(f"{path.name}.*"):
        part.rename(aside / part.name)
    path.rename(aside / path.name)  # last: until then this is done again
    sync_directory(path.parent)
