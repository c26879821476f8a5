"""Scenarios as YAML. The law kept here: a mistake in a file is one line that names the file, the line and what would be right,
and nothing is guessed: an unknown key is an error, not a comment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import yaml

from protocol.ids import DatabaseName, InvalidName
from protocol.inputs import Cause
from protocol.limits import MILLISECOND, SECOND
from sim import moments
from sim.scenario import ALL, MOST_NODES, VERBS, Expect, Fault, Machines, Moment, Scenario, Traffic

SCENARIOS: Final = Path(__file__).resolve().parent.parent / "configs" / "scenarios"
CORPUS: Final = SCENARIOS.parent / "corpus"
"""What searches have found, kept: a bare name is looked up in these two, wherever the command is run."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m)")
_UNITS: Final = {"us": 1, "ms": MILLISECOND, "s": SECOND, "m": 60 * SECOND}

Parse = Callable[[yaml.Node], Any]


class ScenarioError(ValueError):
    """A scenario that cannot be read. Its text is one line: ``file:line: what is wrong``."""


class _Bad(Exception):
    def __init__(self, node: yaml.Node, text: str) -> None:
        super().__init__(text)
        self.line = node.start_mark.line + 1 if node.start_mark else 1


def find(name: str) -> Path:
    """The file of a scenario: a path as it is, a bare name in ``configs/scenarios`` or ``configs/corpus``. Raises ScenarioError."""
    given = Path(name)
    for path in (given, SCENARIOS / name, SCENARIOS / f"{name}.yaml", CORPUS / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in SCENARIOS.glob("*.yaml")))
    raise ScenarioError(f"{name}: no such scenario; there are {known}")


