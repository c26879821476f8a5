"""Idempotency keys: a write that may be repeated, since a repeat has no effect. The laws kept here:

- The key is a row of the database itself, inserted in the transaction of the statements that it is for: one is there exactly when the other
  is (F86), on every replica and after every restart, sleep and export.
- The same key with another request is refused, never answered with what was not asked.
- Keys are kept for ``ttl_s`` at least, then swept, at most :data:`SWEPT` with each keyed write; nothing grows without an end but by what is
  written within that time.

The counts that the first answer held are kept beside the key, the rows are not: SQLite's ``changes()`` and ``last_insert_rowid()`` are the same
on every replica, and are read right after the statement. The table has no rowid, so that the key's own row does not count among the last ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import orjson
from attrs import frozen

from runtime.gateway.arguments import Bound
from runtime.gateway.problems import Refusal
from runtime.gateway.rqlite_answers import result_of
from runtime.gateway.statements import body_of, query_target
from runtime.gateway.upstream_connection import Response
from runtime.gateway.vetting import Read, Write

TABLE: Final = "_torpor_idempotency"
CREATE: Final = f"CREATE TABLE IF NOT EXISTS {TABLE} (key TEXT PRIMARY KEY, at INTEGER NOT NULL, digest TEXT NOT NULL, counts TEXT NOT NULL) WITHOUT ROWID"
INDEX: Final = f"CREATE INDEX IF NOT EXISTS {TABLE}_at ON {TABLE} (at)"
_SWEEP: Final = f"DELETE FROM {TABLE} WHERE key IN (SELECT key FROM {TABLE} WHERE at < ? ORDER BY at LIMIT ?)"
_INSERT: Final = f"INSERT INTO {TABLE} VALUES (?, ?, ?, '')"
_COUNT: Final = f"UPDATE {TABLE} SET counts = counts || changes() || ' ' || last_insert_rowid() || ';' WHERE key = ?"
_NO_CHANGE: Final = f"DELETE FROM {TABLE} WHERE 0"
"""Makes ``changes()`` zero."""
_COUNT_OR_FAIL: Final = f"UPDATE {TABLE} SET counts = counts || nullif(changes(), 0) || ' 0;' WHERE key = ?"
"""Fails, and rolls everything back, when the statement before it changed no row: rqlited goes on after a RETURNING that failed."""
TRIGGERS: Final = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'"
"""Where there are some, a statement that changed no row can have had effects all the same."""
_STORED: Final = f"SELECT digest, counts FROM {TABLE} WHERE key = ?"

SWEPT: Final = 16
TAKEN: Final = f"UNIQUE constraint failed: {TABLE}.key"
NO_EFFECT: Final = f"NOT NULL constraint failed: {TABLE}.counts"


def digest_of(endpoint: str, statements: Sequence[Bound]) -> str:
    """What makes two requests the same: the statements and their arguments, not how the JSON was written."""
    return hashlib.sha256(orjson.dumps([endpoint, [s.array for s in statements]])).hexdigest()


@frozen
class Key:
    """``at``: now, in Unix seconds; every replica stores this one."""

    key: str
    digest: str
    at: int
    ttl_s: int

    def before(self) -> list[Bound]:
        """What goes before the statements; the last of these fails when the key is there already."""
        return [
            Bound(CREATE, []),
            Bound(INDEX, []),
            Bound(_SWEEP, [self.at - self.ttl_s, SWEPT]),
            Bound(_INSERT, [self.key, self.at, self.digest]),
        ]

    def around(self, verdict: Read | Write) -> tuple[list[Bound], list[Bound]]:
        """What goes before and after one statement."""
        if isinstance(verdict, Read) or verdict.definition:
            return [], []
        if verdict.returning:
            return [Bound(TRIGGERS, []), Bound(_NO_CHANGE, [])], [Bound(_COUNT_OR_FAIL, [self.key])]
        return [], [Bound(_COUNT, [self.key])]


@frozen
class Stored:
    """What is kept for a key; answers with the counts of each statement, in their order. ``verdicts``: of all statements."""

    key: Key
    verdicts: tuple[Read | Write, ...]

    @property
    def body(self) -> bytes:
        return body_of(Bound(_STORED, [self.key.key]))

    def target(self, seconds_left: float) -> str:
        # The key was seen by the leader of that moment; a new one may not have applied it yet when it answers a weak read.
        return query_target(seconds_left, "strong")

    def answer(self, response: Response) -> list[dict[str, Any]]:
        rows = result_of(response, write=False).get("values") or ()
        if not rows:
            raise Refusal("unavailable", "the idempotency key has just been swept")
        digest, counts = rows[0]
        if digest != self.key.digest:
            raise Refusal("idempotency-key-reused", "this key was given for another request")
        kept = iter(counts.split(";"))
        return [_counts(verdict, kept) for verdict in self.verdicts]


def _counts(verdict: Read | Write, kept: Any) -> dict[str, Any]:
    if isinstance(verdict, Read):
        return {}
    if verdict.definition:
        return {"rows_affected": 0, "last_insert_id": 0}
    affected, last = map(int, next(kept).split(" "))
    return {"rows_affected": affected, "last_insert_id": last if verdict.insert and affected else 0}
