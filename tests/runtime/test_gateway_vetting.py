"""Which SQL may pass to rqlited. Tables: what is accepted (as what), what is refused; each row is a statement that somebody
will send."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runtime.gateway.vetting import Read, Refused, Write, vet

READS = [
    "SELECT 1",
    "select * from t where id = ? and name = :name",
    "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c LIMIT 3",
    "VALUES (1, 2), (3, 4)",
    "SELECT 1 UNION SELECT 2 EXCEPT SELECT 3 ORDER BY 1 LIMIT 1 OFFSET 2",
    "EXPLAIN QUERY PLAN SELECT 1",
    "PRAGMA table_info(t)",
    "PRAGMA main.table_info = t",
    "PRAGMA user_version",
    "SELECT * FROM pragma_table_info('t')",
    "SELECT * FROM t LEFT JOIN u USING (id) NATURAL JOIN (SELECT 1) AS z WHERE EXISTS (SELECT 1) GROUP BY 1 HAVING count(*) > 1",
    """SELECT sum(x) OVER w, lag(a) OVER (PARTITION BY a ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t
    WINDOW w AS (ORDER BY a)""",
    "SELECT CASE a WHEN 1 THEN 2 ELSE 3 END, CAST(a AS INT), (a, b) = (1, 2), json_extract(a, '$.x'), a ->> '$.x', x'00' FROM t",
    "SELECT count(*) FILTER (WHERE a), group_concat(DISTINCT a) FROM t INDEXED BY i",
    "SELECT value FROM json_each('[1, 2]')",
    "SELECT highlight(notes, 0, '<', '>') FROM notes WHERE notes MATCH 'x' ORDER BY rank",
    "SELECT 'ATTACH', \"BEGIN\", [VACUUM], `PRAGMA` FROM t -- ; DROP TABLE t",
    "SELECT main.t.a FROM main.t",
    "SELECT é FROM ü",
    "SELECT random(), randomblob(?), CURRENT_TIMESTAMP, datetime('now', 'localtime'), total_changes() FROM t ORDER BY random()",
    "SELECT * FROM a, b, c, d",
    "SELECT name FROM sqlite_schema UNION SELECT tbl FROM main.sqlite_stat1",
    "SELECT * FROM t, json_tree(t.a) WHERE t.b LIKE '_torpor_%'",
]
WRITES = [
    "INSERT INTO t(a) VALUES (?), (?) ON CONFLICT(a) DO UPDATE SET a = excluded.a WHERE a > 1",
    "INSERT INTO t DEFAULT VALUES",
    "REPLACE INTO t VALUES (1)",
    "UPDATE t SET (a, b) = (SELECT 1, 2) FROM u WHERE u.id = t.id",
    "DELETE FROM t WHERE a IN (1, 2, ?) OR b BETWEEN 1 AND 2 OR c LIKE 'x' ESCAPE '!'",
    "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
    "WITH x AS (SELECT 1) DELETE FROM t WHERE a IN x",
    """CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT NOT NULL DEFAULT (upper('x')) CHECK (a <> ''),
    b REFERENCES u(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, c AS (a || 'x') STORED,
    CONSTRAINT q UNIQUE (a, b) ON CONFLICT IGNORE, FOREIGN KEY (b) REFERENCES u(id)) STRICT""",
    "CREATE TABLE t2 AS SELECT 1",
    "CREATE UNIQUE INDEX IF NOT EXISTS i ON t(a COLLATE NOCASE DESC) WHERE a IS NOT NULL",
    "CREATE VIEW v(a) AS SELECT 1",
    "CREATE TRIGGER tr AFTER UPDATE OF a ON t WHEN new.a > 1 BEGIN SELECT raise(ABORT, 'x'); INSERT INTO u VALUES (new.a); END",
    "CREATE VIRTUAL TABLE notes USING fts5(body)",
    """CREATE VIRTUAL TABLE notes USING fts5(title, [the body] UNINDEXED, prefix='2 3', tokenize = "porter 'ascii'", content='t', content_rowid=id,
    detail=none)""",
    "CREATE VIRTUAL TABLE notes USING fts5(body, content='')",
    'CREATE VIRTUAL TABLE notes USING fts4(a TEXT, b VARCHAR(10, 2), tokenize=unicode61 "remove_diacritics=0", notindexed=b, order=desc)',
    "CREATE VIRTUAL TABLE boxes USING rtree(id, low, high, +name TEXT)",
    "INSERT INTO t(a) SELECT value FROM json_each(?)",
    "INSERT INTO t(a) SELECT a.x FROM a JOIN b ON a.x = b.x JOIN c USING (x) NATURAL JOIN d, json_each(a.y)",
    "INSERT INTO t(a) SELECT 1 FROM a, b",
    "INSERT INTO t(a) SELECT 1 FROM a, json_each(a.x), json_each(a.y)",
    "DELETE FROM sqlite_sequence WHERE name = 't'",
    "INSERT INTO notes(notes) VALUES ('rebuild')",
    "DROP TABLE IF EXISTS t",
    "ALTER TABLE t ADD COLUMN x INT DEFAULT 5",
    "ALTER TABLE t RENAME COLUMN a TO b",
    "ALTER TABLE t DROP COLUMN x",
    "REINDEX",
    "ANALYZE",
    "VACUUM",
]
REFUSED = {
    # Out of the database's own file (F85).
    "ATTACH 'other.db' AS x": "ATTACH",
    "ATTACH DATABASE ? AS x": "ATTACH",
    "DETACH x": "DETACH",
    "VACUUM INTO '/tmp/x'": "VACUUM INTO",
    "VACUUM main INTO ?": "VACUUM INTO",
    "EXPLAIN ATTACH 'x' AS y": "ATTACH",
    "SELECT load_extension('x')": "load_extension",
    "SELECT \"load_extension\"('x')": "load_extension",
    "SELECT [LOAD_extension]('x')": "load_extension",
    "SELECT `writefile`('a', 'b')": "writefile",
    "SELECT 1 WHERE (SELECT readfile('/etc/passwd')) IS NOT NULL": "readfile",
    "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT load_extension('x'); END": "load_extension",
    "CREATE VIEW v AS SELECT load_extension('x')": "load_extension",
    "CREATE TABLE t(a DEFAULT (load_extension('x')))": "load_extension",
    "SELECT fts3_tokenizer('simple', x'00')": "fts3_tokenizer",
    "SELECT * FROM temp.t": "schema",
    'SELECT * FROM "TEMP".t': "schema",
    "SELECT 1 IN other.t": "schema",
    "INSERT INTO other.t VALUES (1)": "schema",
    "DROP TABLE other.t": "schema",
    "CREATE TABLE temp.t(a)": "schema",
    "CREATE TEMP TABLE t(a)": "temporary",
    "CREATE TEMPORARY TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END": "temporary",
    "CREATE VIRTUAL TABLE x USING csv(filename='/etc/passwd')": "module",
    "CREATE VIRTUAL TABLE x USING fts3tokenize('simple')": "module",
    "SELECT * FROM sqlite_dbpage": "sqlite_dbpage",
    "UPDATE sqlite_dbpage SET data = x'00'": "sqlite_dbpage",
    "SELECT * FROM dbstat": "dbstat",
    "SELECT * FROM DBSTAT('main', 1)": "dbstat",
    "SELECT 1 IN 'dbstat'": "dbstat",
    "SELECT * FROM fts3tokenize('simple', 'a b')": "fts3tokenize",
    "SELECT * FROM anything('x')": "table function",
    "SELECT * FROM sqlite_temp_schema": "sqlite_temp_schema",
    "SELECT * FROM sqlite_anything": "sqlite_anything",
    # A module's arguments are SQL in disguise: these read the path of the database's file.
    "CREATE VIRTUAL TABLE x USING fts5(file, content='pragma_database_list', content_rowid='seq')": "pragma_database_list",
    'CREATE VIRTUAL TABLE x USING fts4(content="PRAGMA_database_list")': "pragma_database_list",
    "CREATE VIRTUAL TABLE x USING fts4(a, content='pragma_database_list' y)": "not allowed",
    "CREATE VIRTUAL TABLE x USING fts5(a, cont='pragma_database_list')": "not allowed",
    "CREATE VIRTUAL TABLE x USING fts5(a, content/**/='pragma_database_list')": "not understood",
    "CREATE VIRTUAL TABLE x USING fts5(a, content='dbstat')": "dbstat",
    "CREATE VIRTUAL TABLE x USING fts4(a, compress=zip, uncompress=unzip)": "compress",
    "CREATE VIRTUAL TABLE x USING fts5(a b = c)": "not understood",
    # Torpor's own tables.
    "SELECT * FROM _torpor_idempotency": "the gateway's own",
    'DELETE FROM "_TORPOR_idempotency"': "the gateway's own",
    "SELECT 1 IN '_torpor_idempotency'": "the gateway's own",
    "DROP TABLE main._torpor_x": "the gateway's own",
    "CREATE TABLE _torpor_x(a)": "the gateway's own",
    "CREATE TABLE x(a REFERENCES _torpor_x)": "the gateway's own",
    "CREATE INDEX i ON _torpor_x(a)": "the gateway's own",
    "CREATE TRIGGER tr AFTER INSERT ON _torpor_x BEGIN SELECT 1; END": "the gateway's own",
    "CREATE TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM _torpor_x; END": "the gateway's own",
    "CREATE VIEW v AS SELECT * FROM _torpor_x": "the gateway's own",
    "CREATE VIRTUAL TABLE x USING fts5(a, content=_torpor_x)": "the gateway's own",
    "ALTER TABLE t RENAME TO _torpor_x": "the gateway's own",
    "ALTER TABLE _torpor_x ADD COLUMN a": "the gateway's own",
    "PRAGMA table_info('_torpor_x')": "the gateway's own",
    # Pragmas that write, or tell where files are.
    "PRAGMA journal_mode": "PRAGMA journal_mode",
    "PRAGMA journal_mode = OFF": "PRAGMA journal_mode",
    "PRAGMA journal_mode(OFF)": "PRAGMA journal_mode",
    "PRAGMA user_version = 5": "PRAGMA user_version",
    "PRAGMA user_version(5)": "PRAGMA user_version",
    "PRAGMA writable_schema = ON": "PRAGMA writable_schema",
    "PRAGMA wal_checkpoint": "PRAGMA wal_checkpoint",
    "PRAGMA temp_store_directory = '/tmp'": "PRAGMA temp_store_directory",
    "PRAGMA database_list": "PRAGMA database_list",
    'PRAGMA "Query_Only" = 0': "PRAGMA query_only",
    "SELECT * FROM pragma_database_list": "pragma_database_list",
    "SELECT 1 IN pragma_journal_mode": "pragma_journal_mode",
    "SELECT * FROM \"PRAGMA_wal_checkpoint\"('TRUNCATE')": "pragma_wal_checkpoint",
    # Transactions that would outlive their request.
    "BEGIN": "BEGIN",
    "BEGIN IMMEDIATE TRANSACTION": "BEGIN",
    "COMMIT": "BEGIN",
    "END": "BEGIN",
    "ROLLBACK": "BEGIN",
    "SAVEPOINT x": "SAVEPOINT",
    "RELEASE x": "SAVEPOINT",
    "ROLLBACK TO x": "SAVEPOINT",
    # Writes that might never end (F90): SQLite recurses with and without the word.
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) INSERT INTO t SELECT x FROM c": "recursive",
    "WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) INSERT INTO t SELECT x FROM c LIMIT 3": "recursive",
    'INSERT INTO t WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM "C") SELECT x FROM c': "recursive",
    "UPDATE t SET a = (WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c)": "recursive",
    "DELETE FROM t WHERE a IN (WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c)": "recursive",
    "CREATE TABLE x AS WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c": "recursive",
    "CREATE VIEW v AS WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c": "recursive",
    "INSERT INTO t SELECT * FROM generate_series(1, 9223372036854775807)": "generate_series",
    'WITH "a""b"(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM [a"b]) INSERT INTO t SELECT x FROM [a"b]': "recursive",
    "INSERT INTO t WITH a AS (WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c) SELECT * FROM a": "recursive",
    "INSERT INTO t SELECT 1 FROM a, b, c": "3 sources",
    "INSERT INTO t SELECT count(*) FROM a CROSS JOIN (b JOIN c) JOIN d LIMIT 1": "4 sources",
    "CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO u SELECT 1 FROM t a, t b, t c; END": "3 sources",
    "UPDATE t SET a = 1 FROM a, b": "3 sources",
    "DELETE FROM t WHERE a IN (SELECT 1 FROM (VALUES (1), (2)), b, c)": "3 sources",
    # Not exactly one statement.
    "SELECT 1; SELECT 2": "exactly one",
    "SELECT 1; DROP TABLE t": "exactly one",
    "INSERT INTO t VALUES (1); ATTACH 'x' AS y": "exactly one",
    "garbage; ATTACH 'x' AS y": "syntax error",
    "SELECT 1 FROM; SELECT 2": "syntax error",
    # No SQL, or none that the parsers agree on.
    "SELEKT 1": "syntax error",
    "SELECT 'a": "syntax error",
    "SELECT\u00a01": "syntax error",
    "SELECT 1\0; ATTACH 'x' AS y": "NUL",
    "SELECT '\ud800'": "Unicode",
    "EXPLAIN DELETE FROM t": "EXPLAIN",
    "EXPLAIN PRAGMA user_version": "EXPLAIN",
    "EXPLAIN EXPLAIN SELECT 1": "syntax error",
    "DELETE FROM t LIMIT 1": "incomplete",
    f"SELECT {'x' * 10_000}(1)": "the function",
    f"SELECT * FROM pragma_{'x' * 10_000}": "pragma_",
    f"SELECT {'(' * 5_000}1{')' * 5_000}": "nested",
}
EMPTY = ["", " ", "\n\t", ";", ";;;", "-- c", "/* c */", "/* c", " ; -- c\n ; /* d */ ;", "\ufeff", "\ufeff;"]


@pytest.mark.parametrize("sql", READS)
def test_F86_what_only_reads_is_a_read(sql: str) -> None:
    assert isinstance(vet(sql), Read), vet(sql)


@pytest.mark.parametrize("sql", WRITES)
def test_F86_what_changes_anything_is_a_write(sql: str) -> None:
    assert isinstance(vet(sql), Write), vet(sql)


@pytest.mark.parametrize(("sql", "reason"), REFUSED.items(), ids=lambda text: text[:50])
def test_F85_F90_what_is_refused_and_why(sql: str, reason: str) -> None:
    verdict = vet(sql)
    assert isinstance(verdict, Refused), verdict
    assert reason in verdict.reason
    assert len(verdict.reason) <= 200


@pytest.mark.parametrize("sql", EMPTY)
def test_F88_statements_without_a_statement_are_refused(sql: str) -> None:
    assert vet(sql) == Refused("the statement is empty", syntax=True)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1;",
        "SELECT 1;;",
        "SELECT 1; -- tail",
        " /* head */ SELECT 1 /* open",
        ";SELECT 1",
        "\ufeffSELECT 1 ;\n--é",
    ],
)
def test_F88_only_the_statement_itself_is_forwarded(sql: str) -> None:
    assert vet(sql) == Read("SELECT 1", ends=True)


def test_F88_text_inside_the_statement_is_left_as_it_is() -> None:
    assert vet("SELECT ';--' /* é ; */ , 'é' ;") == Read("SELECT ';--' /* é ; */ , 'é'", ends=True)


def test_R30_a_write_tells_what_its_counts_mean() -> None:
    assert vet("INSERT INTO t VALUES (1)") == Write("INSERT INTO t VALUES (1)", insert=True)
    assert vet("DELETE FROM t RETURNING a") == Write("DELETE FROM t RETURNING a", returning=True)
    assert vet("DROP TABLE t") == Write("DROP TABLE t", definition=True)


def test_a_long_insert_is_vetted_like_a_short_one_and_in_any_thread() -> None:
    long = f"INSERT INTO t VALUES {', '.join(['(1, 2, 3)'] * 5_000)}"
    bad = f"{long}; ATTACH 'x' AS y"
    with ThreadPoolExecutor(3) as threads:
        verdicts = list(threads.map(vet, [long, bad, long, bad, "SELECT 1"]))
    assert [type(v) for v in verdicts] == [Write, Refused, Write, Refused, Read]


SHAPES = {
    "parentheses": lambda n: "SELECT " + "(" * n + "1" + ")" * n,
    "sums": lambda n: "SELECT " + "1+" * n + "1",
    "signs": lambda n: "SELECT " + "~" * n + "1",
    "negations": lambda n: "SELECT " + "NOT " * n + "1",
    "joins by comma": lambda n: "SELECT 1 FROM " + ",".join(["a"] * n),
    "joins": lambda n: "SELECT 1 FROM " + " JOIN ".join(["a"] * n),
    "compounds": lambda n: " UNION ".join(["SELECT 1, 2"] * n),
    "cases": lambda n: "SELECT " + "CASE WHEN " * n + "1" + " THEN 1 END" * n,
    "subqueries": lambda n: "SELECT " + "(SELECT " * n + "1" + ")" * n,
    "sources": lambda n: "SELECT 1 FROM " + "(SELECT 1 FROM " * n + "t" + ")" * n,
    "conjunctions": lambda n: "SELECT " + "a AND " * n + "1",
    "functions": lambda n: "SELECT " + "abs(" * n + "1" + ")" * n,
    "second arguments": lambda n: "SELECT " + "max(1, " * n + "1" + ")" * n,
    "collations": lambda n: "SELECT 1" + " COLLATE nocase" * n,
    "null tests": lambda n: "SELECT 1" + " ISNULL" * n,
    "sets": lambda n: "SELECT 1" + " IN (1)" * n,
    "windows": lambda n: "SELECT " + "sum(1) OVER (ORDER BY " * n + "1" + ")" * n,
    "tables": lambda n: "WITH a AS (" * n + "SELECT 1" + ") SELECT 1" * n,
    "braces that never close": lambda n: "SELECT " + "(" * n,
    "braces that never opened": lambda n: "SELECT 1" + ")" * n,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_F85_no_nesting_kills_the_process(shape: str) -> None:
    """The native parser's stack ends somewhere above a thousand levels, in the main thread and in others."""
    make = SHAPES[shape]
    balanced = not shape.startswith("braces")
    with ThreadPoolExecutor(1) as thread:
        for n in (100, 950, 1_500, 20_000):
            for verdict in (thread.submit(vet, make(n)).result(), vet(make(n))):
                assert isinstance(verdict, Read if n == 100 and balanced else Read | Refused)
                assert n < 20_000 or isinstance(verdict, Refused)


@pytest.mark.parametrize(
    "sql",
    [
        f"INSERT INTO t(a, b) VALUES {', '.join(['(1, abs(-?))'] * 5_000)}",
        f"SELECT {', '.join(f'-a{i} + 1 AS c{i}' for i in range(1_500))} FROM t WHERE a IN ({', '.join('?' * 20_000)})",
        f"SELECT * FROM t WHERE {' OR '.join(['a = ?'] * 400)}",
    ],
    ids=["rows", "columns", "alternatives"],
)
def test_long_flat_statements_pass(sql: str) -> None:
    assert isinstance(vet(sql), Read | Write), vet(sql)


SOUP = """SELECT INSERT INTO t VALUES ( ) 1 , ; ATTACH 'x' AS y BEGIN COMMIT PRAGMA user_version = VACUUM -- /* */ FROM WITH c
EXPLAIN DELETE " ' x'00' ? :a [ ] ` DROP TABLE"""
PIECES = st.sampled_from([*SOUP.split(), "\n"])


@given(st.lists(PIECES, max_size=14).map(" ".join))
def test_F82_a_read_is_one_statement_that_sqlite_itself_calls_read_only(sql: str) -> None:
    """Whatever the soup: what is accepted as a read, SQLite prepares as one statement, or refuses; it never finds a second one, and
    never a statement that its authorizer would have had to stop."""
    verdict = vet(sql)
    if not isinstance(verdict, Read):
        return
    forbidden = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT}
    seen: list[int] = []

    def authorize(action: int, *_: object) -> int:
        seen.append(action)
        return sqlite3.SQLITE_OK

    refusal = ""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t(a)")
        db.execute("PRAGMA query_only = 1")
        db.set_authorizer(authorize)
        try:
            db.execute(verdict.sql, {"a": 1} if ":a" in verdict.sql else [1] * verdict.sql.count("?"))
        except sqlite3.Error as error:
            refusal = str(error)
    assert "one statement at a time" not in refusal
    assert "readonly" not in refusal
    assert not forbidden.intersection(seen)
