"""The life of a node's process, from the sweep of what an earlier one left to the last child reaped. Laws: no rqlited of this
node runs when the engine boots (F61); the end is in order and bounded: no new request, those in flight end, then every
rqlited is stopped, and nothing is left behind.

    instances (nursery: rqlited tasks, which outlive everything else)
      control (nursery: driver, gateway)

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
from typing import Final

import structlog
import trio
from attrs import evolve, frozen

from protocol.chart import TABLE, Chart
from protocol.inputs import Boot, Input
from protocol.node import Config, Node
from runtime.directories import Directories, write_whole
from runtime.driver import Driver
from runtime.execute import Executor
from runtime.gateway import certificates
from runtime.gateway.frames import FromWorker, WorkerConfig
from runtime.gateway.host import GatewayHost, bound, reached_at
from runtime.identity import DIRECTORY, Identity
from runtime.ports import Ports
from runtime.rqlited import Supervisor
from runtime.rqlited_binary import Binary
from runtime.settings import Address, Settings
from runtime.store import Store

STATUS: Final = "node.json"
"""In the data directory while the node serves: its pid, peer id and the gateway's address, for tools."""
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


def configuration(settings: Settings, peer: str) -> Config:
    """The engine's share of the settings: microseconds instead of seconds."""
    database = settings.database
    return Config(
        peer=peer,
        known=(peer,),
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
    config = configuration(settings, means.identity.peer)
    config = evolve(config, gateway=reached_at(between, config.host), fingerprint=certificate.fingerprint)
    engine = Node(config, means.chart)

    # Gateway, executor and driver form a ring; these two close it.
    def deliver(frame: FromWorker) -> None:
        executor.deliver(frame)

    def feed(outcome: Input) -> None:
        driver.feed(outcome)

    gateway = GatewayHost(
        listen=str(settings.gateway.listen),
        workers=settings.gateway.workers,
        config=evolve(worker_config(settings), identity=str(certificate.file), authority=certificate.authority),
        deliver=deliver,
        between=between,
    )
    executor = Executor(
        feed=feed,
        instances=instances,
        supervisor=supervisor,
        ports=ports,
        gateway=gateway,
        names=engine.databases,
        directories=means.directories,
    )
    driver = Driver(engine, means.store, executor.carry_out)
    status = means.directories.data_dir / STATUS
    rows = means.store.rows()
    driver.feed(Boot(0, os.urandom(32), rows, found=not rows))  # before any frame of a worker can be
    async with trio.open_nursery() as control:
        host, port = await control.start(gateway.run)  # first: a taken port ends the node before any rqlited is started
        binary = means.binary
        log.info("node starts", cluster=means.cluster, rqlited=str(binary.path), rqlite_major=binary.major)
        if len(config.known) < config.replication_factor:
            log.warning(
                "too few nodes for new databases",
                because=f"database.replication_factor is {config.replication_factor}, {len(config.known)} node is known: "
                "creations will fail until more join",
            )
        control.start_soon(driver.run)
        control.start_soon(_housekeeping, means.directories)
        address = f"http://{Address(host, port)}"
        _publish(status, means.identity.peer, address)
        # The one line on standard output: the logs may be anywhere, and who started the node waits for this.
        sys.stdout.write(f"torpor: serving {address} (pid {os.getpid()}, data {means.directories.data_dir})\n")
        sys.stdout.flush()
        await stop.asked.wait()
        with trio.CancelScope() as patience:
            control.start_soon(_hurry, stop, patience)
            await gateway.stop_accepting()  # the driver still answers what requests in flight wait for
        control.cancel_scope.cancel()
    status.unlink(missing_ok=True)
    return executor


def _publish(status: Path, peer: str, address: str) -> None:
    write_whole(status, json.dumps({"pid": os.getpid(), "node_id": peer, "gateway": address}).encode())


async def _hurry(stop: Stop, patience: trio.CancelScope) -> None:
    await stop.hurried.wait()
    patience.cancel()


async def _housekeeping(directories: Directories) -> None:
    while True:
        deleted = await trio.to_thread.run_sync(directories.sweep_trash, TRASH_RETENTION)
        if deleted:
            log.info("trash emptied", entries=deleted)
        await trio.sleep(_HOUR)
