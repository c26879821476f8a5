"""The shell at a terminal: lines, history, completion, colours. Law: what was typed is kept in a file that nobody else may read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from runtime.shell.session import Quit, Session
from runtime.shell.statements import complete, statements
from runtime.shell.target import Failed

HISTORY: Final = Path("torpor/history")
_KEYWORDS: Final = [
    "ALTER",
    "AND",
    "AS",
    "BETWEEN",
    "BY",
    "CASE",
    "CREATE",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXISTS",
    "FROM",
    "GROUP",
    "HAVING",
    "IN",
    "INDEX",
    "INSERT",
    "INTO",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "PRIMARY",
    "REFERENCES",
    "RETURNING",
    "SELECT",
    "SET",
    "TABLE",
    "THEN",
    "UNION",
    "UNIQUE",
    "UPDATE",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
]
_COMMANDS: Final = (".tables", ".schema", ".mode", ".timing", ".help", ".quit")


class Words(Completer):
    """Keywords, and what the database has: asked for once, and again after a definition."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        before = document.text_before_cursor
        if before.startswith("."):
            known: Iterable[str] = _COMMANDS
            word = before
        else:
            known = (*self.names, *_KEYWORDS)
            word = document.get_word_before_cursor()
        for each in known if word else ():
            if each.lower().startswith(word.lower()):
                yield Completion(each, -len(word))


def history_file(state: Path | None = None) -> Path:
    """``$XDG_STATE_HOME/torpor/history``, made with mode 0600 before anything is written to it."""
    state = state or Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = state / HISTORY
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_APPEND, 0o600))
    path.chmod(0o600)
    return path


def prompt_session(history: Path, words: Words, **options: Any) -> PromptSession[str]:
    """Enter ends what is complete, and begins a new line otherwise."""
    keys = KeyBindings()
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)),
        lexer=PygmentsLexer(SqlLexer),
        completer=words,
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
        multiline=True,
        prompt_continuation="   … ",
        key_bindings=keys,
        **options,
    )

    def ended() -> bool:
        text = session.default_buffer.text.strip()
        return not text or text.startswith(".") or complete(text)

    @keys.add("enter", filter=has_focus(DEFAULT_BUFFER) & Condition(ended))
    def _accept(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return session


def talk(session: Session, prompt: PromptSession[str], words: Words) -> None:
    """Until the end of the input, or ``.quit``."""
    while True:
        try:
            words.names = words.names or session.names()
            text = prompt.prompt(f"{session.target.app}/{session.target.database}> ")
            for statement in statements([text]):
                session.carry_out(statement)
                if statement.split(maxsplit=1)[0].upper() in ("CREATE", "DROP", "ALTER"):
                    words.names = ()
        except Failed as error:
            session.console.print(f"Error: {error.message}", markup=False, highlight=False, style="red")
        except KeyboardInterrupt:  # what was typed is dropped
            continue
        except (EOFError, Quit):
            return
