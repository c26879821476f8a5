"""The simulated world: machines, clients, one clock, one seed. The law kept here is that nothing in it happens outside the
schedule, and nothing by chance outside the streams.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from attrs import frozen

from protocol.chart import TABLE, Chart
from protocol.effects import Decision
from sim import coverage
from sim.checks import Checks
from sim.client import Client
from sim.history import History
from sim.machine import Machine, Settings
from sim.moments import Moments
from sim.network import Network
from sim.raft import Groups
from sim.schedule import Schedule
from sim.streams import Streams
from sim.trace import Trace


@frozen
class Told:
    """One line of the story: what happened when, to whom, why, and by which law."""

    at: int
    node: str
    database: str
    event: str
    because: str = ""
    law: str = ""
    kind: Literal["decision", "fault", "client"] = "decision"
    fields: tuple[tuple[str, str | int | float], ...] = ()


class World:
    """``telling``: keep the story (a long benchmark has none)."""

    def __init__(
        self,
        seed: int,
        machines: dict[str, Settings],
        chart: Chart = TABLE,
        keep_trace: bool = False,
        telling: bool = True,
        paths: Counter[str] | None = None,
    ) -> None:
        self.schedule = Schedule()
        self.streams = Streams(seed)
        self.trace = Trace(keep_trace)
        self.moments = Moments()
        self.checks = Checks()
        self.story: list[Told] = []
        self.decisions = 0
        self.paths = paths
        """Rare paths that were gone (``sim.coverage``), when somebody counts them."""
        self.clients: dict[tuple[str, str], Client] = {}
        """(machine, ``app/name``) → who queries it, coming from that machine."""
        self.histories: dict[tuple[str, str], History] = {}
        """(cluster, ``app/name``) → what its clients were told, wherever they came from."""
        self.queries = 0
        self.values = 0
        """How many queries there were, and how many unique values were written."""
        self.groups = Groups()
        self.network = Network(self, self.groups)
        self._telling = telling
        self.machines = {name: Machine(self, name, settings, chart) for name, settings in machines.items()}
        self.clusters: dict[str, list[Machine]] = {}
        """Cluster id → its machines."""
        for machine in self.machines.values():
            self.clusters.setdefault(machine.settings.config.cluster, []).append(machine)

    def start(self) -> None:
        for machine in self.machines.values():
            if not machine.settings.late:
                machine.start_node()

    # Clients.

    def client(self, machine: Machine, app: str, name: str) -> Client:
        """Those who query a database through this machine's gateway."""
        key = (machine.name, f"{app}/{name}")
        found = self.clients.get(key)
        if found is None:
            whose = (machine.settings.config.cluster, f"{app}/{name}")
            if whose not in self.histories:
                self.histories[whose] = History(f"{whose[0]}: {app}/{name}")
            found = self.clients[key] = Client(self, machine, app, name, self.histories[whose])
        return found

    def noticed(self, client: Client, event: str, detail: str, waited: int) -> None:
        """A client noticed something that is worth telling: it waited, or was not answered."""
        if self._telling:
            fields = (("waited_ms", waited // 1000),)
            who = (client.machine.name, client.internal)
            self.story.append(Told(self.schedule.now, *who, event, detail, kind="client", fields=fields))

    # The story.

    def decided(self, machine: Machine, decision: Decision) -> None:
        self.decisions += 1
        if self.paths is not None:
            self.paths[coverage.decision(decision.event, decision.law)] += 1
        if self._telling:
            told = Told(
                self.schedule.now,
                machine.name,
                decision.database,
                decision.event,
                decision.because,
                decision.law,
                fields=decision.fields,
            )
            self.story.append(told)

    def tell(self, node: str, database: str, event: str, because: str = "") -> None:
        """What the world itself did: a fault, its end."""
        self.trace.note(f"{node} * {self.schedule.now} {database} {event} {because}")
        if self._telling:
            self.story.append(Told(self.schedule.now, node, database, event, because, kind="fault"))

    # Looking at everything.

    def scan(self) -> None:
        for machine in self.machines.values():
            self.checks.scan(machine)
