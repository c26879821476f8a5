"""Looking for seeds that break something. The law kept here: a failure always comes with the command that replays it and with its
scenario as a file, so that it outlives the generator that found it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from sim import generate, writer
from sim.play import play
from sim.scenario import Scenario


def scenario(seed: int) -> Scenario:
    """Of each four seeds one has a node alone, the others have several."""
    return generate.together(seed) if seed % 4 else generate.scenario(seed)


def broken(seed: int) -> str:
    """What the scenario of this seed breaks, or empty."""
    outcome = play(scenario(seed))
    return outcome.broken or next((str(finding) for finding in outcome.findings if not finding.held), "")


def replay(seed: int, why: str, directory: Path) -> str:
    """Write the scenario of a failing seed down; the text that tells what happened and how to see it again."""
    path = directory / f"seed-{seed}.yaml"
    path.write_text(writer.dumps(scenario(seed)), encoding="utf-8")
    return f"seed {seed}: {why}\n  replay: python -m sim scenario {path}"


def run(seeds: int, first: int, jobs: int, directory: Path, say: Callable[[str], None]) -> int:
    """Play ``seeds`` seeds from ``first`` on, saying how it goes; how many failed."""
    failures = 0
    begun = time.monotonic()
    chosen = range(first, first + seeds)
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as pool:
            failures = _report(chosen, pool.map(broken, chosen, chunksize=8), begun, directory, say)
    else:
        failures = _report(chosen, map(broken, chosen), begun, directory, say)
    took = time.monotonic() - begun
    say(f"{seeds} seeds, {failures} failures, {seeds / took:.0f} seeds/s")
    return failures


def _report(seeds: range, outcomes: Iterable[str], begun: float, directory: Path, say: Callable[[str], None]) -> int:
    failures = 0
    shown = begun
    for done, (seed, why) in enumerate(zip(seeds, outcomes, strict=True), 1):
        if why:
            failures += 1
            say(replay(seed, why, directory))
        if time.monotonic() - shown > 2:
            shown = time.monotonic()
            say(f"… {done} of {len(seeds)} seeds, {failures} failures")
    return failures
