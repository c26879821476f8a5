"""Several statements that happen together or not at all, as rqlited has them. The laws kept here:

- All or nothing, whatever fails and wherever. rqlited (8.26) rolls back when a statement fails, with three holes, which are closed here:
  it goes on after a statement with RETURNING that failed, so that one is refused among several; ``/db/request``, the only one that gives the rows of
  reads among writes, goes on after a statement that could not be *prepared*, so the statements are prepared beforehand (:class:`Preflight`)
  and the schema for which that was so is the first condition of the transaction; and a read in a transaction that writes has no
  timeout and is replayed, so it must be one that ends (F90).
- A transaction that only reads sees one state of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

import orjson
from attrs import frozen

from runtime.gateway.arguments import Bound
from runtime.gateway.idempotency import NO_EFFECT, TAKEN, TRIGGERS, Key
from runtime.gateway.problems import Refusal
from runtime.gateway.rqlite_answers import failure, results_of, statement_error
from runtime.gateway.sql_rules import OURS
from runtime.gateway.statements import EXECUTE, REQUEST, body_of, check_rows, counts_of, query_target
from runtime.gateway.upstream_connection import Response
from runtime.gateway.values import Form, written
from runtime.gateway.vetting import Read, Write

_SCHEMA: Final = f"""SELECT coalesce(group_concat(sql, char(10)), '') FROM (SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL
    AND name NOT GLOB 'sqlite_*' AND name NOT GLOB '{OURS}*' ORDER BY type, name)"""
"""The same text on every replica, unlike ``PRAGMA schema_version``, which a local VACUUM or ANALYZE changes."""
_PINNED: Final = f"SELECT abs(-9223372036854775808) WHERE ({_SCHEMA}) IS NOT ?"
"""Fails, and rolls everything back, when the schema is another: the absolute value of the least integer overflows."""
_PREPARED: Final = "attempt to change database via query operation"
"""What rqlited says to a write where it expects a read, once it has prepared it."""


class Undone(Enum):
    """Why a transaction has not happened, that is no failure. ``REPEATED``: its idempotency key was there already; ``MOVED``: the
    schema is another than it was prepared for."""

    REPEATED = 1
    MOVED = 2


@frozen
class ReadAll:
    """Statements that all read. ``rows``: of each at most so many."""

    statements: tuple[Bound, ...]
    rows: int
    form: Form

    @property
    def body(self) -> bytes:
        return body_of(*self.statements)

    def target(self, seconds_left: float) -> str:
        return query_target(seconds_left, "weak", "&transaction")

    def answer(self, response: Response) -> bytes:
        results = results_of(response, write=False)
        for n, result in enumerate(results):
            if "error" in result:
                raise statement_error(str(result["error"]), write=False, which=f"queries[{n}]: ")
            check_rows(result, self.rows)
        if len(results) != len(self.statements):
            raise failure(f"{len(results)} results for {len(self.statements)} statements", write=False)
        return done([written(result, self.form) for result in results])


@frozen
class Preflight:
    """Whether these statements can be prepared; answers with the schema for which it is so."""

    statements: tuple[Bound, ...]

    @property
    def body(self) -> bytes:
        return body_of(Bound(_SCHEMA, []), *(Bound(f"EXPLAIN {s.sql}", s.args) for s in self.statements))

    def target(self, seconds_left: float) -> str:
        return query_target(seconds_left, "weak", "&transaction")

    def answer(self, response: Response) -> str:
        schema, *explained = results_of(response, write=False)
        for n, result in enumerate(explained):
            error = str(result.get("error", _PREPARED))
            if error != _PREPARED:
                raise statement_error(error, write=False, which=f"queries[{n}]: ")
        if "values" not in schema or len(explained) != len(self.statements):
            raise failure("rqlited's answer is not understood", write=False)
        return schema["values"][0][0]


@frozen
class _Part:
    """One statement of what is sent. ``of``: which of the client's it is; None: ours."""

    statement: Bound
    of: int | None = None


