"""What goes wrong, when the scenario says so. The law kept here: a fault does to the modelled world what it does to a real one,
to the process or disk that it names and to nothing else, and every fault is over when the world is healed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from protocol.ids import DatabaseName
from protocol.inputs import CreateKey, RevokeKey
from sim import coverage
from sim.host import FOREIGN, Ambush, Trap
from sim.moments import Watch
from sim.network import FAIR, Link, Weather, links
from sim.query import Query
from sim.scenario import ALL, Fault, Moment
from sim.writer import duration

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.rqlite import Rqlited
    from sim.world import World


NOBODY: Final = "but there is none"
"""The fault found nothing to strike."""


def internal_of(database: str) -> str:
    """The internal name of ``app/name``; empty stays empty."""
    return DatabaseName(*database.split("/", 1)).internal if database else ""


def key_of(label: str) -> tuple[str, bytes]:
    """Id and SHA-256 of the API key that a scenario calls so."""
    digest = hashlib.sha256(f"the API key {label}".encode()).digest()
    return digest.hex()[:8], digest


class Faults:
    """All faults of one scenario, waiting for their time or moment."""

    def __init__(self, world: World, faults: tuple[Fault, ...]) -> None:
        self._world = world
        self._healed = False
        self._commands = 0
        for fault in faults:
            name = fault.node or next(iter(world.machines))
            for machine in world.machines.values() if name == ALL else (world.machines[name],):
                if fault.verb == "repeat":
                    machine.remembered = {}
                if isinstance(fault.at, Moment):
                    self._await(machine, fault, fault.at)
                else:
                    world.schedule.at(fault.at, self._strike, machine, fault)

    def _await(self, machine: Machine, fault: Fault, moment: Moment) -> None:
        def then(_machine: Machine) -> None:
            if moment.after:
                self._world.schedule.after(moment.after, self._strike, machine, fault)
            else:
                self._strike(machine, fault)

        database = internal_of(fault.database) if moment.event and moment.event != "Write" else ""
        self._world.moments.wait(Watch(moment.event, moment.nth, then, machine.name, database))

    def _strike(self, machine: Machine, fault: Fault) -> None:
        if not self._healed:
            STRIKES[fault.verb](self, machine, fault)

    def _tell(self, machine: Machine, fault: Fault, event: str, because: str = "") -> None:
        self._world.tell(machine.name, internal_of(fault.database), event, because)
        if self._world.paths is not None and because != NOBODY:
            self._world.paths[coverage.fault(fault.verb, fault.target)] += 1

    def _after(self, delay: int, call: Callable[[], object]) -> None:
        self._world.schedule.after(delay, call)

    def heal(self) -> None:
        """Faults are over: what is stopped goes on, disks are well, foreign processes are gone, nodes are up."""
        self._healed = True
        self._world.network.heal()
        for machine in self._world.machines.values():
            machine.host.ambushes.clear()
            machine.host.bound = {port: pid for port, pid in machine.host.bound.items() if pid != FOREIGN}
            machine.host.binary = True
            machine.disk.full, machine.disk.slowness = False, 1
            machine.resume_node()
            for worker in list(machine.workers.values()):
                worker.resume()
            for rqlited in list(machine.processes.values()):
                rqlited.resume()
            if machine.node is None or not machine.node.alive:
                machine.start_node()

    # Strikes.

    def _victim(self, machine: Machine, fault: Fault) -> Rqlited | None:
        if fault.database:
            return machine.running(internal_of(fault.database))
        return next(iter(machine.processes.values()), None)

    def kill(self, machine: Machine, fault: Fault) -> None:
        if fault.target == "node":
            self._tell(machine, fault, "the node is killed", "SIGKILL")
            machine.kill_node()
            self._come_back(machine, fault)
        elif fault.target == "worker":
            worker = next(iter(machine.workers.values()), None)
            self._tell(machine, fault, "a worker is killed", "SIGKILL" if worker else NOBODY)
            if worker is not None:
                worker.die()
        else:
            rqlited = self._victim(machine, fault)
            self._tell(machine, fault, "rqlited is killed", "SIGKILL" if rqlited else NOBODY)
            if rqlited is not None:
                rqlited.kill("crashed")

    def _come_back(self, machine: Machine, fault: Fault) -> None:
        if fault.back is not None:
            self._after(fault.back, lambda: self._start_again(machine))

    def _start_again(self, machine: Machine) -> None:
        if machine.node is None or not machine.node.alive:
            self._world.tell(machine.name, "", "the node is started again")
            machine.start_node()

    def pause(self, machine: Machine, fault: Fault) -> None:
        event = f"{fault.target} stops for {duration(fault.lasts)}"
        if fault.target == "node":
            self._tell(machine, fault, event, "SIGSTOP")
            machine.pause_node()
            self._after(fault.lasts, machine.resume_node)
            return
        if fault.target == "worker":
            worker = next((one for one in machine.workers.values() if not one.paused), None)
            self._tell(machine, fault, event, "SIGSTOP" if worker else NOBODY)
            if worker is not None:
                machine.hang_worker(worker)
                self._after(fault.lasts, worker.resume)
            return
        rqlited = self._victim(machine, fault)
        self._tell(machine, fault, event, "SIGSTOP" if rqlited else NOBODY)
        if rqlited is not None and not rqlited.paused:
            rqlited.pause()
            for _, asker in list(rqlited.flying.values()):
                if isinstance(asker, Query):
                    for worker in machine.workers.values():
                        worker.watch(asker)
            self._after(fault.lasts, rqlited.resume)

    def crash(self, machine: Machine, fault: Fault) -> None:
        self._tell(machine, fault, "the machine loses power")
        machine.crash()
        self._come_back(machine, fault)

    def wipe(self, machine: Machine, fault: Fault) -> None:
        self._tell(machine, fault, "the machine loses power and its disk", "an empty disk takes its place")
        machine.wipe()
        self._come_back(machine, fault)

    def copy(self, machine: Machine, fault: Fault) -> None:
        self._tell(machine, fault, "somebody takes a snapshot of its disk")
        machine.copy = machine.disk.copy()

    def rollback(self, machine: Machine, fault: Fault) -> None:
        whole = fault.target == "disk"
        what = "its disk is that of the snapshot" if whole else "its store is that of the snapshot"
        event = "the machine loses power and goes back in time"
        self._tell(machine, fault, event, NOBODY if machine.copy is None else what)
        if machine.copy is not None:
            machine.put_back(machine.copy, whole)
            self._come_back(machine, fault)

    def clone(self, machine: Machine, fault: Fault) -> None:
        self._tell(machine, fault, "the machine loses power", f"it comes back with a copy of {fault.source}'s store")
        machine.put_back(self._world.machines[fault.source].disk.copy(), whole=False)
        self._come_back(machine, fault)

    def start(self, machine: Machine, fault: Fault) -> None:
        up = machine.node is not None and machine.node.alive
        self._tell(machine, fault, "the node is started", "but it runs" if up else "")
        machine.start_node()

    def stop(self, machine: Machine, fault: Fault) -> None:
        self._tell(machine, fault, "the node is stopped", "SIGTERM")
        machine.stop_node()
        self._come_back(machine, fault)

    def ambush(self, machine: Machine, fault: Fault) -> None:
        traps: dict[tuple[str, str], tuple[Trap, str]] = {
            ("steal", "http"): ("http", "its HTTP port will be stolen at its next start"),
            ("steal", "raft"): ("raft", "its Raft port will be stolen at its next start"),
            ("fail", "start"): ("fail", f"its next {fault.times} starts will fail: {fault.cause}"),
            ("hang", "start"): ("hang", f"its next {fault.times} starts will hang"),
        }
        trap, event = traps[fault.verb, fault.target]
        self._tell(machine, fault, event)
        internal = internal_of(fault.database) or None
        machine.host.ambushes += [Ambush(trap, internal, fault.cause, fault.lasts)] * fault.times

    def slow(self, machine: Machine, fault: Fault) -> None:
        self._tell(machine, fault, f"the disk is {fault.factor} times slower for {duration(fault.lasts)}")
        machine.disk.slowness = fault.factor

        def over() -> None:
            machine.disk.slowness = 1

        self._after(fault.lasts, over)

    def fill(self, machine: Machine, fault: Fault) -> None:
        self._tell(machine, fault, f"the disk is full for {duration(fault.lasts)}")
        machine.disk.full = True

        def over() -> None:
            machine.disk.full = False
            self._start_again(machine)

        self._after(fault.lasts, over)

    def remove(self, machine: Machine, fault: Fault) -> None:
        self._tell(machine, fault, f"rqlited cannot be executed for {duration(fault.lasts)}")
        machine.host.binary = False

        def over() -> None:
            machine.host.binary = True

        self._after(fault.lasts, over)

    def _links(self, machine: Machine, fault: Fault) -> tuple[list[Link], str]:
        side = fault.side or (machine.name,)
        where = {"both": "to and from", "in": "to", "out": "from"}[fault.target]
        return links(side, self._world.machines, fault.target), f"{where} {', '.join(side)}"

    def partition(self, machine: Machine, fault: Fault) -> None:
        cut, whose = self._links(machine, fault)
        self._tell(machine, fault, f"nothing passes {whose} for {duration(fault.lasts)}")
        self._world.network.cut(cut)
        self._after(fault.lasts, lambda: None if self._healed else self._world.network.mend(cut))

    def hold(self, machine: Machine, fault: Fault) -> None:
        held, whose = self._links(machine, fault)
        self._tell(machine, fault, f"what is sent {whose} is kept for {duration(fault.lasts)}")
        self._world.network.hold(held)
        self._after(fault.lasts, lambda: None if self._healed else self._world.network.release(held))

    def disturb(self, machine: Machine, fault: Fault) -> None:
        lost = f"loses {fault.loss:.0%}, doubles {fault.twice:.0%}, delays up to {duration(fault.slowest)}"
        self._tell(machine, fault, f"the network {lost} for {duration(fault.lasts)}")
        network = self._world.network
        network.weather = weather = Weather(fault.loss, fault.twice, fault.slowest)

        def over() -> None:
            if network.weather is weather:
                network.weather = FAIR

        self._after(fault.lasts, over)

    def repeat(self, machine: Machine, fault: Fault) -> None:
        last = machine.remembered.get(fault.target) if machine.remembered else None
        self._tell(machine, fault, f"the last {fault.target} arrives once more", "" if last else NOBODY)
        if last is not None and machine.node is not None:
            kind, fields = last
            cast("Any", machine.node).feed(kind, *fields)

    def operate(self, machine: Machine, fault: Fault) -> None:
        """An operator's command, on the node itself."""
        node = machine.node
        up = node is not None and node.alive and node.booted
        self._tell(machine, fault, f"an operator wants to {fault.verb} the key {fault.key}", "" if up else NOBODY)
        if node is None or not up:
            return
        self._commands += 1
        name, digest = key_of(fault.key)
        if fault.verb == "create":
            node.feed(CreateKey, -self._commands, name, digest, "myapp", "write", 0, fault.key)
        else:
            node.feed(RevokeKey, -self._commands, name)


STRIKES: Final[dict[str, Callable[[Faults, Machine, Fault], None]]] = {
    "kill": Faults.kill,
    "pause": Faults.pause,
    "crash": Faults.crash,
    "stop": Faults.stop,
    "steal": Faults.ambush,
    "fail": Faults.ambush,
    "hang": Faults.ambush,
    "slow": Faults.slow,
    "fill": Faults.fill,
    "remove": Faults.remove,
    "repeat": Faults.repeat,
    "wipe": Faults.wipe,
    "copy": Faults.copy,
    "rollback": Faults.rollback,
    "clone": Faults.clone,
    "start": Faults.start,
    "partition": Faults.partition,
    "hold": Faults.hold,
    "disturb": Faults.disturb,
    "create": Faults.operate,
    "revoke": Faults.operate,
}
