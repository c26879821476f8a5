"""Clients, as a scenario describes them. The law kept here: what a client does depends on its own stream and on what it was
told, never on what the world knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.scenario import Traffic

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World


class Workload:
    """All clients of one scenario. They stop at their own end, or when they are told to."""

    def __init__(self, world: World, traffic: tuple[Traffic, ...]) -> None:
        self._world = world
        self._chance = world.streams["workload"]
        self.stopped = False
        for one in traffic:
            machine = world.machines[one.node or next(iter(world.machines))]
            app, name = one.database.split("/", 1)
            world.schedule.at(one.at, self._fire, machine, one, app, name)

    def _fire(self, machine: Machine, traffic: Traffic, app: str, name: str) -> None:
        if self.stopped:
            return
        world = self._world
        for _ in range(traffic.queries):
            writes = self._chance.random() < traffic.writes
            if traffic.direct:
                world.ask_directly(machine, app, name, writes)
            else:
                world.ask(machine, app, name, writes, traffic.strong, traffic.takes)
        if traffic.every and world.schedule.now + traffic.every <= traffic.until:
            world.schedule.after(traffic.every, self._fire, machine, traffic, app, name)
