"""What an operator decides (R10–R13). The law kept here: a configuration is right as a whole or nothing is touched. A missing
key takes its default; an unknown key, a bad value, port ranges that cannot serve ``max_databases``, and the deprecated
keys of R81 each end in one :class:`SettingsError` that names file, line and key.

The classes below are the reference: ``specs/settings.md`` is generated from them (``python -m runtime.settings
--markdown``), and a test holds ``configs/node.yaml`` equal to their defaults. Times are seconds, sizes bytes.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import attrs
from attrs import frozen

from protocol import limits
from runtime.settings_checks import OVERRIDES, check_ports, check_tls
from runtime.settings_file import Place, SettingsError, Value, read_file, read_text
from runtime.settings_kinds import (
    ADDRESS,
    API_KEYS,
    HOST_OR_NOTHING,
    LISTEN_ADDRESSES,
    ORIGINS,
    PATH,
    PATH_OR_NOTHING,
    PEER_ADDRESSES,
    Address,
    ApiKey,
    Kind,
    Unfit,
    choice,
    duration,
    integer,
    size,
    switch,
)

__all__ = ["Address", "ApiKey", "Settings", "SettingsError", "fields_of", "load", "sections"]

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


@frozen
class SecuritySettings:
    """Who may call (R36), and who may join."""

    api_keys: tuple[ApiKey, ...] = setting(
        API_KEYS, (), "Keys of the gateway by their SHA-256, each with the application that it carries."
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
    file: Path | None = setting(PATH_OR_NOTHING, None, "Appended to; without one, logs go to standard error.")
    access: bool = setting(
        switch(),
        False,
        "One line of JSON for each request of a client, by the gateway's workers on standard error: id, endpoint, application, status, "
        "time; never statements, arguments or keys.",
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


DEPRECATED: Final = {
    "database.data_dir": "each database has its own directory below node.data_dir",
    "database.rqlite_port": "each database has its own port from database.port_range_http_start to .port_range_http_end",
    "database.rqlite_raft_port": "each database has its own port from database.port_range_raft_start to .port_range_raft_end",
    "database.rqlite_join_address": "members join by themselves; name other nodes in discovery.bootstrap_peers",
}
"""R81: keys of the single-cluster mode, and what replaces them."""


def fields_of(section: Any) -> Iterator[tuple[str, Kind[Any], Any, str]]:
    """(name, kind, default, text) of each setting of a section, a class or an object."""
    for attribute in attrs.fields(section if isinstance(section, type) else type(section)):
        yield attribute.name, attribute.metadata["kind"], attribute.default, attribute.metadata["text"]


def load(path: Path | None, overrides: Sequence[str] = (), *, files: bool = False) -> Settings:
    """The settings of a file, or the defaults; each override ``section.key=value`` comes after the file and is checked
    alike. ``files``: read what they name too, as the node itself will have to. Touches nothing. Raises :class:`SettingsError` for the
    first thing that is wrong."""
    given: dict[str, tuple[Place, Any]] = {}  # dotted key -> where it was written, and its value
    if path is not None:
        for section, value in read_file(path).items():
            for key, entry in _entries(section, value):
                given[f"{section}.{key}"] = (entry.place, _read(section, key, entry))
    for text in overrides:
        dotted, equals, written = text.partition("=")
        section, dot, key = dotted.strip().partition(".")
        if not equals or not dot:
            raise SettingsError(Place(OVERRIDES), "", f'"{text}" is not section.key=value')
        collection = _kind(section, key, Place(OVERRIDES)).collection
        value = read_text(written, OVERRIDES, collection=collection)
        given[f"{section}.{key}"] = (value.place, _read(section, key, value))
    settings = Settings(
        **{
            section.name: type(section.default)(
                **{
                    name: given[f"{section.name}.{name}"][1]
                    for name, *_ in fields_of(section.default)
                    if f"{section.name}.{name}" in given
                }
            )
            for section in attrs.fields(Settings)
        }
    )
    places, whole = {key: place for key, (place, _) in given.items()}, Place(str(path or OVERRIDES))
    check_ports(settings, places, whole)
    check_tls(settings.gateway, places, whole, files=files)
    return settings


def sections() -> dict[str, Any]:
    """The name of each section, and its defaults."""
    return {section.name: section.default for section in attrs.fields(Settings)}


def _entries(section: str, value: Value) -> Iterator[tuple[str, Value]]:
    _kinds(section, value.place)
    if value.data is None:  # every key of the section is commented out
        return
    if not isinstance(value.data, Mapping):
        raise SettingsError(value.place, section, "is a section: its keys stand below it, indented")
    yield from value.data.items()


def _kinds(section: str, place: Place) -> dict[str, Kind[Any]]:
    known = sections()
    if section not in known:
        elsewhere = [f"{name}.{section}" for name, default in known.items() if hasattr(default, section)]
        raise _unknown(place, section, known, elsewhere)
    return {name: kind for name, kind, *_ in fields_of(known[section])}


def _kind(section: str, key: str, place: Place) -> Kind[Any]:
    dotted = f"{section}.{key}"
    if dotted in DEPRECATED:
        raise SettingsError(place, dotted, f"is no longer used: {DEPRECATED[dotted]}")
    kinds = _kinds(section, place)
    if key not in kinds:
        elsewhere = [f"{name}.{key}" for name, default in sections().items() if hasattr(default, key)]
        raise _unknown(place, dotted, [f"{section}.{name}" for name in kinds], elsewhere)
    return kinds[key]


def _unknown(place: Place, key: str, known: Sequence[str] | Mapping[str, Any], elsewhere: list[str]) -> SettingsError:
    head, dot, last = key.rpartition(".")  # the section is right, only the last part is compared
    close = difflib.get_close_matches(last, [name.rpartition(".")[2] for name in known], n=1)
    likely = elsewhere or [head + dot + name for name in close]
    advice = f"did you mean {likely[0]}?" if likely else f"there are {', '.join(known)}"
    return SettingsError(place, key, f"is not known; {advice}")


def _read(section: str, key: str, value: Value) -> Any:
    kind = _kind(section, key, value.place)
    if value.data is None:
        raise SettingsError(
            value.place, f"{section}.{key}", "has no value; write one, or remove the line for the default"
        )
    try:
        return kind.read(value)
    except Unfit as unfit:
        raise SettingsError(unfit.place or value.place, f"{section}.{key}", str(unfit)) from None


if __name__ == "__main__":
    from runtime.settings_page import main

    sys.exit(main(sys.argv[1:]))
