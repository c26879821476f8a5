"""The node's durable memory. Law: what is sent was made durable first (P1, P3), so a batch of writes is on the disk, all
of it or nothing of it, when :meth:`Store.commit` returns, and a store that cannot promise that is never opened.

One SQLite file, ``<data_dir>/torpor.db``: WAL with ``synchronous=FULL`` (one fsync for each commit, measured 0.45 ms),
opened exclusively. Table ``rows`` is the engine's (key to blob, :mod:`protocol.rows`); table ``facts`` holds what was said
once, at founding: the cluster's id and the peer id that the store belongs to. One process owns a data directory: an
``flock`` on ``node.lock`` says so, and the kernel takes it back from a killed owner (F61).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

import trio

from protocol.effects import Write

FILE: Final = "torpor.db"
LOCK: Final = "node.lock"
FORMAT: Final = 1
APPLICATION: Final = 0x544F5250
"""SQLite's ``application_id`` of our files ("TORP"): somebody else's database is recognised before it is touched."""

_SCHEMA: Final = (
    "CREATE TABLE rows (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
)


class StoreUnusable(Exception):
    """The data directory cannot be used. The text is one line: the cause and what to do."""


class DirectoryLock:
    """The exclusive claim of one process on a data directory (F61). Raises :class:`StoreUnusable`: the directory cannot
    be made or written, or another living process, whose pid the text names, has it."""

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnusable(
                f"data directory {directory} is not accessible: {error.strerror or error}; "
                "make it writable for this user or set node.data_dir to another place"
            ) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreUnusable(
                f"data directory {directory} is in use by another node (pid {owner}); "
                "stop that one first, or give this one its own node.data_dir"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the directory back. The file stays: removing it would let two processes lock two different inodes."""
        os.close(self._fd)


class Store:
    """An open store. ``directory`` must be locked by the caller (:class:`DirectoryLock`).

    Raises :class:`StoreUnusable` when the file is missing (unless ``create``), damaged, not ours or of a newer format."""

    def __init__(self, directory: Path, *, create: bool = False) -> None:
        self.path = directory / FILE
        if not create and not self.path.exists():
            raise StoreUnusable(f"{self.path} does not exist")
        try:
            # Commits run in a worker thread, never two at once: sqlite3's own thread check would refuse the second thread.
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreUnusable(f"cannot open {self.path}: {error}; see that this user may read and write it") from None
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise StoreUnusable(f"{self.path} is damaged or no store of ours ({error}); {_REMEDY}") from None
        except StoreUnusable:
            self._db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION:
            raise StoreUnusable(f"{self.path} is a database of another program; {_REMEDY}")
        if version > FORMAT:
            raise StoreUnusable(
                f"{self.path} has format {version}, this version of Torpor knows up to {FORMAT}; install a newer one"
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if not tables:
            db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute("COMMIT")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreUnusable(f"{self.path} is damaged ({' '.join(str(verdict).split())}); {_REMEDY}")

    def rows(self) -> tuple[tuple[str, bytes], ...]:
        """Every row that a :class:`Write` ever left here, by key: what :class:`protocol.inputs.Boot` carries."""
        return tuple(
            (str(key), bytes(value)) for key, value in self._db.execute("SELECT key, value FROM rows ORDER BY key")
        )

    def facts(self) -> dict[str, str]:
        """What was said at founding; empty in a store that was made but not founded."""
        return {str(name): str(value) for name, value in self._db.execute("SELECT name, value FROM facts")}

    def found(self, facts: Mapping[str, str]) -> None:
        """Write the facts, durably and once: this transaction *is* the founding (P60). A crash before it leaves a
        directory that may still be founded, one after it a directory that may not. Raises :class:`sqlite3.Error`."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO facts VALUES (?, ?)", list(facts.items()))

    def write(self, writes: Iterable[Write]) -> None:
        """All writes in order, in one transaction, on the disk when this returns. Raises :class:`sqlite3.Error`; nothing
        is written then, and the caller must not act on what it wanted written."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for each in writes:
                if each.value is None:
                    self._db.execute("DELETE FROM rows WHERE key = ?", (each.key,))
                else:
                    self._db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", (each.key, each.value))

    async def commit(self, writes: Iterable[Write]) -> None:
        """:meth:`write` in a thread. The hop costs 0.1 ms beside an fsync of 0.45 ms; without it a disk that stalls for a
        second would stall heartbeats and worker leases for that second, and a slow disk would look like a dead node (F66).
        Not cancellable half way: a cancelled caller still waits for the transaction."""
        await trio.to_thread.run_sync(self.write, tuple(writes))

    def close(self) -> None:
        """Fold the WAL in and close."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_REMEDY: Final = "move it away and restore it from a copy, or found a new cluster in an empty data directory"
