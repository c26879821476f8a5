"""Clients, as a scenario describes them. The law kept here: what a client does depends on its own stream and on what it was
told, never on what the world knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.moments import Watch
from sim.scenario import Moment, Traffic

if TYPE_CHECKING:
    from sim.client import Client
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
            client = world.client(machine, app, name)
            if isinstance(one.at, Moment):
                self._await(machine, client, one, one.at)
            else:
                world.schedule.at(one.at, self._fire, client, one)

    def _await(self, machine: Machine, client: Client, traffic: Traffic, moment: Moment) -> None:
        def then(_machine: Machine) -> None:
            self._world.schedule.after(moment.after, self._fire, client, traffic)

        database = client.internal if moment.event and moment.event != "Write" else ""
        self._world.moments.wait(Watch(moment.event, moment.nth, then, machine.name, database))

    def _fire(self, client: Client, traffic: Traffic) -> None:
        if self.stopped:
            return
        for _ in range(traffic.queries):
            writes = self._chance.random() < traffic.writes
            if traffic.direct:
                client.ask_directly(writes)
            else:
                client.ask(writes, traffic.strong, traffic.takes, traffic.max_stale)
        schedule = self._world.schedule
        if traffic.every and schedule.now + traffic.every <= traffic.until:
            schedule.after(traffic.every, self._fire, client, traffic)
