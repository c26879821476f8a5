"""What counts against ``max_databases`` is known without going through all databases, and known rightly."""

from __future__ import annotations

from protocol.invariants import violations
from tests.protocol.solo import Solo


def test_F49_R63_what_is_awake_is_known_without_counting_and_counted_in_every_invariant() -> None:
    world = Solo().awake()
    state = world.node.state
    assert (state.load(), state.awake) == (1, set(state.hosted))
    world = Solo().asleep()
    state = world.node.state
    (incarnation,) = state.hosted
    assert (state.load(), state.awake) == (0, set())
    state.awake.add(incarnation)
    assert any("counted as awake" in each and "F49" in each for each in violations(state))
    state.awake = {"another"}
    assert "a database that is not hosted counts against max_databases (F49)" in list(violations(state))
