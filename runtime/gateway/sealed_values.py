"""Values of SQLite as rqlited's HTTP has them, by the rules of its SQLite driver (go-sqlite3) and its own. The law kept here: what a client is told
of a sleeping database is what it would be told of the running one; where that cannot be said exactly, nothing is.

- A column declared BOOLEAN has booleans, one declared DATE, DATETIME or TIMESTAMP times as RFC 3339 writes them, of texts and of seconds (or
  milliseconds) since 1970.
- Bytes in a column that is declared as text, or not at all, are a text.
- A column without a declared type has the type of its value in the first row; the rows after it are read by that.
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, cast

import orjson

_TIMES: Final = frozenset({"date", "datetime", "timestamp"})
_TEXTS: Final = frozenset({"", "text", "json"})
_TEXT_BEGINS: Final = ("varchar", "varying character", "nchar", "native character", "nvarchar", "clob")
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?([+-]\d\d:\d\d)?)?)?Z?", re.ASCII
)
_MILLISECONDS: Final = 10**12
"""Beyond it a number is one of milliseconds."""
_LATEST: Final = 2**63 // 10**6
"""Go counts nanoseconds in 64 bits."""
_WHOLE: Final = 2.0**53
_EXPONENT: Final = 1e21
"""From here on Go writes reals with an exponent."""
_KINDS: Final[dict[type, str]] = {int: "integer", float: "real", str: "text", bytes: "text"}


class Inexact(Exception):
    """A value that rqlited would refuse, or write in another way than is known here."""


class Table:
    """The rows of one result. ``described``: name and declared type of each column."""

    def __init__(self, described: Iterable[tuple[str, str | None]]) -> None:
        pairs = list(described)
        self.columns = [name for name, _ in pairs]
        self._declared = [(declared or "").lower() for _, declared in pairs]
        self.types = self._declared.copy()
        self.rows: list[list[Any]] = []

    def add(self, row: tuple[Any, ...]) -> None:
        """Raises :class:`Inexact`."""
        values = [self._of(value, n) for n, value in enumerate(row)]
        if not self.rows:
            self.types = [
                kind or _KINDS.get(type(value), "")
                for kind, value in zip(self.types, cast("tuple[object, ...]", row), strict=True)
            ]
        self.rows.append(values)

    @property
    def result(self) -> dict[str, Any]:
        """As rqlited has it, with bytes as :mod:`runtime.gateway.values` writes them."""
        return {"columns": self.columns, "types": self.types, "values": self.rows}

    def _of(self, value: Any, column: int) -> Any:
        kind = type(cast("object", value))
        if kind is int:
            return _integer(value, self._declared[column])
        if kind is str:
            return _time_of_text(value) if self._declared[column] in _TIMES else value
        if kind is bytes:
            return _octets(value, self.types[column])
        return _real(value) if kind is float else value


def _real(value: float) -> int | float:
    """Go writes a whole number without a point, and reads as one of 64 bits then, if it is one."""
    if not math.isfinite(value):
        raise Inexact("an infinite number, which JSON does not have")
    if not value.is_integer():
        return value
    if abs(value) <= _WHOLE:
        return int(value)
    return orjson.loads(format(Decimal(repr(value)), "f")) if abs(value) < _EXPONENT else value


def _integer(value: int, declared: str) -> Any:
    if declared == "boolean":
        return value > 0
    if declared not in _TIMES:
        return value
    if abs(value) > _LATEST:
        raise Inexact("a time beyond what a time can be")
    seconds, rest = divmod(value, 1000) if abs(value) > _MILLISECONDS else (value, 0)
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        raise Inexact("a time beyond the year 9999") from None
    return _written(moment, f"{rest:03}")


def _time_of_text(text: str) -> str:
    found = _TIME.fullmatch(text)
    if found is None:
        raise Inexact("a text that is no time, in a column of times")
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=_zone(found[8]))
    except ValueError:
        raise Inexact("a text that is no time, in a column of times") from None
    return _written(moment, found[7] or "")


def _zone(offset: str | None) -> timezone:
    if offset is None:
        return UTC
    hours, minutes = int(offset[1:3]), int(offset[4:6])
    if hours > 23 or minutes > 59:
        raise Inexact("a time of no zone")
    ahead = timedelta(hours=hours, minutes=minutes)
    return timezone(-ahead if offset[0] == "-" else ahead)


def _written(moment: datetime, fraction: str) -> str:
    digits = fraction.rstrip("0")
    plain = moment.isoformat(timespec="seconds")
    body, zone = plain[:19], plain[19:]
    return (
        f"{body}.{digits}{'Z' if zone == '+00:00' else zone}" if digits else body + ("Z" if zone == "+00:00" else zone)
    )


def _octets(value: bytes, kind: str) -> Any:
    if kind in _TEXTS or kind.startswith(_TEXT_BEGINS):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Inexact("bytes in a column that is not declared BLOB") from None
    return {"base64": b64encode(value).decode()}
