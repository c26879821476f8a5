"""Scenarios from a seed: what the fuzzer plays. The law kept here: a generated scenario is a scenario like any other (it can be
written down, read and replayed), and what it does to the world stays within what a machine may suffer: a client that was told
*acknowledged* must be right, however bad it gets.
"""

from __future__ import annotations

from random import Random

from attrs import evolve

from protocol import limits
from sim.scenario import Fault, Machines, Moment, Scenario, Traffic

MS = limits.MILLISECOND
DATABASES = ("shop/orders", "shop/users", "a_b/c", "a/b_c")
MOMENTS = (
    *("Write", "ReservePorts", "Start", "Probe", "Snapshot", "Terminate", "Door", "Forget", "Answer", "ReleasePorts"),
    *("PortsReserved", "InstanceReady", "InstanceExited", "Probed", "Snapshotted", "DoorAck", "Used"),
    *("database created", "database idle", "falling asleep", "hibernated", "wakeup request received", "woken"),
)
STRIKES = (
    *(("kill", "rqlited"), ("kill", "worker"), ("kill", "node"), ("kill", "node"), ("pause", "rqlited")),
    *(("pause", "worker"), ("pause", "node"), ("crash", "machine"), ("stop", "node"), ("steal", "http")),
    *(
        ("steal", "raft"),
        ("fail", "start"),
        ("hang", "start"),
        ("slow", "disk"),
        ("fill", "disk"),
        ("remove", "binary"),
    ),
    *(("repeat", "InstanceExited"), ("repeat", "DoorAck"), ("repeat", "Probed"), ("repeat", "InstanceReady")),
)
SLEEP = ("sleep sealed", "sleep sealed", "wakeup request received", "SealedCopy", "ReadSealed", "PortsReserved")
LASTS = 30 * limits.SECOND


def traffic(chance: Random) -> Traffic:
    """Clients of one database: one query, a flood, a stream, a slow statement, or somebody past the gateway."""
    at = chance.randrange(500, 25_000) * MS
    database = chance.choice(DATABASES)
    writes = chance.choice((0.0, 0.5, 1.0))
    match chance.randrange(8):
        case 0:
            return Traffic(database, at, queries=chance.randrange(10, 200), writes=writes)
        case 1:
            return Traffic(database, at, takes=chance.randrange(100, 4000) * MS, writes=0.0)
        case 2:
            return Traffic(database, at, writes=writes, direct=True)
        case 3 | 4 | 5:
            every = chance.choice((20, 100, 300, 900, 1600)) * MS
            until = min(LASTS, at + chance.randrange(1, 60) * every)
            return Traffic(database, at, every=every, until=until, writes=writes, strong=chance.random() < 0.3)
        case _:
            return Traffic(database, at, writes=writes)


