"""Conformance scripts: what one rqlited is told, step by step, and what whoever told it sees. The law kept here: the outcome of a
step is one short text that means the same on the model and on a real process, so that the two lists can be compared.

    start found|restart [as other] [with peers] → ready | the cause of its exit     stop → the cause      kill → the cause
    write N → acknowledged | refused           read → the rows, in order | refused  snapshot → folded | failed
    count [strong] → requests of clients counted | not running                      sealed → yes | no
    take|free http|raft, move raft, lose marker|raft|directory → nothing to see
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

HERE = Path(__file__).parent


@frozen
class Script:
    name: str
    title: str
    steps: tuple[str, ...]
    outcomes: tuple[str, ...]


def _load(path: Path) -> Script:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [(str(step), str(outcome)) for step, outcome in found["steps"]]
    return Script(path.stem, found["title"], tuple(step for step, _ in steps), tuple(outcome for _, outcome in steps))


SCRIPTS = tuple(_load(path) for path in sorted(HERE.glob("*.yaml")))
