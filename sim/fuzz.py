"""Looking for seeds that break something. The law kept here: a failure always comes with the command that replays it and with its
scenario as a file, so that it outlives the generator that found it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from attrs import Factory, define

from sim import cluster, generate, workers, writer
from sim.laws import place
from sim.play import play
from sim.scenario import Scenario
from sim.workers import Verdict

SHOWN_EVERY: Final = 2.0
"""Seconds between two lines that say how it goes."""


PROFILES: Final = ("mixed", "cluster", "one")


def scenario(seed: int, profile: str = "mixed", nodes: int = 0, kinds: tuple[str, ...] = ()) -> Scenario:
    """What this seed means. ``nodes``: how many there are, and ``kinds``: which kinds of faults a cluster suffers, instead of what the
    seed says. *mixed*: of each four seeds one has a node alone, two have several with fast heartbeats, one is a cluster as it is
    shipped."""
    if profile == "one" or (profile == "mixed" and seed % 4 == 0):
        return generate.scenario(seed)
    if profile == "mixed" and seed % 4 != 3:
        return generate.together(seed, nodes)
    return cluster.scenario(seed, nodes, kinds)


Chosen = Callable[[int], Scenario]
"""What a seed means in this search."""


def judge(seed: int, chosen: Chosen = scenario, covering: bool = False) -> Verdict:
    """Play one seed."""
    paths: Counter[str] | None = Counter() if covering else None
    outcome = play(chosen(seed), paths=paths)
    return Verdict(seed, outcome.failure, outcome.events, dict(paths or {}))


@define
class Found:
    """What a search has come to so far."""

    wanted: int
    done: int = 0
    events: int = 0
    failures: list[Verdict] = Factory(list[Verdict])
    paths: Counter[str] = Factory(Counter[str])
    interrupted: bool = False
    begun: float = Factory(time.monotonic)

    def add(self, verdict: Verdict) -> None:
        self.done += 1
        self.events += verdict.events
        self.paths.update(verdict.paths)
        if verdict.why:
            self.failures.append(verdict)

    @property
    def rate(self) -> float:
        """Seeds per second."""
        return self.done / max(1e-9, time.monotonic() - self.begun)

    def so_far(self) -> str:
        left = (self.wanted - self.done) / max(1e-9, self.rate)
        return (
            f"… {self.done:,} of {self.wanted:,} seeds, {len(self.failures)} failures, {self.rate:.1f} seeds/s, "
            f"{int(left) // 60}:{int(left) % 60:02} to go"
        )

    def summary(self) -> str:
        took = time.monotonic() - self.begun
        return (
            f"{self.done:,} seeds, {len(self.failures)} failures, {self.rate:.1f} seeds/s, "
            f"{self.events / max(1e-9, took):,.0f} events/s, {took:.0f} s"
            + (f": interrupted before the other {self.wanted - self.done:,}" if self.interrupted else "")
        )


def run(
    seeds: range,
    jobs: int,
    save: Path,
    say: Callable[[str], None],
    chosen: Chosen = scenario,
    covering: bool = False,
) -> Found:
    """Play all seeds in ``jobs`` processes, saying how it goes; failing scenarios go to ``save``, which is made if need be."""
    found = Found(len(seeds))
    shown = found.begun
    verdicts = workers.judged(partial(judge, chosen=chosen, covering=covering), seeds, jobs)
    try:
        for verdict in verdicts:
            found.add(verdict)
            if verdict.why:
                say(_replay(verdict, chosen, save))
            if time.monotonic() - shown > SHOWN_EVERY:
                shown = time.monotonic()
                say(found.so_far())
    except KeyboardInterrupt:
        found.interrupted = True
    finally:
        verdicts.close()
    say(found.summary())
    return found


def _replay(verdict: Verdict, chosen: Chosen, save: Path) -> str:
    """Write the scenario of a failing seed down; the text that tells what happened and how to see it again."""
    told = f"seed {verdict.seed}: {verdict.why}"
    try:
        text = writer.dumps(chosen(verdict.seed))
    except Exception as error:  # noqa: BLE001 (a generator that fails has no scenario to keep: its seed is all there is)
        return f"{told}\n  no scenario: {type(error).__name__}: {error} [{place(error)}]"
    save.mkdir(parents=True, exist_ok=True)
    path = save / f"seed-{verdict.seed}.yaml"
    path.write_text(text, encoding="utf-8")
    return f"{told}\n  replay: python -m sim scenario {path}"
