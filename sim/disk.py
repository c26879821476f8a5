"""A machine's disk: the node's durable store, and each incarnation's directory. The law kept here is the difference between
*written* and *synced*: a crash of a process keeps what the system had taken; a crash of the machine keeps everything synced
and some prefix of the rest, and which one is chance.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from attrs import Factory, define, evolve, frozen

from protocol.effects import Write
from sim.raft import Group


@define(eq=False)
class Directory:
    """``data/<internal>/<incarnation>``: marker, Raft state and database of one incarnation on one machine.

    The log is modelled as what it carries: ``values`` are the rows of the committed and synced entries, in log order, each
    a unique number; entries without a row (elections, strong reads) count in ``index`` alone."""

    internal: str
    incarnation: str
    marker: str | None = None
    """The node id that the marker names, or None: no marker."""
    raft: bool = False
    """Raft state is there."""
    group: Group | None = None
    """The group that the Raft state is of."""
    values: list[int] = Factory(list[int])
    index: int = 0
    unsynced: list[int] = Factory(list[int])
    """Rows appended to the log whose fsync has not returned: nobody was told of them; a crash may keep any prefix."""
    snapshot: int = 0
    """Rows in the last Raft snapshot: what a restarted process knows before it has replayed the log."""
    folded: int = 0
    """Rows that ``db.sqlite`` alone holds, as an immutable reader sees it."""
    dirty: bool = False
    """Something was written after the last snapshot: the WAL need not be folded at exit."""
    opens: int = 0
    """How often an rqlited has opened it: what whoever reads it beside that can see of it."""
    pid: int = 0
    """The rqlited that has this directory open, or 0."""

    @property
    def wal_empty(self) -> bool:
        return self.folded == len(self.values)

    def copy(self) -> Directory:
        """What a snapshot of its disk holds, at this very moment; the lists are its own."""
        return evolve(self, values=self.values.copy(), unsynced=self.unsynced.copy())

    def crash(self, chance: Random) -> None:
        """Whoever had it open is gone: of what was not synced any prefix survives, the synced rest does for certain."""
        if self.unsynced:
            kept = self.unsynced[: int(chance.random() * (len(self.unsynced) + 1))]
            self.values.extend(kept)
            self.index += len(kept)
            self.unsynced = []
        self.pid = 0


@frozen
class Copy:
    """What a disk held at one moment: somebody's backup, or a snapshot of the machine."""

    rows: dict[str, bytes]
    directories: dict[str, Directory]


class Disk:
    """One machine's disk. Survives every crash; ``wipe`` is a new one."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.on_durable: Callable[[tuple[Write, ...]], None] = _unwatched
        """Told of each transaction once it can no longer be lost."""
        self.rows: dict[str, bytes] = {}
        self._unsynced: list[tuple[Write, ...]] = []
        self.directories: dict[str, Directory] = {}
        self.trash: list[Directory] = []
        self.slowness = 1
        """Every fsync takes this many times as long."""
        self.full = False

    # The node's store.

    def write(self, batch: tuple[Write, ...]) -> None:
        """Begin to make one step's rows durable, all or none of them."""
        self._unsynced.append(batch)

    def sync(self) -> None:
        """The fsync of everything written so far has returned."""
        for batch in self._unsynced:
            self._apply(batch)
        self._unsynced.clear()

    def lose_unsynced(self) -> None:
        """The store's process, or the machine, ended within a commit: whole transactions survive, in order, up to some point."""
        kept = int(self._chance.random() * (len(self._unsynced) + 1)) if self._unsynced else 0
        for batch in self._unsynced[:kept]:
            self._apply(batch)
        self._unsynced.clear()

    def _apply(self, batch: tuple[Write, ...]) -> None:
        self.on_durable(batch)
        for write in batch:
            if write.value is None:
                self.rows.pop(write.key, None)
            else:
                self.rows[write.key] = write.value

    # Directories.

    def directory(self, incarnation: str) -> Directory | None:
        return self.directories.get(incarnation)

    def make(self, internal: str, incarnation: str) -> Directory:
        """The incarnation's directory, made when it is not there."""
        found = self.directories.get(incarnation)
        if found is None:
            found = self.directories[incarnation] = Directory(internal, incarnation)
        return found

    def throw_away(self, incarnation: str) -> None:
        """Move the directory to the trash (F80: nothing is ever removed at once)."""
        found = self.directories.pop(incarnation, None)
        if found is not None:
            self.trash.append(found)

    def wipe(self) -> None:
        """The disk is lost; an empty one takes its place."""
        assert all(not directory.pid for directory in self.directories.values()), "a wiped disk has no readers"
        self.rows = {}
        self._unsynced.clear()
        self.directories = {}
        self.trash = []

    def copy(self) -> Copy:
        """A snapshot of the whole disk, as a crash at this moment would leave it: what is synced."""
        return Copy(self.rows.copy(), {name: one.copy() for name, one in self.directories.items()})

    def restore(self, copy: Copy, whole: bool) -> None:
        """Put the node's store back to an earlier copy; ``whole``: and the replicas' directories with it."""
        assert all(not directory.pid for directory in self.directories.values()), (
            "a disk that is put back has no readers"
        )
        self.rows = copy.rows.copy()
        self._unsynced.clear()
        if whole:
            self.directories = {name: one.copy() for name, one in copy.directories.items()}
            for directory in self.directories.values():
                directory.crash(self._chance)


def _unwatched(_batch: tuple[Write, ...]) -> None:
    return None
