"""Several statements that happen together or not at all, as rqlited has them. The laws kept here:

- All or nothing, whatever fails and wherever. rqlited rolls back in ``/db/execute?transaction`` alone, and there not when a statement with
  RETURNING fails: so RETURNING is refused inside a transaction, and what reads and writes is one only in the way of :mod:`mixed`.
- A transaction that only reads sees one state of the database.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from attrs import frozen

from runtime.gateway.arguments import Bound
from runtime.gateway.problems import Refusal
from runtime.gateway.rqlite_answers import failure, results_of, statement_error
from runtime.gateway.statements import EXECUTE, body_of, check_rows, counts_of, query_target
from runtime.gateway.upstream import Response
from runtime.gateway.values import Form, written
from runtime.gateway.vetting import Read, Write

_WRITES: Final = f"{EXECUTE}&transaction"


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
        check_all(results, len(self.statements), write=False)
        for result in results:
            check_rows(result, self.rows)
        return done([written(result, self.form) for result in results])


@frozen
class WriteAll:
    """Statements that all write, and do not answer with rows."""

    statements: tuple[Bound, ...]
    verdicts: tuple[Write, ...]
    form: Form

    @property
    def body(self) -> bytes:
        return body_of(*self.statements)

    def target(self, _seconds_left: float) -> str:
        return _WRITES

    def answer(self, response: Response) -> bytes:
        results = results_of(response, write=True)
        check_all(results, len(self.statements), write=True)
        return done([counts_of(r, v, self.form) for r, v in zip(results, self.verdicts, strict=True)])


def check_all(results: list[dict[str, Any]], expected: int, *, write: bool, first: int = 0) -> None:
    """Raises :class:`Refusal` unless all went well. ``first``: of the client's statements among those that were sent."""
    for n, result in enumerate(results):
        if "error" in result:
            raise statement_error(str(result["error"]), write=write, which=f"queries[{n - first}]: ")
    if len(results) != expected:
        raise failure(f"{len(results)} results for {expected} statements", write=write)


def done(results: list[dict[str, Any]]) -> bytes:
    """The JSON body of a transaction's answer."""
    return orjson.dumps({"success": True, "results": results})


def check_kinds(verdicts: list[Read | Write]) -> None:
    """Raises :class:`Refusal` for what cannot be all or nothing."""
    for n, verdict in enumerate(verdicts):
        if isinstance(verdict, Write) and verdict.returning:
            detail = (
                f"queries[{n}]: RETURNING is not possible in a transaction: if it failed, rqlite would not roll back"
            )
            raise Refusal("sql-refused", detail)
