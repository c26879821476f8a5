"""The parts of a node, made from its settings and joined to each other; nothing of it runs yet. Law: this is the one place where parts
get to know one another, and each knows only what it is given here.

    engine ── driver ── executor ──┬── network (other nodes)
                 │                 ├── supervisor (rqlited) ── keys, asked of other nodes
              recorder             ├── gateway (workers)
                                   └── control (the operator)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
import trio
from attrs import asdict, evolve, frozen

from protocol import codec
from protocol.chart import TABLE, Chart
from protocol.inputs import Boot, Input
from protocol.node import Config, Node
from runtime import __version__, database_keys, logs
from runtime.control import Control
from runtime.database_keys import KeyService
from runtime.directories import Directories
from runtime.driver import Driver, monotonic
from runtime.execute import Executor
from runtime.gateway import certificates, issuers
from runtime.gateway.bind import bound, reached_at
from runtime.gateway.frames import FromWorker
from runtime.gateway.host import GatewayHost
from runtime.gateway.public_tls import PublicTls
from runtime.gateway.worker_config import WorkerConfig
from runtime.identity import DIRECTORY, Identity
from runtime.ports import Ports
from runtime.recorder import DIRECTORY as RECORDINGS
from runtime.recorder import Recorder
from runtime.rqlited import Supervisor
from runtime.rqlited_binary import Binary
from runtime.rqlited_confined import Walls
from runtime.rqlited_stuck import StuckWatch
from runtime.settings import Settings
from runtime.settings_sections import GatewaySettings
from runtime.store import Store
from runtime.transport.addresses import PeerAddress, advertised, advertised_host
from runtime.transport.book import FILE, AddressBook
from runtime.transport.network import Network, PeerRefused, PeerUnreachable

DRAIN: Final = 1.5
"""Seconds that requests in flight have after SIGTERM."""

log = structlog.stdlib.get_logger("node")


@frozen
class Means:
    """What a node runs on; all of it was checked, opened and locked before."""

    settings: Settings
    identity: Identity
    cluster: str
    joined: bool
    """It joined a cluster, as against: founded one."""
    listen: tuple[PeerAddress, ...]
    store: Store
    binary: Binary
    directories: Directories
    walls: Walls
    chart: Chart = TABLE


@frozen
class Parts:
    """A node. ``recorder``: None where it is switched off. ``known``: how many nodes the store knows, this one included."""

    config: Config
    engine: Node
    driver: Driver
    executor: Executor
    network: Network
    supervisor: Supervisor
    watch: StuckWatch
    gateway: GatewayHost
    control: Control
    recorder: Recorder | None
    known: int


def engine_config(means: Means) -> Config:
    """The engine's share of the settings: microseconds instead of seconds. Bootstrap peers are not *known*: they become so by their
    first heartbeat, and one that is named wrongly never counts in a majority."""
    settings, peer = means.settings, means.identity.peer
    database, advertise = settings.database, settings.node.advertise_host
    return Config(
        peer=peer,
        host=advertised_host(means.listen, advertise),
        known=(peer,),
        cluster=means.cluster,
        health_interval=round(settings.discovery.health_check_interval * 1e6),
        addresses=advertised(means.listen, advertise, peer),
        replication_factor=database.replication_factor,
        hibernation_timeout=round(database.hibernation_timeout * 1e6),
        max_databases=database.max_databases,
        stop_timeout=round(settings.rqlite.stop_timeout * 1e6),
        wake_deadline=round(settings.gateway.wake_timeout * 1e6),
    )


def worker_config(settings: Settings) -> WorkerConfig:
    """The workers' share of the settings. Raises :class:`runtime.gateway.bind.GatewayFailed`."""
    gateway = settings.gateway
    return WorkerConfig(
        keys={key.sha256: key.application for key in settings.security.api_keys},
        scopes={key.sha256: key.scope for key in settings.security.api_keys},
        issuers=issuers.read(settings.security.jwt),
        requests_per_second=gateway.max_requests_per_second,
        concurrent_requests=gateway.max_concurrent_requests,
        query_timeout_s=gateway.query_timeout,
        transaction_timeout_s=gateway.transaction_timeout,
        statements=gateway.max_statements,
        transfer_timeout_s=gateway.transfer_timeout,
        transfers=gateway.max_transfers,
        import_bytes=gateway.max_import,
        idempotency_ttl_s=gateway.idempotency_ttl,
        waiting_per_database=gateway.max_waiting,
        in_flight=gateway.max_in_flight,
        body_bytes=gateway.max_body,
        sql_bytes=gateway.max_sql,
        depth=gateway.max_depth,
        parameters=gateway.max_parameters,
        rows=gateway.max_rows,
        result_bytes=gateway.max_result,
        client_connections=gateway.max_connections,
        patience_s=gateway.client_timeout,
        origins=gateway.cors_origins,
        access=settings.logging.access,
        drain_s=DRAIN,
        log_level=settings.logging.level,
    )


