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


class Named(Struct, frozen=True, forbid_unknown_fields=True):
    """A database alone."""

    database: str


class Query(Struct, frozen=True, forbid_unknown_fields=True):
    """A statement that reads."""

    database: str
    sql: str
    args: Arguments = None
    consistency: Consistency = "weak"
    max_stale: float | str | None = None
    format: Format = "items"
    big_integers: BigIntegers = "number"


class Exec(Struct, frozen=True, forbid_unknown_fields=True):
    """A statement that writes."""

    database: str
    sql: str
    args: Arguments = None
    format: Format = "items"
    big_integers: BigIntegers = "number"


class Statement(Struct, frozen=True, forbid_unknown_fields=True):
    """One of a transaction's."""

    sql: str
    args: Arguments = None


class Transaction(Struct, frozen=True, forbid_unknown_fields=True):
    """Statements that happen together or not at all."""

    database: str
    queries: list[str | Statement]
    format: Format = "items"
    big_integers: BigIntegers = "number"


class CreateTable(Struct, frozen=True, forbid_unknown_fields=True):
    """``schema``: a CREATE TABLE statement."""

    database: str
    schema: str


class DropTable(Struct, frozen=True, forbid_unknown_fields=True):
    """``table_name`` as it is, without quotes."""

    database: str
    table_name: str


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


def plain(value: Any) -> Any:
    """A default for encoders: a :class:`Blob` is written as it is read."""
    return msgspec.to_builtins(value)
