"""The other way round: a scenario as YAML that ``sim.loader`` reads back to the same value. What a failing seed leaves behind is
such a file, so that the failure can be read, shortened by hand, and kept."""

from __future__ import annotations

import json
from typing import Any, cast

import attrs

from protocol.limits import MILLISECOND, SECOND
from sim.scenario import Expect, Fault, Machines, Moment, Scenario, Traffic


def duration(time: int) -> str:
    """The shortest exact text of so many microseconds."""
    for unit, size in (("s", SECOND), ("ms", MILLISECOND)):
        if time % size == 0:
            return f"{time // size}{unit}" if time else "0"
    return f"{time}us"


_DURATIONS = frozenset(
    (
        "at",
        "until",
        "every",
        "takes",
        "lasts",
        "after",
        "within",
        "hibernation_timeout",
        "stop_timeout",
        "wake_deadline",
        "health_interval",
        "skew",
        "slowest",
        "max_stale",
    )
) | {"heartbeat"}


def _scalar(key: str, value: Any) -> str:
    if key in _DURATIONS and isinstance(value, int):
        return duration(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        value = cast("tuple[object, ...]", value)
        if key.endswith("_ports"):
            return f"{value[0]}-{value[1]}"
        return "[" + ", ".join(str(item) for item in value) + "]"
    if isinstance(value, str):
        return value if value.replace("/", "").replace("_", "").isalnum() and not value.isdigit() else json.dumps(value)
    return str(value)


def _changed(value: attrs.AttrsInstance, *without: str) -> dict[str, Any]:
    """Fields that are not their defaults."""
    return {
        field.name: getattr(value, field.name)
        for field in attrs.fields(type(value))
        if field.name not in without and getattr(value, field.name) != field.default
    }


def _flow(parts: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in parts.items()) + "}"


def _traffic(one: Traffic) -> str:
    parts = _changed(one)
    return _flow(
        {key: _moment(value) if isinstance(value, Moment) else _scalar(key, value) for key, value in parts.items()}
    )


def _moment(moment: Moment) -> str:
    if not moment.event:
        parts = {"effect": str(moment.nth)}
    else:
        parts = {"event": _scalar("event", moment.event)} | ({"nth": str(moment.nth)} if moment.nth != 1 else {})
    return _flow(parts | ({"after": duration(moment.after)} if moment.after else {}))


def _fault(fault: Fault) -> str:
    parts = {fault.verb: fault.target, "at": duration(fault.at) if isinstance(fault.at, int) else _moment(fault.at)}
    for key, value in _changed(fault, "verb", "target", "at").items():
        if key == "lasts":
            parts["for"] = duration(value)
        elif key == "back":
            parts["back"] = "never" if value is None else duration(value)
        else:
            parts[key] = _scalar(key, value)
    return _flow(parts)


_FIELD = {
    "acknowledged": "times",
    "answered": "times",
    "failed": "times",
    "slowest": "within",
    "processes": "times",
} | {"starts": "times", "stale": "times"}


def _expect(expect: Expect) -> str:
    field = _FIELD.get(expect.kind, "text")
    value = getattr(expect, field)
    parts = {expect.kind: "all" if (expect.kind, value) == ("answered", -1) else _scalar(field, value)}
    for key, other in _changed(expect, "kind", field).items():
        parts["and" if key == "other" else key] = _scalar(key, other)
    return _flow(parts)


def dumps(scenario: Scenario) -> str:
    """The YAML of a scenario."""
    lines = [f"title: {json.dumps(scenario.title)}"]
    if scenario.story:
        lines.append(f"story: {json.dumps(scenario.story)}")
    lines.append(f"seed: {scenario.seed}")
    if scenario.lasts:
        lines.append(f"lasts: {duration(scenario.lasts)}")
    if scenario.machines != Machines():
        changed = _changed(scenario.machines, *(("names",) if scenario.machines.count else ()))
        lines.append("nodes: " + _flow({key: _scalar(key, value) for key, value in changed.items()}))
    for key, items in (
        ("workload", [_traffic(one) for one in scenario.workload]),
        ("faults", [_fault(one) for one in scenario.faults]),
        ("expect", [_expect(one) for one in scenario.expect]),
    ):
        if items:
            lines += [f"{key}:", *(f"  - {item}" for item in items)]
    if scenario.digest:
        lines.append(f"digest: {json.dumps(scenario.digest)}")
    return "\n".join(lines) + "\n"
