"""Every bound and every deadline of the protocol, in one place, asserted against each other at import.

Times are integer microseconds on the node's own monotonic clock (F43). Deadlines that an operator sets (hibernation
timeout, stop timeout, …) arrive in :class:`protocol.node.Config`; the constants here are those that no one should need to turn.
"""

from __future__ import annotations

from typing import Final

MILLISECOND: Final = 1_000
SECOND: Final = 1_000_000

# Sizes.
NAME_LENGTH: Final = 63
"""Characters in an application's or a database's name: two of them and an incarnation stay below NAME_MAX (255)."""
NAMES_CACHED: Final = 10_000
"""Internal names remembered: a look-up instead of a validation, wherever a name is wanted."""
MEMBERS: Final = 9
"""Replicas of one database. More voters than this only slow Raft down."""
KNOWN_NODES: Final = 250
"""Nodes that one cluster counts."""
RETIRED: Final = 250
"""Nodes that operators may retire in a cluster's life: every heartbeat names them."""
KEYS: Final = 10_000
"""API keys that a cluster may ever have, revoked and expired ones among them: none is forgotten, so that none comes back. Nodes that do not
hear each other may together create some more."""
KEY_NAME: Final = 63
"""Characters of what an operator calls a key."""
KEYS_PAGE: Final = 100
"""Keys in one message, or told to a gateway worker at once."""
PEER_BYTES: Final = 56
"""A peer id on the wire: 52 characters, and its length."""
WAITERS: Final = 10_000
"""Requests that one sleeping database may keep waiting in the engine; a gateway worker sends one for all its queries."""
MESSAGE_BYTES: Final = 60_000
"""Encoded message: below 64 KiB, the size that gossip carries well."""
DETAIL: Final = 500
"""Characters of a cause or reason that travels or is shown."""
DECISIONS_KEPT: Final = 20
"""Last decisions kept for each database, to answer *why*."""

# Creation (R40: under 10 s).
OFFER_WINDOW: Final = 2 * SECOND
OFFER_GRACE: Final = 50 * MILLISECOND
BIRTH_WINDOW: Final = 2 * SECOND
CREATION_DEADLINE: Final = 9 * SECOND
"""From the coordinator's first answer to the acknowledged database."""
REQUEST_DEADLINE: Final = 10 * SECOND
"""How long the node that was asked keeps a creation's clients waiting."""
OFFER_LEASE: Final = 15 * SECOND
"""A reservation that no confirm has reached ends after this (F2)."""
CREATION_ATTEMPTS: Final = 3
"""Births tried for one request when a port was stolen or a lease lapsed (F9)."""
CREATION_RETRY: Final = 500 * MILLISECOND
"""Where nodes that still listen could not answer, they are asked again this long after the others have (P10)."""
REPROBE: Final = 50 * MILLISECOND

CONFIRM_REPEAT: Final = 1 * SECOND
"""A confirm is repeated until all chosen members have reported (F7)."""
COORDINATOR_PATIENCE: Final = 3 * SECOND
"""A requester that has heard of no confirm by then tries the next coordinator (F8)."""
TAKEOVER: Final = 6 * SECOND
"""A member of a birth that is not acknowledged by then looks after it itself (F8)."""

# Hearing.
HEALTH_MISSES: Final = 3
"""Missed heartbeats after which a node is not heard any more (R44, R45)."""
TRAIL: Final = 16
"""Earlier processes that a store remembers: a peer that missed more of them than that looks at the counts alone."""
RECALL_BATCH: Final = 500
"""Incarnations in one question for promises."""
BUCKETS: Final = 256
"""Leaves of the digest tree. Two nodes in step compare one root, two out of step the leaves, then only what differs."""
SYNC_PAGE: Final = 500
"""Records listed in one page of anti-entropy."""
SYNC_BATCH: Final = 10
"""Records that are asked for at once: their answer is one message, however long their names and many their members."""
NAMES_PAGE: Final = 10
"""Promises of names in one message."""
SYNC_PATIENCE: Final = 5 * SECOND

# Epochs.
PROMISE_WINDOW: Final = 2 * SECOND

# Sleep.
DRAIN_WINDOW: Final = 10 * SECOND
VOTE_WINDOW: Final = DRAIN_WINDOW + 2 * SECOND
SEAL_WINDOW: Final = 2 * SECOND
"""For the leader's strong read when it is asked for late, and for the others to apply what it has read: a commit timeout, usually."""
SNAPSHOT_WINDOW: Final = 10 * SECOND
PROBE_RETRY: Final = 1 * SECOND
STOP_MARGIN: Final = 2 * SECOND
"""Beyond the stop timeout (SIGTERM to SIGKILL): when a member that has not reported its stop counts as not stopped."""

DOUBT: Final = 5 * SECOND
"""A member that stopped, and knows of no record that says so, asks the others this long after the stops should be over; after as
long again it starts."""

# Wake (R43: under 8 s).
WAKE_DEADLINE: Final = 8 * SECOND
QUORUM_PATIENCE: Final = 2 * SECOND
"""A member that wakes, and has no quorum by then, asks how the others stand: they may sleep."""
WAKE_REPEAT: Final = 2 * SECOND
"""A node that is no member repeats its intent so often: one that was lost must not cost the whole deadline."""
ACTIVATE_PATIENCE: Final = 1 * SECOND
"""How long each further member waits for a lower one to write that the database is awake (P2)."""
RESTART_BACKOFF: Final = 200 * MILLISECOND
RESTART_BACKOFF_MAX: Final = 10 * SECOND
YOUNG: Final = 5 * SECOND
"""An rqlited that dies younger than this counts as a failed start for the backoff (F60)."""

assert OFFER_WINDOW + BIRTH_WINDOW < CREATION_DEADLINE < REQUEST_DEADLINE < OFFER_LEASE
assert (3 * KNOWN_NODES + RETIRED) * PEER_BYTES < MESSAGE_BYTES - 3_000, (
    "a heartbeat names known, heard, joining, retired"
)
assert OFFER_WINDOW + CREATION_RETRY < CREATION_DEADLINE
assert WAKE_REPEAT < WAKE_DEADLINE
assert DRAIN_WINDOW < VOTE_WINDOW
assert SEAL_WINDOW < VOTE_WINDOW
assert QUORUM_PATIENCE < WAKE_DEADLINE
assert RESTART_BACKOFF < RESTART_BACKOFF_MAX
assert BUCKETS <= 256, "a leaf's number is one byte on the wire"
assert 2 * NAME_LENGTH * 2 + 1 < 255, "an internal name, underscores doubled, is one path component"
