"""``torpor sql``, ``export`` and ``import``: what ends a statement, what a script reads, and all of it against a real node (R61)."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from prompt_toolkit.application import create_app_session
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from runtime.client import Client, dbapi
from runtime.shell import results, terminal
from runtime.shell.session import Session
from runtime.shell.statements import statements
from runtime.shell.target import Target
from tests.runtime.node_world import APP, World, world

TRIGGER = "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; DELETE FROM c; END;"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1; SELECT 2", ["SELECT 1;", "SELECT 2"]),
        ("SELECT ';';\n-- ; \nSELECT 2;", ["SELECT ';';", "-- ; \nSELECT 2;"]),
        (f"{TRIGGER} SELECT 1;", [TRIGGER, "SELECT 1;"]),
        ("SELECT\n1\n;\n.tables\n.quit", ["SELECT\n1\n;", ".tables", ".quit"]),
        ("SELECT 'a\n.tables\n';", ["SELECT 'a\n.tables\n';"]),
        (" ;; \n ; ", []),
    ],
)
def test_where_a_statement_ends(text: str, expected: list[str]) -> None:
    assert list(statements(text.splitlines(keepends=True))) == expected
    assert list(statements([text])) == expected


ROWS = [(1, None, "", b"\x00\xff", 1.5), (2, "a,b", 'say "x"', b"", -1.0)]
COLUMNS = ["n", "t", "u", "b", "r"]


def shown(mode: str, rows: Any = ROWS) -> str:
    out = io.StringIO()
    results.write(Console(file=out, width=100), mode, COLUMNS, rows)
    return out.getvalue()


def test_what_a_program_reads_is_exact() -> None:
    assert json.loads(shown("json")) == [
        {"n": 1, "t": None, "u": "", "b": {"base64": "AP8="}, "r": 1.5},
        {"n": 2, "t": "a,b", "u": 'say "x"', "b": {"base64": ""}, "r": -1.0},
    ]
    assert shown("csv") == 'n,t,u,b,r\n1,,,AP8=,1.5\n2,"a,b","say ""x""",,-1.0\n'
    assert "t = NULL" in shown("line")
    assert "x'00ff'" in shown("table")


@pytest.mark.parametrize("mode", ["table", "line"])
def test_what_a_person_sees_does_not_steer_the_terminal(mode: str) -> None:
    assert "\x1b" not in shown(mode, [(1, "\x1b[2J[bold]red[/]", "", b"", 1.0)])
    assert "[bold]red[/]" in shown(mode, [(1, "\x1b[2J[bold]red[/]", "", b"", 1.0)])


def test_the_history_is_for_its_owner_alone(tmp_path: Path) -> None:
    for _ in range(2):
        path = terminal.history_file(tmp_path / "state")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)


def test_words_are_completed() -> None:
    words = terminal.Words()
    words.names = ("people", "photo")

    def after(text: str) -> list[str]:
        return [found.text for found in words.get_completions(Document(text), None)]  # type: ignore[arg-type]

    assert after("SELECT * FROM p") == ["people", "photo", "PRIMARY"]
    assert after(".t") == [".tables", ".timing"]
    assert after("") == []


@contextmanager
def at_a_terminal(node: World, typed: str, tmp_path: Path) -> Iterator[str]:
    """What is shown to somebody who types this."""
    out = io.StringIO()
    where = Target(APP, "notes", node.node.gateway, node.key)
    connection = dbapi.connect(app=APP, database="notes", key=node.key, peers=[where.url])
    with closing(connection), where.client() as client, create_pipe_input() as keys:
        keys.send_text(typed)
        with create_app_session(input=keys, output=DummyOutput()):
            words = terminal.Words()
            prompt = terminal.prompt_session(terminal.history_file(tmp_path), words)
            terminal.talk(Session(where, client, connection, Console(file=out, width=100)), prompt, words)
        yield out.getvalue()
        assert "people" in session_names(client)


def session_names(client: Client) -> tuple[str, ...]:
    return tuple(table.name for table in client.database("notes").schema().tables)


