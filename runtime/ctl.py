"""``torpor``: what an operator asks of a running node, and tells it; and a person of a database (:mod:`runtime.shell`). Laws: whatever keeps it from answering is one line that names the cause
and what to do, with a non-zero exit (R61); with ``--json`` the output is one JSON document, for tools.

Exit codes: 0 answered; 1 the node refused; 2 no node could be asked.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from rich import box
from rich.console import Console
from rich.table import Table

from protocol.records import SCOPES
from runtime import __version__, control
from runtime.gateway.auth import id_of, new_key
from runtime.settings import SettingsError, load
from runtime.settings_file import Place, Value
from runtime.settings_kinds import Unfit, duration
from runtime.shell.commands import export_, import_, sql

Answered = Any
"""What the node's answer holds, as JSON has it."""

_SHORT: Final = 8
"""Characters of a peer id that tell nodes apart for a person: its last ones, the first are alike in all."""


class Unreachable(click.ClickException):
    exit_code = 2


class NodeRefused(click.ClickException):
    exit_code = 1


class _Asker:
    """Where the node is, and how its answers are shown."""

    def __init__(self, data_dir: Path, *, as_json: bool) -> None:
        self.data_dir = data_dir
        self.as_json = as_json
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)

    def ask(self, do: str, **arguments: str | None) -> Answered:
        try:
            return control.ask(self.data_dir, do, **arguments)
        except control.Refused as refused:
            raise NodeRefused(str(refused)) from None
        except control.Unreachable as unreachable:
            raise Unreachable(str(unreachable)) from None

    def show(self, answer: Answered, *tables: Table | str) -> None:
        """As JSON if that is wanted, else what a person reads."""
        if self.as_json:
            click.echo(json.dumps(answer, indent=2))
            return
        for table in tables:
            self.console.print(table, soft_wrap=isinstance(table, str), markup=False)


