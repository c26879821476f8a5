"""Values between Python and the gateway's JSON, and the frozen results that a call gives.

The law kept here: what SQLite stores is what Python gets, and the other way round: integers exact to 64 bits, reals as floats (JSON writes
1.0 as 1: a column of REAL affinity gives it back), texts, blobs as bytes, NULL as None. What SQLite cannot store as it is, is refused
before anything is sent.

Three things are rqlited's: a column declared BOOLEAN gives bools; a time in one declared DATE, DATETIME or TIMESTAMP comes in UTC, and is given
back as SQLite's own functions write it (2026-01-31 12:00:00), however it was written; bytes in a column that is declared otherwise than BLOB are
refused by the gateway, since it cannot tell them exactly.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import orjson
from attrs import frozen

Value: TypeAlias = int | float | str | bytes | None
"""A cell, or an argument."""
Arguments: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
"""For ``?``, or for ``:name``: values, and what passes for one: bool, bytearray, memoryview."""

_BLOB: Final = "base64"
_TIMES: Final = ("date", "datetime", "timestamp")
_TOLD: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d(?:\.\d+)?)Z")
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


@frozen
class Rows:
    """What a read gives. ``columns`` may repeat a name; ``types``: as declared, "" where nothing is declared. ``age_s``: how old the
    answer may be, in seconds, if it comes from the copy of a sleeping database; else None."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    age_s: float | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Value, ...]]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> tuple[Value, ...]:
        return self.rows[index]

    def dicts(self) -> list[dict[str, Value]]:
        """Each row by its columns' names; of several alike, the last one's value."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def first(self) -> dict[str, Value] | None:
        """The first row by its columns' names; None when there is none."""
        return dict(zip(self.columns, self.rows[0], strict=True)) if self.rows else None

    def scalar(self) -> Value:
        """The first value of the first row; None when there is none."""
        return self.rows[0][0] if self.rows else None


@frozen
class Written:
    """What a write gives. ``last_insert_id``: of an INSERT that inserted, else 0. ``returned``: the rows of RETURNING. ``repeated``: it was
    done before, under the same idempotency key, and not again now."""

    rows_affected: int
    last_insert_id: int = 0
    returned: Rows | None = None
    repeated: bool = False


@frozen
class Table:
    """A table as its database declares it."""

    name: str
    columns: tuple[str, ...]
    sql: str = ""


@frozen
class Schema:
    tables: tuple[Table, ...]

    def __getitem__(self, name: str) -> Table:
        """Raises KeyError."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(table.name == name for table in self.tables)


def json_of(arguments: Arguments) -> list[Any] | dict[str, Any]:
    """Arguments as the gateway takes them. Raises TypeError and ValueError for what SQLite cannot store."""
    if arguments is None:
        return []
    if isinstance(arguments, Mapping):
        return {name: _json(value) for name, value in arguments.items()}
    if isinstance(arguments, (str, bytes, bytearray, memoryview)):
        raise TypeError("arguments are a sequence or a mapping of values, not a single value")
    return [_json(value) for value in arguments]


def _json(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        number = int(value)
        if not _LEAST <= number <= _MOST:
            raise ValueError("SQLite's integers have 64 bits")
        return number
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError("an infinite number cannot be sent: JSON has none")
        return None if math.isnan(value) else float(value)  # as SQLite itself stores NaN
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {_BLOB: base64.b64encode(cast("bytes", value)).decode()}
    raise TypeError(f"SQLite stores no {type(value).__name__}")


def rows_of(members: Mapping[str, Any], *, blobs: bool) -> Rows:
    """Of an answer in the form ``rows``. ``blobs``: whether there may be any (the search for them is skipped otherwise)."""
    columns = tuple(cast("list[str]", members["columns"]))
    types = tuple(cast("list[str]", members["types"]))
    rows = cast("list[list[Any]]", members["rows"])
    reals = [index for index, declared in enumerate(types) if _is_real(declared)]
    times = [index for index, declared in enumerate(types) if declared in _TIMES]
    for row in rows if blobs or reals or times else ():
        if blobs:
            row[:] = map(_cell, row)
        for index in reals:
            if type(row[index]) is int:
                row[index] = float(row[index])
        for index in times:
            if isinstance(row[index], str):
                row[index] = _time(row[index], types[index])
    return Rows(columns, types, tuple(map(tuple, rows)), members.get("age_s"))


def written_of(members: Mapping[str, Any], *, blobs: bool) -> Written:
    returned = rows_of(members, blobs=blobs) if "columns" in members else None
    return Written(
        members["rows_affected"], members["last_insert_id"], returned, repeated=members.get("repeated") is True
    )


def decoded(body: bytes) -> tuple[Any, bool]:
    """A JSON body, and whether it may hold blobs."""
    return orjson.loads(body), b'"base64"' in body


def _cell(cell: Any) -> Value:
    return base64.b64decode(cast("dict[str, str]", cell)[_BLOB]) if type(cell) is dict else cell


def _time(text: str, declared: str) -> str:
    """As SQLite's own functions write it."""
    told = _TOLD.fullmatch(text)
    if told is None:
        return text
    day, time = told.groups()
    return day if declared == "date" and time == "00:00:00" else f"{day} {time}"


def _is_real(declared: str) -> bool:
    """Whether a column has REAL affinity, by the rules of SQLite (https://www.sqlite.org/datatype3.html, 3.1)."""
    name = declared.upper()
    if "INT" in name or any(part in name for part in ("CHAR", "CLOB", "TEXT", "BLOB")):
        return False
    return any(part in name for part in ("REAL", "FLOA", "DOUB"))
