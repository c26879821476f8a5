"""Every moment, not the clever ones: a scenario is played once to count its effects, then once for each effect and each victim,
who is killed just before that effect is carried out. The law kept here: whatever dies wherever, acknowledged writes are there
afterwards, nothing is doubled, and everything works again (the laws that every play is judged by).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import evolve

from protocol.limits import MILLISECOND
from sim.moments import EFFECTS
from sim.play import Outcome, play
from sim.scenario import Fault, Moment, Scenario

VICTIMS: Final = ("rqlited", "worker", "node")


def effects(scenario: Scenario) -> list[str]:
    """The names of all effects of the scenario's first node, in order; ``Write`` is one step's commit."""
    outcome = play(scenario, keep_trace=True, until=scenario.end - 1)
    name = scenario.machines.names[0]
    found: list[str] = []
    wrote = False
    for line in outcome.trace.lines:
        if not line.startswith(f"{name} "):
            continue
        kind, text = line[len(name) + 1], line[len(name) + 3 :].partition("(")[0]
        if kind == "!" and text in EFFECTS:
            found.append(text)
        elif kind == "=" and not wrote:
            found.append("Write")
        wrote = kind == "="
    return found


def struck(scenario: Scenario, victim: str, number: int) -> Scenario:
    """The same scenario, with ``victim`` killed at the ``number``-th effect (from 1)."""
    fault = Fault("kill", victim, Moment("", number), back=200 * MILLISECOND)
    # What the undisturbed run was expected to show need not hold; the laws must.
    title = f"{scenario.title}: {victim} killed at effect {number}"
    return evolve(scenario, title=title, faults=(*scenario.faults, fault), expect=(), digest="", lasts=scenario.end)


def sweep(scenario: Scenario) -> Iterator[tuple[str, int, str, Outcome]]:
    """(victim, number and name of the effect, outcome) of all."""
    for number, name in enumerate(effects(scenario), 1):
        for victim in VICTIMS:
            yield victim, number, name, play(struck(scenario, victim, number))
