"""``torpor sql``, ``torpor export``, ``torpor import``, as click has them. Law: whatever keeps them from their work is one line and an exit code
(R61): 0 done; 1 refused; 2 no gateway could be asked, or not with this key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Protocol

import click
from rich.console import Console

from runtime.client import TorporError, dbapi
from runtime.shell.results import MODES
from runtime.shell.session import Quit, Session
from runtime.shell.statements import statements
from runtime.shell.target import Target, failed, options, target
from runtime.shell.transfers import export, load


class _HasDataDir(Protocol):
    data_dir: Path


def _data_dir(context: click.Context) -> Path:
    it: _HasDataDir = context.obj
    return it.data_dir


@click.command("sql")
@click.argument("database", metavar="APP/NAME")
@click.option("-c", "--command", multiple=True, help="Carry this out and leave; any number of them.")
@click.option("--mode", type=click.Choice(MODES), help="How rows are shown: table at a terminal, csv elsewhere.")
@click.option("--timing", is_flag=True, help="Tell how long each statement takes.")
@options
@click.pass_context
def sql(
    context: click.Context,
    database: str,
    *,
    command: tuple[str, ...],
    mode: str | None,
    timing: bool,
    url: str | None,
    key: str | None,
    key_file: Path | None,
) -> None:
    """A shell for one database. Without a terminal it carries out what it reads, and leaves at the first statement that fails."""
    where = target(database, _data_dir(context), url, key, key_file)
    typed = not command and sys.stdin.isatty()
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    mode = mode or ("table" if console.is_terminal else "csv")
    client = where.client()
    connection = dbapi.connect(app=where.app, database=where.database, key=where.key, peers=[where.url])
    with closing(connection):
        try:
            client.connect()
            session = Session(where, client, connection, console, mode, timing)
            if typed:
                _typed(session)
            else:
                _read(session, command or sys.stdin)
        except TorporError as error:
            raise failed(error) from None
        finally:
            client.disconnect()


def _read(session: Session, lines: Iterable[str]) -> None:
    try:
        # Each of several commands ends, semicolon or not.
        for each in [lines] if lines is sys.stdin else [[command] for command in lines]:
            for statement in statements(each):
                session.carry_out(statement)
    except Quit:
        return


def _typed(session: Session) -> None:
    from runtime.shell import terminal  # prompt_toolkit takes a quarter of a second, which no script needs

    words = terminal.Words()
    prompt = terminal.prompt_session(terminal.history_file(), words)
    session.console.print(".help lists what there is beside SQL", style="dim")
    terminal.talk(session, prompt, words)


@click.command("export")
@click.argument("database", metavar="APP/NAME")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@options
@click.pass_context
def export_(
    context: click.Context, database: str, file: Path, url: str | None, key: str | None, key_file: Path | None
) -> None:
    """Write one state of a database to FILE, a SQLite database. A file that is there already is left alone."""
    size = export(_target(context, database, url, key, key_file), file)
    click.echo(f"{file}: {size} bytes")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("database", metavar="APP/NAME")
@options
@click.pass_context
def import_(
    context: click.Context, file: Path, database: str, url: str | None, key: str | None, key_file: Path | None
) -> None:
    """Bring a SQLite database into one that has no tables; takes a key of scope admin."""
    load(_target(context, database, url, key, key_file), file)
    click.echo(f"{database}: imported")


def _target(context: click.Context, database: str, url: str | None, key: str | None, key_file: Path | None) -> Target:
    return target(database, _data_dir(context), url, key, key_file)