def _typed(node: World, tmp_path: Path) -> None:
    typed = (
        "CREATE TABLE people (id INTEGER PRIMARY KEY,\rname TEXT);\r"
        "INSERT INTO people (name) VALUES ('Ada'), ('Grace');\r"
        "SELEC;\r"
        ".tables\r.schema people\r.mode line\rSELECT name\rFROM people WHERE id = 2;\r.nonsense\r.quit\rSELECT 'unread';\r"
    )
    with at_a_terminal(node, typed, tmp_path) as seen:
        assert "Error: sql-error" in seen
        assert "CREATE TABLE people (id INTEGER PRIMARY KEY,\nname TEXT);" in seen
        assert "name = Grace" in seen
        assert "Ada" not in seen
        assert ".nonsense is not understood" in seen
        assert "unread" not in seen
    kept = (tmp_path / terminal.HISTORY).read_text()
    assert "SELECT name" in kept


def torpor(node: World, *arguments: str, stdin: str = "", key: str | None = None) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORPOR_K")}
    done = subprocess.run(
        [sys.executable, "-m", "runtime.ctl", "--data-dir", str(node.data), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment | {"TORPOR_KEY": node.key if key is None else key},
        check=False,
    )
    assert node.key not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def _scripts(node: World, tmp_path: Path) -> None:
    script = "CREATE TABLE t (a INTEGER, b BLOB);\nINSERT INTO t VALUES (1, x'00ff');\nSELECT * FROM t;\n"
    assert torpor(node, "sql", f"{APP}/scripts", stdin=script) == (0, "a,b\n1,AP8=\n", "")
    code, out, err = torpor(node, "sql", f"{APP}/scripts", stdin="SELECT 1 AS x; SELEC; SELECT 2 AS y;")
    assert (code, out) == (1, "x\n1\n")
    assert err.startswith("Error: sql-error")
    assert err.count("\n") == 1
    two = ("-c", "SELECT a FROM t", "-c", ".tables", "--mode", "json")
    assert torpor(node, "sql", f"{APP}/scripts", *two) == (0, '[{"a": 1}]\nt\n', "")
    for wrong, text in {"": "no key", "torpor_nonsense": "unauthorized"}.items():
        code, out, err = torpor(node, "sql", f"{APP}/scripts", "-c", "SELECT 1", key=wrong)
        assert (code, out) == (2, "")
        assert text in err
    assert torpor(node, "sql", "scripts", "-c", "SELECT 1")[0] == 2
    assert torpor(node, "sql", f"{APP}/x", "--url", "http://127.0.0.1:1", "-c", "SELECT 1")[0] == 2
    key_file = tmp_path / "key"
    key_file.write_text(node.key + "\n")
    key_file.chmod(0o644)
    found = ("sql", f"{APP}/scripts", "--key-file", str(key_file), "-c", "SELECT 1 AS x")
    code, _, err = torpor(node, *found, key="")
    assert (code, "may be read by others" in err) == (2, True)
    key_file.chmod(0o600)
    assert torpor(node, *found, key="") == (0, "x\n1\n", "")


def _out_and_in(node: World, tmp_path: Path) -> None:
    file = tmp_path / "out.sqlite"
    filled = "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2);"
    assert torpor(node, "sql", f"{APP}/source", stdin=filled)[0] == 0
    code, out, _ = torpor(node, "export", f"{APP}/source", str(file))
    assert (code, out) == (0, f"{file}: {file.stat().st_size} bytes\n")
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT a FROM t").fetchall() == [(1,), (2,)]
    code, _, err = torpor(node, "export", f"{APP}/source", str(file))
    assert (code, "is there already" in err) == (1, True)
    assert torpor(node, "import", str(file), f"{APP}/copy")[:2] == (0, f"{APP}/copy: imported\n")
    assert torpor(node, "sql", f"{APP}/copy", "-c", "SELECT a FROM t") == (0, "a\n1\n2\n", "")
    code, _, err = torpor(node, "import", str(file), f"{APP}/copy")
    assert (code, "not-empty" in err) == (1, True)
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(file.read_bytes()[:-1])
    code, _, err = torpor(node, "import", str(broken), f"{APP}/other")
    assert (code, "invalid-file" in err) == (1, True)
    code, _, err = torpor(node, "export", f"{APP}/source", str(tmp_path / "x"), "--url", "http://127.0.0.1:1")
    assert code == 2
    assert sorted(path.name for path in tmp_path.glob("*.sqlite")) == ["broken.sqlite", "out.sqlite"]
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.real
@pytest.mark.parametrize("story", [_typed, _scripts, _out_and_in])
async def test_R61_the_shell_on_a_real_node(story: Any, tmp_path: Path, rqlited_path: Path) -> None:
    async with world(tmp_path) as node:
        await trio.to_thread.run_sync(story, node, tmp_path)
