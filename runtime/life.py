"""The life of a node's process, from the sweep of what an earlier one left to the last child reaped. Laws: no rqlited of this
node runs when the engine boots (F61); the end is in order and bounded: no new request, those in flight end, then every
rqlited is stopped, and nothing is left behind.

    instances (nursery: rqlited tasks, which outlive everything else)
      control (nursery: driver, gateway, the operator's socket)

When control ends, by a signal or by a fault, no input is stepped any more, so the exits of the last children are not taken
for crashes: their databases stay *active* on the disk, and the next start brings them up again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, Final

import structlog
import trio
from attrs import evolve, frozen

from protocol.chart import TABLE, Chart
from protocol.inputs import Boot, Input
from protocol.node import Config, Node
from runtime import __version__
from runtime.control import Control
from runtime.directories import Directories, write_whole
from runtime.driver import Driver, monotonic
from runtime.execute import Executor
from runtime.gateway import certificates
from runtime.gateway.frames import FromWorker, WorkerConfig
from runtime.gateway.host import GatewayHost, bound, reached_at
from runtime.identity import DIRECTORY, Identity
from runtime.ports import Ports
from runtime.recorder import DIRECTORY as RECORDINGS
from runtime.recorder import Recorder
from runtime.rqlited import Supervisor
from runtime.rqlited_binary import Binary
from runtime.settings import Address, Settings
from runtime.store import Store
from runtime.transport.addresses import PeerAddress, advertised, advertised_host
from runtime.transport.book import FILE, AddressBook
from runtime.transport.network import Network

STATUS: Final = "node.json"
"""In the data directory while the node serves: its pid, peer id, the gateway's address and its own addresses, for tools."""
DRAIN: Final = 1.5
"""Seconds that requests in flight have after SIGTERM (with the next one below 5 s in all)."""
STOP: Final = 1.5
"""Seconds from SIGTERM to SIGKILL for each rqlited when the node stops; their logs survive a SIGKILL, only a seal does not."""
TRASH_RETENTION: Final = 7 * 86400.0
"""Seconds (F80)."""
_HOUR: Final = 3600.0

log = structlog.stdlib.get_logger("node")


class OrphanUnstoppable(Exception):
    """An rqlited of an earlier process outlived SIGKILL. One line: the cause and what to do."""


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
    chart: Chart = TABLE


