"""API keys (R36): who calls, and for which application.

The law kept here: the application comes from the key alone, never from the request; a key is stored only as its SHA-256
(keys are long random texts, so a slow hash would protect nothing more), is shown once, when it is made, and is compared in
constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final

_KEY: Final = re.compile(r"torpor_[0-9a-f]{8}_[A-Za-z0-9_-]{22,128}")
_INDEXED: Final = 8
"""Hex digits of a digest by which it is found."""


def new_key() -> tuple[str, str]:
    """A new API key ``torpor_<id>_<secret>`` and the SHA-256 of it, in hex, under which it is stored. The eight hex digits
    of the id may be shown and logged; the secret has 128 bits, which nobody guesses, and leaves a key short enough for pyrqlite: its
    basic authentication breaks beyond 57 bytes of user and password (:mod:`runtime.gateway.rqlite_interface`)."""
    key = f"torpor_{secrets.token_hex(4)}_{secrets.token_urlsafe(16)}"
    return key, digest_of(key)


def digest_of(key: str) -> str:
    """SHA-256 of a key, in hex."""
    return hashlib.sha256(key.encode("ascii", "replace")).hexdigest()


class KeyRing:
    """The keys that are in force: digests, and the application of each."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._found_by: dict[str, list[tuple[str, str]]] = {}
        for digest, app in keys.items():
            self._found_by.setdefault(digest[:_INDEXED], []).append((digest, app))

    def application_of(self, key: str) -> str | None:
        """The application that a presented key carries; None when it is no key of ours.

        A few hex digits of the digest find the candidates; the rest is compared in constant time, so that the time of a
        refusal tells nothing of a stored digest.
        """
        if not _KEY.fullmatch(key):
            return None
        digest = digest_of(key)
        found: str | None = None
        for stored, app in self._found_by.get(digest[:_INDEXED], ()):
            if hmac.compare_digest(stored, digest):
                found = app
        return found


def presented_key(authorization: str | None, x_api_key: str | None) -> str | None:
    """The key of ``Authorization: Bearer <key>`` or ``X-API-Key: <key>``; None when there is none, or when both are there
    and differ."""
    bearer: str | None = None
    if authorization is not None:
        scheme, _, rest = authorization.partition(" ")
        bearer = rest.strip() if scheme.lower() == "bearer" else None
    if bearer and x_api_key and bearer != x_api_key:
        return None
    return bearer or x_api_key or None
