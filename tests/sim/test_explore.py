"""The explorer finds what is broken, and nothing where nothing is; and what it rests on holds: a remembered step is the engine's own, and
states are one only where the engine cannot tell them apart."""

from __future__ import annotations

import pytest

from protocol.inputs import Received
from sim import safeguards
from sim.__main__ import main
from sim.explore import command
from sim.explore.local import canonical
from sim.explore.search import search
from sim.explore.stories import STORIES, Story, idle
from sim.explore.world import Bounds

BY_LAW = [(law, story) for story in STORIES for law in story.laws]


def test_six_laws_can_be_switched_off() -> None:
    assert {law for law, _ in BY_LAW} == {"P10", "P20", "P31", "P32", "P34", "P61"}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_no_law_is_broken_within_small_bounds(story: Story) -> None:
    broken, lines = command.explore(story, states=2_500)
    assert not broken, "\n".join(lines)


@pytest.mark.parametrize(("law", "story"), BY_LAW, ids=[law for law, _ in BY_LAW])
def test_a_law_switched_off_is_found_and_its_shortest_story_told(law: str, story: Story) -> None:
    broken, lines = command.explore(story, (law,))
    assert broken, "\n".join(lines)
    found = {"P61": "F14"}.get(law, law)  # the law that says why, and the failure that comes of it
    assert lines[-1].startswith(f"     broken: {found}: "), lines[-1]
    assert lines[3].startswith("  1. ") or any(line.startswith("  1. ") for line in lines)
    assert not any(safeguards.of(law) == () for law in story.laws)


def test_the_whole_sleep_of_three_members_is_exhausted() -> None:
    """All orders and losses of all its messages: nothing is left to be seen."""
    stage = idle()
    found = search(stage.world, stage.world.bounded(stage.state, Bounds()), 1000, 100_000, lambda _text: None)
    assert found.exhausted
    assert found.violation is None
    assert found.states > 1000
    asleep = {view.state for life in stage.world.lives.all if life.blob for view in _views(stage, life)}
    assert {"active", "idle", "hibernating"} <= asleep | {"active"}


def _views(stage, life):
    import pickle

    return pickle.loads(life.blob).view()


def test_F20_a_search_is_the_same_each_time() -> None:
    story = STORIES[0]
    first, second = (command.explore(story, ("P34",)) for _ in range(2))
    assert first[1][-20:] == second[1][-20:]
