r"""What rqlited says of values, as JSON for clients. The law kept here: an answer is exact or a refusal, never something else.

- Integers are exact to 64 bits; for JavaScript, those beyond 2^53 - 1 are texts when asked for. Reals, texts and NULL are what they are.
- Bytes are ``{"base64": "…"}``. rqlited gives them as bytes (``blob_array``) unless their column is declared as text or not at all:
  there they come as text, and where they were no UTF-8 the text is not what is stored. Go writes what it could not read as the
  escape ``\ufffd`` and a true U+FFFD as itself, so that is found, and refused.
- A text in a column declared DATE, DATETIME or TIMESTAMP that is no time comes as the year 1, and is refused.
- Of columns of one name, the second has ``:1`` appended among items, the third ``:2``; rows keep names and order.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any, Final

from attrs import frozen

from runtime.gateway.problems import Refusal

_EXACT: Final = 2**53 - 1
"""The largest integer that a JavaScript number holds, and every smaller one."""
_LOST: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\ufffd")
_TIMES: Final = ("date", "datetime", "timestamp")
_NO_TIME: Final = "0001-01-01T00:00:00Z"


@frozen
class Form:
    """How rows are written. ``rows``: as arrays, with columns and types beside them. ``texts``: integers beyond 2^53 - 1 as texts."""

    rows: bool = False
    texts: bool = False


ITEMS: Final = Form()


def exact(body: bytes) -> bool:
    """Whether this answer of rqlited holds no bytes that it could not write."""
    return b"\\ufffd" not in body or not _LOST.search(body)


def written(result: dict[str, Any], form: Form, *, write: bool = False) -> dict[str, Any]:
    """The members of an answer that hold the rows of one result of rqlited's. ``write``: something was written all the same when this
    raises :class:`Refusal`."""
    columns: list[str] = result.get("columns") or []
    types: list[str] = result.get("types") or []
    rows: list[list[Any]] = result.get("values") or []
    for row in rows:
        if list in map(type, row):
            row[:] = [_blob(value) if type(value) is list else value for value in row]
    if form.texts:
        for row in rows:
            row[:] = [str(v) if type(v) is int and not -_EXACT <= v <= _EXACT else v for v in row]
    for n, declared in enumerate(types):
        if declared in _TIMES and _NO_TIME in (row[n] for row in rows):
            detail = f"column {columns[n]!r} is declared as a time and holds a text that is none: CAST it AS TEXT"
            raise Refusal("value-not-exact", detail, may_have_committed=write)
    if form.rows:
        return {"columns": columns, "types": types, "rows": rows, "count": len(rows)}
    names = distinct(columns)
    return {"items": [dict(zip(names, row, strict=True)) for row in rows], "count": len(rows)}


def _blob(octets: Any) -> dict[str, str]:
    return {"base64": b64encode(bytes(octets)).decode()}


def distinct(columns: list[str]) -> list[str]:
    """The same names, each once."""
    if len(set(columns)) == len(columns):
        return columns
    taken = set(columns)
    seen: dict[str, int] = {}
    names: list[str] = []
    for column in columns:
        name = column
        if column in seen:
            n = seen[column]
            while (name := f"{column}:{n}") in taken:
                n += 1
            taken.add(name)
            seen[column] = n + 1
        else:
            seen[column] = 1
        names.append(name)
    return names
