"""Nodes talk over libp2p (R7). One small interface faces the rest of the node (:mod:`runtime.transport.network`); every fault
of py-libp2p that was measured is handled behind it, in the file that its line in ``specs/architecture.md`` names.

Importing this package does not import libp2p: that costs 0.5-0.9 s, which a start spends while the gateway's workers start.
"""
