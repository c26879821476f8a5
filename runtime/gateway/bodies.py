"""The JSON bodies of the endpoints, as types: what is decoded by them is described by them (``openapi``).

The law kept here: a body is exactly what its type says (F85), members that nobody asked for are refused, so that a misspelled option
never passes for the default; numbers and texts are taken as they are, bytes as ``{"base64": "…"}``.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from runtime.gateway.problems import Refusal

Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Blob(Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes, in arguments and in answers."""

    base64: bytes


Argument = None | bool | Integer | float | str | Blob
Arguments = list[Argument] | dict[str, Argument] | None
"""In an array for ``?``, in an object for ``:name``."""
Consistency = Literal["weak", "strong", "none"]
Format = Literal["items", "rows"]
BigIntegers = Literal["number", "text"]


Name = Annotated[
    str,
    Meta(
        extra_json_schema={
            "description": "A database: lower-case letters, digits, - and _, a letter or digit at both ends.",
            "pattern": "^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$",
            "examples": ["users"],
        }
    ),
]
"""Described here, checked by the rules of names."""
Reading = Annotated[str, Meta(extra_json_schema={"minLength": 1, "examples": ["SELECT 1 AS x"]})]
Writing = Annotated[str, Meta(extra_json_schema={"minLength": 1, "examples": ["CREATE TABLE IF NOT EXISTS t (x)"]})]
Table = Annotated[str, Meta(min_length=1, extra_json_schema={"examples": ["t"]})]


class Named(Struct, frozen=True, forbid_unknown_fields=True):
    """A database alone."""

    database: Name


class Query(Struct, frozen=True, forbid_unknown_fields=True):
    """A statement that reads."""

    database: Name
    sql: Reading
    args: Arguments = None
    consistency: Consistency = "weak"
    max_stale: float | str | None = None
    format: Format = "items"
    big_integers: BigIntegers = "number"


class Exec(Struct, frozen=True, forbid_unknown_fields=True):
    """A statement that writes."""

    database: Name
    sql: Writing
    args: Arguments = None
    format: Format = "items"
    big_integers: BigIntegers = "number"


class Statement(Struct, frozen=True, forbid_unknown_fields=True):
    """One of a transaction's."""

    sql: Writing
    args: Arguments = None


class Transaction(Struct, frozen=True, forbid_unknown_fields=True):
    """Statements that happen together or not at all."""

    database: Name
    queries: Annotated[list[Writing | Statement], Meta(min_length=1)]
    format: Format = "items"
    big_integers: BigIntegers = "number"


class CreateTable(Struct, frozen=True, forbid_unknown_fields=True):
    """``schema``: a CREATE TABLE statement."""

    database: Name
    schema: Writing


class DropTable(Struct, frozen=True, forbid_unknown_fields=True):
    """``table_name`` as it is, without quotes."""

    database: Name
    table_name: Table


# Answers: these describe what other modules write.

Value = None | bool | Integer | float | str | Blob


class Rows(Struct, frozen=True, omit_defaults=True):
    """Rows as objects (``items``), or as arrays (``rows``, with ``columns`` and their declared ``types``). ``age_s``: of an answer from a
    sleeping copy."""

    count: int
    items: list[dict[str, Value]] | msgspec.UnsetType = msgspec.UNSET
    columns: list[str] | msgspec.UnsetType = msgspec.UNSET
    types: list[str] | msgspec.UnsetType = msgspec.UNSET
    rows: list[list[Value]] | msgspec.UnsetType = msgspec.UNSET
    age_s: float | msgspec.UnsetType = msgspec.UNSET


class Executed(Struct, frozen=True):
    """What a write has done; with RETURNING also its rows. ``repeated``: its Idempotency-Key had been there already."""

    rows_affected: int
    last_insert_id: int
    repeated: bool | msgspec.UnsetType = msgspec.UNSET
    count: int | msgspec.UnsetType = msgspec.UNSET
    items: list[dict[str, Value]] | msgspec.UnsetType = msgspec.UNSET
    columns: list[str] | msgspec.UnsetType = msgspec.UNSET
    types: list[str] | msgspec.UnsetType = msgspec.UNSET
    rows: list[list[Value]] | msgspec.UnsetType = msgspec.UNSET


class Done(Struct, frozen=True):
    """``results``: of each statement, as query and exec answer; empty for the reads of a repeat."""

    success: bool
    results: list[dict[str, Any]]
    repeated: bool | msgspec.UnsetType = msgspec.UNSET


class Described(Struct, frozen=True):
    """``sql``: the statement that makes it."""

    name: str
    columns: list[str]
    sql: str


class Schema(Struct, frozen=True):
    """The tables of a database."""

    tables: list[Described]


class Affected(Struct, frozen=True):
    """Of a change of the schema: 0. ``repeated``: its Idempotency-Key had been there already."""

    rows_affected: int
    repeated: bool | msgspec.UnsetType = msgspec.UNSET


class Databases(Struct, frozen=True):
    """Those of the key's application."""

    databases: list[str]


class Success(Struct, frozen=True):
    """It is done."""

    success: bool


class Health(Struct, frozen=True):
    """This worker serves."""

    status: str


class Problem(Struct, frozen=True):
    """RFC 9457. ``may_have_committed``: the request has failed, and its write may have happened all the same."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    may_have_committed: bool | msgspec.UnsetType = msgspec.UNSET


T = TypeVar("T")


def decode(body: bytes, kind: type[T]) -> T:
    """Raises :class:`Refusal`."""
    try:
        return _decoder(kind).decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("bad-request", f"the body is not understood: {error}") from None


@cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)
