"""One statement as rqlited's HTTP has it, and its answer as ours (R30, R31). The laws kept here:

- ``db_timeout`` goes with every read, since rqlited does not end a read whose client is gone (F89), and never with a write, since it is
  logged and replicas could diverge.
- What rqlited answers with HTTP 200 can still be a failure; whether a failed write may have committed is decided here, and in doubt it may
  have (F86).

JSON: integers are exact to 64 bits (JavaScript's are not beyond 2^53); a column declared BLOB comes as base64 text; of two columns of
one name the last one wins; columns keep their order. Arguments are null, booleans (as 0 and 1), numbers and texts, in an array for
``?`` or an object for ``:name``; bytes are written as ``x'…'`` or ``unhex(?)``.
"""

from __future__ import annotations

from typing import Any, Final, cast

import orjson

from runtime.gateway.frames import WorkerConfig
from runtime.gateway.problems import Refusal
from runtime.gateway.upstream import Response
from runtime.gateway.vetting import Write

Arguments = list[Any] | dict[str, Any]

EXECUTE: Final = "/db/execute?retries=0"
"""A follower passes a write on to its leader once: told of the last of several tries alone, nobody would know what became of the first."""
_STEP_MS: Final = 250
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
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
_TIMED_OUT: Final = ("query timeout", "context deadline exceeded", "interrupted")
_STORAGE: Final = ("disk i/o error", "database disk image is malformed", "database or disk is full")


def query_target(seconds_left: float) -> str:
    """Path of a weak read that rqlited itself ends within ``seconds_left``, rounded so that nearly all queries share one text."""
    steps = max(1, int(seconds_left * 1000) // _STEP_MS)
    return f"/db/query?level=weak&db_timeout={steps * _STEP_MS}ms"


def arguments(args: Any, most: int) -> Arguments:
    """The arguments of a request, checked. Raises :class:`Refusal`."""
    if args is None:
        return []
    if not isinstance(args, list | dict):
        raise Refusal("bad-request", "args must be an array, or an object of named arguments")
    given = cast("Arguments", args)
    if len(given) > most:
        raise Refusal("too-many-parameters", f"{len(given)} arguments; at most {most} are allowed")
    for value in given.values() if isinstance(given, dict) else given:
        if type(value) not in _SCALARS:
            raise Refusal("bad-request", "an argument must be null, a boolean, a number or a text")
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            raise Refusal("bad-request", "an integer argument is beyond 64 bits")
    return given


def body_of(sql: str, args: Arguments) -> bytes:
    """The JSON body for rqlited: one statement with its arguments."""
    if isinstance(args, dict):
        return orjson.dumps([[sql, args]] if args else [[sql]])
    return orjson.dumps([[sql, *args]])


def items_of(response: Response, config: WorkerConfig) -> bytes:
    """The body of a query's answer, ``{items, count}``. Raises :class:`Refusal`."""
    result = _result(response, write=False)
    items = _items(result)
    if len(items) > config.rows:
        raise Refusal("result-too-large", f"{len(items)} rows; at most {config.rows} are returned: use LIMIT")
    return orjson.dumps({"items": items, "count": len(items)})


def counts_of(response: Response, verdict: Write) -> bytes:
    """The body of an exec's answer, ``{rows_affected, last_insert_id}``; with RETURNING also ``items`` and ``count``.

    rqlite leaves zeros out, and repeats what an earlier statement left where the statement has no such number: the last
    insert id is of an INSERT that inserted, else 0; a change of the schema affects 0 rows. With RETURNING it tells no counts:
    the rows returned are those affected, and the id is 0 (return it)."""
    result = _result(response, write=True)
    if verdict.returning:
        items = _items(result)
        return orjson.dumps({"rows_affected": len(items), "last_insert_id": 0, "items": items, "count": len(items)})
    affected = 0 if verdict.definition else result.get("rows_affected", 0)
    inserted = result.get("last_insert_id", 0) if verdict.insert and affected else 0
    return orjson.dumps({"rows_affected": affected, "last_insert_id": inserted})


def _items(result: dict[str, Any]) -> list[dict[str, Any]]:
    columns = result.get("columns", [])
    return [dict(zip(columns, row, strict=True)) for row in result.get("values") or ()]


def _result(response: Response, *, write: bool) -> dict[str, Any]:
    """The one result in rqlited's answer. Raises :class:`Refusal` for every kind of failure."""
    if response.status != 200:
        raise _failure(response.body.decode("utf-8", "replace").strip(), write=write)
    try:
        answer = orjson.loads(response.body)
        failure = answer.get("error")
        result: dict[str, Any] = {} if failure else answer["results"][0]
    except (ValueError, LookupError, AttributeError, TypeError):
        failure, result = "rqlited's answer is not understood", {}
    if failure:
        raise _failure(str(failure), write=write)
    if "error" in result:
        raise _sql_error(str(result["error"]), write=write)
    return result


def _failure(text: str, *, write: bool) -> Refusal:
    """A failure of rqlited itself, not of the statement."""
    if "unsupported value" in text and not write:
        return Refusal("sql-error", "the result holds an infinite number, which JSON does not have")
    applied = write and not any(known in text.lower() for known in _NOT_APPLIED)
    if applied:
        return Refusal("may-have-committed", f"rqlited: {text[:200]}", may_have_committed=True)
    return Refusal("unavailable", f"rqlited: {text[:200]}")


def _sql_error(text: str, *, write: bool) -> Refusal:
    lower = text.lower()
    if any(known in lower for known in _STORAGE):
        return Refusal("storage-failed", text, may_have_committed=write)
    if not write and any(known in lower for known in _TIMED_OUT):
        return Refusal("query-timeout", "the query was ended by its timeout")
    return Refusal("sql-error", text)