@frozen
class Atomic:
    """Statements of which at least one writes; answers with their results. ``verdicts``: of each. ``key``: of the request. ``schema``: of the
    preflight, when they also read. ``rows``: of each read at most so many."""

    statements: tuple[Bound, ...]
    verdicts: tuple[Read | Write, ...]
    rows: int
    form: Form
    key: Key | None = None
    schema: str | None = None

    def _parts(self) -> list[_Part]:
        # The key comes before the schema: a repeat of what has happened is one, whatever the schema is by now.
        parts = [_Part(statement) for statement in (self.key.before() if self.key else ())]
        if self.schema is not None:
            parts.append(_Part(Bound(_PINNED, [self.schema])))
        for n, (statement, verdict) in enumerate(zip(self.statements, self.verdicts, strict=True)):
            before, after = self.key.around(verdict) if self.key else ([], [])
            parts += [*map(_Part, before), _Part(statement, n), *map(_Part, after)]
        return parts

    @property
    def body(self) -> bytes:
        return body_of(*(part.statement for part in self._parts()))

    def target(self, _seconds_left: float) -> str:
        answers_rows = any(isinstance(v, Read) or v.returning for v in self.verdicts)
        return f"{REQUEST if answers_rows else EXECUTE}&transaction"

    def answer(self, response: Response) -> list[dict[str, Any]] | Undone:
        results = results_of(response, write=True)
        parts = self._parts()
        for part, result in zip(parts, results, strict=False):
            if "error" not in result:
                continue
            error = str(result["error"])
            if part.of is None and error == TAKEN:
                return Undone.REPEATED
            if self.schema is not None and part.statement.sql == _PINNED and error == "integer overflow":
                return Undone.MOVED
            if part.of is None and error == NO_EFFECT:
                _check_no_effect(parts, results)
                return self._told(parts, results)
            which = f"queries[{part.of}]: " if part.of is not None and len(self.statements) > 1 else ""
            raise statement_error(error, write=True, which=which)
        if len(results) != len(parts):
            raise failure(f"{len(results)} results for {len(parts)} statements", write=True)
        return self._told(parts, results)

    def _told(self, parts: Sequence[_Part], results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        for part, result in zip(parts, results, strict=False):
            if part.of is None:
                continue
            verdict = self.verdicts[part.of]
            if isinstance(verdict, Read):
                check_rows(result, self.rows, write=True)
                told.append(written(result, self.form, write=True))
            else:
                told.append(counts_of(result, verdict, self.form))
        return told


def _check_no_effect(parts: Sequence[_Part], results: Sequence[dict[str, Any]]) -> None:
    """A statement with RETURNING changed no row and was rolled back with its key: nothing is lost, unless a trigger did something. Raises
    :class:`Refusal`."""
    triggers = next(r for p, r in zip(parts, results, strict=False) if p.statement.sql == TRIGGERS)
    if triggers["values"] != [[0]]:
        detail = (
            "where there are triggers, a RETURNING that changes no row cannot have an Idempotency-Key: nothing was done"
        )
        raise Refusal("sql-refused", detail)


def done(results: list[dict[str, Any]], *, repeated: bool = False) -> bytes:
    """The JSON body of a transaction's answer."""
    answer: dict[str, Any] = {"success": True, "results": results}
    return orjson.dumps(answer | {"repeated": True} if repeated else answer)


def check(verdicts: Sequence[Read | Write]) -> None:
    """Raises :class:`Refusal` for what cannot be all or nothing."""
    mixed = any(isinstance(verdict, Read) for verdict in verdicts) and any(isinstance(v, Write) for v in verdicts)
    for n, verdict in enumerate(verdicts):
        if isinstance(verdict, Read):
            reason = _NO_READ if mixed and not verdict.ends else ""
        elif verdict.returning:
            reason = "RETURNING is not possible in a transaction: if it failed, rqlite would not roll back"
        else:
            reason = "the schema cannot change in a transaction that also reads" if mixed and verdict.definition else ""
        if reason:
            raise Refusal("sql-refused", f"queries[{n}]: {reason}")


_NO_READ: Final = (
    "in a transaction that also writes, only SELECT and VALUES are possible, and no recursive table expression"
)
