"""The directory's digest tree: one root for each heartbeat, 256 leaves for who is out of step. The law kept here is P21: only
records are hashed, nothing that changes with every query, nothing that one node has seen and another need not have.

A leaf is the sum (xor) of its records' hashes, so that one change costs one hash, whatever the number of databases. API keys have leaves of
their own under the same root: who missed a key, or its revocation, is as much out of step as who missed a record (P23)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from protocol import codec, limits
from protocol.records import ApiKey
from protocol.state import State

SIZE = 16
"""Bytes of a hash, a leaf, the root."""
SHORT = 8
"""Bytes of a record's hash in a list of one leaf: enough to tell two versions of one incarnation apart."""


def leaf_of(incarnation: str) -> int:
    """The leaf that an incarnation belongs to, the same on every node."""
    return hashlib.blake2b(incarnation.encode(), digest_size=2).digest()[0] % limits.BUCKETS


def replace(state: State, incarnation: str, row: bytes | None) -> None:
    """Account for a record's new value, as it is stored, or (None) for its absence."""
    new = 0 if row is None else _hash(row)
    leaf = leaf_of(incarnation)
    state.leaves[leaf] ^= state.hashes.pop(incarnation, 0) ^ new
    state.root = b""
    if row is not None:
        state.hashes[incarnation] = new
        state.in_leaf.setdefault(leaf, set()).add(incarnation)
    else:
        state.in_leaf.get(leaf, set[str]()).discard(incarnation)


def replace_key(state: State, key: ApiKey) -> None:
    """Account for a key's new value, in place of the one that is known."""
    known = state.keys.get(key.digest)
    if not state.key_leaves:
        state.key_leaves = [0] * limits.BUCKETS
    state.key_leaves[key_leaf_of(key)] ^= _hash(codec.encode(key)) ^ (
        0 if known is None else _hash(codec.encode(known))
    )
    state.root = b""


def key_leaf_of(key: ApiKey) -> int:
    return key.sha256[0] % limits.BUCKETS


def _hash(row: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(row, digest_size=SIZE).digest(), "big")


def short(state: State, incarnation: str) -> bytes:
    """The hash of one record as it is listed for others."""
    return (state.hashes[incarnation] >> (8 * (SIZE - SHORT))).to_bytes(SHORT, "big")


def leaves(state: State) -> bytes:
    return _joined(state.leaves, state.in_leaf)


def key_leaves(state: State) -> bytes:
    return _joined(state.key_leaves, (i for i, leaf in enumerate(state.key_leaves) if leaf))


def _joined(hashes: list[int], used: Iterable[int]) -> bytes:
    # Most leaves are empty, and this is done for each change and each question: it was a twentieth of a simulated cluster.
    joined = bytearray(SIZE * len(hashes))
    for leaf in used:
        joined[leaf * SIZE : (leaf + 1) * SIZE] = hashes[leaf].to_bytes(SIZE, "big")
    return bytes(joined)


def root(state: State) -> bytes:
    """Of all leaves: computed once for each change, not for each heartbeat."""
    if not state.root:
        state.root = hashlib.blake2b(leaves(state) + key_leaves(state), digest_size=SIZE).digest()
    return state.root


def differing(state: State, theirs: bytes) -> list[int]:
    """Leaves in which this node's directory differs from one whose leaves are ``theirs``."""
    return _differing(leaves(state), theirs)


def differing_keys(state: State, theirs: bytes) -> list[int]:
    """The same for API keys."""
    return _differing(key_leaves(state), theirs)


def _differing(ours: bytes, theirs: bytes) -> list[int]:
    if ours == theirs:
        return []
    if len(theirs) != len(ours):
        return list(range(limits.BUCKETS))
    return [i for i in range(limits.BUCKETS) if ours[i * SIZE : (i + 1) * SIZE] != theirs[i * SIZE : (i + 1) * SIZE]]
