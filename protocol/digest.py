"""The directory's digest tree: one root for each heartbeat, 256 leaves for who is out of step. The law kept here is P21: only
records are hashed, nothing that changes with every query, nothing that one node has seen and another need not have.

A leaf is the sum (xor) of its records' hashes, so that one change costs one hash, whatever the number of databases. API keys have leaves of
their own under the same root: who missed a key, or its revocation, is as much out of step as who missed a record (P23)."""

from __future__ import annotations

import hashlib

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
    _change(state.leaves, leaf, state.hashes.pop(incarnation, 0) ^ new)
    state.root = b""
    if row is not None:
        state.hashes[incarnation] = new
        state.in_leaf.setdefault(leaf, set()).add(incarnation)
    else:
        state.in_leaf.get(leaf, set[str]()).discard(incarnation)


def replace_key(state: State, key: ApiKey) -> None:
    """Account for a key's new value, in place of the one that is known."""
    known = state.keys.get(key.digest)
    before = 0 if known is None else _hash(codec.encode(known))
    _change(state.key_leaves, key_leaf_of(key), _hash(codec.encode(key)) ^ before)
    state.root = b""


def key_leaf_of(key: ApiKey) -> int:
    return key.sha256[0] % limits.BUCKETS


def _hash(row: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(row, digest_size=SIZE).digest(), "big")


def short(state: State, incarnation: str) -> bytes:
    """The hash of one record as it is listed for others."""
    return (state.hashes[incarnation] >> (8 * (SIZE - SHORT))).to_bytes(SHORT, "big")


def leaves(state: State) -> bytes:
    """Every leaf in which there is something, by its number: one byte of number, then ``SIZE`` of leaf. Few databases make a short list."""
    return _joined(state.leaves)


def key_leaves(state: State) -> bytes:
    """The same for API keys."""
    return _joined(state.key_leaves)


def _change(leaves: dict[int, int], leaf: int, by: int) -> None:
    # What was there and is dropped is as if it had never been: nodes that agree have one root.
    changed = leaves.pop(leaf, 0) ^ by
    if changed:
        leaves[leaf] = changed


def _joined(leaves: dict[int, int]) -> bytes:
    return b"".join([leaf.to_bytes(1, "big") + leaves[leaf].to_bytes(SIZE, "big") for leaf in sorted(leaves)])


def _parted(joined: bytes) -> dict[int, int]:
    """What :func:`_joined` made; of bytes that it did not make, anything, at the cost of a full tree at most."""
    width = 1 + SIZE
    upto = min(len(joined), limits.BUCKETS * width)
    return {joined[at]: int.from_bytes(joined[at + 1 : at + width], "big") for at in range(0, upto, width)}


def root(state: State) -> bytes:
    """Of all leaves: computed once for each change, not for each heartbeat."""
    if not state.root:
        records, keys = leaves(state), key_leaves(state)
        state.root = hashlib.blake2b(len(records).to_bytes(2, "big") + records + keys, digest_size=SIZE).digest()
    return state.root


def differing(state: State, theirs: bytes) -> list[int]:
    """Leaves, ascending, in which this node's directory differs from one whose leaves are ``theirs``."""
    return _differing(state.leaves, theirs)


def differing_keys(state: State, theirs: bytes) -> list[int]:
    """The same for API keys."""
    return _differing(state.key_leaves, theirs)


def _differing(ours: dict[int, int], theirs: bytes) -> list[int]:
    others = _parted(theirs)
    return sorted([leaf for leaf in ours.keys() | others.keys() if ours.get(leaf) != others.get(leaf)])
