"""Every bound of the transport in one place, asserted against each other at import. Law: one peer, whatever it does with the
cluster's secret in hand, never takes what the others need (F92); without the secret it never gets as far as a message.

Times in seconds, sizes in bytes. What crosses the wire as a message is bounded in :mod:`protocol.limits` as well.
"""

from __future__ import annotations

from typing import Final

from protocol import limits

# Connections.
PENDING: Final = 256
"""Connections that have not proved the secret and their peer id yet. Beyond, the oldest of the address with the most
gives way: silent sockets never lock a newcomer out, who needs some 50 ms."""
UPGRADE_TIMEOUT: Final = 5.0
CONNECTIONS_PER_PEER: Final = 3
"""Two nodes that dial each other at once have two for a while; beyond, the peer's own oldest gives way, since after a power
cut the newest is the one that lives."""
STRANGERS: Final = 4
"""One in so many of ``node.max_connections`` may be held by peers that are not known: the rest is kept for those that are."""
CLOSE_TIMEOUT: Final = 5.0
"""py-libp2p's ``close`` can hang beyond 10 s on a peer that was stopped."""
GOODBYE: Final = 0.5
"""To close one thing politely: a stream, or all connections when the node ends. Its peers notice anyway."""
KEEPALIVE: Final = (5, 3, 3)
"""TCP keepalive: seconds idle, seconds between probes, probes. A hung or vanished peer is never noticed by default."""
USER_TIMEOUT: Final = 10.0

# Streams.
STREAMS_PER_PEER: Final = 24
"""Inbound streams that one peer may have open: a gossip and a direct one for each connection, and its requests."""
NEGOTIATION_TIMEOUT: Final = 5.0
UNREAD: Final = 8 << 20
"""Received and not read yet, over all streams of one connection: yamux here does not enforce its windows, so a peer that
ignores them is disconnected."""

# Gossip.
RPC_BYTES: Final = 4 * limits.MESSAGE_BYTES
GOSSIP_QUEUE: Final = 4096
"""Gossip frames that wait for one peer. py-libp2p's own 32 loses bursts without a word (10 of 500 arrived)."""
AUTHOR_RATE: Final = 100.0
AUTHOR_BURST: Final = 1000.0
"""Broadcasts of one author, for each second and at once."""
OWN_BURST: Final = AUTHOR_BURST / 2
"""What a node allows itself at once: one that restarts in the middle of it is still no flood to others."""
FORWARDER_RATE: Final = 1000.0
FORWARDER_BURST: Final = 10_000.0
"""Broadcasts that one peer hands on, its own among them, duplicates too: more than a node can look at."""
STRANGER_RATE: Final = 20.0
STRANGER_BURST: Final = 200.0
"""Broadcasts of authors that nobody knows yet, handed on by one peer: new nodes, or names that were made up."""
FLOOD: Final = 500
"""Broadcasts refused to one peer within :data:`BAN` seconds that make it a flood: it is disconnected for that long, twice as long the
next time."""
BAN: Final = 10.0
BAN_MAX: Final = 600.0

# Direct streams.
OUTBOX: Final = 4096
"""Messages that wait for one peer; beyond, the oldest is dropped."""
STALE: Final = 5.0
"""A message that waited for so long is not sent any more: the protocol has repeated what matters."""
BROADCASTS: Final = 4096
WRITE_BYTES: Final = 64 << 10
"""Frames joined in one write."""
WRITE_TIMEOUT: Final = 4.0
"""Below the 5 s after which yamux itself gives up on a stream, so that it is known for what it is: a peer that takes nothing."""
REOPEN: Final = 0.2
"""Before a direct stream that failed is opened anew."""
DIRECT_RATE: Final = 2000.0
DIRECT_BURST: Final = 10_000.0
"""Direct messages of one peer; beyond, its stream is read more slowly and its own flow control holds it back."""

# Requests.
REQUEST_BYTES: Final = 1 << 20
"""Payload of a request and of a response: far below the 4 MiB above which py-libp2p's reads stop."""
KIND_LENGTH: Final = 64
DETAIL: Final = 500
SERVED_PER_PEER: Final = 8
"""Requests of one peer that are served at one time."""
ASKED_PER_PEER: Final = 8
"""Requests to one peer at one time; more wait their turn, within their own timeout."""
SERVE_TIMEOUT: Final = 60.0

# Peers.
PEERS: Final = limits.KNOWN_NODES
ADDRESSES_PER_PEER: Final = 8
ADDRESS_LENGTH: Final = 300
DIAL_INTERVAL: Final = 1.0
"""Between two rounds of dialling, and the first pause after a failed dial; it doubles up to ``discovery.discovery_interval``."""
DIAL_TIMEOUT: Final = 5.0
DIALS: Final = 8
"""At one time."""
RESTART: Final = 1.0
"""Pause before libp2p is started again, should it ever end by itself."""

assert limits.MESSAGE_BYTES + 4096 < RPC_BYTES, "a message and its envelope fit into one gossip frame"
assert limits.MESSAGE_BYTES + 4 <= WRITE_BYTES
assert 2 * CONNECTIONS_PER_PEER + SERVED_PER_PEER < STREAMS_PER_PEER, "requests leave room for the two standing streams"
assert REQUEST_BYTES + 4096 < 4 << 20
assert BAN < BAN_MAX
