"""Results for a person, or for a program: ``table``, ``csv``, ``json``, ``line``. The law kept here: what a program reads is exact: NULL and an
empty text differ in JSON, blobs are base64 as the gateway has them; what a terminal shows holds nothing that would steer it.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from runtime.client.values import Value

MODES: Final = ("table", "csv", "json", "line")


def write(console: Console, mode: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
    if mode == "table":
        table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
        for column in table.columns:
            column.overflow = "fold"
        for row in rows:
            table.add_row(*map(_shown, row))
        console.print(table, markup=False, highlight=False)
    elif mode == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([["" if value is None else _text(value) for value in row] for row in rows])
        _plain(console, text.getvalue())
    elif mode == "json":
        items = [dict(zip(columns, map(_json, row), strict=True)) for row in rows]
        _plain(console, json.dumps(items, ensure_ascii=False) + "\n")
    else:
        width = max(map(len, columns), default=0)
        for row in rows:
            lines = (f"{name:>{width}} = {_shown(value)}" for name, value in zip(columns, row, strict=True))
            _plain(console, "\n".join(lines) + "\n\n")


def _plain(console: Console, text: str) -> None:
    console.file.write(text)
    console.file.flush()


def _text(value: Value) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _json(value: Value) -> Any:
    return {"base64": _text(value)} if isinstance(value, bytes) else value


def _shown(value: Value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value[:32].hex()}'" + (f"… {len(value)} bytes" if len(value) > 32 else "")
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in str(value))
