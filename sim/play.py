"""Playing a scenario: first it happens, faults and all; then the faults are over, and everything must work again. The law kept
here: safety while it runs, liveness on a healed world (TigerBeetle's order). After the last fault every database answers a
strong read within the bound, goes to sleep when it is idle, and then holds nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final, Literal

from attrs import define, field

from protocol.chart import CHARTS
from protocol.limits import DRAIN_WINDOW, HEALTH_MISSES, RESTART_BACKOFF_MAX, SECOND, SNAPSHOT_WINDOW, VOTE_WINDOW
from protocol.node import Config
from sim import lost, rest
from sim.client import Client
from sim.coverage import Counted
from sim.expect import Expectations, Finding
from sim.faults import Faults
from sim.laws import Violation, place
from sim.machine import Settings
from sim.query import Query
from sim.scenario import NARROW, Machines, Scenario
from sim.streams import Streams
from sim.timings import QUERY_TIMEOUT
from sim.trace import Trace
from sim.workload import Workload
from sim.world import Told, World

Engine = Literal["table", "library"]

RECOVERY: Final = RESTART_BACKOFF_MAX + 10 * SECOND
"""After the last fault: a node's start, what is left of a backoff, a wake."""
ANSWERED_WITHIN: Final = 10 * SECOND
"""Then a query creates (R40) or wakes (R43) and is answered in this time."""
FULL: Final = ("max-databases", "no-ports")
"""A machine that is full by its settings says so: that is an answer."""
STAYS: Final = 2 * SECOND
"""What has come to rest is watched so much longer: it has to stay so."""
SCAN_EVERY: Final = 1 * SECOND
"""Simulated time between two full scans of all invariants."""


@define
class Outcome:
    """What came of a scenario. ``broken`` is the violation that ended it, or empty."""

    scenario: Scenario
    story: list[Told] = field(repr=False)
    findings: list[Finding]
    broken: str
    digest: str
    events: int
    now: int
    trace: Trace = field(repr=False)
    stopped_early: bool = False

    @property
    def held(self) -> bool:
        """Every expectation held, and no law was broken."""
        return not self.failure

    @property
    def failure(self) -> str:
        """The law that was broken, or the first expectation that did not hold; empty when all is well."""
        return self.broken or next((str(finding) for finding in self.findings if not finding.held), "")


def settings(machines: Machines, name: str, chance: Random | None = None) -> Settings:
    """One machine's settings; ``chance`` says how far its clock is off."""
    number = machines.names.index(name) if machines.count else 0
    founder = number % machines.founders
    cluster = f"c{founder + 1}" if machines.count else name  # without a count each machine is a cluster of its own
    config = Config(
        peer=name,
        known=tuple(
            sorted({name, machines.names[founder] if machines.count else name})
        ),  # the founder is its bootstrap peer
        host=name,
        gateway=f"{name}:443",
        fingerprint=name.encode().ljust(32),
        cluster=cluster,
        replication_factor=machines.replication_factor,
        health_interval=machines.health_interval,
        hibernation_timeout=machines.hibernation_timeout,
        max_databases=machines.max_databases,
        stop_timeout=machines.stop_timeout,
        wake_deadline=machines.wake_deadline,
    )
    return Settings(
        config,
        machines.workers,
        machines.http_ports,
        _raft_ports(machines, name),
        machines.heartbeat,
        swarm="one" if machines.count else name,
        founds=number == founder,
        late=name in machines.late,
        offset=chance.randrange(machines.skew) if chance is not None and machines.skew else 0,
        drift=chance.randrange(-machines.drift, machines.drift + 1) if chance is not None and machines.drift else 0,
    )


def _raft_ports(machines: Machines, name: str) -> tuple[int, int]:
    first, last = machines.raft_ports
    return (first, min(last, first + NARROW - 1)) if name in machines.narrow else (first, last)