class Stop:
    """SIGTERM or SIGINT: ``asked`` at the first one, ``hurried`` at the second."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.hurried = trio.Event()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncGenerator[Stop]:
        """Take the signals for this long."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, signals)
                yield self
                nursery.cancel_scope.cancel()

    async def _hear(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            log.info("stopping", because=signal.Signals(number).name, hurried=self.asked.is_set())
            (self.hurried if self.asked.is_set() else self.asked).set()


def configuration(means: Means) -> Config:
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
    """The workers' share of the settings."""
    gateway = settings.gateway
    return WorkerConfig(
        keys={key.sha256: key.application for key in settings.security.api_keys},
        query_timeout_s=gateway.query_timeout,
        waiting_per_database=gateway.max_waiting,
        in_flight=gateway.max_in_flight,
        body_bytes=gateway.max_body,
        parameters=gateway.max_parameters,
        rows=gateway.max_rows,
        result_bytes=gateway.max_result,
        drain_s=DRAIN,
        log_level=settings.logging.level,
    )


async def live(means: Means) -> None:
    """Run until SIGTERM or SIGINT. Raises :class:`OrphanUnstoppable`, and whatever ends a node that must not go on
    (:meth:`runtime.driver.Driver.run`)."""
    async with Stop().listening() as stop:
        supervisor = Supervisor(
            means.binary,
            means.directories,
            heartbeat_timeout=means.settings.rqlite.heartbeat_timeout,
            on_line=lambda incarnation, line: log.debug("rqlited", incarnation=incarnation, line=line),
        )
        for orphan in await supervisor.sweep_orphans():
            log.warning("orphan stopped", database=orphan.name, incarnation=orphan.incarnation, pid=orphan.pid)
            if not orphan.stopped:
                raise OrphanUnstoppable(
                    f"rqlited (pid {orphan.pid}) of {orphan.name} is left from an earlier run and cannot be stopped; "
                    "see what holds it (a hanging disk?), end it, and start again"
                )
        database = means.settings.database
        ports = Ports(
            (database.port_range_http_start, database.port_range_http_end),
            (database.port_range_raft_start, database.port_range_raft_end),
        )
        async with trio.open_nursery() as instances:
            executor = await _serve(means, supervisor, ports, instances, stop)
            with trio.CancelScope() as patience:
                instances.start_soon(_hurry, stop, patience)
                await executor.stop_all(STOP)
            instances.cancel_scope.cancel()
    log.info("stopped")


async def _serve(means: Means, supervisor: Supervisor, ports: Ports, instances: trio.Nursery, stop: Stop) -> Executor:
    settings = means.settings
    certificate = certificates.provide(
        means.directories.data_dir / DIRECTORY, means.identity.secret, means.identity.peer
    )
    between = await bound(str(settings.gateway.internal_listen), "gateway.internal_listen")
    config = configuration(means)
    config = evolve(config, gateway=reached_at(between, config.host), fingerprint=certificate.fingerprint)
    engine = Node(config, means.chart)

    # Gateway, executor and driver form a ring; these two close it.
    def deliver(frame: FromWorker) -> None:
        executor.deliver(frame)

    def feed(outcome: Input) -> None:
        driver.feed(outcome)

    def offer(heard: Input) -> bool:
        return driver.offer(heard)

    peers = settings.discovery.bootstrap_peers
    network = Network(
        means.identity,
        means.listen,
        AddressBook(means.directories.data_dir / FILE, means.identity.peer, peers),
        offer=offer,
        known=lambda: engine.state.known,
        max_connections=settings.node.max_connections,
        discovery_interval=settings.discovery.discovery_interval,
    )
    gateway = GatewayHost(
        listen=str(settings.gateway.listen),
        workers=settings.gateway.workers,
        config=evolve(worker_config(settings), identity=str(certificate.file), authority=certificate.authority),
        deliver=deliver,
        between=between,
    )
    address = ""

    def about() -> dict[str, Any]:
        binary = means.binary
        return {
            "version": __version__,
            "pid": os.getpid(),
            "rqlited": f"{binary.path} (rqlite {binary.major})",
            "gateway": address,
            "addresses": list(config.addresses),
            "data_dir": str(means.directories.data_dir),
        }

    operator = Control(engine, feed, monotonic, about)
    executor = Executor(
        feed=feed,
        instances=instances,
        supervisor=supervisor,
        ports=ports,
        gateway=gateway,
        names=engine.databases,
        directories=means.directories,
        operator=operator.answered,
        transport=network,
    )
    recorder = Recorder(
        means.directories.data_dir / RECORDINGS,
        engine,
        segment_bytes=settings.recorder.segment_bytes,
        segments=settings.recorder.segments,
    )
    recorded = settings.recorder.enabled
    driver = Driver(engine, means.store, executor.carry_out, record=recorder.record if recorded else None)
    status = means.directories.data_dir / STATUS
    rows = means.store.rows()
    found = not rows and not means.joined
    driver.feed(Boot(0, os.urandom(32), rows, found=found))  # before any frame of a worker, or of a peer, can be
    async with recorder.running() if recorded else contextlib.nullcontext(), trio.open_nursery() as control:
        # libp2p takes a second to load, in a thread, in which the gateway's workers start; nobody who queries waits for it.
        control.start_soon(_open_network, control, network, config)
        host, port = await control.start(gateway.run)  # first: a taken port ends the node before any rqlited is started
        binary = means.binary
        log.info(
            "node starts",
            cluster=means.cluster,
            advertised=config.host,
            rqlited=str(binary.path),
            rqlite_major=binary.major,
        )
        known = 1 + sum(key.startswith("known/") for key, _ in rows)
        if known < config.replication_factor:
            log.warning(
                "too few nodes for new databases",
                because=f"database.replication_factor is {config.replication_factor}, {known} known yet: "
                "creations will fail until more join",
            )
        control.start_soon(driver.run)
        await control.start(operator.run, means.directories.data_dir)
        control.start_soon(_housekeeping, means.directories)
        address = f"http://{Address(host, port)}"
        _publish(status, means, address, config.addresses)
        # On standard output: the logs may be anywhere, and who started the node waits for this line.
        sys.stdout.write(f"torpor: serving {address} (pid {os.getpid()}, data {means.directories.data_dir})\n")
        sys.stdout.flush()
        await stop.asked.wait()
        with trio.CancelScope() as patience:
            control.start_soon(_hurry, stop, patience)
            await gateway.stop_accepting()  # the driver still answers what requests in flight wait for
        control.cancel_scope.cancel()
    status.unlink(missing_ok=True)
    return executor


async def _open_network(control: trio.Nursery, network: Network, config: Config) -> None:
    await control.start(network.run)
    log.info("listening for other nodes", addresses=config.addresses)
    sys.stdout.write(
        f"torpor: other nodes reach this one by discovery.bootstrap_peers: {json.dumps(config.addresses)}\n"
    )
    sys.stdout.flush()


def _publish(status: Path, means: Means, gateway: str, addresses: tuple[str, ...]) -> None:
    said = {
        "pid": os.getpid(),
        "node_id": means.identity.peer,
        "cluster": means.cluster,
        "gateway": gateway,
        "addresses": addresses,
    }
    write_whole(status, json.dumps(said).encode())


async def _hurry(stop: Stop, patience: trio.CancelScope) -> None:
    await stop.hurried.wait()
    patience.cancel()


async def _housekeeping(directories: Directories) -> None:
    while True:
        deleted = await trio.to_thread.run_sync(directories.sweep_trash, TRASH_RETENTION)
        if deleted:
            log.info("trash emptied", entries=deleted)
        await trio.sleep(_HOUR)
