"""Where an instance's files are (R50): ``<data_dir>/<internal name>/<incarnation>/{marker, tls.pem, run.json, rqlite/, tmp/}``.

The laws kept here: a name from outside never becomes a way out of the data directory (F82); a directory is *intact* only
with its own marker and its Raft state, and one that is not never starts by itself (P54, F54); nothing is deleted, it moves
to ``.trash`` first and leaves there after a retention time (F80).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

from attrs import frozen

_PART: Final = re.compile(r"[a-z0-9_-]{1,255}")
_TRASH: Final = ".trash"
_FORMAT: Final = 1


class DirectoryUnusable(Exception):
    """The data directory cannot be used. One line: the cause and what to do (R61)."""


@frozen
class Instance:
    """The files of one incarnation on this node. The ones below ``rqlite`` are rqlited's own."""

    name: str
    incarnation: str
    path: Path

    @property
    def marker(self) -> Path:
        return self.path / "marker"

    @property
    def run(self) -> Path:
        """Which process was started here last; see :mod:`runtime.rqlited_orphans`."""
        return self.path / "run.json"

    @property
    def tls(self) -> Path:
        """The database's TLS identity; see :mod:`runtime.database_tls`."""
        return self.path / "tls.pem"

    @property
    def rqlite(self) -> Path:
        return self.path / "rqlite"

    @property
    def temporary(self) -> Path:
        """Where its rqlited keeps what it needs for a moment; emptied before each start."""
        return self.path / "tmp"

    @property
    def database(self) -> Path:
        return self.rqlite / "db.sqlite"

    @property
    def raft_log(self) -> Path:
        return self.rqlite / "raft.db"

    @property
    def peers(self) -> Path:
        return self.rqlite / "raft" / "peers.json"

    @property
    def wal_empty(self) -> bool:
        """No ``db.sqlite-wal``, or an empty one: half of what makes a stopped database sealed (P34)."""
        try:
            return self.rqlite.joinpath("db.sqlite-wal").stat().st_size == 0
        except FileNotFoundError:
            return True


class Directories:
    """All instances below one data directory. Methods that touch the disk raise OSError as it comes."""

    def __init__(self, data_dir: Path | str) -> None:
        self.data_dir: Final = Path(data_dir).expanduser().absolute()

    def prepare(self) -> None:
        """Make the data directory and prove that it can be written. Raises :class:`DirectoryUnusable`."""
        probe = self.data_dir / f".writable-{os.getpid()}"
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"torpor")
            probe.unlink()
        except OSError as error:
            raise DirectoryUnusable(
                f"the data directory {self.data_dir} cannot be written ({error.strerror or error}): "
                "set node.data_dir to a directory of this user, or mend its owner, mode or disk"
            ) from error

    def instance(self, name: str, incarnation: str) -> Instance:
        """Raises ValueError for anything that could leave the data directory (F82): nothing but [a-z0-9_-] passes here,
        whatever was validated before."""
        for part in (name, incarnation):
            if not _PART.fullmatch(part):
                raise ValueError(f"{part[:64]!r} cannot be the name of a directory")
        return Instance(name, incarnation, self.data_dir / name / incarnation)

    def create(self, name: str, incarnation: str, node_id: str) -> Instance:
        """Make an instance's directory and marker. The node id holds the join stamp: a copy that joined again under a new
        stamp does not match an older marker (P54). The caller owes a :func:`make_durable` before anything is
        acknowledged: rqlited can start meanwhile."""
        place = self.instance(name, incarnation)
        place.rqlite.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": _FORMAT, "incarnation": incarnation, "node_id": node_id})
        write_whole(place.marker, text.encode())
        return place

    def intact(self, place: Instance, node_id: str | None = None) -> bool:
        """Whether a restart may use this directory: its marker names this incarnation (and ``node_id``, if given), and
        there is Raft state. A missing, torn or foreign marker, or a wiped ``rqlite``, is not intact (P54)."""
        try:
            marker: Any = json.loads(place.marker.read_bytes())
            size = place.raft_log.stat().st_size
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return False
        if not isinstance(marker, dict):
            return False
        fields = cast("dict[str, Any]", marker)
        return (
            size > 0
            and fields.get("incarnation") == place.incarnation
            and (node_id is None or fields.get("node_id") == node_id)
        )

    def instances(self) -> Iterator[Instance]:
        """Every directory that has the form of an instance; what else lies there is not ours and not looked at."""
        try:
            names = sorted(os.scandir(self.data_dir), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in names:
            if not _PART.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
                continue
            for below in sorted(os.scandir(entry.path), key=lambda entry: entry.name):
                if _PART.fullmatch(below.name) and below.is_dir(follow_symlinks=False):
                    yield self.instance(entry.name, below.name)

    def to_trash(self, place: Instance) -> Path | None:
        """Move an instance's directory to the trash, under the time of the move (Unix seconds); None when there is none."""
        stamp = int(time.time())
        for n in range(1000):
            # Two levels below the time: name and incarnation in one file name could pass NAME_MAX.
            aim = self.data_dir / _TRASH / f"{stamp}-{n}" / place.name / place.incarnation
            try:
                aim.parent.parent.mkdir(parents=True)
                break
            except FileExistsError:
                continue
        else:
            raise OSError(f"too much trash within one second in {self.data_dir / _TRASH}")
        aim.parent.mkdir()
        try:
            place.path.rename(aim)
        except FileNotFoundError:
            aim.parent.rmdir()
            aim.parent.parent.rmdir()
            return None
        sync_directory(aim.parent)
        try:
            place.path.parent.rmdir()  # the name's directory, if this was its last incarnation
        except OSError:
            sync_directory(place.path.parent)
        return aim

    def sweep_trash(self, retention_s: float) -> int:
        """Delete what was thrown away at least ``retention_s`` seconds ago; gives the number of entries deleted."""
        limit = time.time() - retention_s
        deleted = 0
        try:
            entries = list(os.scandir(self.data_dir / _TRASH))
        except FileNotFoundError:
            return 0
        for entry in entries:
            stamp = entry.name.partition("-")[0]
            if stamp.isdigit() and int(stamp) <= limit:
                shutil.rmtree(entry.path)
                deleted += 1
        return deleted


def write_whole(path: Path, data: bytes, *, durable: bool = False, private: bool = False) -> None:
    """Replace a file as a whole: after a crash of the process there is the old text or the new, never half of one. ``durable``: after a power
    cut, too, and once this has returned it is the new one. ``private``: for this user's eyes alone, from the first byte on."""
    draft = path.with_name(path.name + ".new")
    if private:
        draft.unlink(missing_ok=True)  # its mode would be kept
    with open(draft, "wb", opener=_private if private else None) as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)
    if durable:
        sync_directory(path.parent)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def make_durable(place: Instance) -> None:
    """Force an instance's marker, its TLS identity and the names that lead to them to the disk. Without it a power cut could
    leave acknowledged writes in a directory that may not start, for want of its marker (P54)."""
    for path in (place.marker, place.tls):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for directory in (place.path, place.path.parent, place.path.parent.parent):
        sync_directory(directory)


def sync_directory(path: Path) -> None:
    """Force the names in it to the disk. Raises OSError."""
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
