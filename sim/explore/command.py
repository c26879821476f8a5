"""``python -m sim explore``: searches stories, says what was covered, tells the shortest story of a violation. The law kept here: nobody
takes a bounded search for a proof. Each line says how many states were seen, how deep, and whether the bounds were exhausted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from attrs import fields

from sim import safeguards
from sim.explore.search import Found, search
from sim.explore.stories import STORIES, Story
from sim.explore.tale import told
from sim.explore.world import Bounds

Say = Callable[[str], None]
STATES: Final = 40_000
"""States of one search, unless the command says otherwise."""
DEPTH: Final = 1_000
"""Actions of one path: more than there are before the bound of states."""


class Unknown(ValueError):
    """A story or a law that there is not. Its text is fit for a terminal."""


def chosen(names: Sequence[str], laws: Sequence[str]) -> tuple[Story, ...]:
    """The stories named; else those that find the laws switched off, else all. Raises Unknown."""
    known = {story.name: story for story in STORIES}
    for name in names:
        if name not in known:
            raise Unknown(f"no story {name!r}: there are {', '.join(known)}")
    for law in laws:
        if not safeguards.of(law):
            there = dict.fromkeys(one.law for one in safeguards.SAFEGUARDS)
            raise Unknown(f"no safeguard of {law!r} can be switched off: there are those of {', '.join(there)}")
    if names:
        return tuple(known[name] for name in names)
    return tuple(story for story in STORIES if set(laws) & set(story.laws)) or STORIES


def explore(
    story: Story,
    laws: Sequence[str] = (),
    depth: int = DEPTH,
    states: int = STATES,
    say: Say = lambda _text: None,
) -> tuple[bool, list[str]]:
    """Search one story; whether a law was broken, and the lines that tell of it."""
    lines = [f"{story.name}: {story.title}"]
    gone = [one for law in laws for one in safeguards.of(law)]
    lines += [f"  without {safeguard}" for safeguard in gone]
    with safeguards.without(*gone):
        for bounds in story.bounds:
            stage = story.begin()
            start = stage.world.bounded(stage.state, bounds)
            found = search(stage.world, start, depth, states, say)
            lines.append(f"  {_bounds(bounds)}: {_covered(found, depth)}")
            if found.violation is not None:
                lines += told(stage.world, start, found)
                return True, lines
    return False, lines


def _bounds(bounds: Bounds) -> str:
    words = {
        "timers": "deadlines early",
        "crashes": "crashes",
        "again": "messages twice",
        "failures": "failures",
        "direct": "direct writes",
    }
    said = [f"{getattr(bounds, one.name)} {words[one.name]}" for one in fields(Bounds) if one.name in words]
    said = [one for one in said if not one.startswith("0 ")]
    if bounds.queries:
        said.append("queries at " + ", ".join(f"p{node + 1}" for node in bounds.queries))
    if bounds.silent:
        said.append(", ".join(f"p{node + 1}" for node in bounds.silent) + " silent")
    return "all orders and losses" + "".join(f", {one}" for one in said)


def _covered(found: Found, depth: int) -> str:
    rate = found.transitions / max(found.seconds, 0.001)
    seen = f"{found.states:,} states, {found.transitions:,} transitions, {rate:,.0f}/s, {found.steps:,} engine steps"
    if found.violation is not None:
        return f"{seen}; a law is broken after {len(found.path)} actions"
    if found.exhausted:
        return f"{seen}; exhausted: there is nothing more ({found.depth} actions at most)"
    if found.depth >= depth:
        return f"{seen}; all paths of {found.depth} actions"
    return f"{seen}; all paths of {found.depth} actions, then the bound of states was reached"


def run(names: Sequence[str], laws: Sequence[str], depth: int, states: int, jobs: int, say: Say) -> bool:
    """All chosen stories; whether a law was broken. Raises Unknown."""
    stories = chosen(names, laws)
    broken = False
    if jobs > 1 and len(stories) > 1:
        with ProcessPoolExecutor(jobs) as pool:
            futures = [pool.submit(_by_name, story.name, tuple(laws), depth, states) for story in stories]
            for future in futures:
                broken |= _report(future.result(), say)
    else:
        for story in stories:
            broken |= _report(explore(story, laws, depth, states, say), say)
            if broken:
                break
    if not broken:
        say("no law is broken within these bounds")
    return broken


def _by_name(name: str, laws: tuple[str, ...], depth: int, states: int) -> tuple[bool, list[str]]:
    return explore(next(story for story in STORIES if story.name == name), laws, depth, states)


def _report(outcome: tuple[bool, list[str]], say: Say) -> bool:
    broken, lines = outcome
    say("\n".join(lines))
    return broken