def load(path: Path) -> Scenario:
    """Read a scenario. Raises ScenarioError."""
    try:
        return loads(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from error


def loads(text: str, name: str = "scenario") -> Scenario:
    """The scenario of a YAML text. Raises ScenarioError."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScenarioError(f"{name}:{line}: not YAML: {error.problem}") from error
    try:
        if root is None:
            raise ScenarioError(f"{name}:1: the file is empty")
        return _scenario(root)
    except _Bad as error:
        raise ScenarioError(f"{name}:{error.line}: {error}") from error


# --- values ---------------------------------------------------------------------------------------------------------


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _Bad(node, "expected a text")
    return str(node.value)


def duration(text: str) -> int:
    """Microseconds of ``250ms``, ``3s``, ``1m``, ``5us`` or ``0``. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None and text != "0":
        raise ValueError(f"expected a duration such as 250ms, 3s or 1m, got {text!r}")
    return round(float(match[1]) * _UNITS[match[2]]) if match else 0


def _duration(node: yaml.Node) -> int:
    try:
        return duration(_text(node))
    except ValueError as error:
        raise _Bad(node, str(error)) from error


def _number(node: yaml.Node) -> int:
    text = _text(node)
    if not re.fullmatch(r"\d+", text):
        raise _Bad(node, f"expected a whole number, got {text!r}")
    return int(text)


def _share(node: yaml.Node) -> float:
    text = _text(node)
    if not re.fullmatch(r"[01](\.\d+)?", text) or float(text) > 1:
        raise _Bad(node, f"expected a share from 0 to 1, got {text!r}")
    return float(text)


def _flag(node: yaml.Node) -> bool:
    text = _text(node)
    if text not in ("true", "false"):
        raise _Bad(node, f"expected true or false, got {text!r}")
    return text == "true"


def _one_of(allowed: tuple[str, ...]) -> Parse:
    def parse(node: yaml.Node) -> str:
        text = _text(node)
        if text not in allowed:
            raise _Bad(node, f"expected one of {', '.join(allowed)}, got {text!r}")
        return text

    return parse


def _database(node: yaml.Node) -> str:
    text = _text(node)
    app, slash, name = text.partition("/")
    try:
        if not slash:
            raise InvalidName("expected application/database")
        DatabaseName(app, name)
    except InvalidName as error:
        raise _Bad(node, f"{text!r}: {error}") from error
    return text


def _ports(node: yaml.Node) -> tuple[int, int]:
    first, dash, last = _text(node).partition("-")
    if not dash or not first.isdigit() or not last.isdigit() or int(first) > int(last):
        raise _Bad(node, "expected a range of ports such as 5001-5999")
    return int(first), int(last)


def _list(of: Parse) -> Parse:
    def parse(node: yaml.Node) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise _Bad(node, "expected a list")
        return tuple(of(item) for item in node.value)

    return parse


def _mapping(node: yaml.Node, keys: Mapping[str, Parse]) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise _Bad(node, "expected keys and values")
    found: dict[str, Any] = {}
    for key_node, value in node.value:
        key = _text(key_node)
        if key not in keys:
            raise _Bad(key_node, f"unknown key {key!r}; there are {', '.join(sorted(keys))}")
        if key in found:
            raise _Bad(key_node, f"key {key!r} stands here twice")
        found[key] = keys[key](value)
    return found


# --- parts ----------------------------------------------------------------------------------------------------------

_MOMENT: Final[dict[str, Parse]] = {"event": _text, "nth": _number, "after": _duration, "effect": _number}


def _when(node: yaml.Node) -> int | Moment:
    if isinstance(node, yaml.ScalarNode):
        return _duration(node)
    found = _mapping(node, _MOMENT)
    if "effect" in found:
        return Moment("", found["effect"], found.get("after", 0))
    if "event" not in found:
        raise _Bad(node, "a moment needs `event`: the name of an input, an effect or a decision")
    if found.get("nth", 1) < 1:
        raise _Bad(node, "`nth` counts from 1")
    name = found["event"]
    if name[:1].isupper() and name not in moments.EFFECTS and name not in moments.INPUTS:
        raise _Bad(node, f"no input or effect is called {name!r}")
    return Moment(**found)


def _machines(node: yaml.Node) -> Machines:
    found = _mapping(
        node,
        {
            "names": _list(_text),
            "count": _number,
            "replication_factor": _number,
            "health_interval": _duration,
            "founders": _number,
            "late": _list(_text),
            "skew": _duration,
            "drift": _number,
            "workers": _number,
            "hibernation_timeout": _duration,
            "max_databases": _number,
            "stop_timeout": _duration,
            "wake_deadline": _duration,
            "http_ports": _ports,
            "raft_ports": _ports,
            "narrow": _list(_text),
            "heartbeat": _duration,
        },
    )
    if not found.get("names", ("n1",)):
        raise _Bad(node, "`names` needs at least one node")
    if "count" in found:
        if "names" in found or not 1 <= found["count"] <= MOST_NODES:
            raise _Bad(
                node, f"`count` is a number of nodes from 1 to {MOST_NODES}, without `names`: they are n1, n2, …"
            )
        found["names"] = tuple(f"n{i}" for i in range(1, found["count"] + 1))
    if not 1 <= found.get("replication_factor", 1) <= max(1, found.get("count", 0)):
        raise _Bad(node, "`replication_factor` needs a `count` of nodes that is as high")
    return Machines(**found)


def _traffic(node: yaml.Node) -> Traffic:
    found = _mapping(
        node,
        {
            "database": _database,
            "node": _text,
            "at": _when,
            "until": _duration,
            "every": _duration,
            "queries": _number,
            "writes": _share,
            "strong": _flag,
            "takes": _duration,
            "direct": _flag,
            "max_stale": _duration,
        },
    )
    for key in ("database", "at"):
        if key not in found:
            raise _Bad(node, f"traffic needs `{key}`")
    if ("until" in found) != ("every" in found):
        raise _Bad(node, "`until` and `every` belong together")
    if "every" in found and isinstance(found["at"], Moment):
        raise _Bad(node, "traffic at a moment happens once: leave `every` out")
    return Traffic(**found)


def _fault(node: yaml.Node) -> Fault:
    keys: dict[str, Parse] = {verb: _one_of(targets) for verb, targets in VERBS.items()}
    keys |= {"at": _when, "node": _text, "database": _database, "for": _duration, "times": _number, "factor": _number}
    keys |= {"side": _list(_text), "source": _text, "key": _text, "loss": _share, "twice": _share, "slowest": _duration}
    keys |= {"cause": _one_of(get_args(Cause)), "back": lambda n: None if _text(n) == "never" else _duration(n)}
    found = _mapping(node, keys)
    verbs = [verb for verb in VERBS if verb in found]
    if len(verbs) != 1 or "at" not in found:
        raise _Bad(node, f"a fault needs `at` and one of {', '.join(VERBS)}")
    if verbs == ["clone"] and "source" not in found:
        raise _Bad(node, "a clone needs the `source`: the node whose store is copied")
    if verbs[0] in ("create", "revoke") and "key" not in found:
        raise _Bad(node, "name the `key` that an operator creates or revokes")
    if "for" in found:
        found["lasts"] = found.pop("for")
    return Fault(verbs[0], found.pop(verbs[0]), **found)


_EXPECT: Final[dict[str, tuple[str, Parse]]] = {
    "state": ("text", _text),
    "seen": ("text", _text),
    "never": ("text", _text),
    "acknowledged": ("times", _number),
    "answered": ("times", lambda node: -1 if _text(node) == "all" else _number(node)),
    "failed": ("times", _number),
    "told": ("text", _text),
    "slowest": ("within", _duration),
    "processes": ("times", _number),
    "starts": ("times", _number),
    "between": ("text", _text),
    "admits": ("text", _text),
    "refuses": ("text", _text),
    "stale": ("times", _number),
}


def _expect(node: yaml.Node) -> Expect:
    keys = {kind: parse for kind, (_, parse) in _EXPECT.items()}
    keys |= {"database": _database, "node": _text, "at": _duration, "after": _duration, "times": _number}
    keys |= {"and": _text, "within": _duration}
    found = _mapping(node, keys)
    kinds = [kind for kind in _EXPECT if kind in found]
    if len(kinds) != 1:
        raise _Bad(node, f"an expectation needs one of {', '.join(_EXPECT)}")
    if "and" in found:
        found["other"] = found.pop("and")
    found[_EXPECT[kinds[0]][0]] = found.pop(kinds[0])
    return Expect(kinds[0], **found)  # type: ignore[arg-type]


def _scenario(root: yaml.Node) -> Scenario:
    found = _mapping(
        root,
        {
            "title": _text,
            "story": _text,
            "seed": _number,
            "lasts": _duration,
            "nodes": _machines,
            "workload": _list(_traffic),
            "faults": _list(_fault),
            "expect": _list(_expect),
            "digest": _text,
        },
    )
    if "title" not in found:
        raise _Bad(root, "a scenario needs a `title`")
    if "nodes" in found:
        found["machines"] = found.pop("nodes")
    scenario = Scenario(**found)
    for one in (*scenario.workload, *scenario.faults, *scenario.expect):
        if one.node and one.node not in (*scenario.machines.names, *((ALL,) if isinstance(one, Fault) else ())):
            raise _Bad(root, f"no node is called {one.node!r}; there are {', '.join(scenario.machines.names)}")
    sources = tuple(fault.source for fault in scenario.faults if fault.verb == "clone")
    for name in (
        *scenario.machines.late,
        *scenario.machines.narrow,
        *sources,
        *(name for fault in scenario.faults for name in fault.side),
    ):
        if name not in scenario.machines.names:
            raise _Bad(root, f"no node is called {name!r}; there are {', '.join(scenario.machines.names)}")
    return scenario
