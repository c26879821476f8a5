"""A failing scenario made small: delta debugging (Zeller and Hildebrandt, 2002) over its faults and clients, then each thing that is left
made plainer. The law kept here: what comes out fails as what went in did (the same law, the same exception), so that nobody hunts
a bug that the shrinking found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
from attrs import define, evolve

from protocol.limits import SECOND
from sim.play import Outcome, play
from sim.scenario import Fault, Machines, Scenario, Traffic

PLAYS: Final = 500
"""Runs that one shrinking may take: a minute or two."""

Say = Callable[[str], None]


ENDS: Final = ("does not answer", "does not sleep", "answers a strong read")
"""Ways in which a healed world is not alive: a database that does not sleep is another bug than one that does not answer."""


def kind_of(outcome: Outcome) -> str:
    """What broke, without the facts of the case: a law, an exception, or an expectation's own text; empty when it held."""
    if outcome.broken:
        law, _, what = outcome.broken.partition(":")
        return " ".join([law, *(end for end in ENDS if end in what)])
    return next((finding.text for finding in outcome.findings if not finding.held), "")


class NothingToShrink(ValueError):
    """The scenario holds."""


@define
class Shrinking:
    """``best``: the smallest scenario so far that fails in the same way."""

    best: Scenario
    kind: str
    say: Say
    left: int = PLAYS

    def still(self, smaller: Scenario) -> bool:
        """Whether this one fails in the same way; then it is the best."""
        if smaller == self.best or self.left == 0:
            return False
        self.left -= 1
        if kind_of(play(smaller)) != self.kind:
            return False
        self.best = smaller
        return True


def shrink(scenario: Scenario, say: Say, plays: int = PLAYS) -> Scenario:
    """The smallest scenario found within so many runs. Raises NothingToShrink."""
    first = play(scenario)
    kind = kind_of(first)
    if not kind:
        raise NothingToShrink("the scenario holds: there is nothing to shrink")
    # What it was expected to show need not hold any more, unless it is that which fails; a digest never would.
    expect = () if first.broken else scenario.expect
    work = Shrinking(evolve(scenario, digest="", lasts=scenario.end), kind, say, plays)
    work.still(evolve(work.best, expect=expect))
    before = None
    while before != work.best and work.left:
        before = work.best
        _fewer(work, "faults")
        _fewer(work, "workload")
        _plainer(work)
        _told(work)
    title = f"{scenario.title}, shrunk: {kind}"
    return evolve(work.best, title=title, story="")


def _told(work: Shrinking) -> None:
    best = work.best
    work.say(
        f"… {len(best.faults)} faults, {len(best.workload)} clients, {len(best.machines.names)} nodes, "
        f"{best.lasts / SECOND:.1f} s; {work.left} runs left"
    )


def _fewer(work: Shrinking, name: str) -> None:
    """Leave out ever smaller parts of a list, as long as it still fails without them."""
    size = max(1, len(getattr(work.best, name)) // 2)
    while True:
        at = 0
        while at < len(items := getattr(work.best, name)):
            if not work.still(_with(work.best, name, items[:at] + items[at + size :])):
                at += size
        if size == 1:
            return
        size //= 2


def _with(scenario: Scenario, name: str, items: tuple[Any, ...]) -> Scenario:
    return evolve(scenario, **{name: items})


def _plainer(work: Shrinking) -> None:
    for smaller in _worlds(work):
        work.still(smaller)
    for name in ("faults", "workload"):
        for number in range(len(getattr(work.best, name))):
            for item in _plain(getattr(work.best, name)[number]):
                items = getattr(work.best, name)
                work.still(_with(work.best, name, (*items[:number], item(items[number]), *items[number + 1 :])))


def _worlds(work: Shrinking) -> Iterator[Scenario]:
    """Each time what is best then, with one thing less about its machines or its time."""
    plain = Machines()
    for name in ("skew", "drift", "late", "narrow", "workers", "stop_timeout", "heartbeat"):
        yield evolve(work.best, machines=evolve(work.best.machines, **{name: getattr(plain, name)}))
    while (fewer := _one_node_less(work.best)) is not None and work.still(fewer):
        pass
    for share in (2, 4, 8):
        yield evolve(work.best, lasts=work.best.lasts - work.best.lasts // share)


def _one_node_less(scenario: Scenario) -> Scenario | None:
    """Without the last node, if nothing is said of it."""
    machines = scenario.machines
    count = machines.count - 1
    named = {one.node for one in (*scenario.faults, *scenario.workload, *scenario.expect)}
    named |= {name for fault in scenario.faults for name in (*fault.side, fault.source)} | {
        *machines.late,
        *machines.narrow,
    }
    if count < max(1, machines.replication_factor) or machines.names[-1] in named:
        return None
    return evolve(scenario, machines=evolve(machines, count=count, names=machines.names[:-1]))


def _plain(item: Fault | Traffic) -> list[Callable[[Any], Any]]:
    """Ways to make one fault or client plainer: each field that is not its default, for itself."""
    kept = ("verb", "target", "at", "node", "database", "side", "source", "key")
    fields = [field for field in attrs.fields(type(item)) if field.name not in kept]
    ways: list[Callable[[Any], Any]] = [
        _setting(field.name, field.default) for field in fields if getattr(item, field.name) != field.default
    ]
    if isinstance(item, Traffic) and item.every:
        ways.insert(0, lambda one: evolve(one, every=0, until=0))
    return ways


def _setting(name: str, value: object) -> Callable[[Any], Any]:
    if name in ("every", "until"):
        return lambda one: evolve(one, every=0, until=0)  # they belong together
    return lambda one: evolve(one, **{name: value})
