"""``python -m sim ablate``: each safeguard switched off in turn, and who noticed. The law kept here: a safeguard whose absence nobody notices
is told, by a line at the end and by the exit code; it is kept twice, or for nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Final

from sim import catch, workers
from sim.catch import Ablation
from sim.safeguards import SAFEGUARDS, Safeguard
from sim.workers import Verdict

SEEDS: Final = 200
"""Generated seeds for a safeguard that neither scenario nor story needs, unless the command says otherwise."""

Say = Callable[[str], None]


def arguments(parser: argparse.ArgumentParser, positive: Callable[[str], int]) -> None:
    """What the command takes. ``positive``: reads a whole number above 0."""
    parser.add_argument("--only", default="", metavar="TEXT", help="those that have TEXT in them, e.g. P33, or durable")
    parser.add_argument(
        "--seeds", type=_count, default=SEEDS, metavar="N", help=f"at most so many for each; 0: no seeds ({SEEDS})"
    )
    parser.add_argument("--jobs", type=positive, default=1, help="processes, a safeguard each (1)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


class Unknown(ValueError):
    """Nothing is chosen. Its text is fit for a terminal."""


def run(given: argparse.Namespace, say: Say) -> bool:
    """The command; whether all that were chosen were caught. Raises Unknown."""
    chosen = tuple(safeguard for safeguard in SAFEGUARDS if given.only.lower() in str(safeguard).lower())
    if not chosen:
        raise Unknown(f"no safeguard has {given.only!r} in its name; `python -m sim ablate --seeds 0` names all")
    if given.json:
        done = ablate(chosen, given.seeds, given.jobs)
        say(json.dumps([_as_json(chosen[one.seed], one) for one in done], ensure_ascii=False))
    else:
        done = ablate(chosen, given.seeds, given.jobs, say)
    return all(_caught(one) for one in done)


def ablate(chosen: tuple[Safeguard, ...], seeds: int, jobs: int, say: Say = lambda _text: None) -> list[Verdict]:
    """Each of them off in turn, in ``jobs`` processes; what came of it, in the order of the table."""
    judge = partial(_judge, chosen=chosen, seeds=seeds)
    done: list[Verdict] = []
    for verdict in workers.judged(judge, range(len(chosen)), jobs):
        done.append(verdict)
        say(_line(chosen[verdict.seed], verdict))
    done.sort(key=lambda verdict: verdict.seed)
    say(f"\n{_summary(done)}")
    for verdict in done:
        if not _caught(verdict):
            say(f"  not caught: {chosen[verdict.seed]}{': ' * bool(verdict.why)}{verdict.why}")
    return done


def _judge(number: int, chosen: tuple[Safeguard, ...], seeds: int) -> Verdict:
    return catch.caught(number, chosen[number], seeds)


def _caught(verdict: Verdict) -> bool:
    """Not so where the process of the search died, or the search itself failed: that is no ablation's verdict."""
    return isinstance(verdict, Ablation) and bool(verdict.why)


def _line(safeguard: Safeguard, verdict: Verdict) -> str:
    if not isinstance(verdict, Ablation):
        return f"{safeguard}\n    {verdict.why}"
    twice = f", and kept twice: “{safeguard.twin.off}” was off too" if safeguard.twin and verdict.why else ""
    noticed = f"{twice}: {verdict.why}" if verdict.why else ""
    return f"{safeguard}\n    {verdict.by}{noticed} ({verdict.seconds:.1f} s)"


def _summary(done: list[Verdict]) -> str:
    ways = [one.how for one in done if isinstance(one, Ablation) and one.why]
    seconds = sum(one.seconds for one in done if isinstance(one, Ablation))
    return (
        f"{len(done)} safeguards, {len(ways)} caught: {ways.count('scenario')} by a scenario, {ways.count('story')} by the explorer, "
        f"{ways.count('seeds')} by seeds; {len(done) - len(ways)} not caught; {seconds:.0f} s of CPU time"
    )


def _as_json(safeguard: Safeguard, verdict: Verdict) -> dict[str, object]:
    told: dict[str, object] = {
        "law": safeguard.law,
        "off": safeguard.off,
        "caught": _caught(verdict),
        "noticed": verdict.why,
    }
    if isinstance(verdict, Ablation):
        told |= {"how": verdict.how, "name": verdict.name, "count": verdict.count, "seconds": round(verdict.seconds, 2)}
    return told
