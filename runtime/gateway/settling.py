"""What differs from copy to copy is settled before a write is sent. The law kept here: an acknowledged write means the same on every
copy of a database, and after each replay of its log (F86).

Every rqlited of a database runs each write by itself, and again when it starts after a crash: ``random()`` and ``datetime('now')`` would
give other values each time, and an acknowledged row would change. (Measured on 8.26.8. rqlite itself rewrites some calls of random() and
none of the time, and does it by a parser that crashes on DEFAULT (random()).) So in INSERT, UPDATE and DELETE:

- the time now, however it is asked for, and ``random()`` become literals, one moment for a whole statement; ``randomblob(n)`` too, with a
  literal size;
- what cannot be settled so is refused: ``random()`` in ORDER BY, the local time zone, what counts the life of a process;
- ``last_insert_rowid()`` tells of an earlier statement: inside one transaction it is certain, elsewhere it is not, and is not anyone's
  business (``follows``). ``changes()`` would tell of ours, for an idempotency key, and is refused outside of triggers.

A definition (default, trigger, view) cannot be settled, since it is evaluated with later statements: there all of it is refused.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, Final

from attrs import frozen

from runtime.gateway.sql_rules import Forbidden, Node, name_of, nodes

RANDOM_BYTES: Final = 1_024
"""The largest ``randomblob(n)`` in a write: it goes into the log as text."""

_CLOCKS: Final = {"current_timestamp": "%Y-%m-%d %H:%M:%S", "current_date": "%Y-%m-%d", "current_time": "%H:%M:%S"}
_TIME: Final = frozenset({"date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"})
_LATER: Final = frozenset({"strftime", "timediff"})
"""Those whose second argument is, or may be, a time."""
_PRESENT: Final = frozenset({"now", "subsec", "subsecond", "localtime", "utc"})
"""Texts that mean the present, or a machine's time zone, to a function of time."""
_PLAINLY: Final = "a write has to be the same on every copy: write the present as 'now' or CURRENT_TIMESTAMP, and random() and randomblob(n) plainly"
_OF_THE_PROCESS: Final = frozenset({"total_changes", "sqlite_version"})
_LAST_ID: Final = "last_insert_rowid"

Entropy = Callable[[int], bytes]
"""So many random bytes."""


@frozen
class Gap:
    """What is put at ``start``–``end`` of a statement's UTF-8 text. ``kind``: ``random``, ``randomblob`` (of ``size`` bytes), ``now``, or one of
    SQLite's three names of the present."""

    kind: str
    start: int
    end: int
    size: int = 0


@frozen
class Unsettled:
    """What a write leaves open. ``follows``: it asks about an earlier statement of its transaction. ``dated``: a function of time takes a
    parameter or a column, which must not say ``now``."""

    gaps: tuple[Gap, ...] = ()
    follows: bool = False
    dated: bool = False


SETTLED: Final = Unsettled()


def unsettled(statement: Node, tokens: list[Node], *, definition: bool) -> Unsettled:
    """What has to be settled; ``tokens``: those of the statement without space and comments, with offsets in its UTF-8 text.
    Raises :class:`Forbidden` for what cannot be."""
    wanted: Counter[str] = Counter()
    follows = dated = False
    trigger = statement["type"] == "CreateTriggerStmt"
    for node in nodes(statement):
        if node["type"] == "Literal" and node["literal_type"] == "CURRENT":
            wanted[_lower(node["source"])] += 1
        elif node["type"] == "OrderingTerm":
            _check_ordering(node)
        elif node["type"] == "FunctionCall":
            name = name_of(node["func_name"]) or ""
            if name in _OF_THE_PROCESS:
                raise Forbidden(f"{name}() in a write would differ from copy to copy of the database")
            if name == "changes" and not trigger:
                raise Forbidden("changes() in a write is not certain: count by RETURNING, or by what the answer says")
            if name == _LAST_ID and not trigger:
                follows = True
            elif name in ("random", "randomblob"):
                wanted[name] += 1
            elif name in _TIME:
                now, loose = _times(name, _arguments(node))
                wanted["now"] += now
                dated = dated or loose
    wanted = +wanted
    if definition:
        if wanted or follows:
            what = next(iter(wanted), _LAST_ID)
            raise Forbidden(
                f"{what} in a definition would be evaluated on every copy of the database, and again after a crash: "
                "give it in the statement that writes"
            )
        return SETTLED
    gaps = _gaps(tokens) if wanted else ()
    if Counter(gap.kind for gap in gaps) != wanted:
        raise Forbidden(_PLAINLY)
    return Unsettled(gaps, follows, dated) if gaps or follows or dated else SETTLED