asker = click.make_pass_decorator(_Asker)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="TORPOR_DATA_DIR", help="The node's node.data_dir.")
@click.option("--config", type=click.Path(path_type=Path), help="The node's settings, which name its data directory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
@click.version_option(__version__, prog_name="torpor")
@click.pass_context
def main(context: click.Context, data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Ask the node of this machine. Without --data-dir or --config: the one of ./data."""
    if data_dir is None:
        try:
            data_dir = load(config).node.data_dir
        except SettingsError as error:
            raise Unreachable(str(error)) from None
    context.obj = _Asker(data_dir.absolute(), as_json=as_json)


def _json_too(command: Any) -> Any:
    """``--json`` after the command's name as well as before it."""

    def remember(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        context.find_object(_Asker).as_json |= value  # type: ignore[union-attr]

    return click.option("--json", is_flag=True, expose_value=False, callback=remember, help="One JSON document.")(
        command
    )


@main.command()
@_json_too
@asker
def status(it: _Asker) -> None:
    """How this node is: what it hosts, whom it hears, and what is wrong."""
    answer = it.ask("status")
    heard = sum(peer["heard"] for peer in answer["peers"])
    lines = _table("", "")
    for name, text in (
        ("node", answer["peer"]),
        ("cluster", answer["cluster"]),
        ("version", f"{answer['version']}, pid {answer['pid']}"),
        ("rqlited", f"{answer['rqlited']}, {answer['confinement']}"),
        ("gateway", answer["gateway"] + (f", certificate until {answer['tls']['ends']}" if answer["tls"] else "")),
        ("for rqlite's clients", answer["rqlite"] or "(gateway.rqlite_listen is not set)"),
        ("reached at", ", ".join(answer["addresses"]) or "(by nobody: no other node is known)"),
        ("state", "listening" if answer["listening"] else "serving"),
        ("nodes", f"{heard} of {len(answer['peers'])} known are heard"),
        ("databases", f"{answer['databases']} known, {answer['hosted']} here"),
        ("awake here", f"{answer['awake']} of at most {answer['max_databases']}"),
        ("broadcast", _counted(answer["sent"]["broadcast"])),
        ("sent directly", _counted(answer["sent"]["direct"])),
    ):
        lines.add_row(name, text)
    stuck = [
        f"{one['database']} answers no strong read for {one['seconds']:.0f} s, and its rqlited (pid {one['pid']}) uses {one['cores']:.1f} cores: "
        "a write that takes very long, or never ends"
        for one in answer["stuck"]
    ]
    advice = [*answer["advice"], *stuck, *filter(None, [answer["tls"] and answer["tls"]["problem"]])]
    it.show(answer, lines, *(f"! {text}" for text in advice))


@main.command()
@_json_too
@asker
def nodes(it: _Asker) -> None:
    """Who is known, and who is heard."""
    answer = it.ask("nodes")
    table = _table("node", "heard", "silent", "may coordinate", "gateway for other nodes")
    for peer in answer:
        silent = (
            "this node" if peer["me"] else "never heard" if peer["silent_s"] is None else f"{peer['silent_s']:.1f} s"
        )
        table.add_row(peer["peer"], _yes(peer["heard"]), silent, _yes(peer["eligible"]), peer["gateway"])
    it.show(answer, table)


@main.group()
def node() -> None:
    """What an operator decides of a node."""


@node.command()
@click.argument("peer")
@click.confirmation_option(
    "--yes",
    prompt="Its machine is gone for good, or was emptied: it will never be heard again under this id. Retire it?",
    help="Do not ask.",
)
@_json_too
@asker
def retire(it: _Asker, peer: str) -> None:
    """Count a node no more, for good: its machine will not come back (P64)."""
    answer = it.ask("retire", peer=peer)
    it.show(answer, answer["detail"])


@main.group()
def gateway() -> None:
    """The processes that answer queries."""


@gateway.command()
@_json_too
@asker
def restart(it: _Asker) -> None:
    """Put new workers in the place of the old ones, one after another, without losing a request."""
    answer = it.ask("restart-gateway")
    it.show(
        answer,
        f"{answer['workers']} of {answer['workers']} workers are new; those before them end what they have begun",
    )


def _ends(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int:
    """Unix seconds of so long from now, 0 for never."""
    if text is None:
        return 0
    try:
        seconds = duration(1.0, 100 * 365 * 86400.0).read(Value(Place("--expires"), text, text))
    except Unfit as unfit:
        raise click.BadParameter(str(unfit)) from None
    return round(time.time() + seconds)


@main.group()
def key() -> None:
    """API keys that every node knows."""


@key.command()
@click.option("--app", required=True, help="The application whose databases it opens.")
@click.option("--scope", type=click.Choice(SCOPES), default="write", show_default=True)
@click.option("--expires", metavar="30d", callback=_ends, help="Else it does not.")
@click.option("--name", default="", help="What it is called in torpor key list.")
@_json_too
@asker
def create(it: _Asker, app: str, scope: str, expires: int, name: str) -> None:
    """Create a key and show it: this once, since no node knows more than its SHA-256."""
    text, digest = new_key()
    key_id = id_of(text)
    told = it.ask("key create", id=key_id, sha256=digest, app=app, scope=scope, expires=str(expires), name=name)
    answer = {"key": text, "id": key_id, "app": app, "scope": scope, "expires": expires, "name": name} | told
    it.show(answer, text, f"{told['detail']}; it is not shown again")


@key.command("list")
@click.option("--app", help="Only this application's.")
@_json_too
@asker
def list_keys(it: _Asker, app: str | None) -> None:
    """All keys of the cluster, revoked and expired ones too; those of the settings are each node's own."""
    answer = it.ask("keys", app=app)
    table = _table("id", "application", "scope", "name", "state", "expires")
    for one in answer:
        over = one["expires"] and one["expires"] <= time.time()
        state = "revoked" if one["revoked"] else "expired" if over else "good"
        ends = f"{datetime.fromtimestamp(one['expires'], UTC):%Y-%m-%d %H:%M} UTC" if one["expires"] else "never"
        table.add_row(one["id"], one["app"], one["scope"], one["name"] or "-", state, ends)
    it.show(answer, table)


@key.command()
@click.argument("key_id", metavar="ID")
@_json_too
@asker
def revoke(it: _Asker, key_id: str) -> None:
    """Let nobody in by this key any more, on any node, for good."""
    answer = it.ask("key revoke", id=key_id)
    it.show(answer, answer["detail"])


@main.command()
@click.option("--app", help="Only this application's.")
@_json_too
@asker
def databases(it: _Asker, app: str | None) -> None:
    """All databases that this node knows of."""
    answer = it.ask("databases", app=app)
    table = _table("database", "phase", "here", "members", "epoch", "sealed")
    for one in answer:
        members = " ".join(_short(member["peer"]) for member in one["members"])
        seal = "" if one["seal"] is None else f"at {one['seal']['applied']}"
        table.add_row(
            f"{one['app']}/{one['name']}", one["phase"], one["state"] or "-", members, str(one["epoch"]), seal
        )
    it.show(answer, table)


@main.command()
@click.argument("database", metavar="APP/NAME")
@_json_too
@asker
def inspect(it: _Asker, database: str) -> None:
    """One database: members, phase, epoch, seal, and why it is so."""
    app, slash, name = database.partition("/")
    if not slash:
        raise click.UsageError(f"{database!r} is not APP/NAME, as torpor databases shows them")
    answer = it.ask("inspect", app=app, name=name)
    shown: list[Table | str] = []
    for one in answer:
        lines = _table("", "")
        here = f"{one['state']}, rqlited {one['process']}" if one["state"] else "not hosted: its members know why"
        seal = "none" if one["seal"] is None else f"epoch {one['seal']['epoch']}, index {one['seal']['applied']}"
        for key, text in (
            ("database", f"{one['app']}/{one['name']} ({one['internal']}), incarnation {one['incarnation']}"),
            ("phase", one["phase"]),
            ("here", f"{here}{', leads' if one['leader'] else ''}{', door open' if one['open'] else ''}"),
            ("epoch", f"{one['epoch']}, promised here up to {one['promised']}"),
            ("seal", seal),
            ("ports", f"HTTP {one['http'] or '-'}, Raft {one['raft'] or '-'}"),
            ("waiting", f"{one['waiting']} clients"),
            ("error", one["error"] or "none"),
        ):
            lines.add_row(key, text)
        members = _table("member", "Raft address", "node id")
        for member in one["members"]:
            members.add_row(member["peer"], f"{member['host']}:{member['raft']}", f"join {member['join']}")
        why = _table("ago", "what", "because", "law")
        for told in one["decisions"]:
            why.add_row(f"{told['ago_s']:.1f} s", told["event"], told["because"], told["law"])
        shown += [lines, members, why]
    it.show(answer, *shown)


for _of_a_database in (sql, export_, import_):
    main.add_command(_of_a_database)


def _table(*headings: str) -> Table:
    table = Table(*headings, box=box.SIMPLE_HEAD if any(headings) else None, show_header=any(headings), pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _counted(types: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in types.items()) or "nothing"


def _short(peer: str) -> str:
    return "…" + peer[-_SHORT:]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    main()
