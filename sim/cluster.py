"""Scenarios of one cluster from a seed: what a release has to survive by the ten thousand. The law kept here is swarm testing (Groce
et al., 2012): each seed enables a random subset of the fault kinds and gives each its own rate, since a seed that does a little of
everything never gets into the corners that much of one thing leads to.

Three to nine nodes, mostly five, with heartbeats every ten seconds as they are shipped; sixty simulated seconds of at least five faults
after the nodes have found each other; clients on all nodes.
"""

from __future__ import annotations

from random import Random
from typing import Final

from attrs import evolve

from protocol import limits
from sim.generate import DATABASES, MOMENTS, MS, readers
from sim.scenario import ALL, Fault, Machines, Moment, Scenario, Traffic

FORMED: Final = 11 * limits.SECOND
"""The nodes have heard each other, and heard that they are heard: the second heartbeat has passed."""
FAULTY: Final = 60 * limits.SECOND
ENDS: Final = FORMED + FAULTY
FEWEST: Final = 5
"""Faults in one scenario, at least."""

KINDS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "rqlited dies": (("kill", "rqlited"), ("fail", "start"), ("hang", "start")),
    "worker dies": (("kill", "worker"), ("pause", "worker")),
    "node dies": (("kill", "node"), ("stop", "node")),
    "machine dies": (("crash", "machine"),),
    "room dies": (("crash", "room"),),
    "rqlited stops": (("pause", "rqlited"),),
    "node stops": (("pause", "node"),),
    "port stolen": (("steal", "http"), ("steal", "raft")),
    "bad disk": (("slow", "disk"), ("fill", "disk")),
    "no binary": (("remove", "binary"),),
    "partition": (("partition", "both"),),
    "one way": (("partition", "in"), ("partition", "out")),
    "held": (("hold", "both"), ("hold", "in"), ("hold", "out")),
    "weather": (("disturb", "network"),),
    "repeated": (
        *(("repeat", "InstanceExited"), ("repeat", "DoorAck"), ("repeat", "Probed"), ("repeat", "InstanceReady")),
        *(("repeat", "Snapshotted"), ("repeat", "Used"), ("repeat", "PortsReserved")),
    ),
    "disk lost": (("wipe", "disk"),),
    "store rolled back": (("rollback", "store"),),
}
"""What a seed may enable. ``room``: all machines at once."""

LOCAL: Final = ("birth confirmed", "commit ignored", "instance failed", *MOMENTS)
"""Moments of the protocol that a fault may wait for."""


def scenario(seed: int, nodes: int = 0, kinds: tuple[str, ...] = ()) -> Scenario:
    """The scenario of a seed; ``nodes``: how many, and ``kinds``: which of :data:`KINDS` are enabled, instead of what the seed says."""
    chance = Random(f"torpor/cluster/{seed}")
    drawn = chance.choice((5, 5, 5, 5, 5, 3, 4, 7, 9))
    count = nodes or drawn
    late = chance.random() < 0.25
    machines = Machines(
        names=tuple(f"n{i}" for i in range(1, count + 1)),
        count=count,
        replication_factor=min(count, chance.choice((1, 2, 3, 3, 3, 5))),
        hibernation_timeout=chance.choice((1, 3, 10)) * limits.SECOND,
        stop_timeout=chance.choice((200, 1000, 5000)) * MS,
        heartbeat=chance.choice((250, 250, 1000)) * MS,
        workers=chance.choice((1, 1, 1, 2)),
        skew=chance.choice((0, 600)) * limits.SECOND,
        drift=chance.choice((0, 200)),
        late=(f"n{count}",) if late else (),
    )
    drawn_kinds = _enabled(chance)
    enabled = dict.fromkeys(kinds, 1.0) or drawn_kinds
    faults = [
        _fault(chance, machines, chance.choice(KINDS[kind]))
        for kind in chance.choices(
            list(enabled), list(enabled.values()), k=FEWEST + chance.choice((0, 0, 2, 5, 10, 20))
        )
    ]
    faults = _spare_a_majority(faults, machines.replication_factor)
    copied = _nodes(faults, "rollback")
    faults += [Fault("copy", "disk", FORMED + chance.randrange(0, 30_000) * MS, node=node) for node in copied]
    faults += _operators(Random(f"torpor/cluster/keys/{seed}"), machines)
    if late:
        faults.append(Fault("start", "node", FORMED + chance.randrange(0, 40_000) * MS, node=f"n{count}"))
    return Scenario(
        title=f"generated from seed {seed}, {count} nodes",
        story="Enabled: " + ", ".join(sorted(enabled)) + ".",
        seed=seed,
        lasts=ENDS,
        machines=machines,
        workload=(*_clients(chance, machines), *readers(f"cluster/{seed}", machines, FORMED, ENDS)),
        faults=tuple(faults),
    )


