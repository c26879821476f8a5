"""A checkpoint is complete: an engine restored from one goes on exactly as the engine that it was taken of, in whole scenarios with
crashes, sleeps and partitions."""

from __future__ import annotations

from typing import Any

import pytest

from protocol import recording
from protocol.effects import Effects
from protocol.invariants import violations
from protocol.node import Node
from protocol.state import State
from sim import loader
from sim.generate import scenario as alone
from sim.generate import together
from sim.play import Outcome, play
from sim.scenario import Scenario


class Twins:
    """Beside each engine a second one, restored from the first again and again while the scenario runs."""

    def __init__(self, patch: pytest.MonkeyPatch, every: int, forgets: str = "") -> None:
        self.every = every
        self.forgets = forgets
        """A field of the state that a broken checkpoint would lose: only what follows may show it."""
        self.restored = 0
        self._real = Node.step
        self._twins: dict[int, tuple[Node, Node, int]] = {}
        twins = self

        def step(node: Node, given: Any) -> Effects:
            return twins.step(node, given)

        patch.setattr(Node, "step", step)

    def step(self, node: Node, given: Any) -> Effects:
        _, twin, age = self._twins.get(id(node), (node, None, 0))
        if twin is None or age == self.every:
            data = recording.checkpoint(node)
            twin, age = recording.restored(data), 0
            if self.forgets:
                setattr(twin.state, self.forgets, getattr(State(twin.state.config), self.forgets))
            else:
                assert recording.checkpoint(twin) == data
                assert twin.state == node.state
            self.restored += 1
        wanted = self._real(node, given)
        assert self._real(twin, given) == wanted
        assert twin.deadline == node.deadline
        assert list(violations(twin.state)) == list(violations(node.state))
        self._twins[id(node)] = (node, twin, age + 1)
        return wanted


FORGOTTEN = (
    *("births", "workers", "records", "by_name", "hosted", "creations", "leases", "timers", "by_ticket"),
    *("known", "peers", "leaves", "runs", "probes", "pending"),
)
"""What this story happens to depend on; that nothing else is lost the comparison of whole states shows."""


@pytest.mark.parametrize("field", FORGOTTEN)
def test_a_checkpoint_that_forgets_is_found(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins(monkeypatch, 7, field)
    outcome = play(loader.load(loader.find("concurrent_create")))
    assert twins.restored > 0
    assert outcome.broken


def judged(scenario: Scenario, twins: Twins) -> Outcome:
    outcome = play(scenario)
    assert twins.restored > 0
    assert "AssertionError" not in outcome.broken, outcome.broken
    return outcome


@pytest.mark.parametrize("every", [1, 7, 50])
@pytest.mark.parametrize("name", ["sleep_and_wake", "failover", "birth_fails_under_waiters", "concurrent_create"])
def test_a_restored_engine_goes_on_as_the_first(name: str, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = loader.load(loader.find(name))
    expected = play(scenario).digest
    assert judged(scenario, Twins(monkeypatch, every)).digest == expected


@pytest.mark.parametrize("seed", range(1, 13))
def test_in_generated_stories_too(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    judged((together if seed % 2 else alone)(seed), Twins(monkeypatch, 13))
