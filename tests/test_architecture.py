"""The shape of the code is a law, too (style.md, habits 4, 5 and 9): the core is pure, dependencies point inward, files keep
one concern. What import-linter cannot see is seen here: calls of builtins, and what a step really touches while it runs.
"""

from __future__ import annotations

import ast
import builtins
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.limits import SECOND
from tests.protocol.solo import Solo

ROOT = Path(__file__).parent.parent
PACKAGES = ("protocol", "runtime", "sim")

PURE = {
    # Ours, and the three libraries of the core.
    *("protocol", "attrs", "cbor2", "statemachine"),
    # Of the standard library only what computes: no clock, socket, file, thread, entropy.
    *(
        "__future__",
        "bisect",
        "collections",
        "contextlib",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "inspect",
        "itertools",
    ),
    *("math", "operator", "re", "types", "typing"),
}
DESCRIBE = {"sys"}
"""protocol/describe.py is a program that writes the generated pages; nothing of the core imports it."""

LONGEST = 400
NAMELESS = re.compile(r"utils?|helpers?|managers?|base|common|misc")


def modules(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_import_contracts_hold() -> None:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", modules("protocol"), ids=lambda path: path.stem)
def test_the_core_imports_nothing_but_what_computes(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    allowed = PURE | DESCRIBE if path.name == "describe.py" else PURE
    assert {name.partition(".")[0] for name in imports(tree)} <= allowed
    assert "protocol.describe" not in set(imports(tree))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    forbidden = {"open", "input", "print", "breakpoint", "__import__", "exec", "id", "hash"}
    # `id` and `hash` of text differ from process to process: an order that rests on them would not replay.
    assert not called & forbidden or path.name == "describe.py"


class Touched(AssertionError):
    """The core touched the world."""


@contextmanager
def tripwires() -> Iterator[None]:
    """Whoever asks for the time, entropy, a file or a socket in here fails."""

    def wire(name: str) -> object:
        def touched(*_args: object, **_more: object) -> None:
            raise Touched(name)

        return touched

    clocks = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep")
    with pytest.MonkeyPatch.context() as patch:
        for name in clocks:
            patch.setattr(time, name, wire(f"time.{name}"))
        for name in ("urandom", "getpid", "open", "stat", "listdir", "getenv"):
            patch.setattr(os, name, wire(f"os.{name}"))
        for name in ("random", "getrandbits", "choice", "shuffle", "randint", "Random", "SystemRandom"):
            patch.setattr(random, name, wire(f"random.{name}"))
        patch.setattr(builtins, "open", wire("open"))
        patch.setattr(socket, "socket", wire("socket.socket"))
        yield


def a_life() -> list[str]:
    """Create, use, sleep, wake, die, restart; every effect and reason of it."""
    solo = Solo()
    solo.awake()
    solo.used()
    solo.asleep()
    solo.ask()
    solo.wait(3 * SECOND)
    solo.boot()
    solo.ask()
    solo.ask("orders")
    solo.wait(10 * SECOND)
    return [repr(entry) for entry in solo.log] + [f"{key}={value.hex()}" for key, value in sorted(solo.rows.items())]


def test_a_step_touches_no_clock_entropy_file_or_socket() -> None:
    with tripwires():
        life = a_life()
    assert len(life) > 50


def test_the_tripwires_are_live() -> None:
    with tripwires():
        for touch in (time.monotonic, lambda: os.urandom(1), socket.socket, random.random):
            with pytest.raises(Touched):
                touch()
        with pytest.raises(Touched):
            builtins.open(0)  # noqa: SIM115 (it is the builtin that has to be gone)


def test_a_life_is_the_same_in_every_process() -> None:
    program = "from tests.test_architecture import a_life; print(*a_life(), sep=chr(10))"
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    ]
    assert told[0].splitlines() == a_life()
    assert told[1] == told[0]
    assert told[2] == told[0]


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_one_concern_and_says_it_first(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST, f"{path.name} is longer than {LONGEST} lines: split it by concern"
    assert not NAMELESS.fullmatch(path.stem), f"{path.name}: name what it does"
    assert ast.get_docstring(ast.parse(text)), f"{path.name} does not say what it keeps"
