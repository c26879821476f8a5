"""The core touches nothing: while an engine steps in a whole scenario, with crashes and wakes, whoever asks for the time, entropy,
a file or a socket fails the run (style.md, habits 1 and 9)."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.effects import Effects
from protocol.node import Node
from sim import loader
from sim.play import play
from tests.test_architecture import Touched, tripwires


def test_no_step_of_a_whole_scenario_touches_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0

    def step(self: Node, given: Any) -> Effects:
        nonlocal steps
        steps += 1
        with tripwires():
            return real(self, given)

    scenario = loader.load(loader.find("failover"))
    expected = play(scenario).digest
    real = Node.step
    monkeypatch.setattr(Node, "step", step)
    outcome = play(scenario)
    assert outcome.held, outcome.broken
    assert outcome.digest == expected
    assert steps > 100


def test_the_tripwires_are_live_within_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    def step(_self: Node, _given: Any) -> Effects:
        with tripwires():
            time.monotonic()
        raise AssertionError("a tripwire is down")

    monkeypatch.setattr(Node, "step", step)
    outcome = play(loader.load(loader.find("first_access")))
    assert outcome.broken.startswith(Touched.__name__)
