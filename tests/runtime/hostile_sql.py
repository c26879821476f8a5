"""Statements that a stranger might send, made by a grammar with a taste for the dangerous. A seed gives the same ones everywhere.

What is grown is mostly good SQL, so that it comes past the parser and meets the rules; then some of it is spoilt: words are swapped, cut,
doubled, quoted, joined by odd space. Files are named with ``MARK``, so that one that appears anywhere is found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

MARK = "hostile-footprint"

TABLES = ("t", "u", "main.t", "v", "notes", "boxes", '"t"', "[u]", "`t`", "T", "sqlite_schema", "sqlite_sequence")
TRAPS = (
    "sqlite_dbpage", "dbstat", "sqlite_stmt", "temp.t", "other.t", "sqlite_temp_schema", "pragma_database_list", '"pragma_Database_list"', "_torpor_idempotency",
    "[_TORPOR_x]", "'dbstat'", "generate_series(1, 9223372036854775807)", "json_each('[1, 2]')", "json_tree(?)", "pragma_table_info('t')", "t('x')", "fsdir('/')",
    "pragma_wal_checkpoint('TRUNCATE')", "fts3tokenize('simple', 'a')", "notes('x')", "readfile('/etc/passwd')", "carray(?, 5)",
)  # fmt: skip
TARGETS = (
    "t",
    "t",
    "u",
    "main.t",
    "[u]",
    "notes",
    "boxes",
    "scratch",
    "v",
    "sqlite_sequence",
    "_torpor_idempotency",
    "other.t",
    "dbstat",
    "sqlite_schema",
)
SET = ("a", "b", "a", "b", "(a, b)", "id", "nope")
COLUMNS = (
    "a",
    "b",
    "id",
    "rowid",
    "t.a",
    "a",
    "b",
    '"a"',
    "[b]",
    "body",
    "current_date",
    "_rowid_",
    "nope",
    "excluded.a",
    "new.a",
    "old.b",
)
LITERALS = (
    "1", "-1", "0", "NULL", "'x'", "''", "x'00ff'", "1e308", "9223372036854775807", "-9223372036854775808", "0x7f", "'now'", "'localtime'", '"now"', "'é'", "TRUE",
    "CURRENT_TIMESTAMP", "current_time", "?", "?1", "?3", ":a", "@b", "$c", "?32766", "?99999", "'%'", "'[1,2]'", "'{\"a\":1}'", f"'{MARK}.db'",
)  # fmt: skip
CALLS = (
    "abs", "random", "randomblob", "zeroblob", "hex", "count", "sum", "max", "group_concat", "date", "datetime", "strftime", "julianday", "timediff", "unixepoch",
    "printf", "format", "replace", "substr", "char", "quote", "typeof", "json_extract", "json_group_array", "row_number", "lag", "total_changes", "changes",
    "last_insert_rowid", "sqlite_version", "likelihood", "iif", "highlight", "snippet", "matchinfo", "bm25", "match", "like", "glob", "unhex", "nth_value",
)  # fmt: skip
TRAP_CALLS = (
    "load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "sqlite_log", "sqlite_compileoption_get", "rtreecheck", "rtreenode", "fts5", "optimize",
    "auth_user_add", "authenticate", "sqlite_source_id", "eval", '"load_extension"', "[writefile]", "sha3", "rqlite", "generate_series",
)  # fmt: skip
OPERATORS = (
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "=",
    "<>",
    "<",
    "AND",
    "OR",
    "IS",
    "IS NOT",
    "LIKE",
    "GLOB",
    "MATCH",
    "REGEXP",
    "->",
    "->>",
    "&",
    "<<",
    "COLLATE nocase +",
)
PRAGMAS = (
    "table_info(t)", "table_list", "database_list", "journal_mode", "journal_mode = OFF", "user_version", "user_version = 7", "writable_schema = ON", "query_only = 0",
    "foreign_key_check", "integrity_check", "temp_store_directory = '/tmp'", "wal_checkpoint(TRUNCATE)", "synchronous = OFF", "max_page_count = 1", "recursive_triggers = 1",
    "trusted_schema = 0", "locking_mode = EXCLUSIVE", "mmap_size = 1", "compile_options", "data_version", "optimize", "incremental_vacuum", "shrink_memory", "encoding",
    "index_list('t')", "\"TABLE_INFO\"('t')", "main.user_version", "temp.user_version", "schema_version = 0", "secure_delete(1)", "hard_heap_limit = 1", "key = 'x'",
)  # fmt: skip
PLAIN = (
    f"ATTACH '{MARK}.db' AS x", f"ATTACH DATABASE '{MARK}.db' AS y", "DETACH x", f"VACUUM INTO '{MARK}.db'", "VACUUM", f"VACUUM main INTO '{MARK}.db'", "BEGIN", "BEGIN EXCLUSIVE",
    "COMMIT", "END", "ROLLBACK", "SAVEPOINT s", "RELEASE s", "ROLLBACK TO s", "REINDEX", "ANALYZE", "ANALYZE t", "REINDEX nocase", "", ";", "--", "/* */", "/*", "EXPLAIN", "WITH",
    "SELECT", "CREATE", "DROP TABLE IF EXISTS scratch", ".tables", ".shell id", "SELECT 1;;", "\ufeffSELECT 1", "SELECT\u00a01", "SELECT 1\x00", "\u2028SELECT 1", "SELECT '\ud800'",
)  # fmt: skip
MODULES = (
    "fts5(body)", "fts5(body, content='t')", "fts5(file, content='pragma_database_list')", "fts4(body)", 'fts4(content="sqlite_dbpage")', "rtree(id, lo, hi)",
    f"csv(filename='{MARK}.db')", "dbstat(main)", "fts5vocab(notes, 'row')", "fts5(body, tokenize='trigram')", "fts4(a, compress=hex)", "fts5(body, content='')",
    "fts4aux(notes)", "fts5(a b c d = e)", "rtree_i32(id, lo, hi, +note)", "fts5(body, content_rowid='id', content='_torpor_x')", "generate_series", "fts5(body, rank='x(')",
)  # fmt: skip
COMMANDS = (
    "rebuild",
    "optimize",
    "integrity-check",
    "delete-all",
    "merge",
    "automerge",
    "crisismerge",
    "pgsz",
    "rank",
    "secure-delete",
    "hashsize",
    "flush",
    "x",
)
SPACE = (" ", " ", " ", " ", "\n", "\t", "/**/", " /* x */ ", "--\n", "\f", "\r\n", "\u00a0", "  ", "\v")


class Stranger:
    """``rng``: of a seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._statements: tuple[tuple[Callable[[], str], int], ...] = (
            (self._select, 22), (self._insert, 20), (self._update, 9), (self._delete, 7), (self._create, 16), (self._alter, 5), (self._pragma, 8),
            (self._command, 5), (self._explain, 3), (lambda: self._one(PLAIN), 8), (self._bomb, 4),
        )  # fmt: skip

    def statements(self, number: int) -> Iterator[str]:
        """So many, none twice."""
        seen: set[str] = set()
        makers, weights = zip(*self._statements, strict=True)
        while len(seen) < number:
            text = self._spoilt(self._rng.choices(makers, weights)[0]())
            if text not in seen:
                seen.add(text)
                yield text

    # Parts.

    def _one(self, of: tuple[str, ...]) -> str:
        return self._rng.choice(of)

    def _often(self, likely: float, text: Callable[[], str]) -> str:
        return text() if self._rng.random() < likely else ""

    def _list(self, part: Callable[[], str], most: int) -> str:
        return ", ".join(part() for _ in range(self._rng.randint(1, most)))

    def _table(self) -> str:
        return self._one(TRAPS if self._rng.random() < 0.12 else TABLES)

    def _expression(self, depth: int = 3) -> str:
        deeper = lambda: self._expression(depth - 1)  # noqa: E731
        kind = self._rng.random() if depth > 0 else self._rng.random() * 0.45
        if kind < 0.25:
            return self._one(LITERALS)
        if kind < 0.45:
            return self._one(COLUMNS)
        if kind < 0.65:
            return f"{deeper()} {self._one(OPERATORS)} {deeper()}"
        if kind < 0.82:
            name = self._one(TRAP_CALLS if self._rng.random() < 0.15 else CALLS)
            given = self._often(0.85, lambda: self._list(deeper, 3))
            over = self._often(
                0.1,
                lambda: (
                    f" OVER (PARTITION BY {deeper()} ORDER BY {deeper()} ROWS {self._one(('1', '?', '1e9'))} PRECEDING)"
                ),
            )
            return f"{name}({self._often(0.05, lambda: 'DISTINCT ')}{given}){self._often(0.05, lambda: f' FILTER (WHERE {deeper()})')}{over}"
        if kind < 0.90:
            return f"({self._query(depth - 1, 1)})"
        return self._rng.choice(
            [
                lambda: f"CASE WHEN {deeper()} THEN {deeper()} ELSE {deeper()} END",
                lambda: f"CAST({deeper()} AS {self._one(('INT', 'TEXT', 'BLOB', 'x(1,2)'))})",
                lambda: f"{deeper()} IN ({self._list(deeper, 3)})",
                lambda: f"{deeper()} IN {self._table()}",
                lambda: f"EXISTS ({self._query(depth - 1)})",
                lambda: f"NOT {deeper()} BETWEEN {deeper()} AND {deeper()}",
                lambda: f"({deeper()}, {deeper()}) = ({deeper()}, {deeper()})",
                lambda: "(" * 40 + deeper() + ")" * 40,
            ]
        )()

    def _source(self, depth: int) -> str:
        if depth > 0 and self._rng.random() < 0.2:
            return f"({self._query(depth - 1)}) AS {self._one(('s', 't', 'x'))}"
        return self._table() + self._often(0.2, lambda: self._one((" AS t2", " u2", " INDEXED BY i", " NOT INDEXED")))

    def _query(self, depth: int = 2, columns: int = 0) -> str:
        text = f"SELECT {self._often(0.1, lambda: 'DISTINCT ')}{', '.join(self._column(depth) for _ in range(columns or self._rng.randint(1, 3)))}"
        if self._rng.random() < 0.7:
            text += f" FROM {self._source(depth)}"
            for _ in range(self._rng.choice((0, 0, 0, 1, 1, 2, 4))):
                join = self._one((", ", " JOIN ", " CROSS JOIN ", " LEFT JOIN ", " NATURAL JOIN ", " FULL OUTER JOIN "))
                text += join + self._source(depth) + self._often(0.3, lambda: f" ON {self._expression(1)}")
            text += self._often(0.4, lambda: f" WHERE {self._expression(depth)}")
            text += self._often(0.1, lambda: f" GROUP BY {self._expression(1)} HAVING {self._expression(1)}")
        text += self._often(
            0.08, lambda: f" {self._one(('UNION', 'UNION ALL', 'EXCEPT', 'INTERSECT'))} {self._query(0, columns)}"
        )
        text += self._often(0.15, lambda: f" ORDER BY {self._one(('1', 'random()', 'a DESC', '?'))}")
        return text + self._often(0.2, lambda: f" LIMIT {self._one(('1', '10', '-1', '?', '1e9', 'random()'))}")

    def _with(self) -> str:
        name, other = self._one(("c", '"c"', '"a""b"', "t", "[x]")), self._one(("c", "C", '[a"b]', "t", "x"))
        body = (
            f"SELECT 1 UNION ALL SELECT x + 1 FROM {other}{self._often(0.5, lambda: ' LIMIT 5')}"
            if self._rng.random() < 0.4
            else self._query(1)
        )
        return f"WITH {self._often(0.4, lambda: 'RECURSIVE ')}{name}{self._often(0.5, lambda: '(x)')} AS {self._often(0.1, lambda: 'MATERIALIZED ')}({body}) "

    def _column(self, depth: int) -> str:
        return "*" if self._rng.random() < 0.05 else self._expression(depth)

    # Statements.

    def _select(self) -> str:
        return self._often(0.15, self._with) + (
            self._query(3) if self._rng.random() < 0.95 else f"VALUES ({self._list(self._expression, 3)})"
        )

    def _insert(self) -> str:
        head = self._one(("INSERT", "INSERT", "REPLACE", "INSERT OR IGNORE", "INSERT OR REPLACE"))
        rows = ", ".join(f"({self._expression(2)}, {self._expression(2)})" for _ in range(self._rng.randint(1, 3)))
        what = (
            self._query(2, 2)
            if self._rng.random() < 0.3
            else self._one(("DEFAULT VALUES",))
            if self._rng.random() < 0.05
            else f"VALUES {rows}"
        )
        upsert = self._often(
            0.1,
            lambda: (
                f" ON CONFLICT({self._one(COLUMNS)}) DO {self._one(('NOTHING', 'UPDATE SET a = excluded.a', 'UPDATE SET a = random()'))}"
            ),
        )
        return f"{self._often(0.1, self._with)}{head} INTO {self._one(TARGETS)}{self._often(0.9, lambda: '(a, b)')} {what}{upsert}{self._returning()}"

    def _returning(self) -> str:
        return self._often(0.15, lambda: f" RETURNING {self._list(lambda: self._expression(1), 3)}")

    def _update(self) -> str:
        sets = self._list(lambda: f"{self._one(SET)} = {self._expression(2)}", 2)
        source = self._often(0.15, lambda: f" FROM {self._source(1)}, {self._source(1)}")
        return f"{self._often(0.1, self._with)}UPDATE {self._one(TARGETS)} SET {sets}{source}{self._often(0.7, lambda: f' WHERE {self._expression(2)}')}{self._returning()}"

    def _delete(self) -> str:
        limit = self._often(0.1, lambda: " LIMIT 1")
        return f"{self._often(0.1, self._with)}DELETE FROM {self._one(TARGETS)} WHERE {self._expression(2)}{self._returning()}{limit}"

    def _create(self) -> str:
        name, once = (
            self._one(("scratch", "scratch2", "main.scratch3", "temp.x", "_torpor_x", "sqlite_x", "pragma_x")),
            self._often(0.5, lambda: "IF NOT EXISTS "),
        )
        temporary = self._often(0.07, lambda: "TEMP ")
        return self._rng.choice(
            [
                lambda: f"CREATE {temporary}TABLE {once}{name}({self._list(self._definition, 4)}){self._one(('', ' STRICT', ' WITHOUT ROWID'))}",
                lambda: f"CREATE {temporary}TABLE {once}{name} AS {self._query(2)}",
                lambda: f"CREATE {temporary}VIEW {once}{self._one(('v2', name))} AS {self._often(0.3, self._with)}{self._query(2)}",
                lambda: f"CREATE UNIQUE INDEX {once}i ON {self._one(('t', 'u', 'nope', '_torpor_x'))}({self._expression(1)}) WHERE {self._expression(1)}",
                lambda: f"CREATE {temporary}TRIGGER {once}tr {self._one(('AFTER', 'BEFORE', 'INSTEAD OF'))} {self._one(('INSERT', 'DELETE', 'UPDATE OF a'))} ON "
                f"{self._one(('t', 'u', 'v', 'notes'))} BEGIN {self._one((self._insert(), self._update(), self._delete(), self._query(1)))}; END",
                lambda: f"CREATE VIRTUAL TABLE {once}{name} USING {self._one(MODULES)}",
                lambda: f"DROP {self._one(('TABLE', 'VIEW', 'INDEX', 'TRIGGER'))} IF EXISTS {self._one(('scratch', 'scratch2', 'i', 'tr', 'v2', '_torpor_x', 'sqlite_schema', 'other.t'))}",
            ]
        )()  # fmt: skip

    def _definition(self) -> str:
        return f"{self._one(('a', 'b', 'c', 'd'))} {self._one(('', 'INT', 'TEXT', 'BLOB'))} {self._constraint()}"

    def _constraint(self) -> str:
        return self._rng.choice(
            [
                lambda: "",
                lambda: f"DEFAULT ({self._expression(2)})",
                lambda: f"DEFAULT {self._one(LITERALS)}",
                lambda: f"CHECK ({self._expression(2)})",
                lambda: f"AS ({self._expression(2)}) {self._one(('STORED', 'VIRTUAL'))}",
                lambda: f"REFERENCES {self._one(('t', 'u', '_torpor_x', 'nope'))}(a) ON DELETE CASCADE",
                lambda: self._one(("PRIMARY KEY", "UNIQUE", "NOT NULL", "COLLATE nocase", "COLLATE nope")),
            ]
        )()

    def _alter(self) -> str:
        table = self._one(("scratch", "scratch2", "v2", "sqlite_schema", "_torpor_x"))
        change = self._one(
            (
                "RENAME TO scratch2",
                "RENAME TO _torpor_y",
                f"ADD COLUMN x {self._constraint()}",
                "DROP COLUMN a",
                "RENAME a TO b",
                "RENAME COLUMN b TO a",
            )
        )
        return f"ALTER TABLE {table} {change}"

    def _pragma(self) -> str:
        return f"PRAGMA {self._one(PRAGMAS)}"

    def _command(self) -> str:
        table, command = self._one(("notes", "boxes", "scratch")), self._one(COMMANDS)
        return f"INSERT INTO {table}({table}{self._often(0.4, lambda: ', rank')}) VALUES ('{command}'{self._often(0.4, lambda: f', {self._one(LITERALS)}')})"

    def _explain(self) -> str:
        inner = self._rng.choice((self._select, self._insert, self._pragma, lambda: self._one(PLAIN)))()
        return f"EXPLAIN {self._often(0.4, lambda: 'QUERY PLAN ')}{inner}"

    def _bomb(self) -> str:
        """Reads that would take for ever or much memory, and writes that must not pass."""
        return self._one(
            (
                "SELECT count(*) FROM " + ", ".join(["t"] * self._rng.randint(5, 60)),
                "INSERT INTO u(a) SELECT 1 FROM " + ", ".join(["t"] * self._rng.randint(5, 60)),
                "SELECT " + "(SELECT " * self._rng.randint(10, 3_000) + "1" + ")" * self._rng.randint(10, 3_000),
                "SELECT " + " + ".join(["?"] * self._rng.randint(100, 3_000)),
                "SELECT 1" + " UNION SELECT 1" * self._rng.randint(10, 1_500),
                f"SELECT length(replace(hex(zeroblob({self._rng.randint(1, 99_999)})), '0', 'xxxx'))",
                f"SELECT printf('%.*c', {self._rng.randint(1, 99_999)}, 'x') LIKE '{'%a_' * self._rng.randint(1, 50)}'",
                "SELECT hex(zeroblob(5000)) GLOB '" + "*[0-9]" * self._rng.randint(1, 60) + "x'",
                "VALUES " + ", ".join(["(1, 'x')"] * self._rng.randint(1, 2_000)),
                "WITH "
                + ", ".join(f"c{i} AS (SELECT * FROM c{i + 1}, c{i + 1})" for i in range(self._rng.randint(2, 20)))
                + " SELECT 1",
            )
        )

    # What goes wrong with it.

    def _spoilt(self, text: str) -> str:
        for _ in range(self._rng.choice((0, 0, 0, 0, 0, 0, 0, 0, 1, 2))):
            words = text.split(" ")
            at = self._rng.randrange(len(words))
            spoil = self._rng.randrange(9)
            if spoil == 0:
                del words[at]
            elif spoil == 1:
                words.insert(
                    at,
                    self._one(
                        (
                            "(",
                            ")",
                            ",",
                            ";",
                            "'",
                            '"',
                            "--",
                            "/*",
                            "*/",
                            "`",
                            "[",
                            "NOT",
                            "\x00",
                            "\ufeff",
                            "é",
                            "\U0001f4a3",
                            "||",
                        )
                    ),
                )
            elif spoil == 2:
                words[at] = words[at].swapcase()
            elif spoil == 3:
                words[at] = self._one(('"{}"', "[{}]", "`{}`", "'{}'")).format(words[at])
            elif spoil == 4:
                other = self._rng.randrange(len(words))
                words[at], words[other] = words[other], words[at]
            elif spoil == 5:
                words = words[: at + 1]
            elif spoil == 6:
                words += [
                    self._one(
                        (
                            ";",
                            ";;",
                            "; SELECT 1",
                            f"; ATTACH '{MARK}.db' AS z",
                            "-- x",
                            "/* x",
                            "; --",
                            ";\x0c",
                            "\ufeff",
                            "\x1a",
                        )
                    )
                ]
            elif spoil == 7:
                words = [self._one(("EXPLAIN", "WITH x AS (SELECT 1)", ";", "/* x */", "--x\n", "\ufeff", "(")), *words]
            else:
                return self._one(SPACE).join(words)
            text = " ".join(words)
        return text
