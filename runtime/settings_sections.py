"""The sections of a configuration, each setting with its kind, its default and what it is for (R10–R13). The law kept here: these classes are the
reference, for the reader and for the machine: ``specs/settings.md`` is generated from them, and a test holds ``configs/node.yaml`` equal to
their defaults. Times are seconds, sizes bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import attrs
from attrs import frozen

from protocol import limits
from runtime.settings_kinds import (
    ADDRESS,
    ADDRESS_OR_NOTHING,
    HOST_OR_NOTHING,
    LISTEN_ADDRESSES,
    ORIGINS,
    PATH,
    PATH_OR_NOTHING,
    PEER_ADDRESSES,
    Address,
    Kind,
    choice,
    duration,
    integer,
    size,
    switch,
)
from runtime.settings_security import API_KEYS, JWT_ISSUERS, ApiKey, JwtIssuer

T = TypeVar("T")


def setting(kind: Kind[T], default: T, text: str) -> T:
    """A field of a section: its kind, its default, and what it is for (one sentence, shown in the generated table)."""
    return attrs.field(default=default, metadata={"kind": kind, "text": text})


@frozen
class NodeSettings:
    """The machine (R10)."""

    data_dir: Path = setting(
        PATH, Path("data"), "Everything the node keeps; relative to the working directory. One process owns it."
    )
    listen_addresses: tuple[str, ...] = setting(
        LISTEN_ADDRESSES, ("/ip4/0.0.0.0/tcp/4001",), "Where other nodes reach this one."
    )
    max_connections: int = setting(integer(1, 10_000), 50, "Connections to other nodes at one time.")
    advertise_host: str = setting(
        HOST_OR_NOTHING,
        "",
        "The address or name by which other nodes reach this machine; else the first of listen_addresses, or for 0.0.0.0 the "
        "address of the default route.",
    )


@frozen
class DatabaseSettings:
    """Databases and their ports (R11)."""

    engine: Literal["rqlite"] = setting(choice("rqlite"), "rqlite", "What serves the SQL.")
    replication_factor: int = setting(
        integer(1, limits.MEMBERS), 3, "Nodes of each new database: 3 survives one failure, 5 two, 1 none."
    )
    hibernation_timeout: float = setting(
        duration(0.1, 30 * 86400.0, zero="never"), 60.0, "A database that was idle for so long goes to sleep."
    )
    max_databases: int = setting(integer(1, 10_000), 100, "Databases that may be awake on this node at one time.")
    port_range_http_start: int = setting(integer(1, 65535), 5001, "First port of rqlited's HTTP, on loopback only.")
    port_range_http_end: int = setting(integer(1, 65535), 5999, "Last port of rqlited's HTTP.")
    port_range_raft_start: int = setting(integer(1, 65535), 7001, "First Raft port; other members connect to these.")
    port_range_raft_end: int = setting(integer(1, 65535), 7999, "Last Raft port.")


@frozen
class DiscoverySettings:
    """Other nodes (R12)."""

    bootstrap_peers: tuple[str, ...] = setting(
        PEER_ADDRESSES, (), "Nodes to speak to first, each with its peer id; none for the first node."
    )
    discovery_interval: float = setting(duration(1.0, 3600.0), 30.0, "How often peers that are missing are looked for.")
    health_check_interval: float = setting(
        duration(0.5, 600.0), 10.0, "Between two heartbeats; a peer that is silent for three of them is unhealthy."
    )


@frozen
class GatewaySettings:
    """The HTTP gateway (R30–R38) and its bounds."""

    listen: Address = setting(
        ADDRESS,
        Address("127.0.0.1", 8080),
        "Loopback, since API keys travel here in the clear: set a certificate (or put TLS before it), then open it.",
    )
    tls_certificate: Path | None = setting(
        PATH_OR_NOTHING,
        None,
        "PEM of the certificate for `listen`, followed by those that vouch for it; with `tls_key`: TLS 1.2 or 1.3 instead of plain "
        "HTTP. Both files are looked at every second: a renewed pair is used from the next connection on, without a restart.",
    )
    tls_key: Path | None = setting(PATH_OR_NOTHING, None, "PEM of its private key, without a passphrase.")
    internal_listen: Address = setting(
        ADDRESS,
        Address("127.0.0.1", 0),
        "Where other nodes' gateways send the queries of their clients, over mutual TLS; on several machines 0.0.0.0:8443, say.",
    )
    rqlite_listen: Address | None = setting(
        ADDRESS_OR_NOTHING,
        None,
        "Where clients of rqlite find their databases by rqlite's own HTTP: the user of basic authentication names the database, the password "
        "is the API key. Under the certificate of `listen`, if there is one. Empty: nowhere.",
    )
    workers: int = setting(integer(1, 64), 1, "Processes that answer queries; one saturates about one core.")
    query_timeout: float = setting(duration(0.1, 3600.0), 30.0, "A query that takes longer fails.")
    transaction_timeout: float = setting(duration(0.1, 3600.0), 60.0, "A transaction that takes longer fails.")
    transfer_timeout: float = setting(
        duration(1.0, 86400.0), 600.0, "An export or import of a whole database that takes longer fails."
    )
    idempotency_ttl: float = setting(
        duration(60.0, 30 * 86400.0), 86400.0, "How long the key of a write is kept, so that a repeat has no effect."
    )
    wake_timeout: float = setting(duration(0.5, 600.0), 8.0, "A database that is not awake by then fails its queries.")
    max_body: int = setting(size(1 << 10, 64 << 20), 1 << 20, "Body of one request.")
    max_sql: int = setting(size(1 << 10, 8 << 20), 256 << 10, "Text of one statement.")
    max_depth: int = setting(integer(10, 1_000), 1_000, "Levels to which a statement may be nested.")
    max_rows: int = setting(integer(1, 10_000_000), 10_000, "Rows of one answer.")
    max_result: int = setting(size(1 << 10, 1 << 30), 16 << 20, "Bytes of one answer.")
    max_parameters: int = setting(
        integer(1, 32_766), 32_766, "Parameters of one statement; SQLite's own bound is 32766."
    )
    max_statements: int = setting(integer(1, 100_000), 1_000, "Statements of one transaction.")
    max_transfers: int = setting(
        integer(1, 64), 4, "Exports of one worker at one time, and as many imports; beyond: busy."
    )
    max_import: int = setting(
        size(1 << 10, 1 << 30), 64 << 20, "A file to import; the gateway, rqlited and its log hold it in memory."
    )
    max_waiting: int = setting(
        integer(1, 10_000), 2_000, "Queries that may wait for one database to open, for each worker; beyond: busy."
    )
    max_requests_per_second: int = setting(
        integer(0, 1_000_000),
        0,
        "Requests of one key in a second, for each worker; beyond: rate-limited. 0 = no limit.",
    )
    max_concurrent_requests: int = setting(
        integer(0, 100_000), 0, "Requests of one key at one time, for each worker; beyond: rate-limited. 0 = no limit."
    )
    max_in_flight: int = setting(integer(1, 100_000), 4_000, "Queries of one worker at one time; beyond: busy.")
    max_connections: int = setting(
        integer(16, 100_000),
        4_000,
        "Connections of clients to one worker; beyond, the one that is idle for longest is closed, or the newcomer waits.",
    )
    cors_origins: tuple[str, ...] = setting(
        ORIGINS,
        (),
        "Sites whose pages may call this gateway from a browser, such as `https://app.example.org`; `*`: any.",
    )
    client_timeout: float = setting(
        duration(1.0, 600.0),
        20.0,
        "A client has so long to send the head of a request; its body, and the taking of an answer, may need 1s more for each 32KiB.",
    )


@frozen
class RqliteSettings:
    """The rqlited processes (rqlite 8.26 to 10.x)."""

    binary: Path | None = setting(
        PATH_OR_NOTHING,
        None,
        "The rqlited to run; else $TORPOR_RQLITED, rqlited on PATH, the one that `make` installed.",
    )
    confine: Literal["auto", "require", "off"] = setting(
        choice("auto", "require", "off"),
        "auto",
        "Confine each rqlited to its own directories by Landlock: where the kernel has it (Linux 5.19 or later), or not without it, or not.",
    )
    heartbeat_timeout: float = setting(
        duration(0.02, 10.0), 0.25, "Raft's heartbeat and election timeout: shorter wakes faster and costs idle CPU."
    )
    stop_timeout: float = setting(duration(0.1, 600.0), 5.0, "From SIGTERM to SIGKILL, when a database goes to sleep.")
    max_memory: int = setting(
        size(256 << 20, 1 << 40),
        2 << 30,
        "Of one rqlited (Linux): one statement can ask for gigabytes, and all databases share the machine.",
    )


@frozen
class SecuritySettings:
    """Who may call (R36), and who may join."""

    api_keys: tuple[ApiKey, ...] = setting(
        API_KEYS,
        (),
        "Keys of this node's gateway by their SHA-256, each with the application that it carries and a scope (read, write, or else admin); "
        "keys of `torpor key create` are known to all nodes, and not named here.",
    )
    jwt: tuple[JwtIssuer, ...] = setting(
        JWT_ISSUERS,
        (),
        "Whose JSON Web Tokens are taken: EdDSA with a public key, HS256 with a secret (mode 0600), for one audience; the claims that carry "
        "application and scope are app and scope unless they are named.",
    )
    cluster_secret_file: Path | None = setting(
        PATH_OR_NOTHING,
        None,
        "A copy of `identity/cluster.secret` of any node, mode 0600: read once, when this node joins that cluster.",
    )


@frozen
class LoggingSettings:
    """Structured logs (R60)."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        choice("debug", "info", "warning", "error"), "info", "The least level that is written."
    )
    format: Literal["console", "json"] = setting(
        choice("console", "json"), "console", "For a person, or one JSON object on each line."
    )
    file: Path | None = setting(
        PATH_OR_NOTHING,
        None,
        "Appended to, by the node and its gateway workers; without one, logs go to standard error. It is kept open: rotate it by copying and "
        "truncating.",
    )
    access: bool = setting(
        switch(),
        False,
        "One line of JSON for each request of a client, among the other lines whatever their format: id, endpoint, application, status, time; "
        "never statements, arguments or keys.",
    )


@frozen
class RecorderSettings:
    """The flight recorder: every step of the engine, for `python -m sim replay`. It holds no keys, no statements and no rows."""

    enabled: bool = setting(switch(), True, "Record below `node.data_dir`, in `recorder/`.")
    segment_bytes: int = setting(size(64 << 10, 1 << 30), 8 << 20, "A file of so many bytes is followed by the next.")
    segments: int = setting(
        integer(4, 1_000), 8, "All files together have at most so many times `segment_bytes`; the oldest goes first."
    )


@frozen
class Settings:
    """A whole configuration. ``Settings()`` is the defaults."""

    node: NodeSettings = NodeSettings()
    database: DatabaseSettings = DatabaseSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    gateway: GatewaySettings = GatewaySettings()
    rqlite: RqliteSettings = RqliteSettings()
    security: SecuritySettings = SecuritySettings()
    logging: LoggingSettings = LoggingSettings()
    recorder: RecorderSettings = RecorderSettings()
