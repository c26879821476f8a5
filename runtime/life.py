"""The life of a node's process, from the sweep of what an earlier one left to the last child reaped. Laws: no rqlited of this
node runs when the engine boots (F61); the end is in order and bounded: no new request, those in flight end, then every
rqlited is stopped, and nothing is left behind.

    instances (nursery: rqlited tasks, which outlive everything else)
      control (nursery: driver, gateway, network, the operator's socket)

When control ends, by a signal or by a fault, no input is stepped any more, so the exits of the last children are not taken
for crashes: their databases stay *active* on the disk, and the next start brings them up again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final

import structlog
import trio

from runtime.assembly import Means, Parts, assemble
from runtime.directories import Directories, write_whole
from runtime.execute import Halted
from runtime.gateway.host import NotRestarted
from runtime.rqlited import Supervisor

STATUS: Final = "node.json"
"""In the data directory while the node serves: its pid, peer id, the gateway's address and its own addresses, for tools."""
STOP: Final = 1.5
"""Seconds from SIGTERM to SIGKILL for each rqlited when the node stops (with the drain before it below 5 s in all); their logs survive
a SIGKILL, only a seal does not."""
TRASH_RETENTION: Final = 7 * 86400.0
"""Seconds (F80)."""
_HOUR: Final = 3600.0

log = structlog.stdlib.get_logger("node")


class OrphanUnstoppable(Exception):
    """An rqlited of an earlier process outlived SIGKILL. One line: the cause and what to do."""


class Stop:
    """SIGTERM or SIGINT: ``asked`` at the first one, ``hurried`` at the second. SIGHUP: ``hung_up`` is called. ``halted``: the engine
    asked, and why."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.hung_up: Callable[[], None] = lambda: None
        self.hurried = trio.Event()
        self.halted: Halted | None = None

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncGenerator[Stop]:
        """Take the signals for this long."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, signals)
                yield self
                nursery.cancel_scope.cancel()

    async def _hear(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self.hung_up()
                continue
            log.info("stopping", because=signal.Signals(number).name, hurried=self.asked.is_set())
            (self.hurried if self.asked.is_set() else self.asked).set()


async def live(means: Means) -> None:
    """Run until SIGTERM or SIGINT. Raises :class:`OrphanUnstoppable`, :class:`runtime.execute.Halted` when the engine ended it, in order,
    and whatever ends a node that must not go on (:meth:`runtime.driver.Driver.run`)."""
    async with Stop().listening() as stop, trio.open_nursery() as instances:
        parts = await assemble(means, instances)
        await _sweep(parts.supervisor)
        await _serve(means, parts, stop)
        with trio.CancelScope() as patience:
            instances.start_soon(_hurry, stop, patience)
            await parts.executor.stop_all(STOP)
        instances.cancel_scope.cancel()
    log.info("stopped")
    if stop.halted is not None:
        raise stop.halted


async def _sweep(supervisor: Supervisor) -> None:
    for orphan in await supervisor.sweep_orphans():
        log.warning("orphan stopped", database=orphan.name, incarnation=orphan.incarnation, pid=orphan.pid)
        if not orphan.stopped:
            raise OrphanUnstoppable(
                f"rqlited (pid {orphan.pid}) of {orphan.name} is left from an earlier run and cannot be stopped; "
                "see what holds it (a hanging disk?), end it, and start again"
            )


async def _serve(means: Means, parts: Parts, stop: Stop) -> None:
    recording = contextlib.nullcontext() if parts.recorder is None else parts.recorder.running()
    status = means.directories.data_dir / STATUS
    async with recording, trio.open_nursery() as control:
        # libp2p takes a second to load, in a thread, in which the gateway's workers start; nobody who queries waits for it.
        serving = trio.Event()
        control.start_soon(_open_network, control, parts, serving)
        await control.start(parts.gateway.run)  # first: a taken port ends the node before any rqlited is started
        _say_how_it_starts(means, parts)
        control.start_soon(_drive, parts, stop)
        await control.start(parts.control.run, means.directories.data_dir)
        control.start_soon(_housekeeping, means.directories)
        control.start_soon(parts.watch.run)
        _publish(means, parts)
        # On standard output: the logs may be anywhere, and who started the node waits for this line.
        _print(f"serving {parts.gateway.url} (pid {os.getpid()}, data {means.directories.data_dir})")
        serving.set()
        stop.hung_up = lambda: control.start_soon(_restart, parts)
        await stop.asked.wait()
        stop.hung_up = lambda: None
        with trio.CancelScope() as patience:
            control.start_soon(_hurry, stop, patience)
            await parts.gateway.stop_accepting()  # the driver still answers what requests in flight wait for
        control.cancel_scope.cancel()
    status.unlink(missing_ok=True)


async def _drive(parts: Parts, stop: Stop) -> None:
    try:
        await parts.driver.run()
    except Halted as halted:
        log.critical("node halts", because=str(halted))
        stop.halted = halted
        stop.asked.set()


async def _restart(parts: Parts) -> None:
    try:
        await parts.gateway.restart()
    except NotRestarted as failed:
        log.warning("gateway workers not restarted", because=str(failed))


def _say_how_it_starts(means: Means, parts: Parts) -> None:
    log.info(
        "node starts",
        cluster=means.cluster,
        advertised=parts.config.host,
        rqlited=str(means.binary.path),
        rqlite_major=means.binary.major,
        confinement=means.walls.said,
    )
    wanted = parts.config.replication_factor
    if parts.known < wanted:
        log.warning(
            "too few nodes for new databases",
            because=f"database.replication_factor is {wanted}, {parts.known} known yet: creations will fail until more join",
        )


async def _open_network(control: trio.Nursery, parts: Parts, serving: trio.Event) -> None:
    await control.start(parts.network.run)
    await serving.wait()  # a node that does not come to serve, since a port is taken, says that alone
    log.info("listening for other nodes", addresses=parts.config.addresses)
    _print(f"other nodes reach this one by discovery.bootstrap_peers: {json.dumps(parts.config.addresses)}")


def _print(text: str) -> None:
    sys.stdout.write(f"torpor: {text}\n")
    sys.stdout.flush()


def _publish(means: Means, parts: Parts) -> None:
    said = {
        "pid": os.getpid(),
        "node_id": means.identity.peer,
        "cluster": means.cluster,
        "gateway": parts.gateway.url,
        "addresses": parts.config.addresses,
    }
    write_whole(means.directories.data_dir / STATUS, json.dumps(said).encode())


async def _hurry(stop: Stop, patience: trio.CancelScope) -> None:
    await stop.hurried.wait()
    patience.cancel()


async def _housekeeping(directories: Directories) -> None:
    while True:
        deleted = await trio.to_thread.run_sync(directories.sweep_trash, TRASH_RETENTION)
        if deleted:
            log.info("trash emptied", entries=deleted)
        await trio.sleep(_HOUR)
