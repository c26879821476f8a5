"""A scenario: a story that a person can read aloud, as data. The law kept here: it is complete. Seed, machines, settings,
clients, faults and what is expected all stand in it, so the file alone replays the run, byte for byte (``digest``).

Times are integer microseconds here; in YAML they read ``250ms``, ``3s``, ``1m``. ``sim.loader`` reads and writes the YAML.
"""

from __future__ import annotations

from typing import Final, Literal

from attrs import frozen

from protocol import limits
from protocol.inputs import Cause
from sim import timings

DIRECTIONS: Final = ("both", "in", "out")
MOST_NODES: Final = 9
"""Of one cluster."""
NARROW: Final = 2
"""Raft ports of a node that is said to have few."""
ALL: Final = "all"
"""In place of a node's name: every one."""

VERBS: Final[dict[str, tuple[str, ...]]] = {
    "kill": ("rqlited", "worker", "node"),
    "pause": ("rqlited", "worker", "node"),
    "crash": ("machine",),
    "stop": ("node",),
    "steal": ("http", "raft"),
    "fail": ("start",),
    "hang": ("start",),
    "slow": ("disk",),
    "fill": ("disk",),
    "remove": ("binary",),
    "wipe": ("disk",),
    "copy": ("disk",),
    "rollback": ("store", "disk"),
    "clone": ("store",),
    "start": ("node",),
    "partition": DIRECTIONS,
    "hold": DIRECTIONS,
    "disturb": ("network",),
    "create": ("key",),
    "revoke": ("key",),
    "repeat": ("InstanceExited", "InstanceReady", "Probed", "Snapshotted", "DoorAck", "PortsReserved", "Used"),
}
"""What a fault may do, to what. ``steal``: a foreign process binds the port just before the database's next start. ``fail``,
``hang``: the database's next start does. ``repeat``: the last such input is delivered once more, late. ``wipe``: the machine loses
power and its disk, and comes back under its old identity. ``copy``: somebody takes a snapshot of the disk. ``rollback``: the machine loses power and comes back with
that snapshot, of its store alone or of the replicas too. ``clone``: it comes back with the store that ``source`` has now. ``start``: a node that is not up. ``partition``, ``hold``: messages
between ``side`` (or ``node``) and all other machines are lost, or kept until it is over. ``disturb``: loss, duplication, delay. ``create``, ``revoke``: no fault, but what an operator does on
this node to the API key that the scenario calls ``key``."""


@frozen
class Moment:
    """``after`` µs after the ``nth`` time that ``event`` is seen: an input, an effect or a decision (``sim.moments``). An empty
    event counts every effect of the machine."""

    event: str
    nth: int = 1
    after: int = 0


@frozen
class Fault:
    """``node`` and ``database`` (``app/name``) say whose; empty: the first node, any database; ``all``: every node. ``lasts``: how long a pause, a
    stolen port or a bad disk lasts. ``back``: a killed, stopped or crashed node is started again after so long; None: never,
    while the scenario lasts."""

    verb: str
    target: str
    at: int | Moment
    node: str = ""
    database: str = ""
    lasts: int = 1 * limits.SECOND
    back: int | None = 500 * limits.MILLISECOND
    times: int = 1
    cause: Cause = "crashed"
    factor: int = 20
    side: tuple[str, ...] = ()
    key: str = ""
    source: str = ""
    """Of a clone: whose store is copied."""
    loss: float = 0.0
    twice: float = 0.0
    slowest: int = 0


@frozen
class Traffic:
    """Clients of one database: from ``at`` (a time, or a moment of the protocol) until ``until``, ``queries`` at once ``every`` so often (0: just once). ``writes``: which
    share of them write. ``max_stale``: how old an answer those that read accept while the database sleeps; 0: none. ``takes``: how long a statement takes. ``direct``: past the gateway, straight to rqlited (F40)."""

    database: str
    at: int | Moment
    node: str = ""
    until: int = 0
    every: int = 0
    queries: int = 1
    writes: float = 0.5
    strong: bool = False
    takes: int = 0
    direct: bool = False
    max_stale: int = 0


@frozen
class Machines:
    """Settings of every node. ``names`` alone: each is a cluster of its own. With ``count`` they are n1, n2, … and of one cluster,
    or in turn of ``founders`` clusters that hear each other; the first of each founds it. Those of ``late`` are started by the
    scenario; those of ``narrow`` have the first ``NARROW`` Raft ports alone. ``skew`` and ``drift``: how far clocks may differ from the beginning, and how many µs more each second."""

    names: tuple[str, ...] = ("n1",)
    count: int = 0
    replication_factor: int = 1
    health_interval: int = 10 * limits.SECOND
    founders: int = 1
    late: tuple[str, ...] = ()
    skew: int = 0
    drift: int = 0
    workers: int = 1
    hibernation_timeout: int = 3 * limits.SECOND
    max_databases: int = 100
    stop_timeout: int = 5 * limits.SECOND
    wake_deadline: int = limits.WAKE_DEADLINE
    http_ports: tuple[int, int] = (5001, 5999)
    raft_ports: tuple[int, int] = (7001, 7999)
    narrow: tuple[str, ...] = ()
    heartbeat: int = timings.HEARTBEAT


Kind = Literal[
    "state",
    "seen",
    "never",
    "acknowledged",
    "answered",
    "failed",
    "told",
    "slowest",
    "processes",
    "starts",
    "between",
    "admits",
    "refuses",
    "stale",
]


@frozen
class Expect:
    """One expectation; ``kind`` says which field counts.

    ``state``: ``text`` is the database's state ``at``. ``seen``, ``never``: a decision ``text`` (``times`` exactly, when
    given), within ``after``..``at``. ``acknowledged``: at least ``times`` writes were, and all are there. ``answered``: at least ``times``
    queries were (-1: all of them). ``failed``: exactly ``times`` were not. ``told``: some client was told ``text``. ``slowest``: no answer
    took longer than ``within``. ``processes``: exactly ``times`` rqlited run ``at``. ``starts``: so many were started for the
    database. ``between``: from decision ``text`` to ``other`` at most ``within``. ``admits``, ``refuses``: every gateway worker that serves lets the API key
    ``text`` in ``at``, or none does. ``stale``: at least ``times`` queries (0: none at all)
    were answered from sealed copies, none later than ``within``, when given."""

    kind: Kind
    text: str = ""
    other: str = ""
    node: str = ""
    database: str = ""
    at: int | None = None
    after: int = 0
    times: int | None = None
    within: int = 0


@frozen
class Scenario:
    title: str
    story: str = ""
    seed: int = 1
    lasts: int = 0
    """When the scenario ends, µs; what follows is only the look whether everything still works."""
    machines: Machines = Machines()
    workload: tuple[Traffic, ...] = ()
    faults: tuple[Fault, ...] = ()
    expect: tuple[Expect, ...] = ()
    digest: str = ""
    """What the trace's digest must be, or empty."""

    @property
    def end(self) -> int:
        """``lasts``, or just after the last thing that the scenario says happens."""
        if self.lasts:
            return self.lasts
        times = [max(one.at, one.until) for one in self.workload if isinstance(one.at, int)]
        times += [fault.at + fault.lasts + (fault.back or 0) for fault in self.faults if isinstance(fault.at, int)]
        times += [expect.at for expect in self.expect if expect.at is not None]
        return max(times, default=0) + 2 * limits.SECOND