def _operators(chance: Random, machines: Machines) -> list[Fault]:
    """In every third scenario operators create API keys and revoke them, on any node. A stream of its own: what else a seed does is not
    touched by it."""
    if chance.random() > 1 / 3:
        return []
    names = [f"k{n}" for n in range(chance.choice((1, 2, 5)))]
    return [
        Fault(verb, "key", FORMED + at * MS, node=chance.choice(machines.names), key=name)
        for name in names
        for verb, at in (("create", chance.randrange(0, 30_000)), ("revoke", chance.randrange(1_000, 55_000)))
        if verb == "create" or chance.random() < 0.7
    ]


def _enabled(chance: Random) -> dict[str, float]:
    """This seed's kinds of faults, each with its rate."""
    kinds = list(KINDS)
    return {kind: chance.expovariate(1) + 0.05 for kind in kinds if chance.random() < 0.4} or {
        chance.choice(kinds): 1.0
    }


def _spare_a_majority(faults: list[Fault], replicas: int) -> list[Fault]:
    """Who lost its disk has lost what it acknowledged, and whose store went back promises again once *every* other member has told
    it its promises (P62): the first may happen to a minority of any database's members, the second to one that has all others.
    What would be too much is a crash instead."""
    wiped = _nodes(faults, "wipe")[: (replicas - 1) // 2]
    rolled_back = [] if wiped else _nodes(faults, "rollback")[:1]
    spared = {"wipe": wiped, "rollback": rolled_back}
    return [
        fault if fault.node in spared.get(fault.verb, (fault.node,)) else evolve(fault, verb="crash", target="machine")
        for fault in faults
    ]


def _nodes(faults: list[Fault], verb: str) -> list[str]:
    return list(dict.fromkeys(fault.node for fault in faults if fault.verb == verb))


def _clients(chance: Random, machines: Machines) -> list[Traffic]:
    """Every node has clients; most of them query one database, so that its members and everybody else meet in it. Some come again
    and again, with pauses in which it falls asleep."""
    databases = DATABASES[: chance.choice((1, 1, 2, 2, 3))]
    return [
        _sessions(chance, node, chance.choice(databases))
        for node in machines.names
        for _ in range(chance.choice((1, 1, 2, 3)))
    ]


def _sessions(chance: Random, node: str, database: str) -> Traffic:
    at = FORMED + chance.choice((0, chance.randrange(0, 5_000), chance.randrange(0, 50_000))) * MS
    writes = chance.choice((0.0, 0.3, 0.7, 1.0))
    match chance.randrange(8):
        case 0:
            return Traffic(database, at, node, queries=chance.choice((1, 20, 100)), writes=writes)
        case 1:
            every = chance.choice((5, 10, 20)) * limits.SECOND
            return Traffic(database, at, node, ENDS, every, takes=chance.randrange(100, 4000) * MS, writes=0.0)
        case 2:
            return Traffic(database, at, node, ENDS, chance.choice((1, 5)) * limits.SECOND, writes=writes, direct=True)
        case 3 | 4 | 5:
            every, queries = chance.choice((2500, 4000, 7000, 15_000)) * MS, chance.choice((1, 3, 20))
            return Traffic(database, at, node, ENDS, every, queries, writes=writes, strong=chance.random() < 0.3)
        case _:
            every = chance.choice((20, 50, 150, 400)) * MS
            until = min(ENDS, at + chance.randrange(1, 300) * every)
            return Traffic(database, at, node, until, every, writes=writes, strong=chance.random() < 0.3)


def _when(chance: Random, verb: str) -> int | Moment:
    if verb in ("slow", "disturb") or chance.random() < 0.5:
        return FORMED + chance.randrange(0, 55_000) * MS
    after = chance.choice((0, 0, 0, 1, 5, 60, 400)) * MS
    return Moment(chance.choice(LOCAL), chance.randrange(1, 8), after)


def _fault(chance: Random, machines: Machines, kind: tuple[str, str]) -> Fault:
    verb, target = kind
    everybody = target == "room"
    at = FORMED + chance.randrange(0, 55_000) * MS if everybody else _when(chance, verb)
    side = tuple(chance.sample(machines.names, chance.randrange(1, (len(machines.names) + 3) // 2)))
    disturbs = verb == "disturb"
    return Fault(
        verb,
        "machine" if everybody else target,
        at,
        node=ALL if everybody else chance.choice(machines.names),
        database=chance.choice(("", *DATABASES[:2])) if verb in ("kill", "pause", "steal", "fail", "hang") else "",
        lasts=chance.choice((300, 2000, 8000, 25_000, 45_000)) * MS,
        back=chance.choice((0, 500, 5000, 20_000)) * MS,
        times=chance.choice((1, 1, 2, 5)) if target == "start" else 1,
        factor=chance.choice((5, 50)),
        side=side if verb in ("partition", "hold") else (),
        loss=chance.choice((0.0, 0.05, 0.2, 0.5)) if disturbs else 0.0,
        twice=chance.choice((0.0, 0.1, 0.5)) if disturbs else 0.0,
        slowest=chance.choice((0, 20, 300, 2000)) * MS if disturbs else 0,
    )
