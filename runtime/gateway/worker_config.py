"""What a worker is told first, and once: the node's settings, as far as they concern it. Times in seconds, sizes in bytes.

The law kept here: a worker reads no file of settings and no environment, so all workers of a node are of one mind; secrets among it are never
shown by ``repr``.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen


@frozen
class Issuer:
    """Whose JSON Web Tokens are believed: of one algorithm, under one key, for one audience. ``key``: of HS256 the secret, of EdDSA the public
    key in PEM. The claims say which application and which scope a token carries."""

    algorithm: str
    key: bytes = field(repr=False)
    audience: str
    application_claim: str
    scope_claim: str


@frozen
class WorkerConfig:
    """First frame of every channel. Times in seconds, sizes in bytes."""

    keys: Mapping[str, str] = field(repr=False)
    """SHA-256 of each API key, in hex → the application that it carries (R36)."""
    scopes: Mapping[str, str] = field(factory=dict[str, str], repr=False)
    """The scope of those of these keys that have less than all."""
    issuers: tuple[Issuer, ...] = ()
    requests_per_second: int = 0
    """Of one key, in this worker; 0: as many as there are. A second's worth may come at once."""
    concurrent_requests: int = 0
    """The same of those at one time."""
    worker: int = 0
    """This worker's number; the host fills it in, and never uses one twice."""
    query_timeout_s: float = 30.0
    """R37; what is left of it when the query reaches rqlited goes along with every read."""
    transaction_timeout_s: float = 60.0
    wait_timeout_s: float = 15.0
    """How long a query waits for a door: longer than a creation (R40: 10 s) or a wake (R43: 8 s) may take."""
    waiting_per_database: int = 2_000
    waiting: int = 10_000
    in_flight: int = 4_000
    """Queries of one worker that may be past a door; beyond it, `busy`."""
    connections: int = 64
    """Connections to one rqlited; more queries than these take turns."""
    body_bytes: int = 2 << 20
    sql_bytes: int = 256 << 10
    depth: int = 1_000
    """Levels of a statement; at most :data:`runtime.gateway.vetting.DEPTH`."""
    parameters: int = 32_766
    """SQLite's own bound (SQLITE_MAX_VARIABLE_NUMBER)."""
    statements: int = 1_000
    """Of one transaction."""
    idempotency_ttl_s: float = 86400.0
    """How long an idempotency key is kept, at least."""
    transfer_timeout_s: float = 600.0
    """Of an export or import."""
    transfers: int = 4
    """Exports and imports of one worker at one time, of each; beyond it, `busy`."""
    import_bytes: int = 64 << 20
    rows: int = 100_000
    result_bytes: int = 32 << 20
    lease_s: float = 5.0
    """A worker that heard no :class:`Lease` for so long stops serving: its node may be stopped, or dead."""
    identity: str = ""
    """PEM file of the key and certificate that this gateway has among other nodes'; empty: it forwards nothing and takes nothing."""
    authority: str = field(default="", repr=False)
    """PEM of the certificate that vouches for those of the cluster's gateways."""
    certificate: bytes = field(default=b"", repr=False)
    """PEM of the certificate that clients are shown, and its chain; empty: no TLS."""
    key: bytes = field(default=b"", repr=False)
    """PEM of its private key."""
    client_connections: int = 4_000
    patience_s: float = 20.0
    """How long a client may take for the head of a request."""
    origins: tuple[str, ...] = ()
    """Whose pages may read answers (CORS)."""
    access: bool = False
    """A log line for every request."""
    drain_s: float = 2.0
    """After SIGTERM, requests in flight have so long to end."""
    log_level: str = "info"
