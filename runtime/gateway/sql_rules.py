"""What no node of a statement may be, on the tree that SQLite's grammar gives. The laws kept here (F82, F85, F90):

- A node, function, pragma, module or table function that :mod:`runtime.gateway.sql_allowed` does not list is refused; so is every schema but
  ``main``, and every name of Torpor's own tables. (SQLAlchemy asks what tables there are in ``temp``: the pragmas that tell are answered,
  there are none.)
- The arguments of a module are SQL in disguise: ``content='pragma_database_list'`` would read where no table reference is seen. Only
  plain columns and known options pass.
- A write in which a common table expression refers to itself is refused: without a limit it never ends. SQLite recurses without
  the word RECURSIVE too, so the reference decides, not the word. A write that joins three sources or more by nothing is refused as well.
  (No rule finds every write that takes for ever; these are the ones that somebody writes by mistake.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, cast

from runtime.gateway import sql_allowed as allowed

Node = dict[str, Any]

OURS: Final = "_torpor_"
"""What the gateway keeps in a database has such names, and is hidden."""
FREE_SOURCES: Final = 3
"""So many sources in one FROM of a write, with nothing that joins them, are a mistake or a bomb: three tables of a thousand rows each are 10⁹ rows."""

_LIST: Final = {"type", "count", "children"}
"""What a node has that is nothing but a list of others."""
_QUOTED: Final = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]"""
_DOUBLED: Final = re.compile(r"""(['"`])\1+""")
_MODULE_ARGUMENT: Final = re.compile(rf"(?:{_QUOTED}|\((?:{_QUOTED}|[^()'\"`\[])*\)|[^,'\"`\[()])+")
_COLUMN: Final = re.compile(rf"\+?(?:\w+|{_QUOTED})(?:\s+\w+)*(?:\s*\(\s*\d+(?:\s*,\s*\d+)?\s*\))?")
_OPTION: Final = re.compile(rf"(\w+)\s*=\s*((?:\w+|{_QUOTED})(?:\s+(?:\w+|{_QUOTED}))*)")
_OPTION_VALUE: Final = re.compile(rf"\w+|{_QUOTED}")


class Forbidden(Exception):
    """A statement that is SQL, but not allowed here; the text is fit for a client."""


def check(node: Node) -> None:
    """One node of any statement. Raises :class:`Forbidden`."""
    if node.keys() == _LIST:
        return
    kind = node["type"]
    if kind not in allowed.NODES:
        raise Forbidden(f"{words(kind)} is not allowed")
    schema = name_of(node.get("schema"))
    if schema not in (None, "main") and not (schema == "temp" and kind == "PragmaStmt"):
        raise Forbidden(f"the schema {schema!r} is not allowed: a database has 'main' alone")
    if node.get("temporary", "NONE") != "NONE":
        raise Forbidden("temporary tables, views and triggers are not allowed: they would vanish with the next sleep")
    if kind != "Literal":
        for value in node.values():
            if isinstance(value, str) and OURS in value[: len(OURS) + 1].lower():
                _check_own(name_of(value) or "")
    if "func_name" in node:
        _check_function(name_of(node["func_name"]))
    if kind == "TableRef":
        _check_table(name_of(node["table_name"]) or "", called=bool(node["has_parens"]))
    elif kind == "PragmaStmt":
        _check_pragma(node)
    elif kind == "VacuumStmt" and node["filename"] is not None:
        raise Forbidden("VACUUM INTO is not allowed")
    elif kind == "CreateVirtualTableStmt":
        _check_module(name_of(node["module_name"]) or "", node["module_args"] or "")


def unending(statement: Node) -> str | None:
    """Why a statement, or a later one that runs a view or trigger of it, is likely not to end (F90): a table expression that refers to
    itself, a product of tables. In one walk, however deep they are nested."""
    inside: Counter[str | None] = Counter()
    todo: list[Any] = [statement]
    while todo:
        item = todo.pop()
        if isinstance(item, tuple):
            inside[cast("tuple[str]", item)[0]] -= 1
        elif isinstance(item, list):
            todo.extend(cast("list[Any]", item))
        elif isinstance(item, dict):
            node = cast("Node", item)
            if node["type"] == "CteDefinition":
                name = name_of(node["cte_name"])
                inside[name] += 1
                todo.append((name,))
            elif node["type"] == "TableRef" and node["schema"] is None and inside[name_of(node["table_name"])]:
                name = name_of(node["table_name"])
                return f"a recursive table expression ({name!r})"
            elif node.get("from_clause") and node["where_clause"] is None:
                free = _free(node["from_clause"]) + (node["type"] == "UpdateStmt")
                if free >= FREE_SOURCES - 1:
                    return f"a join of {free + 1} sources without a condition"
            todo.extend(node.values())
    return None


