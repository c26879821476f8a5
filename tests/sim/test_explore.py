"""The explorer finds what is broken, and nothing where nothing is; and what it rests on holds: a remembered step is the engine's own, and
states are one only where the engine cannot tell them apart."""

from __future__ import annotations

import pytest

from protocol.inputs import Boot, Received
from protocol.messages import Heartbeat
from protocol.node import Config, Node
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
    broken, lines = command.explore(story, states=1_500)
    assert not broken, "\n".join(lines)


@pytest.mark.parametrize(("law", "story"), BY_LAW, ids=[law for law, _ in BY_LAW])
def test_a_law_switched_off_is_found_and_its_shortest_story_told(law: str, story: Story) -> None:
    broken, lines = command.explore(story, (law,))
    assert broken, "\n".join(lines)
    found = {"P61": "F14"}.get(law, law)  # the law that says why, and the failure that comes of it
    assert lines[-1].startswith(f"     broken: {found}: "), lines[-1]
    assert any(line.startswith("  1. ") for line in lines)


def test_the_whole_sleep_of_three_members_is_exhausted() -> None:
    """All orders and losses of all its messages: nothing is left to be seen."""
    stage = idle()
    found = search(stage.world, stage.world.bounded(stage.state, Bounds()), 1000, 100_000, lambda _text: None)
    assert found.exhausted
    assert found.violation is None
    assert found.states > 200
    lives = [stage.world.lives.engine(0, number) for number, life in enumerate(stage.world.lives.all) if life.blob]
    assert {view.state for engine in lives for view in engine.view()} >= {"idle", "hibernating"}


def test_a_search_is_the_same_each_time() -> None:
    first, second = (command.explore(STORIES[0], ("P31",))[1] for _ in range(2))
    assert [line for line in first if "/s" not in line] == [line for line in second if "/s" not in line]


def _booted(now: int, order: tuple[str, ...]) -> Node:
    node = Node(Config("p1", known=("p1", "p2", "p3"), cluster="c"))
    node.step(Boot(now, b"." * 32))
    for peer in order:
        node.step(Received(now + 7, peer, Heartbeat("c", f"s{peer}", 0, ("p1", peer), (peer,), 9, b"", False)))
    return node


def test_states_are_one_where_the_engine_cannot_tell_them_apart() -> None:
    one, later = _booted(0, ("p2", "p3")), _booted(1000, ("p2", "p3"))
    assert canonical(one.state, 7) == canonical(later.state, 1007)


def test_states_differ_where_the_engine_can_tell_them_apart() -> None:
    one, alone = _booted(0, ("p2", "p3")), _booted(0, ("p2",))
    assert canonical(one.state, 7) != canonical(alone.state, 7)
    assert canonical(one.state, 7) != canonical(one.state, 8)


def test_the_command_says_what_it_found_by_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "stale_node", "--depth", "4"]) == 0
    assert "no law is broken" in capsys.readouterr().out
    assert main(["explore", "stale_node", "--without", "P20"]) == 1
    assert "is back" in capsys.readouterr().out
    assert main(["explore", "no_story"]) == 2
    assert main(["explore", "--without", "no law"]) == 2
    assert "can be switched off" in capsys.readouterr().err
