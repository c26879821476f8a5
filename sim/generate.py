"""Scenarios from a seed: what the fuzzer plays. The law kept here: a generated scenario is a scenario like any other (it can be
written down, read and replayed), and what it does to the world stays within what a machine may suffer: a client that was told
*acknowledged* must be right, however bad it gets.
"""

from __future__ import annotations

from random import Random

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
        workload=tuple(traffic(chance) for _ in range(chance.randrange(1, 10))),
        faults=tuple(fault(chance) for _ in range(count)),
    )
