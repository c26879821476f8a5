"""One statement as rqlited's HTTP has it, and its answer as ours (R30, R31). The laws kept here:

- ``db_timeout`` goes with every read, since rqlited does not end a read whose client is gone (F89), and never with a write, since it is
  logged and replicas could diverge.
- rqlited's counts are told only where they mean something: it leaves zeros out, and repeats what an earlier statement left.
"""

from __future__ import annotations

import math
from typing import Any, Final, Protocol, TypeVar

import orjson
from attrs import frozen

from runtime.gateway.arguments import Bound
from runtime.gateway.problems import Refusal
from runtime.gateway.rqlite_answers import result_of
from runtime.gateway.upstream_connection import Response
from runtime.gateway.values import ITEMS, Form, written
from runtime.gateway.vetting import Write

EXECUTE: Final = "/db/execute?retries=0&norwrandom"
"""Its own rewriting of random() is not wanted: what has to be settled is, and its parser changes or crashes on texts that are none of its business. A follower passes a write on to its leader once: told of the last of several tries alone, nobody would know what became of the first."""
REQUEST: Final = "/db/request?retries=0&norwrandom&blob_array"
"""For writes that answer with rows: ``/db/execute`` gives bytes as texts that could as well be texts."""
_STEP_MS: Final = 250

T_co = TypeVar("T_co", covariant=True)


class Question(Protocol[T_co]):
    """One request to rqlited."""

    @property
    def body(self) -> bytes: ...

    def target(self, seconds_left: float, /) -> str:
        """Path and query string."""
        ...

    def answer(self, response: Response) -> T_co:
        """What rqlited's answer says. Raises :class:`Refusal`."""
        ...


def query_target(seconds_left: float, level: str, options: str = "") -> str:
    """Path of a read that rqlited itself ends within ``seconds_left``, rounded so that nearly all queries share one text."""
    steps = max(1, int(seconds_left * 1000) // _STEP_MS)
    return f"/db/query?level={level}&blob_array&db_timeout={steps * _STEP_MS}ms{options}"


def body_of(*statements: Bound) -> bytes:
    """The JSON body for rqlited."""
    return orjson.dumps([statement.array for statement in statements])


@frozen
class ReadOne:
    """A statement that reads; answers with the JSON body of a query's answer. ``rows``: at most so many. ``level``: of rqlited's."""

    statement: Bound
    rows: int
    level: str = "weak"
    form: Form = ITEMS

    @property
    def body(self) -> bytes:
        return body_of(self.statement)

    def target(self, seconds_left: float) -> str:
        return query_target(seconds_left, self.level)

    def answer(self, response: Response) -> bytes:
        result = result_of(response, write=False)
        check_rows(result, self.rows)
        return orjson.dumps(written(result, self.form))

    def aged(self, result: dict[str, Any], age_s: float) -> bytes:
        """The same of a result out of a sleeping database's copy, with its age."""
        return orjson.dumps(written(result, self.form) | {"age_s": math.ceil(age_s * 1000) / 1000})


@frozen
class WriteOne:
    """A statement that writes; answers with the JSON body of an exec's answer. ``verdict``: of this statement."""

    statement: Bound
    verdict: Write
    form: Form = ITEMS

    @property
    def body(self) -> bytes:
        return body_of(self.statement)

    @property
    def joins(self) -> bool:
        """It may go to rqlited together with others: it changes rows, and answers with counts."""
        return not self.verdict.returning and not self.verdict.definition

    def target(self, _seconds_left: float) -> str:
        return REQUEST if self.verdict.returning else EXECUTE

    def answer(self, response: Response) -> bytes:
        return orjson.dumps(counts_of(result_of(response, write=True), self.verdict, self.form))


def check_rows(result: dict[str, Any], most: int, *, write: bool = False) -> None:
    """Raises :class:`Refusal`. ``write``: something was written all the same."""
    rows = len(result.get("values") or ())
    if rows > most:
        raise Refusal("too-many-rows", f"{rows} rows; at most {most} are returned: use LIMIT", write)


def counts_of(result: dict[str, Any], verdict: Write, form: Form) -> dict[str, Any]:
    """The members of an exec's answer, ``{rows_affected, last_insert_id}``; with RETURNING also its rows.

    The last insert id is of an INSERT that inserted, else 0; a change of the schema affects 0 rows. With RETURNING rqlited tells no
    counts: the rows returned are those affected, and the id is 0 (return it). Raises :class:`Refusal` where rqlited's own parser, which it needs to
    know a RETURNING, fails on the statement: it is carried out, but without rows, and with the counts of an earlier one."""
    if verdict.returning:
        if "columns" not in result:
            detail = "the statement was carried out, but rqlite does not understand its RETURNING: leave that out"
            raise Refusal("value-not-exact", detail, may_have_committed=True)
        affected = len(result.get("values") or ())
        return {"rows_affected": affected, "last_insert_id": 0} | written(result, form, write=True)
    affected = 0 if verdict.definition else result.get("rows_affected", 0)
    inserted = result.get("last_insert_id", 0) if verdict.insert and affected else 0
    return {"rows_affected": affected, "last_insert_id": inserted}
