"""Which database, which gateway, which key. The law kept here: a key is read from where it is not seen by others (an environment, a file
of its owner's), is never shown, and goes to the gateway that was named.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from attrs import frozen

from runtime import control
from runtime.client import Client, Forbidden, TorporError, Unauthorized, Unreachable

F = TypeVar("F")
LATE_S: Final = 600.0
"""For a whole database, out or in."""


class Failed(click.ClickException):
    """One line, and exit code 1: the gateway refused."""

    exit_code = 1


class Unasked(Failed):
    """One line, and exit code 2: no gateway could be asked, or not with this key."""

    exit_code = 2


@frozen
class Target:
    """``database`` of ``app``, through the gateway at ``url``."""

    app: str
    database: str
    url: str
    key: str

    def client(self, timeout: float = 40.0) -> Client:
        """Raises :class:`Failed`."""
        try:
            return Client(self.app, [self.url], self.key, timeout=timeout)
        except ValueError as error:
            raise Unasked(str(error)) from None


def options(command: Any) -> Any:
    """The options by which :func:`target` finds its way."""
    url = click.option(
        "--url", envvar="TORPOR_URL", help="A gateway, http://host:port; else the one of the local node."
    )
    key = click.option("--key", envvar="TORPOR_KEY", help="The API key. Better in the environment: TORPOR_KEY.")
    path = click.option(
        "--key-file", type=click.Path(path_type=Path), help="A file of yours alone that holds nothing but the key."
    )
    return url(key(path(command)))


def target(database: str, data_dir: Path, url: str | None, key: str | None, key_file: Path | None) -> Target:
    """Raises :class:`Failed` and UsageError."""
    app, slash, name = database.partition("/")
    if not (app and slash and name):
        raise click.UsageError(f"{database!r} is not APP/NAME, as torpor databases shows them")
    if key_file is not None:
        key = _read(key_file)
    if not key:
        raise Unasked("no key: set TORPOR_KEY, or give --key-file")
    return Target(app, name, url or _local(data_dir), key)


def _read(path: Path) -> str:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Unasked(f"{path} may be read by others: chmod 600 {path}")
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise Unasked(f"{path}: {error.strerror}") from None


def _local(data_dir: Path) -> str:
    try:
        return control.ask(data_dir, "status")["gateway"]
    except (control.Refused, control.Unreachable) as error:
        raise Unasked(f"{error}; or name a gateway: --url http://host:port") from None


def failed(error: TorporError) -> Failed:
    """What a person is told of a call that failed."""
    kind = Unasked if isinstance(error, Unreachable | Unauthorized | Forbidden) else Failed
    return kind(str(error))
