"""SIGKILL of rqlited, of a worker and of the node, each at each step of create, sleep and wake: acknowledged writes are there
afterwards, nothing is doubled, everything works again (F41, F60, F61)."""

from __future__ import annotations

from collections import Counter

import pytest

from protocol.limits import MILLISECOND, SECOND
from sim import sweep, tale
from sim.play import play
from sim.scenario import Machines, Scenario, Traffic

LIFE = Scenario(
    title="create, sleep, wake, sleep",
    seed=21,
    lasts=9 * SECOND,
    machines=Machines(hibernation_timeout=1 * SECOND, workers=2),
    workload=(
        Traffic("myapp/users", 1 * SECOND, until=2 * SECOND, every=30 * MILLISECOND, writes=0.7),
        Traffic("myapp/users", 5 * SECOND, until=5500 * MILLISECOND, every=30 * MILLISECOND, writes=0.7),
    ),
)
EFFECTS = sweep.effects(LIFE)


def test_the_reference_run_goes_through_every_kind_of_effect_of_a_life() -> None:
    seen = Counter(EFFECTS)
    assert seen["Start"] == 2
    assert seen["Terminate"] == 2
    assert seen.keys() >= {"Write", "ReservePorts", "ReleasePorts", "Probe", "Snapshot", "Door", "Forget", "Answer"}


@pytest.mark.parametrize("victim", sweep.VICTIMS)
@pytest.mark.parametrize("number", range(1, len(EFFECTS) + 1), ids=lambda n: f"{n}-{EFFECTS[n - 1]}")
def test_F61_killed_at_this_effect_nothing_acknowledged_is_lost_or_doubled(number: int, victim: str) -> None:
    outcome = play(sweep.struck(LIFE, victim, number))
    assert outcome.held, "\n".join(tale.lines(outcome))
    assert any(told.event.endswith("is killed") for told in outcome.story)
