"""When a world has come to rest. The law kept here: waiting ends when there is nothing left to wait for, and a world that never comes
to rest is judged all the same when its time is over. So a healthy run is short, and a sick one gets no mercy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from protocol import digest
from protocol.limits import SECOND

if TYPE_CHECKING:
    from protocol.state import State
    from sim.machine import Machine
    from sim.world import World

CALM: Final = ("active", "idle", "hibernating")
LATE: Final = 1 * SECOND
"""A heartbeat that was sent in time is there by then."""


def settled(world: World) -> bool:
    """All nodes are up with their gateways and done listening, hear each other, know the same, and have nothing under way."""
    return all(_settled(cluster) for cluster in world.clusters.values())


def asleep(world: World) -> bool:
    """Nothing runs any more, and every node of a cluster knows it."""
    return all(
        _same(cluster) and not any(machine.processes for machine in cluster) for cluster in world.clusters.values()
    )


def _states(cluster: list[Machine]) -> list[State]:
    nodes = [machine.node for machine in cluster]
    return [node.engine.state for node in nodes if node is not None and node.alive and node.booted and not node.paused]


def _same(cluster: list[Machine]) -> bool:
    return len({digest.root(state) for state in _states(cluster)}) == 1


def _settled(cluster: list[Machine]) -> bool:
    states = _states(cluster)
    if len(states) < len(cluster) or not _same(cluster):
        return False
    if not all(machine.accepting and _led(machine) for machine in cluster):
        return False
    names = frozenset(machine.name for machine in cluster)
    return all(
        _hears_all(state, machine.clock(), names) and _calm(state)
        for state, machine in zip(states, cluster, strict=True)
    )


def _led(machine: Machine) -> bool:
    """Each rqlited on it has a leader, or is one."""
    running = machine.processes.values()
    return all(one.group is not None and one.group.leader_of(one) is not None for one in running)


def _hears_all(state: State, now: int, names: frozenset[str]) -> bool:
    """Each of the others was heard within its interval, and said that it hears everybody."""
    if state.listening:
        return False
    fresh = now - state.config.health_interval - LATE
    for name in names:
        if name != state.config.peer:
            view = state.peers.get(name)
            if view is None or view.last_heard < fresh or not names <= view.heard:
                return False
    return True


def _calm(state: State) -> bool:
    if state.creations or state.pending or state.leases or state.seeking:
        return False
    return all(
        hosted.state in CALM
        and hosted.process == ("none" if hosted.state == "hibernating" else "ready")
        and hosted.round is None
        and hosted.sleep is None
        for hosted in state.hosted.values()
    )
