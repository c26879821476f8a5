"""``python -m runtime.bench``: the command line. Exit codes: 0 measured; 1 it failed, or a binding objective was missed; 2 there is no rqlited."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import httpx
import trio
from rich.console import Console

from protocol.limits import MEMBERS
from runtime.bench import figures
from runtime.bench.figures import BenchFailed, Figure
from runtime.bench.lifecycle import lifecycle
from runtime.bench.query import query
from runtime.bench.thousand import MOST_AWAKE, thousand
from runtime.rqlited_binary import RqlitedMissing, find_binary
from runtime.rqlited_floor import FloorFailed
from runtime.spawned import NodeDidNotStart

_FAILURES: Final = (BenchFailed, NodeDidNotStart, FloorFailed, httpx.HTTPError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark; gives the exit code."""
    given = _parsed(arguments)
    console = Console(highlight=False, stderr=given.json, width=None if sys.stdout.isatty() else 200)
    directory = Path(tempfile.mkdtemp(prefix="torpor-bench-"))
    try:
        find_binary()
        found: list[Figure] = trio.run(given.run, directory, given, console)
    except RqlitedMissing as missing:
        console.print(f"torpor: {missing}", soft_wrap=True, markup=False)
        return 2
    except (*_FAILURES, ExceptionGroup) as failed:
        failures = list(_failures(failed))
        if not failures:
            raise
        for each in failures:
            console.print(f"torpor: {each or type(each).__name__}", soft_wrap=True, markup=False)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if given.json:
        what = {key: getattr(given, key) for key in given.shown}
        sys.stdout.write(json.dumps(figures.as_json(given.bench, what, found)) + "\n")
    else:
        console.print(figures.table(found, given.beside))
    broken = figures.broken(found)
    for line in broken:
        console.print(f"torpor: missed: {line}", soft_wrap=True, markup=False)
    return 1 if broken else 0


def _parsed(arguments: Sequence[str] | None) -> Any:
    """With ``run``, the bench itself; ``shown``, what the JSON tells of it; ``beside``, a heading."""
    parser = argparse.ArgumentParser(prog="python -m runtime.bench")
    commands = parser.add_subparsers(dest="bench", required=True)

    command = commands.add_parser(
        "lifecycle", help="creation and wake-up beside the raw rqlited; messages of each operation"
    )
    command.add_argument("--runs", type=_at_least(1), default=10, help="turns of each (default: 10)")
    command.add_argument("--rf", type=_at_least(1), default=1, help="replicas, each on a node of its own (default: 1)")
    command.set_defaults(run=_lifecycle, shown=("rf",), beside="raw rqlited")

    command = commands.add_parser("thousand", help="what databases cost that sleep, on three nodes")
    command.add_argument("--databases", type=_at_least(10), default=1_000, help="how many (default: 1000)")
    command.add_argument("--awake", type=_at_least(1), default=10, help="how many of them are woken (default: 10)")
    command.add_argument(
        "--window", type=_at_least(1), default=30, help="seconds for which CPU is measured (default: 30)"
    )
    command.set_defaults(run=_thousand, shown=("databases", "awake", "window"), beside="empty nodes")

    command = commands.add_parser("query", help="reads and writes beside the raw rqlited; a hop; a flood on a sleeper")
    command.add_argument("--reads", type=_at_least(100), default=2_000, help="of each side (default: 2000)")
    command.add_argument("--seconds", type=_at_least(1), default=6, help="of load on each side (default: 6)")
    command.set_defaults(run=_query, shown=("reads", "seconds"), beside="beside")

    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    given: Any = parser.parse_args(arguments)
    if getattr(given, "rf", 1) > MEMBERS:
        parser.error(f"--rf: 1 to {MEMBERS}")
    if given.bench == "thousand" and given.awake > min(given.databases, MOST_AWAKE):
        parser.error(f"--awake: at most --databases, and {MOST_AWAKE}")
    return given


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"at least {least}")
        return value

    return number


async def _lifecycle(directory: Path, given: Any, console: Console) -> list[Figure]:
    return await lifecycle(directory, given.runs, given.rf, console)


async def _thousand(directory: Path, given: Any, console: Console) -> list[Figure]:
    return await thousand(directory, given.databases, given.awake, given.window, console)


async def _query(directory: Path, given: Any, console: Console) -> list[Figure]:
    return await query(directory, given.reads, given.seconds, console)


def _failures(error: Exception) -> Iterator[Exception]:
    """What failed, if nothing else did."""
    if isinstance(error, _FAILURES):
        yield error
    elif isinstance(error, ExceptionGroup):
        several = cast("ExceptionGroup[Exception]", error)
        if several.split(_FAILURES)[1] is None:
            for each in several.exceptions:
                yield from _failures(each)


if __name__ == "__main__":
    sys.exit(main())
