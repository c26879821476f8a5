"""What rqlited's HTTP says of statements: results, or one of its many kinds of failure.

The law kept here is F86: what rqlited answers with HTTP 200 can still be a failure; whether a failed write may have committed is
decided here, and in doubt it may have.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from runtime.gateway.problems import Refusal
from runtime.gateway.upstream_connection import Response
from runtime.gateway.values import exact

_NOT_APPLIED: Final = (
    "not leader",
    "leader not found",
    "no leader",
    "stale read",
    "not ready",
    "store not open",
    "not open",
    "pool get: ",
    "write protobuf ",
)
"""Refusals that rqlited makes before it hands a statement to Raft; the last two are of a follower, which could not connect to its leader, or not
write the statement to the end (one that broke off while *reading* may have been heard). *Leadership lost* comes after, and is not one."""
_TIMED_OUT: Final = (
    "query timeout",
    "context deadline exceeded",
    "interrupted",
    "transaction has already been committed or rolled back",
)
"""The last one is of several reads in a transaction."""
_STORAGE: Final = ("disk i/o error", "database disk image is malformed", "database or disk is full")


def results_of(response: Response, *, write: bool) -> list[dict[str, Any]]:
    """The results in rqlited's answer, errors of single statements among them. Raises :class:`Refusal` for its own failures."""
    if response.status != 200:
        raise failure(response.body.decode("utf-8", "replace").strip(), write=write)
    if not exact(response.body):
        detail = "the result holds bytes in a column that is not declared BLOB: use hex(column)"
        raise Refusal("value-not-exact", detail, may_have_committed=write)
    try:
        answer = orjson.loads(response.body)
        error = answer.get("error")
        results: list[Any] = [] if error else answer["results"]
        good = all(isinstance(result, dict) for result in results)
    except (ValueError, LookupError, AttributeError, TypeError):
        error, results, good = "", [], False
    if error:
        raise failure(str(error), write=write)
    if not good:
        raise failure("rqlited's answer is not understood", write=write)
    return results


def result_of(response: Response, *, write: bool) -> dict[str, Any]:
    """The result of the one statement. Raises :class:`Refusal` for every kind of failure."""
    results = results_of(response, write=write)
    if len(results) != 1:
        raise failure("rqlited's answer is not understood", write=write)
    error = results[0].get("error")
    if error is not None:
        raise statement_error(str(error), write=write)
    return results[0]


def failure(text: str, *, write: bool) -> Refusal:
    """A failure of rqlited itself, not of the statement."""
    if "unsupported value" in text:
        detail = "the result holds an infinite number, which JSON does not have"
        return Refusal("value-not-exact", detail, may_have_committed=write)
    if not write and any(known in text.lower() for known in _TIMED_OUT):
        return Refusal("query-timeout", "the query was ended by its timeout")
    applied = write and not any(known in text.lower() for known in _NOT_APPLIED)
    if applied:
        return Refusal("may-have-committed", f"rqlited: {text[:200]}", may_have_committed=True)
    return Refusal("unavailable", f"rqlited: {text[:200]}")


def statement_error(text: str, *, write: bool, which: str = "") -> Refusal:
    """What SQLite said of a statement. ``which`` names it, when it was one of several."""
    lower = text.lower()
    if any(known in lower for known in _STORAGE):
        return Refusal("storage-failed", which + text, may_have_committed=write)
    if not write and any(known in lower for known in _TIMED_OUT):
        return Refusal("query-timeout", "the query was ended by its timeout")
    return Refusal("sql-error", which + text)
