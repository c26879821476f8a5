"""The tables of a database: what they are, and an end of one. The law kept here is F82: a table's name is data, quoted as SQLite quotes
names; what the gateway itself keeps there is never shown.
"""

from __future__ import annotations

from typing import Final

import orjson
from attrs import frozen

from runtime.gateway.arguments import Bound
from runtime.gateway.problems import Refusal
from runtime.gateway.rqlite_answers import result_of
from runtime.gateway.sql_rules import OURS
from runtime.gateway.statements import body_of, query_target
from runtime.gateway.upstream_connection import Response

_TABLES: Final = """SELECT m.name, m.sql, (SELECT json_group_array(name) FROM pragma_table_info(m.name)) FROM sqlite_schema AS m
    WHERE m.type = 'table' AND m.name NOT GLOB 'sqlite_*' AND m.name NOT GLOB ? ORDER BY m.name"""


@frozen
class SchemaQuestion:
    """Answers with the JSON body of a schema's answer (R33)."""

    @property
    def body(self) -> bytes:
        return body_of(Bound(_TABLES, [f"{OURS}*"]))

    def target(self, seconds_left: float) -> str:
        return query_target(seconds_left, "weak")

    def answer(self, response: Response) -> bytes:
        rows = result_of(response, write=False).get("values") or ()
        tables = [{"name": name, "columns": orjson.loads(columns), "sql": sql} for name, sql, columns in rows]
        return orjson.dumps({"tables": tables})


def drop_table(name: str) -> str:
    """The statement that drops a table of this name. Raises :class:`Refusal`."""
    if not name or "\0" in name:
        raise Refusal("bad-request", "table_name must be the name of a table")
    return 'DROP TABLE "{}"'.format(name.replace('"', '""'))
