"""API keys (R36): how they look, and those that a gateway worker knows, by their digests.

The law kept here: the application comes from the key alone, never from the request; a key is stored only as its SHA-256
(keys are long random texts, so a slow hash would protect nothing more), is shown once, when it is made, and is compared in
constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Final

from runtime.gateway.frames import Key

_KEY: Final = re.compile(r"torpor_([0-9a-f]{8})_[A-Za-z0-9_-]{32,128}")
_INDEXED: Final = 4
"""Bytes of a digest by which it is found."""


def new_key() -> tuple[str, str]:
    """A new API key ``torpor_<id>_<secret>`` and the SHA-256 of it, in hex, under which it is stored. The eight hex digits
    of the id may be shown and logged; the secret has 256 bits."""
    key = f"torpor_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    return key, digest_of(key)


def digest_of(key: str) -> str:
    """SHA-256 of a key, in hex."""
    return hashlib.sha256(key.encode("ascii", "replace")).hexdigest()


def id_of(text: str) -> str | None:
    """The id of what looks like a key; None for what is none, whoever knows it."""
    match = _KEY.fullmatch(text)
    return match[1] if match else None


class KeyRing:
    """The keys that are known, revoked and expired ones too. ``keys``, ``scopes``: those of the settings, by their digests; of the directory come
    more with :meth:`put`, and what it says of a key counts."""

    def __init__(self, keys: Mapping[str, str], scopes: Mapping[str, str]) -> None:
        self._found_by: dict[bytes, dict[bytes, Key]] = {}
        self.put(Key(bytes.fromhex(digest), app, scopes.get(digest, "admin"), 0, False) for digest, app in keys.items())

    def put(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._found_by.setdefault(key.sha256[:_INDEXED], {})[key.sha256] = key

    def find(self, text: str) -> Key | None:
        """The key of this text; None when it is no key of ours.

        A few bytes of the digest find the candidates; the rest is compared in constant time, so that the time of a
        refusal tells nothing of a stored digest.
        """
        digest = hashlib.sha256(text.encode("ascii", "replace")).digest()
        found: Key | None = None
        for stored, key in self._found_by.get(digest[:_INDEXED], {}).items():
            if hmac.compare_digest(stored, digest):
                found = key
        return found
