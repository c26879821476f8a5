"""One session: statements and the shell's own commands, carried out one by one. Law: a statement that fails is told in one line and
changes nothing for the next; whoever reads a script decides whether to go on.
"""

from __future__ import annotations

import time
from typing import Final

from attrs import define
from rich.console import Console

from runtime.client import Client, TorporError
from runtime.client.dbapi_connection import Connection
from runtime.client.dbapi_errors import Error
from runtime.client.errors import error_of
from runtime.shell import results
from runtime.shell.target import Failed, Target, failed

HELP: Final = """\
.tables           the tables
.schema [TABLE]   how they were declared
.mode MODE        table, csv, json or line
.timing on|off    how long a statement takes, seen from here
.help             this
.quit             leave (also Ctrl-D)
A statement ends with a semicolon. Each one is committed when it has been carried out."""


class Quit(Exception):
    """The user has had enough."""


@define(eq=False)
class Session:
    """``mode``: how rows are shown; ``timing``: whether times are."""

    target: Target
    client: Client
    connection: Connection
    console: Console
    mode: str = "table"
    timing: bool = False

    def carry_out(self, text: str) -> None:
        """A statement, or a command of the shell's own. Raises :class:`~runtime.shell.target.Failed` and :class:`Quit`."""
        if text.startswith("."):
            self._command(*text[1:].rstrip(";").split())
            return
        began = time.monotonic()
        try:
            cursor = self.connection.cursor().execute(text)
        except Error as error:
            told = Failed(str(error)) if error.problem is None else failed(error_of(error.problem))
            raise told from None
        took = time.monotonic() - began
        if cursor.description is not None:
            columns = [column[0] for column in cursor.description]
            results.write(self.console, self.mode, columns, cursor.fetchall())
        elif self.mode == "table" and self.console.is_terminal:
            self.console.print(f"{cursor.rowcount} rows affected", highlight=False)
        if self.timing:
            self.console.print(f"{took * 1000:.1f} ms", highlight=False)

    def _command(self, name: str = "", *words: str) -> None:
        match (name, *words):
            case ("quit",) | ("exit",):
                raise Quit
            case ("help",):
                self.console.print(HELP, markup=False, highlight=False)
            case ("tables",):
                for table in self._schema():
                    self.console.print(table, markup=False, highlight=False)
            case ("schema", *wanted) if len(wanted) < 2:
                for table, sql in self._schema().items():
                    if not wanted or table == wanted[0]:
                        self.console.print(f"{sql};", markup=False, highlight=False, soft_wrap=True)
            case ("mode", mode) if mode in results.MODES:
                self.mode = mode
            case ("timing", "on" | "off" as switch):
                self.timing = switch == "on"
            case _:
                raise Failed(f".{' '.join((name, *words))} is not understood: .help lists what is")

    def names(self) -> tuple[str, ...]:
        """Of its tables and their columns; none where the database cannot be asked now."""
        try:
            tables = self.client.database(self.target.database).schema().tables
        except TorporError:
            return ()
        return tuple(dict.fromkeys(name for table in tables for name in (table.name, *table.columns)))

    def _schema(self) -> dict[str, str]:
        try:
            tables = self.client.database(self.target.database).schema().tables
        except TorporError as error:
            raise failed(error) from None
        return {table.name: table.sql for table in tables}
