"""How fast the simulator is: events per second on one core, with everything on that a test has on (codec, digest, invariants).
The law kept here is an honest mix: several machines, databases that are created, queried, fall asleep and wake all the time,
writes and reads, and every event counted is one that the schedule carried out.
"""

from __future__ import annotations

import gc
import time
from typing import Final

from protocol.limits import MILLISECOND, SECOND
from sim.play import settings
from sim.scenario import Machines, Traffic
from sim.workload import Workload
from sim.world import World

MACHINES: Final = 8
DATABASES: Final = 40
"""On each machine."""
LASTS: Final = 120 * SECOND
ROUNDS: Final = 3


def world(seed: int) -> World:
    """Eight machines with forty databases each, whose clients come in sessions: ten seconds of queries, then long enough nothing
    for a sleep."""
    machines = Machines(hibernation_timeout=5 * SECOND)
    built = World(seed, {f"n{i}": settings(machines, f"n{i}") for i in range(MACHINES)}, telling=False)
    chance = built.streams["bench"]
    traffic: list[Traffic] = []
    for node in built.machines:
        for number in range(DATABASES):
            at = chance.randrange(1, 20_000) * MILLISECOND
            every = chance.choice((25, 50, 100, 200, 400)) * MILLISECOND
            while at < LASTS:
                until = at + 10 * SECOND
                traffic.append(Traffic(f"bench/d{number}", at, node, until, every, writes=0.3))
                at = until + chance.randrange(7_000, 30_000) * MILLISECOND
    Workload(built, tuple(traffic))
    built.start()
    return built


def measure(seed: int) -> dict[str, int | float | str]:
    """One run: events and how long they took."""
    built = world(seed)
    gc.collect()
    begun = time.process_time()
    while built.schedule.now < LASTS:
        built.schedule.run(built.schedule.now + 10 * SECOND)
        built.scan()
    digest = built.trace.digest()
    took = time.process_time() - begun
    return {
        "events_per_s": round(built.schedule.events / took),
        "events": built.schedule.events,
        "decisions": built.decisions,
        "simulated_per_real": round(LASTS / 1e6 / took, 1),
        "digest": digest,
    }


def best(seed: int) -> dict[str, int | float | str]:
    """The best of three runs: the others were disturbed by something else on the machine."""
    runs = [measure(seed) for _ in range(ROUNDS)]
    assert len({run["digest"] for run in runs}) == 1, "three runs of one seed differ"
    return max(runs, key=lambda run: run["events_per_s"])
