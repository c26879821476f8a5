"""A run told in lines that a person can read: when, who, which database, what, *because* why, by which law. The law kept here:
nothing is made up for the reader. Each line is one decision of an engine with the reason that it gave itself, one fault, or
what clients noticed; the same decision reads the same in the real node's log."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from sim.play import Outcome
from sim.world import Told

TOGETHER = 100_000
"""What clients notice of one database within so many microseconds is one line."""


def _grouped(story: list[Told]) -> Iterator[tuple[Told, int]]:
    """Each line with how many like it follow at once: a flood of a thousand is told once."""
    waiting: dict[tuple[str, str, str, str], tuple[Told, int]] = {}
    for told in story:
        stale = [key for key, (first, _) in waiting.items() if told.kind != "client" or told.at - first.at > TOGETHER]
        for key in stale:
            yield waiting.pop(key)
        if told.kind != "client":
            yield told, 1
            continue
        key = (told.node, told.database, told.event, told.because)
        first, count = waiting.get(key, (told, 0))
        waiting[key] = (evolve(first, fields=max(first.fields, told.fields)), count + 1)
    yield from waiting.values()


def line(told: Told, count: int = 1, node_width: int = 0, database_width: int = 0) -> str:
    """One line of the story."""
    event = told.event
    if told.kind == "client":
        waited = dict(told.fields).get("waited_ms", 0)
        event = f"client: {event}" if count == 1 else f"clients: {count} × {event}"
        event += f", after {'up to ' if count > 1 else ''}{waited} ms"
    elif told.kind == "fault":
        event = f"⚡ {event}"
    because = f" — {told.because}" if told.because else ""
    law = f" [{told.law}]" if told.law else ""
    return f"{told.at / 1e6:9.3f}s  {told.node:{node_width}}  {told.database:{database_width}}  {event}{because}{law}"


def lines(outcome: Outcome) -> Iterator[str]:
    """The whole tale: title, story, what happened, what was expected, the verdict and the digest."""
    scenario = outcome.scenario
    yield f"{scenario.title}  (seed {scenario.seed})"
    if scenario.story:
        yield from (f"  {text}".rstrip() for text in scenario.story.strip().splitlines())
    yield ""
    node_width = max((len(told.node) for told in outcome.story), default=1)
    database_width = max((len(told.database) for told in outcome.story), default=1)
    for told, count in _grouped(outcome.story):
        yield line(told, count, node_width, database_width).rstrip()
    yield ""
    if outcome.stopped_early:
        yield f"stopped at {outcome.now / 1e6:.3f} s, as asked: nothing is judged"
    else:
        yield from (f"  {finding}" for finding in outcome.findings)
        law = "no law was broken; every database answered and slept again after the faults"
        yield f"  ✗ {outcome.broken}" if outcome.broken else f"  ✓ {law}"
        yield f"verdict: {'held' if outcome.held else 'FAILED'}"
    yield f"digest:  {outcome.digest}  ({outcome.events} events)"
