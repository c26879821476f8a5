"""Which SQL may pass to rqlited, decided on SQLite's own grammar. The law kept here (F82, F85, F86, F88, F90):

- Exactly one statement. Empty ones, comments alone, and text behind the last statement make rqlited 8.26 spin for ever, so what
  is forwarded begins at the first significant token and ends at the last.
- rqlite has no authorizer, so everything that leaves the database's own file is refused (:mod:`runtime.gateway.sql_rules`): ATTACH, DETACH, VACUUM INTO,
  load_extension, other schemas than ``main``; so are transactions that would outlive their request, pragmas that write, and
  whatever :mod:`runtime.gateway.sql_allowed` does not list.
- A write that is likely never to end is refused: it blocks every other write and SIGTERM, and is replayed after a restart. (A read is
  bounded by its own timeout.) One that would differ from copy to copy is settled or refused (:mod:`runtime.gateway.settling`).
- What is neither surely a read nor surely a write is refused.

The parser recovers silently from errors and stops at a NUL, so its diagnostics must be clean and NUL is refused. It is native and
recursive: a text nested some thousand levels deep overflows the stack and kills the process, so the tokens are weighed first.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any, Final

from attrs import define, frozen

from runtime.gateway import sql_allowed as allowed
from runtime.gateway.settling import SETTLED, Unsettled, unsettled
from runtime.gateway.sql_rules import Forbidden, Node, check, nodes, unending, words


@frozen
class Read:
    """Goes to ``/db/query``. ``sql``: from the first to the last significant token. ``ends``: it is a SELECT or VALUES, and surely ends, so
    that it may be part of a transaction that writes (F90)."""

    sql: str
    ends: bool = False


@frozen
class Write:
    """Goes to ``/db/execute``. ``insert``: its last insert id means something; ``definition``: it changes the schema, and rqlite's
    counts are left over from an earlier statement; ``returning``: it answers with rows; ``open``: what has to be settled before it is
    sent."""

    sql: str
    insert: bool = False
    definition: bool = False
    returning: bool = False
    open: Unsettled = SETTLED


@frozen
class Refused:
    """``syntax``: it is no SQL at all; ``deep``: it is nested too deeply; otherwise it is SQL that is not allowed here. ``reason`` is fit for a
    client."""

    reason: str
    syntax: bool = False
    deep: bool = False


Verdict = Read | Write | Refused

CACHED_TEXT: Final = 4_096
"""Characters of the longest text whose verdict is remembered."""
_CACHED: Final = 4_096
_REASON: Final = 200
"""Characters of the longest reason."""

DEPTH: Final = 1_000
"""Levels that a text may have by its tokens; SQLite's own bound for expressions is as much. The parser takes 4 KB of stack for a
level at worst (measured on eighteen shapes), and a stack has 8 MB."""
_LEAVES: Final = frozenset({"number", "string", "parameter", "identifier"})
"""Tokens that hang from a tree and never deepen it. (Not the other way round: ISNULL is no *keyword* to the tokenizer.)"""
_COMPOUND: Final = frozenset({"UNION", "EXCEPT", "INTERSECT"})
_AFTER_FROM: Final = frozenset(
    {"WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "SELECT", "VALUES", "SET", "RETURNING"}
)

_parsers = threading.local()


def vet(sql: str, depth: int = DEPTH) -> Verdict:
    """The verdict on a text; 0.1 µs when it is known, a third of a millisecond for a short one that is not. Thread-safe. For texts
    of hundreds of kilobytes it takes tenths of a second: not for an event loop. ``depth``: at most :data:`DEPTH`."""
    return _vet_cached(sql, depth) if len(sql) <= CACHED_TEXT else _vet(sql, depth)


def load() -> None:
    """Load the parser of this thread now, and not with the first statement."""
    _parser()


def parameters(sql: str) -> list[tuple[int, str]]:
    """Where the parameters of a vetted statement stand, in bytes from its beginning, and their texts."""
    return [(t["offset"], t["text"]) for t in _parser().tokenize(sql) if t["category"] == "parameter"]


def _parser() -> Any:
    parser = getattr(_parsers, "one", None)
    if parser is None:
        import syntaqlite  # 80 ms: after the worker has begun to serve

        parser = _parsers.one = syntaqlite.Syntaqlite()
    return parser


def _vet(sql: str, depth: int) -> Verdict:
    if "\0" in sql:
        return Refused("the statement contains a NUL character", syntax=True)
    parser = _parser()
    try:
        raw = sql.encode()
        tokens = [t for t in parser.tokenize(sql) if _weighs(t)]
        while tokens and tokens[0]["text"] == ";":
            del tokens[0]
        while tokens and tokens[-1]["text"] == ";":
            del tokens[-1]
        if not tokens:
            return Refused("the statement is empty", syntax=True)
        begin = tokens[0]["offset"]
        significant = raw[begin : tokens[-1]["offset"] + tokens[-1]["length"]].decode()
        if _depth(tokens) > depth:
            return Refused(f"the statement is nested more than {depth} levels deep", deep=True)
        errors = [d for d in parser.analyze(significant).diagnostics if d.severity == "error"]
        if errors:
            return Refused(_short(errors[0].message), syntax=True)
        statements = [node for node in parser.parse_raw(significant) if node is not None]
        if len(statements) != 1:
            return Refused(f"exactly one statement is expected, not {len(statements)}")
        return _verdict(statements[0], significant, [t | {"offset": t["offset"] - begin} for t in tokens])
    except UnicodeEncodeError:
        return Refused("the statement is no Unicode text", syntax=True)
    except RecursionError:
        return Refused("the statement is nested too deeply", deep=True)
    except Forbidden as refusal:
        return Refused(_short(str(refusal)))


def _short(reason: str) -> str:
    """Names in it are as long as the client made them."""
    return reason if len(reason) < _REASON else f"{reason[: _REASON - 2]}…"


_vet_cached = lru_cache(_CACHED)(_vet)


def _weighs(token: Node) -> bool:
    """Whether a token is more than space or comment."""
    return token["category"] != "comment" and token["text"].strip(" \t\n\f\r\ufeff") != ""


@define
class _Level:
    """Inside one pair of parentheses: ``chain`` grows with operators and words until a comma ends it, ``compound`` with each UNION;
    in a FROM, commas are joins, which nest."""

    chain: int = 1
    compound: int = 0
    joining: bool = False


def _depth(tokens: list[Node]) -> int:
    """No less than the depth of the tree that the parser will build of these tokens, but for constants."""
    levels = [_Level()]
    depth = deepest = 1
    for token in tokens:
        text, level = token["text"], levels[-1]
        if text == "(":
            levels.append(_Level())
            depth += 1
        elif text == ")" and len(levels) > 1:
            levels.pop()
            depth -= level.chain + level.compound
        elif text in (",", ";") and not level.joining:
            depth -= level.chain - 1
            level.chain = 1
        elif text == "," or not (token["category"] in _LEAVES or text in (".", ")")):
            word = text.upper()
            if word in _COMPOUND:
                level.compound += 1
            else:
                level.chain += 1
            depth += 1
            level.joining = word == "FROM" or (level.joining and word not in _AFTER_FROM)
        deepest = max(deepest, depth)
    return deepest


def _verdict(statement: Node, sql: str, tokens: list[Node]) -> Verdict:
    for node in nodes(statement):
        check(node)
    kind = _kind(statement)
    if kind == "ExplainStmt":
        explained = _kind(statement["stmt"])
        if explained not in allowed.READS:
            raise Forbidden("EXPLAIN is answered for queries only")
        return Read(sql)
    if kind in allowed.READS:
        return Read(sql, ends=unending(statement) is None)
    if kind == "PragmaStmt":
        return Read(sql)
    if kind in allowed.CHANGES or kind in allowed.DEFINITIONS:
        if (why := unending(statement)) is not None:
            raise Forbidden(f"{why} is not allowed in a write")
        definition = kind in allowed.DEFINITIONS
        returning = bool(statement.get("returning"))
        settling = unsettled(statement, tokens, definition=definition)
        return Write(sql, kind == "InsertStmt", definition, returning, settling)
    raise Forbidden(f"{words(kind)} is not allowed")


def _kind(statement: Node) -> str:
    """The type of a statement, behind its WITH."""
    while statement["type"] == "WithClause":
        statement = statement["select"]
    return statement["type"]
