"""What a healed world can never have again, proved from what its nodes know. The law kept here: liveness is judged as far as the laws promise it,
and no excuse is given for a whole run: only for one cluster whose directory is lost (P61: nodes that listen and can never hear a majority of
whole stores; an operator founds anew, or retires what is gone), or one database of which a majority of the members lost their replicas
(P54). Both only where a disk was lost or put back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.ids import Peer
from protocol.membership import majority

if TYPE_CHECKING:
    from protocol.state import State
    from sim.machine import Machine


def directory(cluster: list[Machine]) -> bool:
    """Some node listens, and goes on listening whatever it hears."""
    if not any(machine.robbed for machine in cluster):
        return False
    states = [machine.node.engine.state for machine in cluster if machine.node is not None and machine.node.alive]
    whole = {state.config.peer for state in states if state.whole}
    while more := {one.config.peer for one in states if one.config.peer not in whole and _hears_enough(one, whole)}:
        whole |= more
    return any(state.listening and not _hears_enough(state, whole) for state in states)


def _hears_enough(state: State, whole: set[Peer]) -> bool:
    """P61, as its text says it."""
    others = {peer for peer, row in state.nodes.items() if row.joined}
    needed = majority(len(others) + 1) - 1 if state.whole else majority(len(others))
    return len(whole & others) >= needed


def replicas(cluster: list[Machine], internal: str) -> bool:
    """No majority of the database's members has its replica any more."""
    machines = {machine.name: machine for machine in cluster}
    for machine in cluster:
        if machine.node is None or not machine.node.alive:
            continue
        for record in machine.node.engine.state.living(internal):
            left = sum(_has(machines[peer], record.incarnation) for peer in record.peers)
            if left < majority(len(record.peers)):
                return True
    return False


def _has(machine: Machine, incarnation: str) -> bool:
    """Its replica, or a machine that never lost anything and so owes it."""
    if not machine.robbed:
        return True
    hosted = machine.node.engine.state.hosted.get(incarnation) if machine.node is not None else None
    return hosted is not None and not hosted.lost
