"""How long things take in the model: ranges in microseconds, drawn anew each time. The law kept here is honesty: what rqlited takes
was measured on real processes (two cores, loopback, rqlited 8.26.8); the store's commit, a snapshot, a node's start, ``CONNECT``
and ``sim.raft.LAG`` are estimates. None is there to make a scenario pass.
"""

from __future__ import annotations

from typing import Final

from protocol.limits import MILLISECOND, SECOND

Range = tuple[int, int]

# rqlited.
PROCESS_UP: Final[Range] = (30 * MILLISECOND, 50 * MILLISECOND)
"""Exec until HTTP and Raft are bound (/readyz?noleader: 37-46 ms)."""
HEARTBEAT: Final = 250 * MILLISECOND
"""-raft-timeout, unless a scenario says otherwise. An election takes between one and two of them."""
REPLAY: Final[Range] = (1 * MILLISECOND, 8 * MILLISECOND)
"""Leader known until the log is applied: until then a weak read sees the last snapshot only."""
WEAK_READ: Final[Range] = (200, 450)
WRITE: Final[Range] = (2 * MILLISECOND, 4 * MILLISECOND)
"""Append, fsync, apply; a strong read takes the same way through the log."""
EXIT: Final[Range] = (10 * MILLISECOND, 20 * MILLISECOND)
"""SIGTERM until gone, once HTTP has drained."""
SNAPSHOT: Final[Range] = (5 * MILLISECOND, 30 * MILLISECOND)
READY_POLL: Final[Range] = (1 * MILLISECOND, 10 * MILLISECOND)
"""From served until the supervisor's next look has seen it."""
JOIN_INTERVAL: Final[Range] = (200 * MILLISECOND, 200 * MILLISECOND)
JOIN_ATTEMPTS: Final = 50
"""-join-interval and -join-attempts: running out of them is fatal."""
RAFT_RETRY: Final = 50 * MILLISECOND
"""A leader without a quorum keeps what it was asked until it is no leader any more, and looks so often."""
EXIT_SEEN: Final[Range] = (200, 2 * MILLISECOND)
PROBE_TIMEOUT: Final = 2 * SECOND

# The node's process.
NODE_UP: Final[Range] = (150 * MILLISECOND, 350 * MILLISECOND)
"""Exec until the engine boots: interpreter, store, what an earlier process left."""
STORE_COMMIT: Final[Range] = (300, 3 * MILLISECOND)
"""One transaction of the store, with its fsync."""
PORT_PROBE: Final[Range] = (100, 500)

# Gateway workers.
CHANNEL: Final[Range] = (40, 150)
"""One message over the channel (0.15 ms there and back)."""
WORKER_UP: Final[Range] = (220 * MILLISECOND, 650 * MILLISECOND)
WORKER_EOF: Final[Range] = (125 * MILLISECOND, 310 * MILLISECOND)
"""A killed node until its workers have seen the end of their channel and are gone."""
WORKER_DRAIN: Final = 2 * SECOND
CHANNEL_LEASE: Final = 5 * SECOND
"""A side of the channel that is silent for this long counts as gone (SIGSTOP closes nothing)."""
USED_EVERY: Final = 1 * SECOND
"""A worker reports a database's queries at most this often."""
SEALED_READ: Final[Range] = (1 * MILLISECOND, 4 * MILLISECOND)
"""A read of a sleeping database's file, from opening to closing it."""
INTERRUPT: Final[Range] = (50, 3 * MILLISECOND)
"""Such a read is told to end until its connection is closed."""
SEALED_PATIENCE: Final = 500 * MILLISECOND
"""A worker waits so long for its node to say whether there is a copy to read."""
REVOKE: Final[Range] = (1 * SECOND, 2 * SECOND)
"""A worker that has not closed a copy by then is killed by its node: a start waits for it."""
QUERY_TIMEOUT: Final = 30 * SECOND
"""R37."""
DOOR_TIMEOUT: Final = 15 * SECOND
"""How long a worker keeps a query in front of a door: longer than a creation (R40) or a wake (R43) may take."""

# Clients and the network between machines.
TO_GATEWAY: Final[Range] = (50, 150)
LOOPBACK: Final[Range] = (40, 120)
"""One way each: a weak read through all of it takes 0.97 ms, 0.46 ms without a gateway."""
CLIENT_PATIENCE: Final = 500 * MILLISECOND
"""A client that could not connect for so long tries another node."""
CLIENT_RETRY: Final = 100 * MILLISECOND
"""A client whose connection was refused tries again: nothing was sent."""
HOP: Final[Range] = (300, 900)
HOP_CONNECT: Final = 2 * SECOND
"""How long a gateway tries to connect to another node's that does not answer at all."""
HOP_AVOID: Final = 5 * SECOND
"""How long a gateway that could not be connected to, or failed, is tried last."""
ROUTE_TTL: Final = 5 * SECOND
"""How long a gateway worker sends queries where its node said, before it asks again."""
CONNECT: Final[Range] = (20 * MILLISECOND, 200 * MILLISECOND)
"""A node that is up, or a link that is whole again, until the connection is there."""
