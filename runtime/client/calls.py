"""Every call as a value: what is sent, and how its answer is read. The law kept here: the synchronous and the asynchronous client
send the same bytes and give the same values, since neither knows what a call is made of.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, cast
from urllib.parse import quote

import orjson
from attrs import frozen

from runtime.client.values import (
    Arguments,
    Rows,
    Schema,
    Table,
    Written,
    decoded,
    json_of,
    rows_of,
    written_of,
)

T = TypeVar("T")

Consistency: TypeAlias = Literal["weak", "strong", "none"]
Statement: TypeAlias = "str | tuple[str, Arguments]"
"""One of a transaction: alone, or with its arguments."""
Key: TypeAlias = "bool | str"
"""Of idempotency: True makes a new one, a text is one."""

_KEY: Final = re.compile(r"[!-~]{1,128}")
_BASE: Final = "/v1/database/"


@frozen
class Call(Generic[T]):
    """``writes``: it may change something, so without an idempotency key it is sent once. ``read``: of a good answer's body."""

    method: Literal["GET", "POST"]
    path: str
    read: Callable[[bytes], T]
    body: bytes = b""
    kind: str = "application/json"
    writes: bool = False
    idempotency_key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Beside those that every request has."""
        given = {"content-type": self.kind} if self.body else {}
        if self.idempotency_key is not None:
            given["idempotency-key"] = self.idempotency_key
        return given

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again after nobody knows what became of it."""
        return not self.writes or self.idempotency_key is not None


def query(
    database: str, sql: str, args: Arguments, consistency: Consistency | None, max_stale: float | str | None
) -> Call[Rows]:
    members: dict[str, Any] = {"database": database, "sql": sql, "args": json_of(args), "format": "rows"}
    if consistency is not None:
        members["consistency"] = consistency
    if max_stale is not None:
        members["max_stale"] = max_stale
    return Call("POST", f"{_BASE}query", _rows, orjson.dumps(members))


def execute(database: str, sql: str, args: Arguments, idempotency_key: Key) -> Call[Written]:
    members = {"database": database, "sql": sql, "args": json_of(args), "format": "rows"}
    return Call(
        "POST", f"{_BASE}exec", _written, orjson.dumps(members), writes=True, idempotency_key=_key(idempotency_key)
    )


def transaction(
    database: str, statements: Iterable[Statement], idempotency_key: Key
) -> Call[tuple[Rows | Written, ...]]:
    queries = [one if isinstance(one, str) else {"sql": one[0], "args": json_of(one[1])} for one in statements]
    body = orjson.dumps({"database": database, "queries": queries, "format": "rows"})
    return Call("POST", f"{_BASE}transaction", _results, body, writes=True, idempotency_key=_key(idempotency_key))


def create_table(database: str, schema: str, idempotency_key: Key) -> Call[int]:
    body = orjson.dumps({"database": database, "schema": schema})
    key = _key(idempotency_key)
    return Call("POST", f"{_BASE}create-table", _affected, body, writes=True, idempotency_key=key)


def drop_table(database: str, table: str, idempotency_key: Key) -> Call[int]:
    body = orjson.dumps({"database": database, "table_name": table})
    key = _key(idempotency_key)
    return Call("POST", f"{_BASE}drop-table", _affected, body, writes=True, idempotency_key=key)


def schema(database: str) -> Call[Schema]:
    return Call("GET", f"{_BASE}schema?database={quote(database, safe='')}", _schema)


def databases() -> Call[tuple[str, ...]]:
    return Call("GET", f"{_BASE}list", _names)


def load(database: str, file: bytes) -> Call[bool]:
    """``file``: a SQLite database; into one that has no tables."""
    path = f"{_BASE}import?database={quote(database, safe='')}"
    return Call("POST", path, _success, file, "application/vnd.sqlite3", writes=True)


def backup(database: str) -> Call[bytes]:
    """A SQLite database. Whoever minds its size reads the answer piece by piece."""
    return Call("GET", f"{_BASE}export?database={quote(database, safe='')}", bytes)


def _key(given: Key) -> str | None:
    """Raises ValueError."""
    if given is True:
        return secrets.token_hex(16)
    if given is False:
        return None
    if not _KEY.fullmatch(given):
        raise ValueError("an idempotency key has 1 to 128 printable ASCII characters, and no space")
    return given


def _rows(body: bytes) -> Rows:
    members, blobs = decoded(body)
    return rows_of(members, blobs=blobs)


def _written(body: bytes) -> Written:
    members, blobs = decoded(body)
    return written_of(members, blobs=blobs)


def _results(body: bytes) -> tuple[Rows | Written, ...]:
    members, blobs = decoded(body)
    results = cast("list[Mapping[str, Any]]", members["results"])
    return tuple(
        written_of(one, blobs=blobs) if "rows_affected" in one else rows_of(one, blobs=blobs) for one in results
    )


def _success(body: bytes) -> bool:
    return orjson.loads(body)["success"] is True


def _affected(body: bytes) -> int:
    return orjson.loads(body)["rows_affected"]


def _schema(body: bytes) -> Schema:
    tables = orjson.loads(body)["tables"]
    return Schema(tuple(Table(one["name"], tuple(one["columns"]), one.get("sql", "")) for one in tables))


def _names(body: bytes) -> tuple[str, ...]:
    return tuple(orjson.loads(body)["databases"])
