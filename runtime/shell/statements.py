"""Where a statement ends, by SQLite's own word. The law kept here: a semicolon in a text, a comment or a trigger ends nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator


def complete(text: str) -> bool:
    """Whether nothing is missing at its end."""
    return sqlite3.complete_statement(text)


def statements(lines: Iterable[str]) -> Iterator[str]:
    """One after the other, as soon as it is there. The last one may lack its semicolon. Lines that begin with a dot, between two
    statements, are the shell's own."""
    held = ""
    for line in (line for text in lines for line in text.splitlines(keepends=True)):
        if not held.strip() and line.lstrip().startswith("."):
            yield line.strip()
            held = ""
        else:
            *ended, held = _split(held + line)
            yield from ended
    if held.strip():
        yield held.strip()


def _split(text: str) -> Iterator[str]:
    """The statements that have ended, and what is left."""
    begin = 0
    at = text.find(";")
    while at >= 0:
        if complete(text[begin : at + 1]):
            if text[begin:at].strip():
                yield text[begin : at + 1].strip()
            begin = at + 1
        at = text.find(";", at + 1)
    yield text[begin:]