async def assemble(means: Means, instances: trio.Nursery) -> Parts:
    """``instances``: where rqlited tasks live. The engine's first input waits in the driver. Raises
    :class:`runtime.gateway.bind.GatewayFailed` when the port between gateways is taken or an issuer's key cannot be used, OSError."""
    settings, data_dir = means.settings, means.directories.data_dir
    certificate = certificates.provide(data_dir / DIRECTORY, means.identity.secret, means.identity.peer)
    between = await bound(str(settings.gateway.internal_listen), "gateway.internal_listen")
    rqlite = None
    if settings.gateway.rqlite_listen is not None:
        rqlite = await bound(str(settings.gateway.rqlite_listen), "gateway.rqlite_listen")
    config = engine_config(means)
    config = evolve(config, gateway=reached_at(between, config.host), fingerprint=certificate.fingerprint)
    engine = Node(config, means.chart)

    # The driver feeds what carries out its effects, which feeds the driver: these close the ring.
    def feed(outcome: Input) -> None:
        driver.feed(outcome)

    def offer(heard: Input) -> bool:
        return driver.offer(heard)

    def deliver(frame: FromWorker) -> None:
        executor.deliver(frame)

    network = Network(
        means.identity,
        means.listen,
        AddressBook(data_dir / FILE, means.identity.peer, settings.discovery.bootstrap_peers),
        offer=offer,
        known=lambda: engine.state.known,
        max_connections=settings.node.max_connections,
        discovery_interval=settings.discovery.discovery_interval,
    )
    network.serve(database_keys.PROTOCOL, KeyService(means.directories, _member(engine)).answer)
    supervisor = Supervisor(
        means.binary,
        means.directories,
        heartbeat_timeout=settings.rqlite.heartbeat_timeout,
        max_memory=settings.rqlite.max_memory,
        confine=means.walls.confine,
        fetch=database_keys.asking(network.request, (PeerUnreachable, PeerRefused)),
        on_line=lambda incarnation, line: log.debug("rqlited", incarnation=incarnation, line=line),
    )
    gateway = GatewayHost(
        listen=str(settings.gateway.listen),
        workers=settings.gateway.workers,
        config=evolve(worker_config(settings), identity=str(certificate.file), authority=certificate.authority),
        deliver=deliver,
        between=between,
        rqlite=rqlite,
        tls=_public_tls(settings),
        longest_s=_longest(settings.gateway),
        stderr=logs.descriptor(),
    )
    watch = StuckWatch(supervisor)
    control = Control(
        engine,
        feed,
        monotonic,
        lambda: _about(means, config, engine, gateway, network, executor, watch),
        restart=gateway.restart,
    )
    executor = Executor(
        feed=feed,
        instances=instances,
        supervisor=supervisor,
        ports=_ports(settings, config.host),
        gateway=gateway,
        names=engine.databases,
        directories=means.directories,
        operator=control.answered,
        raft_host=config.host,
        transport=network,
    )
    recorder: Recorder | None = None
    if settings.recorder.enabled:
        recorder = Recorder(
            data_dir / RECORDINGS,
            engine,
            segment_bytes=settings.recorder.segment_bytes,
            segments=settings.recorder.segments,
        )
    record = recorder.record if recorder is not None else None
    driver = Driver(engine, means.store, executor.carry_out, record=record)
    rows = means.store.rows()
    driver.feed(Boot(0, os.urandom(32), rows, found=not rows and not means.joined))  # before anything else can be
    known = len({means.identity.peer, *(key.removeprefix("known/") for key, _ in rows if key.startswith("known/"))})
    return Parts(config, engine, driver, executor, network, supervisor, watch, gateway, control, recorder, known)


def _longest(gateway: GatewaySettings) -> float:
    """What a request may take that has passed every door, in seconds."""
    return max(gateway.query_timeout, gateway.transaction_timeout, gateway.transfer_timeout)


def _public_tls(settings: Settings) -> PublicTls | None:
    certificate, key = settings.gateway.tls_certificate, settings.gateway.tls_key
    return None if certificate is None or key is None else PublicTls(certificate, key)


def _ports(settings: Settings, raft_host: str) -> Ports:
    database = settings.database
    return Ports(
        (database.port_range_http_start, database.port_range_http_end),
        (database.port_range_raft_start, database.port_range_raft_end),
        raft_host=raft_host,
    )


def _member(engine: Node) -> Callable[[str, str], str | None]:
    """Whether a peer is a member of an incarnation by this node's records; then its internal name."""

    def member(peer: str, incarnation: str) -> str | None:
        record = engine.state.records.get(incarnation)
        return record.birth.internal if record is not None and record.member(peer) is not None else None

    return member


def _about(
    means: Means,
    config: Config,
    engine: Node,
    gateway: GatewayHost,
    network: Network,
    executor: Executor,
    watch: StuckWatch,
) -> Mapping[str, Any]:
    """What ``torpor status`` shows beside the engine's own view."""
    beat, births = executor.heartbeat, {key: record.birth for key, record in engine.state.records.items()}
    return {
        "version": __version__,
        "pid": os.getpid(),
        "rqlited": f"{means.binary.path} (rqlite {means.binary.major})",
        "confinement": means.walls.said,
        "gateway": gateway.url,
        "rqlite": gateway.rqlite_url,
        "tls": None if gateway.tls is None else {"ends": gateway.tls.ends.isoformat(), "problem": gateway.tls.problem},
        "addresses": list(config.addresses),
        "stuck": [
            {"database": f"{births[key].app}/{births[key].name}" if key in births else key, **asdict(stuck)}
            for key, stuck in watch.found().items()
        ],
        "data_dir": str(means.directories.data_dir),
        "connected": sorted(network.connected()),
        "messages": dict(sorted(network.counters.items())),
        "sent": {way: dict(sorted(types.items())) for way, types in executor.sent.items()},
        "heartbeat": None if beat is None else {"bytes": len(codec.encode(beat)), "heard": len(beat.heard)},
    }