def settled_now(sql: str, open_: Unsettled, args: Collection[Any], *, first: bool) -> str:
    """The text that goes to rqlited, at this moment. ``args``: the statement's arguments. ``first``: no other statement of the same
    transaction is before it. Raises :class:`Forbidden`."""
    if open_.follows and first:
        raise Forbidden(f"{_LAST_ID}() tells of an earlier statement of the same transaction, and there is none")
    if open_.dated and any(isinstance(value, str) and value.lower() in _PRESENT for value in args):
        raise Forbidden("write 'now' in the statement, not in its arguments: a write has to be the same on every copy")
    return settle(sql, open_.gaps, datetime.now(UTC), os.urandom) if open_.gaps else sql


def settle(sql: str, gaps: tuple[Gap, ...], moment: datetime, entropy: Entropy) -> str:
    """The text that goes to rqlited. ``moment``: the present, in UTC."""
    raw = sql.encode()
    parts: list[bytes] = []
    end = 0
    for gap in gaps:
        parts += (raw[end : gap.start], _literal(gap, moment, entropy).encode())
        end = gap.end
    return b"".join((*parts, raw[end:])).decode()


def _literal(gap: Gap, moment: datetime, entropy: Entropy) -> str:
    if gap.kind == "random":
        return f"({int.from_bytes(entropy(8), 'big', signed=True)})"
    if gap.kind == "randomblob":
        return f"x'{entropy(gap.size).hex()}'"
    if gap.kind == "now":
        return f"'{moment.isoformat(' ', 'milliseconds')[:23]}'"
    return f"'{moment.strftime(_CLOCKS[gap.kind])}'"


def _arguments(call: Node) -> list[Node]:
    return call["args"]["children"] if call["args"] else []


def _times(name: str, given: list[Node]) -> tuple[int, bool]:
    """How often a call asks for the present, and whether it may do so by a parameter or a column. Raises :class:`Forbidden`."""
    first, times = {"strftime": (1, 1), "timediff": (0, 2)}.get(name, (0, 1))
    if len(given) <= first:
        if name in _LATER:
            raise Forbidden(f"{name}() without a time is not allowed in a write: give it 'now'")
        return 1, False
    now, loose = 0, False
    for i, argument in enumerate(given[first:]):
        text = _text(argument)
        if text is None:
            loose = loose or argument["type"] != "Literal"
            if any(_text(inner) in _PRESENT for inner in nodes(argument)):
                raise Forbidden(_PLAINLY)
        elif text == "now" and i < times:
            now += 1
        elif text in _PRESENT and (text not in ("subsec", "subsecond") or i < times):
            raise Forbidden(f"{text!r} is not allowed here in a write: copies of the database would differ")
    return now, loose


def _text(argument: Node) -> str | None:
    """The text of a literal in lower case. SQLite takes an unknown column in double quotes for one too (the parser has taken them off)."""
    if argument["type"] == "Literal" and argument["literal_type"] == "STRING":
        return name_of(argument["source"])
    if argument["type"] == "ColumnRef" and argument["table"] is None:
        column = name_of(argument["column"])
        return column if column in _PRESENT else None
    return None


def _check_ordering(term: Node) -> None:
    for node in nodes(term):
        if node["type"] == "FunctionCall" and name_of(node["func_name"]) in ("random", "randomblob"):
            raise Forbidden("random() in ORDER BY is not allowed in a write: copies of the database would differ")


def _gaps(tokens: list[Node]) -> tuple[Gap, ...]:
    """Where the calls are that the tree has. Whether none is missed is for the caller to see, by their number."""
    texts = [_lower(name_of(t["text"]) or "") if t["category"] != "string" else t["text"].lower() for t in tokens]
    found: list[Gap] = []
    for i, token in enumerate(tokens):
        before, after = texts[max(0, i - 4) : i], texts[i + 1 : i + 4]
        start, end = token["offset"], token["offset"] + token["length"]
        if texts[i] in _CLOCKS and token["category"] == "keyword":
            found.append(Gap(texts[i], start, end))
        elif texts[i] == "random" and after[:2] == ["(", ")"]:
            found.append(Gap("random", start, _end(tokens[i + 2])))
        elif texts[i] == "randomblob" and after[:1] == ["("] and after[2:] == [")"]:
            if not after[1].isdecimal() or not 0 < len(after[1]) < 5 or int(after[1]) > RANDOM_BYTES:
                raise Forbidden(f"in a write, randomblob() needs a plain size of at most {RANDOM_BYTES}")
            found.append(Gap("randomblob", start, _end(tokens[i + 3]), max(1, int(after[1]))))
        elif texts[i] == "'now'" and (
            (before[-1:] == ["("] and before[-2:-1] and before[-2] in _TIME)
            or (before[-1:] == [","] and before[1:2] == ["("] and before[0] in _LATER)
        ):
            found.append(Gap("now", start, end))
        elif texts[i] == ")" and before[-1:] == ["("] and before[-2:-1] and before[-2] in _TIME:
            found.append(Gap("now", start, start))
    return tuple(found)


def _end(token: Node) -> int:
    return token["offset"] + token["length"]


def _lower(text: str) -> str:
    return text.lower()
