"""Breadth first through all states within the bounds. The law kept here: the first violation found has a shortest story, and a search that says
it is exhausted has taken every action in every state that its bounds allow.

All remembered states are compared as a whole, not by a digest: two states are one only when they are equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen

from sim.explore.world import Action, State, World
from sim.laws import Violation


@frozen
class Found:
    """What a search saw. ``exhausted``: nothing within the bounds is left; else ``depth`` is the last level that was searched completely.
    ``path``: the actions that lead to ``violation``."""

    states: int
    transitions: int
    steps: int
    depth: int
    exhausted: bool
    seconds: float
    violation: Violation | None = None
    path: tuple[Action, ...] = ()


def search(world: World, start: State, depth: int, states: int, say: Callable[[str], None]) -> Found:
    """At most ``depth`` actions from ``start``, at most ``states`` states."""
    begun = shown = time.monotonic()
    parents: dict[State, tuple[State, Action] | None] = {start: None}
    level, transitions, reached = [start], 0, 0

    def found(exhausted: bool, violation: Violation | None = None, path: tuple[Action, ...] = ()) -> Found:
        took = time.monotonic() - begun
        return Found(len(parents), transitions, world.lives.steps, reached, exhausted, took, violation, path)

    while level and reached < depth:
        following: list[State] = []
        for state in level:
            for action in world.actions(state):
                try:
                    after = world.after(state, action)
                except Violation as violation:
                    reached += 1
                    return found(False, violation, (*_way(parents, state), action))
                transitions += 1
                if after not in parents:
                    parents[after] = (state, action)
                    following.append(after)
            if len(parents) > states:
                return found(False)
            if time.monotonic() - shown > 2:
                shown = time.monotonic()
                rate = transitions / (shown - begun)
                say(f"… depth {reached + 1}, {len(parents):,} states, {rate:,.0f} transitions/s")
        level = following
        reached += bool(following)
    return found(not level)


def _way(parents: dict[State, tuple[State, Action] | None], state: State) -> tuple[Action, ...]:
    path: list[Action] = []
    step = parents[state]
    while step is not None:
        state, action = step
        path.append(action)
        step = parents[state]
    return tuple(reversed(path))