def readers(seed: str, machines: Machines, first: int, last: int) -> tuple[Traffic, ...]:
    """Clients who accept an old answer while their database sleeps, between two times. They are drawn by themselves: what else a seed does
    is what it did before there were any."""
    chance = Random(f"torpor/readers/{seed}")
    found: list[Traffic] = []
    for _ in range(chance.choice((0, 0, 1, 2, 4))):
        reader = Traffic(
            chance.choice(DATABASES[:2]),
            first + chance.randrange(0, (last - first) // MS) * MS,
            chance.choice(machines.names),
            writes=0.0,
            takes=chance.choice((0, 0, 0, 300, 2000)) * MS,
            max_stale=chance.choice((1, 10, 600)) * limits.SECOND,
        )
        if chance.random() < 0.5:
            at = Moment(chance.choice(SLEEP), chance.randrange(1, 5), chance.choice((0, 1, 40, 400)) * MS)
            found.append(evolve(reader, at=at, queries=chance.choice((1, 10))))
        else:
            found.append(evolve(reader, every=chance.choice((50, 700)) * MS, until=last))
    return tuple(found)


def fault(chance: Random) -> Fault:
    """One thing that goes wrong, at a time or at a moment of the protocol."""
    verb, target = chance.choice(STRIKES)
    at: int | Moment = chance.randrange(0, 28_000) * MS
    if chance.random() < 0.6:
        after = chance.choice((0, 0, 0, 200, 5_000, 60_000, 400_000))
        at = Moment(chance.choice(MOMENTS), chance.randrange(1, 6), after)
    return Fault(
        verb,
        target,
        at,
        database=chance.choice(("", *DATABASES)) if verb in ("kill", "pause", "steal", "fail", "hang") else "",
        lasts=chance.choice((50, 300, 1000, 4000, 7000)) * MS,
        back=chance.choice((0, 50, 500, 3000)) * MS,
        times=chance.choice((1, 1, 2, 5)) if target == "start" else 1,
        factor=chance.choice((5, 50)),
    )


def scenario(seed: int, faults: int | None = None) -> Scenario:
    """The scenario of a seed. ``faults``: how many; None: the seed decides, up to 30."""
    chance = Random(f"torpor/generate/{seed}")
    machines = Machines(
        workers=chance.choice((1, 1, 2, 3)),
        hibernation_timeout=chance.choice((400, 1000, 1000, 3000)) * MS,
        heartbeat=chance.choice((50, 250, 1000)) * MS,
        stop_timeout=chance.choice((200, 1000, 5000)) * MS,
    )
    if chance.random() < 0.1:
        # Hardly more ports than databases: who needs one finds the last (F84).
        machines = Machines(http_ports=(5001, 5005), raft_ports=(7001, 7005), hibernation_timeout=1000 * MS)
    count = chance.choice((0, 1, 2, 4, 8, 30)) if faults is None else faults
    return Scenario(
        title=f"generated from seed {seed}",
        seed=seed,
        lasts=LASTS,
        machines=machines,
        workload=tuple(traffic(chance) for _ in range(chance.randrange(1, 10)))
        + readers(f"generate/{seed}", machines, 500 * MS, LASTS),
        faults=tuple(fault(chance) for _ in range(count)),
    )


# --- many nodes -----------------------------------------------------------------------------------------------------

TOGETHER = (
    *(("kill", "rqlited"), ("kill", "node"), ("pause", "rqlited"), ("pause", "node"), ("pause", "node")),
    *(("crash", "machine"), ("crash", "machine"), ("stop", "node"), ("steal", "http"), ("fail", "start")),
    *(("partition", "both"), ("partition", "both"), ("partition", "in"), ("partition", "out"), ("hold", "both")),
    *(("hold", "out"), ("disturb", "network"), ("disturb", "network"), ("slow", "disk")),
)
"""What goes wrong among several nodes. No disk is lost here: until members are replaced, a database does not sleep without it."""
FORMED = 4 * limits.SECOND
"""When the nodes have found each other."""


def together(seed: int, nodes: int = 0) -> Scenario:
    """Three to five nodes of one cluster (or ``nodes``): clients everywhere, and a network that is as bad as everything else."""
    chance = Random(f"torpor/together/{seed}")
    drawn = chance.choice((3, 3, 4, 5))
    count = nodes or drawn
    machines = Machines(
        names=tuple(f"n{i}" for i in range(1, count + 1)),
        count=count,
        replication_factor=min(count, chance.choice((1, 2, 3, 3))),
        health_interval=chance.choice((500, 1000, 3000)) * MS,
        hibernation_timeout=chance.choice((1000, 3000, 6000)) * MS,
        stop_timeout=chance.choice((200, 1000, 5000)) * MS,
        skew=chance.choice((0, 600)) * limits.SECOND,
        drift=chance.choice((0, 200)),
    )
    return Scenario(
        title=f"generated from seed {seed}, {count} nodes",
        seed=seed,
        lasts=FORMED + 2 * LASTS,
        machines=machines,
        workload=tuple(_traffic_somewhere(chance, machines) for _ in range(chance.randrange(2, 9)))
        + readers(f"together/{seed}", machines, FORMED, FORMED + 2 * LASTS),
        faults=tuple(_fault_somewhere(chance, machines) for _ in range(chance.choice((0, 2, 5, 8, 16)))),
    )


def _traffic_somewhere(chance: Random, machines: Machines) -> Traffic:
    at = FORMED + chance.randrange(0, 50_000) * MS
    database, node = chance.choice(DATABASES[:2]), chance.choice(machines.names)
    writes = chance.choice((0.0, 0.5, 1.0))
    if chance.random() < 0.6:
        every = chance.choice((50, 300, 900, 3000)) * MS
        until = min(FORMED + 2 * LASTS, at + chance.randrange(1, 40) * every)
        return Traffic(database, at, node, until, every, writes=writes, strong=chance.random() < 0.3)
    return Traffic(database, at, node, queries=chance.choice((1, 1, 20)), writes=writes)


def _fault_somewhere(chance: Random, machines: Machines) -> Fault:
    verb, target = chance.choice(TOGETHER)
    at: int | Moment = FORMED + chance.randrange(0, 55_000) * MS
    if chance.random() < 0.5 and verb not in ("disturb", "slow"):
        at = Moment(
            chance.choice((*MOMENTS, "birth confirmed")), chance.randrange(1, 6), chance.choice((0, 0, 5, 400)) * MS
        )
    side = tuple(chance.sample(machines.names, chance.randrange(1, len(machines.names))))
    disturbs = verb == "disturb"
    return Fault(
        verb,
        target,
        at,
        node=chance.choice(machines.names),
        database=chance.choice(("", *DATABASES[:2])) if verb in ("kill", "pause", "steal", "fail") else "",
        lasts=chance.choice((300, 2000, 8000, 25_000)) * MS,
        back=chance.choice((0, 500, 5000, 20_000)) * MS,
        times=chance.choice((1, 2)) if target == "start" else 1,
        factor=chance.choice((5, 50)),
        side=side if verb in ("partition", "hold") else (),
        loss=chance.choice((0.0, 0.05, 0.2)) if disturbs else 0.0,
        twice=chance.choice((0.0, 0.1)) if disturbs else 0.0,
        slowest=chance.choice((0, 20, 300)) * MS if disturbs else 0,
    )
