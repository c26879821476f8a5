"""A request in rqlite's own form, as it goes to rqlited, and rqlited's answer, as it is. The laws kept here:

- Statements are vetted as everywhere (F85, F88, F90). What reads goes to ``/db/query`` and takes ``db_timeout`` along (F89), what writes to
  ``/db/execute``, what does both to ``/db/request``, and never does: there only reads may be that surely end.
- Nothing of a request is carried out when one of its statements is refused.
- rqlited takes no bytes: an array of numbers among the parameters goes as hexadecimal text (:mod:`arguments`).
- Of the options, those are passed on that change the form of the answer or the age of a read; those that could make replicas differ, or
  acknowledge what is not written (``queue``), are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import orjson
from attrs import frozen

from runtime.gateway.arguments import Bound
from runtime.gateway.bodies import Arguments, Blob
from runtime.gateway.problems import Refusal
from runtime.gateway.rqlite_answers import failure
from runtime.gateway.statements import EXECUTE, body_of, query_target
from runtime.gateway.upstream_connection import Response
from runtime.gateway.vetting import Read, Write

FORMS: Final = ("timings", "associative", "blob_array", "raft_index", "pretty")
"""Options that change how an answer is written."""
_BOTH: Final = EXECUTE.replace("execute", "request")
_LEVELS: Final = {"none": "none", "weak": "weak", "strong": "strong", "linearizable": "strong", "auto": "weak"}
"""rqlite's levels; not every rqlited that we run knows all of them, and a stronger one is always right."""
_DURATION: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h)")
_SCALARS: Final = (str, int, float, bool, type(None))

Options = Mapping[str, str]


@frozen
class Given:
    """One statement of a request, and its parameters."""

    sql: str
    args: Arguments


def statements_of(body: bytes, most: int) -> list[Given]:
    """Of a JSON body: an array of texts and of arrays that begin with one. Raises :class:`Refusal`."""
    try:
        members: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal("bad-request", f"the body is no JSON: {error}") from None
    if not isinstance(members, list) or not members:
        raise Refusal("bad-request", "the body must be an array of statements")
    given = [_statement(each) for each in cast("list[Any]", members)]
    if len(given) > most:
        raise Refusal("too-many-statements", f"{len(given)} statements; at most {most} are allowed")
    return given


def _statement(member: Any) -> Given:
    match member:
        case str():
            return Given(member, [])
        case [str(sql), {**named}]:
            return Given(sql, {str(name): _value(value) for name, value in named.items()})
        case [str(sql), *values]:
            return Given(sql, [_value(value) for value in values])
        case _:
            raise Refusal("bad-request", 'a statement is a text, or ["text", parameter, …], or ["text", {"name": …}]')


def _value(value: Any) -> Any:
    """A parameter; bytes are an array of numbers."""
    if isinstance(value, _SCALARS):
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            raise Refusal("bad-request", "an integer is beyond 64 bits")
        return value
    if isinstance(value, list) and all(type(octet) is int and 0 <= octet < 256 for octet in cast("list[Any]", value)):
        return Blob(bytes(cast("list[int]", value)))
    raise Refusal("bad-request", "a parameter is null, a boolean, a number, a text, or an array of bytes")


@frozen
class Passed:
    """One request to rqlited, whose answer goes to the client as it is. ``rows``: of one statement at most so many."""

    body: bytes
    writes: bool
    both: bool
    options: str
    level: str
    rows: int
    longest_s: float

    def target(self, seconds_left: float) -> str:
        if self.writes:
            return (_BOTH if self.both else EXECUTE) + self.options
        return query_target(min(seconds_left, self.longest_s), self.level, self.options)

    def answer(self, response: Response) -> bytes:
        if response.status != 200:
            raise failure(response.body.decode("utf-8", "replace").strip(), write=self.writes)
        try:
            answer = orjson.loads(response.body)
            error = answer.get("error")
            rows = max(
                (len(one.get("values") or one.get("rows") or ()) for one in answer.get("results", ())), default=0
            )
        except (ValueError, AttributeError, TypeError):
            raise failure("rqlited's answer is not understood", write=self.writes) from None
        if error:
            raise failure(str(error), write=self.writes)
        if rows > self.rows:
            raise Refusal("too-many-rows", f"{rows} rows; at most {self.rows} are returned: use LIMIT", self.writes)
        return response.body


def passed(given: list[Bound], verdicts: list[Read | Write], options: Options, rows: int, longest_s: float) -> Passed:
    """Raises :class:`Refusal` for what rqlited could not do, or not undo."""
    writes = [verdict for verdict in verdicts if isinstance(verdict, Write)]
    together = "transaction" in options and len(given) > 1  # one alone is one in any case
    both = 0 < len(writes) < len(verdicts)
    if both and together:
        raise Refusal(
            "sql-refused", "a transaction either reads or writes: when a read of it failed, rqlite would not roll back"
        )
    if both and not all(isinstance(verdict, Write) or verdict.ends for verdict in verdicts):
        raise Refusal(
            "sql-refused", "a read that may never end cannot be in one request with a write: send the two apart"
        )
    if together and any(verdict.returning for verdict in writes):
        raise Refusal(
            "sql-refused", "RETURNING is not possible in a transaction: if it failed, rqlite would not roll back"
        )
    flags = [name for name in FORMS if name in options] + ["transaction"] * together
    level = _LEVELS.get(options.get("level", ""), "weak")
    if level == "none" and _DURATION.fullmatch(options.get("freshness", "")):
        flags.append(f"freshness={options['freshness']}")
    return Passed(body_of(*given), bool(writes), both, "".join(f"&{flag}" for flag in flags), level, rows, longest_s)


def seconds(text: str, otherwise: float) -> float:
    """Of a duration as Go writes it (``500ms``, ``1.5s``); ``otherwise`` of anything else."""
    if not _DURATION.fullmatch(text):
        return otherwise
    number, unit = re.split(r"(?<=[0-9])(?=[a-z])", text)
    return float(number) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[unit]


def refused(count: int, at: int, reason: str) -> bytes:
    """Rqlite's answer to ``count`` statements, of which number ``at`` is refused and none was sent."""
    others = {"error": f"not carried out: statement {at} of this request is refused"}
    return orjson.dumps({"results": [{"error": reason} if n == at else others for n in range(count)]})


def unknown(count: int, reason: str) -> bytes:
    """Rqlite's answer to ``count`` statements of which nobody knows what became: an error of each, with HTTP 200, since clients of rqlite send
    again by themselves what ends otherwise (F86)."""
    return orjson.dumps({"results": [{"error": reason}] * count})
