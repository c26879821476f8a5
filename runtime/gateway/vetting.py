"""Which SQL may pass to rqlited, decided on SQLite's own grammar. The law kept here (F82, F85, F86, F88, F90):

- Exactly one statement. Empty ones, comments alone, and text behind the last statement make rqlited 8.26 spin for ever, so what
  is forwarded begins at the first significant token and ends at the last.
- rqlite has no authorizer, so everything that leaves the database's own file is refused here: ATTACH, DETACH, VACUUM INTO,
  load_extension, other schemas than ``main``; so are transactions that would outlive their request, pragmas that write, and
  whatever :mod:`runtime.gateway.sql_allowed` does not list.
- A write in which a common table expression refers to itself is refused: without a limit it never ends, blocks every other
  write and SIGTERM, and is replayed after a restart. SQLite recurses without the word RECURSIVE too, so the reference
  decides, not the word. (In a read it is bounded by the read's own timeout.)
- What is neither surely a read nor surely a write is refused.

The parser recovers silently from errors and stops at a NUL, so its diagnostics must be clean and NUL is refused. It is native and
recursive: a text nested some thousand levels deep overflows the stack and kills the process, so the tokens are weighed first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, cast

from attrs import define, frozen

from runtime.gateway import sql_allowed as allowed


@frozen
class Read:
    """Goes to ``/db/query``. ``sql``: from the first to the last significant token. ``ends``: it is a SELECT or VALUES, and surely ends, so
    that it may be part of a transaction that writes (F90)."""

    sql: str
    ends: bool = False


@frozen
class Write:
    """Goes to ``/db/execute``. ``insert``: its last insert id means something; ``definition``: it changes the schema, and rqlite's
    counts are left over from an earlier statement; ``returning``: it answers with rows."""

    sql: str
    insert: bool = False
    definition: bool = False
    returning: bool = False


@frozen
class Refused:
    """``syntax``: it is no SQL at all; ``deep``: it is nested too deeply; otherwise it is SQL that is not allowed here. ``reason`` is fit for a
    client."""

    reason: str
    syntax: bool = False
    deep: bool = False


Verdict = Read | Write | Refused

Node = dict[str, Any]

CACHED_TEXT: Final = 4_096
"""Characters of the longest text whose verdict is remembered."""
_CACHED: Final = 4_096

OURS: Final = "_torpor_"
"""What the gateway keeps in a database has such names, and is hidden."""

DEPTH: Final = 1_000
"""Levels that a text may have by its tokens; SQLite's own bound for expressions is as much. The parser takes 4 KB of stack for a
level at worst (measured on eighteen shapes), and a stack has 8 MB."""
_LEAVES: Final = frozenset({"number", "string", "parameter", "identifier"})
"""Tokens that hang from a tree and never deepen it. (Not the other way round: ISNULL is no *keyword* to the tokenizer.)"""
_COMPOUND: Final = frozenset({"UNION", "EXCEPT", "INTERSECT"})
_AFTER_FROM: Final = frozenset(
    {"WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "SELECT", "VALUES", "SET", "RETURNING"}
)

_LIST: Final = {"type", "count", "children"}
"""What a node has that is nothing but a list of others."""

_parsers = threading.local()


class _Refusal(Exception):
    pass


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
        tokens = [t for t in parser.tokenize(sql) if _weighs(t)]
        significant = _significant(sql, tokens)
        if not significant:
            return Refused("the statement is empty", syntax=True)
        if any((_name(t["text"]) or "").startswith(OURS) for t in tokens):
            return Refused(f"names that begin with {OURS} are the gateway's own")
        if _depth(tokens) > depth:
            return Refused(f"the statement is nested more than {depth} levels deep", deep=True)
        errors = [d for d in parser.analyze(significant).diagnostics if d.severity == "error"]
        if errors:
            return Refused(errors[0].message, syntax=True)
        statements = [node for node in parser.parse_raw(significant) if node is not None]
        if len(statements) != 1:
            return Refused(f"exactly one statement is expected, not {len(statements)}")
        return _verdict(statements[0], significant)
    except RecursionError:
        return Refused("the statement is nested too deeply", deep=True)
    except _Refusal as refusal:
        return Refused(str(refusal))


_vet_cached = lru_cache(_CACHED)(_vet)


def _weighs(token: Node) -> bool:
    """Whether a token is more than space or comment."""
    return token["category"] != "comment" and token["text"].strip(" \t\n\f\r\ufeff") != ""


def _significant(sql: str, tokens: list[Node]) -> str:
    """The text from the first token to the last, without semicolons at either end."""
    weighty = [t for t in tokens if t["text"] != ";"]
    if not weighty:
        return ""
    raw = sql.encode()
    return raw[weighty[0]["offset"] : weighty[-1]["offset"] + weighty[-1]["length"]].decode()


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


def _verdict(statement: Node, sql: str) -> Verdict:
    for node in _nodes(statement):
        _check(node)
    kind = _kind(statement)
    if kind == "ExplainStmt":
        explained = _kind(statement["stmt"])
        if explained not in allowed.READS:
            raise _Refusal("EXPLAIN is answered for queries only")
        return Read(sql)
    if kind in allowed.READS:
        return Read(sql, ends=_recursive(statement) is None)
    if kind == "PragmaStmt":
        return Read(sql)
    if kind in allowed.CHANGES or kind in allowed.DEFINITIONS:
        _check_ends(statement)
        definition = kind in allowed.DEFINITIONS
        returning = bool(statement.get("returning"))
        return Write(sql, insert=kind == "InsertStmt", definition=definition, returning=returning)
    raise _Refusal(f"{_words(kind)} is not allowed")


def _kind(statement: Node) -> str:
    """The type of a statement, behind its WITH."""
    while statement["type"] == "WithClause":
        statement = statement["select"]
    return statement["type"]


def _nodes(root: Any) -> Iterator[Node]:
    """Every node of a tree, without recursion."""
    todo: list[Any] = [root]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            node = cast("Node", item)
            yield node
            todo.extend(node.values())
        elif isinstance(item, list):
            todo.extend(cast("list[Any]", item))


def _check(node: Node) -> None:
    if node.keys() == _LIST:
        return
    kind = node["type"]
    if kind not in allowed.NODES:
        raise _Refusal(f"{_words(kind)} is not allowed")
    schema = _name(node.get("schema"))
    if schema not in (None, "main"):
        raise _Refusal(f"the schema {schema!r} is not allowed: a database has 'main' alone")
    if node.get("temporary", "NONE") != "NONE":
        raise _Refusal("temporary tables, views and triggers are not allowed: they would vanish with the next sleep")
    if "func_name" in node:
        _check_function(_name(node["func_name"]))
    if kind == "TableRef":
        _check_table(_name(node["table_name"]) or "")
    elif kind == "PragmaStmt":
        _check_pragma(node)
    elif kind == "VacuumStmt" and node["filename"] is not None:
        raise _Refusal("VACUUM INTO is not allowed")
    elif kind == "CreateVirtualTableStmt" and _name(node["module_name"]) not in allowed.MODULES:
        raise _Refusal(f"the module {_name(node['module_name'])!r} is not allowed")


def _check_function(name: str | None) -> None:
    if name not in allowed.FUNCTIONS:
        raise _Refusal(f"the function {name!r} is not allowed")


def _check_table(name: str) -> None:
    if name in allowed.HIDDEN_TABLES or (name.startswith("pragma_") and name not in allowed.PRAGMA_TABLES):
        raise _Refusal(f"the table {name!r} is not allowed")


def _check_pragma(node: Node) -> None:
    name = _name(node["pragma_name"]) or ""
    bare = node["pragma_form"] == "BARE"
    if name in allowed.PRAGMAS_WITH_ARGUMENT or (bare and name in allowed.PRAGMAS_BARE):
        return
    raise _Refusal(f"PRAGMA {name}{'' if bare else ' with a value'} is not allowed")


def _check_ends(statement: Node) -> None:
    """Refuse a write, or a view or trigger that a later write could run, with a table expression that refers to itself (F90)."""
    if (name := _recursive(statement)) is not None:
        raise _Refusal(f"a recursive table expression ({name!r}) is not allowed in a write")


def _recursive(statement: Node) -> str | None:
    """The name of a table expression that refers to itself."""
    for node in _nodes(statement):
        if node["type"] != "CteDefinition":
            continue
        name = _name(node["cte_name"])
        for inner in _nodes(node["select"]):
            if inner["type"] == "TableRef" and inner["schema"] is None and _name(inner["table_name"]) == name:
                return name
    return None


def _name(value: Any) -> str | None:
    """An identifier as SQLite compares it: without its quotes, in lower case."""
    if isinstance(value, dict):
        value = cast("Node", value).get("source")
    if not isinstance(value, str):
        return None
    if len(value) >= 2 and value[0] + value[-1] in ('""', "``", "[]", "''"):
        value = value[1:-1]
    return value.lower()


def _words(kind: str) -> str:
    """A node's type for a reader: ``AttachStmt`` is ATTACH."""
    known = {"TransactionStmt": "BEGIN, COMMIT or ROLLBACK", "SavepointStmt": "SAVEPOINT or RELEASE"}
    return known.get(kind, kind.removesuffix("Stmt").upper())
