"""What the two clients tell httpx, and what its failures mean. The law kept here is F86: whether a byte of a request can have left is
told by the kind of failure, and where that is not sure, it can.

The key goes to the gateways that were named and to nobody else: no proxy from the environment, no redirect.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from typing import Any, Final

import httpx
from attrs import frozen

from runtime import __version__
from runtime.client.policy import Failed

CONNECT_S: Final = 5.0
"""Seconds for a connection: a machine that is gone does not take a call's whole time."""
KEPT_S: Final = 3.0
"""Seconds for which an idle connection is kept: less than the gateway's own five, so that it is not closed from there at the very
moment of a write."""
_KEY: Final = re.compile(r"[!-~]+")


@frozen
class Wire:
    """How a client speaks: ``tls`` for gateways at https addresses."""

    key: str
    tls: ssl.SSLContext | None
    connections: int

    def options(self) -> dict[str, Any]:
        """Of ``httpx.Client`` and ``httpx.AsyncClient``."""
        return {
            "headers": {"authorization": f"Bearer {self.key}", "user-agent": f"torpor-python/{__version__}"},
            "verify": self.tls or False,
            "limits": httpx.Limits(
                max_connections=self.connections,
                max_keepalive_connections=self.connections,
                keepalive_expiry=KEPT_S,
            ),
            "trust_env": False,
            "follow_redirects": False,
        }


def wire(peers: Sequence[str], key: str, tls: ssl.SSLContext | None, connections: int) -> Wire:
    """Raises ValueError for a key that cannot be one. Reading the system's authorities takes 50 ms, so it is done where there is TLS alone."""
    if not _KEY.fullmatch(key):
        raise ValueError("a key is printable ASCII without spaces")
    if tls is None and any(peer.startswith("https://") for peer in peers):
        tls = ssl.create_default_context()
    return Wire(key, tls, connections)


def timeouts(seconds: float) -> httpx.Timeout:
    """For one request that may take so long as a whole."""
    left = max(seconds, 0.001)
    return httpx.Timeout(left, connect=min(left, CONNECT_S))


def failed(error: httpx.RequestError, now: float) -> Failed:
    """What a failure of httpx says of the request."""
    unsent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
    late = isinstance(error, httpx.TimeoutException)
    return Failed(now, not unsent, str(error) or type(error).__name__, late and not unsent)


def late(now: float) -> Failed:
    """The answer had begun, and did not end in time."""
    return Failed(now, sent=True, why="the answer did not end in time", late=True)
