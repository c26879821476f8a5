"""Who notices that a safeguard is off. The law kept here: only what could not happen with it on counts as noticed. A scenario has to hold with
all safeguards on, and so has a seed; and whatever the crippled engine does, an exception included, is judged as any other run is.

A scenario that is named for the safeguard comes first, then the explorer's stories of its law, then generated seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from time import process_time
from typing import Final

from attrs import frozen

from sim import fuzz, loader
from sim.explore import command
from sim.explore.stories import STORIES
from sim.play import play
from sim.safeguards import Safeguard, without
from sim.workers import Verdict

SWITCHES: Final = "switches.py"
"""An exception that was raised in this file is none of the engine's."""


@frozen(kw_only=True)
class Ablation(Verdict):
    """What came of one safeguard's absence. ``seed`` is its number in the table; ``why``: the law or the check that noticed, or empty.
    ``how``: scenario, story or seeds; ``name``: which one; ``count``: states of the story, or seeds it took."""

    how: str = ""
    name: str = ""
    count: int = 0
    seconds: float = 0.0

    @property
    def by(self) -> str:
        match self.how:
            case "scenario":
                return f"scenario {self.name}"
            case "story":
                return f"story {self.name}, {self.count:,} states"
            case "seeds":
                return f"{self.count} seeds (seed {self.name})"
            case _:
                return "NOT CAUGHT"


class Unsound(ValueError):
    """A scenario that is named for a safeguard does not hold with all of them on, or a switch breaks more than it takes away."""


def caught(number: int, safeguard: Safeguard, seeds: int) -> Ablation:
    """Switch one off until something notices: at most ``seeds`` seeds. Raises Unsound, loader.ScenarioError."""
    begun = process_time()
    for how, name, count, why in _tries(safeguard, seeds):
        if f"[{SWITCHES}:" in why:
            raise Unsound(f"the switch itself fails, in {how} {name}: {why}")
        if why:
            return Ablation(number, why, how=how, name=name, count=count, seconds=process_time() - begun)
    return Ablation(number, seconds=process_time() - begun)


def _tries(safeguard: Safeguard, seeds: int) -> Iterator[tuple[str, str, int, str]]:
    for name in safeguard.scenarios:
        _must_hold(name)
        if safeguard.twin is not None:
            with safeguard.twin.switch():
                _must_hold(name, safeguard.twin.off)
        with without(safeguard), safeguard.twin.switch() if safeguard.twin else nullcontext():
            why = play(loader.load(loader.find(name))).failure
        yield "scenario", name, 1, why
    if safeguard.twin is not None:
        return  # nothing else has to notice that one of the two is gone
    for story in STORIES:
        if safeguard.law in story.laws:
            states, why = 0, ""
            with without(safeguard):
                for searched in command.searches(story):
                    states += searched.found.states
                    why = str(searched.found.violation or "")
                    if why:
                        break
            yield "story", story.name, states, why
    for seed in range(1, seeds + 1):
        with without(safeguard):
            why = play(fuzz.scenario(seed)).failure
        if why and play(fuzz.scenario(seed)).failure:
            why = ""  # it fails anyhow: that says nothing of this safeguard
        yield "seeds", str(seed), seed, why


@cache
def _must_hold(name: str, off: str = "") -> None:
    """``off``: what is switched off while it is played, besides no safeguard of the table."""
    failure = play(loader.load(loader.find(name))).failure
    if failure:
        gone = f"with “{off}” alone" if off else "with all safeguards on"
        raise Unsound(f"{name} does not hold {gone}: {failure}")
