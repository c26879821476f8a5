"""Generated clusters in which some nodes have two Raft ports for five databases: whoever can be served is served, all others are told why, and in
the end everything sleeps (P42, F84). The seeds are those that ended badly while a port could be lent for good."""

from __future__ import annotations

from random import Random

import pytest
from attrs import evolve

from protocol.limits import SECOND
from sim import generate
from sim.play import play
from sim.scenario import Scenario

DATABASES = tuple(f"app/d{i}" for i in range(5))


def cramped(seed: int) -> Scenario:
    scenario, chance = generate.together(seed), Random(seed)
    workload = tuple(
        evolve(traffic, database=chance.choice(DATABASES)) for traffic in (*scenario.workload, *scenario.workload)
    )
    machines = evolve(
        scenario.machines,
        replication_factor=3,
        narrow=tuple(name for name in scenario.machines.names if chance.random() < 0.6),
        hibernation_timeout=SECOND,
    )
    return evolve(scenario, workload=workload, machines=machines)


@pytest.mark.parametrize("seed", [525, 528, 545, 546, 549])
def test_P42_F84_few_ports_and_faults_end_with_all_databases_asleep(seed: int) -> None:
    outcome = play(cramped(seed))
    assert outcome.held, outcome.failure
