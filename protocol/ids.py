"""Names and identities. The law kept here is R3: no two (application, name) pairs ever meet in one internal name, and no
name can leave its directory, become SQL or shell text (F82).

The internal name is ``<app>_<name>``, as the guide says (``users`` of ``myapp`` is ``myapp_users``), made injective by
doubling every underscore of the application: (``a_b``, ``c``) is ``a__b_c`` and (``a``, ``b_c``) is ``a_b_c``. Since a
name begins with a letter or digit, the first *odd* run of underscores ends with the separator, and nothing else does.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

from attrs import field, frozen

from protocol import limits

Peer = str
"""A libp2p peer id, base58. Coordinators are the lowest in plain lexicographic order (R46)."""

_PART = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_INTERNAL = re.compile(r"((?:[a-z0-9-]|__)+)_([a-z0-9][a-z0-9_-]*)")


class InvalidName(ValueError):
    """A name of an application or a database that R3 does not allow. Its text is fit for a client."""


def _valid(kind: str, text: object) -> str:
    if not isinstance(text, str) or not text:
        raise InvalidName(f"the {kind} is missing")
    if len(text) > limits.NAME_LENGTH:
        raise InvalidName(f"the {kind} is longer than {limits.NAME_LENGTH} characters")
    if not _PART.fullmatch(text):
        raise InvalidName(
            f"the {kind} {text[:64]!r} is not valid: use lower-case letters, digits, '_' and '-', "
            "beginning and ending with a letter or digit"
        )
    return text


@frozen(order=True)
class DatabaseName:
    """The name that a client uses, scoped by its application (R3). Raises :class:`InvalidName`."""

    app: str = field(validator=lambda _self, _attribute, value: _valid("application name", value) and None)
    name: str = field(validator=lambda _self, _attribute, value: _valid("database name", value) and None)

    @property
    def internal(self) -> str:
        """The injective internal name; also the name of the directory (R50)."""
        return f"{self.app.replace('_', '__')}_{self.name}"

    @staticmethod
    @lru_cache(maxsize=limits.NAMES_CACHED)
    def internal_of(app: str, name: str) -> str:
        """The internal name of valid parts, remembered: it is wanted far more often than names are new."""
        return DatabaseName(app, name).internal

    @classmethod
    def of_internal(cls, internal: str) -> DatabaseName:
        """The inverse of :attr:`internal`. Raises :class:`InvalidName` for anything that it never gives."""
        match = _INTERNAL.fullmatch(internal)
        if match is None:
            raise InvalidName(f"{internal[:64]!r} is no internal database name")
        return cls(match[1].replace("__", "_"), match[2])


class Dot(NamedTuple):
    """The n-th birth minted under one store id: what a causal context counts (P14, P20)."""

    store: str
    n: int


def incarnation_id(dot: Dot, nonce: str) -> str:
    """The text of an incarnation, ``<store>-<n>-<nonce>`` (P14). Two nonces on one dot are two incarnations (F32)."""
    return f"{dot.store}-{dot.n}-{nonce}"


def dot_of(incarnation: str) -> Dot:
    """The dot of an incarnation's text. Raises ValueError when it is none."""
    store, n, _nonce = incarnation.split("-")
    return Dot(store, int(n))


def node_id(peer: Peer, incarnation: str, join: int) -> str:
    """The Raft server id of a member: (peer, incarnation, join stamp), so that a directory that was lost never comes
    back under its old vote (P54). Never derived from an address: a new port is not a new identity."""
    return f"{peer}.{incarnation}.{join}"


def derived(seed: bytes, *parts: object, size: int = 8) -> str:
    """Hex text of ``size`` bytes drawn from entropy that arrived as an input: the core owns no random source."""
    text = "\x1f".join(str(part) for part in parts).encode()
    return hashlib.blake2b(text, key=seed[:64], digest_size=size).hexdigest()