def nodes(root: Any) -> Iterator[Node]:
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


def name_of(value: Any) -> str | None:
    """An identifier as SQLite compares it: without its quotes, in lower case. The parser has taken some quotes off, and never halves
    doubled ones inside: a run of them counts as one, so that two spellings of a name are never taken for two names."""
    if isinstance(value, dict):
        value = cast("Node", value).get("source")
    if not isinstance(value, str):
        return None
    if len(value) >= 2 and value[0] + value[-1] in ('""', "``", "[]", "''"):
        value = value[1:-1]
    return _DOUBLED.sub(r"\1", value).lower()


def words(kind: str) -> str:
    """A node's type for a reader: ``AttachStmt`` is ATTACH."""
    known = {"TransactionStmt": "BEGIN, COMMIT or ROLLBACK", "SavepointStmt": "SAVEPOINT or RELEASE"}
    return known.get(kind, kind.removesuffix("Stmt").upper())


def _check_own(name: str) -> None:
    if name.startswith(OURS):
        raise Forbidden(f"names that begin with {OURS} are the gateway's own")


def _check_function(name: str | None) -> None:
    if name not in allowed.FUNCTIONS:
        raise Forbidden(f"the function {name!r} is not allowed")


def _check_table(name: str, *, called: bool = False) -> None:
    listed = name in allowed.TABLE_FUNCTIONS
    hidden = name in allowed.HIDDEN_TABLES or name.startswith("pragma_")
    system = name.startswith("sqlite_") and name not in allowed.SYSTEM_TABLES
    if (hidden or system) and not listed:
        raise Forbidden(f"the table {name!r} is not allowed")
    if called and not listed:
        raise Forbidden(f"the table function {name!r} is not allowed (full-text tables are asked with MATCH)")


def _check_pragma(node: Node) -> None:
    name = name_of(node["pragma_name"]) or ""
    bare = node["pragma_form"] == "BARE"
    if name in allowed.PRAGMAS_WITH_ARGUMENT or (bare and name in allowed.PRAGMAS_BARE):
        return
    raise Forbidden(f"PRAGMA {name}{'' if bare else ' with a value'} is not allowed")


def _check_module(module: str, arguments: str) -> None:
    if module not in allowed.MODULES:
        raise Forbidden(f"the module {module!r} is not allowed")
    options = allowed.MODULES[module]
    end = 0
    while end < len(arguments):
        found = _MODULE_ARGUMENT.match(arguments, end)
        if found is None or arguments[found.end() : found.end() + 1] not in ("", ","):
            raise Forbidden(f"an argument of {module!r} is not understood")
        _check_module_argument(module, options, found.group().strip())
        end = found.end() + 1


def _check_module_argument(module: str, options: frozenset[str], argument: str) -> None:
    option = _OPTION.fullmatch(argument)
    if option is None:
        if not _COLUMN.fullmatch(argument):
            raise Forbidden(f"the argument {argument!r} of {module!r} is not understood")
        return
    key, value = option[1].lower(), option[2]
    if key not in options or (key != "tokenize" and not _OPTION_VALUE.fullmatch(value)):
        raise Forbidden(f"the option {argument!r} of {module!r} is not allowed")
    if key == "content":
        source = name_of(value) or ""
        _check_own(source)
        _check_table(source)


def _free(source: Node) -> int:
    """How many joins of a FROM nothing holds: no ON, no USING, no NATURAL, and no function of another's column."""
    free, todo = 0, [source]
    while todo:
        item = todo.pop()
        if item["type"] == "JoinClause":
            free += item["on_expr"] is None and item["using_columns"] is None and not _modified(item, "NATURAL")
            todo += [item["left"], item["right"]]
        elif item["type"] == "ParenTableSource":
            todo.append(item["source"])
        elif item["type"] == "TableRef" and item["has_parens"]:
            free -= 1
    return free


def _modified(join: Node, word: str) -> bool:
    return join["modifiers"] is not None and any(m["kind"] == word for m in join["modifiers"]["children"])