def play(
    scenario: Scenario,
    engine: Engine = "table",
    keep_trace: bool = False,
    until: int | None = None,
    paths: Counter[str] | None = None,
) -> Outcome:
    """Play a scenario to its end, or stop at ``until`` µs to look around (then nothing is judged). ``paths``: count in it which rare
    paths were gone (``sim.coverage``)."""
    clocks = Streams(scenario.seed)["clocks"]
    world = World(
        scenario.seed,
        {name: settings(scenario.machines, name, clocks) for name in scenario.machines.names},
        CHARTS[engine] if paths is None else Counted(CHARTS[engine], paths),
        keep_trace,
        paths=paths,
    )
    workload = Workload(world, scenario.workload)
    expectations = Expectations.of(world, scenario)
    faults = Faults(world, scenario.faults)
    findings: list[Finding] = []
    broken = ""
    story = world.story
    early = until is not None and until < scenario.end
    try:
        world.start()
        _run(world, until if early and until is not None else scenario.end)
        if not early:
            findings = expectations.findings()
            told = len(world.story)
            workload.stopped = True
            _heal(world, scenario, faults)
            _prove_alive(world, scenario)
            story = world.story[:told]
    except Violation as violation:
        broken = f"{violation} [at {world.schedule.now / 1e6:.6f} s]"
        story = world.story
    except Exception as error:  # noqa: BLE001 (whatever the engine raises)
        # An engine that fails is a finding like any other: it has to come with its seed and its story.
        broken = f"{type(error).__name__}: {error} [{place(error)}, at {world.schedule.now / 1e6:.6f} s]"
        story = world.story
    digest = world.trace.digest()
    if scenario.digest and not early and not broken:
        same = digest == scenario.digest
        findings.append(Finding(f"the digest is {scenario.digest}", same, "" if same else digest))
    return Outcome(
        scenario, story, findings, broken, digest, world.schedule.events, world.schedule.now, world.trace, early
    )


def _run(world: World, until: int, over: Callable[[World], bool] | None = None) -> None:
    """Let time pass, looking at everything once a second; at most until it is over."""
    while world.schedule.now < until and not (over is not None and over(world)):
        world.schedule.run(min(until, world.schedule.now + SCAN_EVERY))
        world.scan()


def _heal(world: World, scenario: Scenario, faults: Faults) -> None:
    world.tell("", "", "all faults are over")
    faults.heal()
    bound = RECOVERY + (_together(scenario) if scenario.machines.count else 0)
    _run(world, world.schedule.now + bound, rest.settled)


def _together(scenario: Scenario) -> int:
    """Several nodes hear each other again, exchange their directories, and let what was under way run into its deadlines."""
    return (HEALTH_MISSES + 2) * scenario.machines.health_interval + 2 * VOTE_WINDOW


def _prove_alive(world: World, scenario: Scenario) -> None:
    """Every database that a client ever named answers, sleeps, and holds nothing then."""
    asked_at = world.schedule.now
    probes: list[tuple[str, Query]] = []
    for (node, database), client in world.clients.items():
        probes.append((f"{node}: {database}", client.ask(writes=False, strong=True)))
    _run(world, asked_at + ANSWERED_WITHIN, lambda _: all(probe.over for _, probe in probes))
    for whose, probe in probes:
        if _lost(world, probe.client):
            continue
        if not probe.over:
            raise Violation("liveness", f"{whose} does not answer a strong read within 10 s of a healed world")
        if probe.verdict != "ok" and not probe.detail.startswith(FULL):
            raise Violation("liveness", f"{whose} answers a strong read of a healed world with: {probe.detail}")
    timeout = scenario.machines.hibernation_timeout
    if timeout:
        rounds = 3 if scenario.machines.count else 1  # a sleep that a late message vetoed is tried again
        _run(world, world.schedule.now + rounds * (2 * timeout + DRAIN_WINDOW + SNAPSHOT_WINDOW), rest.asleep)
        _run(world, world.schedule.now + STAYS)
        for (node, database), client in world.clients.items():
            machines = world.clusters[world.machines[node].settings.config.cluster]
            states = {machine.state_of_name(client.internal) for machine in machines}
            if _lost(world, client):
                continue
            if client.history.answered and states - {"absent"} != {"hibernating"}:
                told = ", ".join(sorted(states))
                raise Violation("liveness", f"{node}: {database} is idle and does not sleep: it is {told}")
    for cluster in world.clusters.values():
        if lost.directory(cluster):
            continue
        world.checks.agreed(cluster)
        for machine in cluster:
            world.checks.rest(machine, QUERY_TIMEOUT)
            running = [one for one in machine.processes.values() if not lost.replicas(cluster, one.start.internal)]
            if timeout and running:
                raise Violation("R42", f"{machine.name}: everything sleeps, and {len(running)} rqlited run")


def _lost(world: World, client: Client) -> bool:
    """What the client asks for cannot be had, and no law promises it."""
    cluster = world.clusters[client.machine.settings.config.cluster]
    return lost.directory(cluster) or lost.replicas(cluster, client.internal)
