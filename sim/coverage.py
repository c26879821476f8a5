"""Which rare paths a run went: TigerBeetle and FoundationDB call these *sometimes* assertions. The law kept here: a safeguard that no
seed ever comes near proves nothing, so what was never reached is said as loudly as what broke.

A path is a transition of the lifecycle, a decision with its law, an input, a message, or a fault that found its target.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Final

import protocol
from protocol.chart import TABLE, Chart, Facts
from protocol.inputs import Input, Received
from protocol.messages import Message
from sim.scenario import VERBS

SOURCE: Final = Path(protocol.__file__).parent


class Counted:
    """A chart whose transitions are counted."""

    def __init__(self, chart: Chart, paths: Counter[str]) -> None:
        self.name = chart.name
        self._chart = chart
        self._paths = paths

    def fire(self, state: str, event: str, facts: Facts) -> str | None:
        target = self._chart.fire(state, event, facts)
        if target is not None:
            self._paths[transition(state, event, target)] += 1
        return target


def transition(source: str, event: str, target: str) -> str:
    return f"transition {source} --{event}--> {target}"


def decision(event: str, law: str) -> str:
    return f"decision “{event}”" + (f" [{law}]" if law else "")


def fault(verb: str, target: str) -> str:
    return f"fault {verb} {target}"


def taken(paths: Counter[str], given: Input) -> None:
    """An engine takes an input, perhaps a message."""
    paths[f"input {type(given).__name__}"] += 1
    if type(given) is Received:
        paths[f"message {type(given.message).__name__}"] += 1


def possible() -> frozenset[str]:
    """Every path that there is, as far as the code can be read: a decision whose name is computed is known only once it is made."""
    return frozenset(
        {transition(row.source, row.event, row.target) for row in TABLE.rows}
        | {f"input {kind.__name__}" for kind in Input.__args__}
        | {f"message {kind.__name__}" for kind in Message.__args__}
        | {fault(verb, target) for verb, targets in VERBS.items() for target in targets}
        | {path for file in sorted(SOURCE.rglob("*.py")) for path in _decisions(file)}
    )


def _decisions(file: Path) -> set[str]:
    """The decisions that a file's ``turn.decide(event, hosted, because, law)`` calls can make."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "decide"):
            continue
        event, law = (_literal(node.args[i]) if i < len(node.args) else "" for i in (0, 3))
        if event is not None and law is not None:
            found.add(decision(event, law))
    return found


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def lines(paths: Counter[str]) -> list[str]:
    """All paths that were gone with how often, rarest first, and then those that never were."""
    never = sorted(possible() - paths.keys())
    gone = [f"  {count:>10,}  {path}" for path, count in sorted(paths.items(), key=lambda item: (item[1], item[0]))]
    return [
        f"{len(paths)} paths were gone, the rarest first:",
        *gone,
        f"{len(never)} were never gone:",
        *(f"  {'–':>10}  {path}" for path in never),
    ]
