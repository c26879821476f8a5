"""The supervisor of this node's rqlited children. The laws kept here: one process for a directory, ever (F45, F61); a run
has exactly one :class:`Exit`, given when the process is reaped, so none is left as a zombie (F60); ready means that a strong
read passed, nothing less (F12); cancellation ends the process before it is heard of outside; no rqlited starts without its
database's TLS identity (:mod:`runtime.database_tls`).

How a start becomes fast: nothing here waits by the clock. rqlited says on stderr when a leader is known, and that line
triggers a strong read at once; a slow poll behind it covers a version that would say it otherwise, and costs little: asking
often while rqlited starts only takes the processor from it. The marker and the identity are forced to the disk while rqlited
starts, and are durable before anyone hears of readiness.

stderr is a pipe whose reading end the child holds too, as its stdin: when this node is killed, a line that the orphan logs
is not a SIGPIPE that crashes it in the middle of its orderly stop.
"""

from __future__ import annotations

import math
import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import trio
from attrs import define, field

from runtime import landlock, processes, rqlited_orphans
from runtime.database_keys import Fetch, KeyMissing
from runtime.database_tls import server_name
from runtime.directories import Directories, Instance, make_durable
from runtime.processes import Resources
from runtime.rqlite_http import RqliteError, RqliteHttp, Store
from runtime.rqlited_binary import Binary
from runtime.rqlited_confined import confinement
from runtime.rqlited_exit import DETAIL, Cause, Exit, cause_of
from runtime.rqlited_orphans import Orphan
from runtime.rqlited_outcomes import Probe, Ready, Snapshot
from runtime.rqlited_quorum import TooFewMembers, await_quorum
from runtime.rqlited_start import (
    JOIN_WITHIN,
    LOOPBACK,
    QUORUM_WITHIN,
    DataMissing,
    StartSpec,
    Timers,
    arguments,
    environment,
    identify,
    prepare,
)

__all__ = ["Exit", "Orphan", "Probe", "Ready", "Snapshot", "StartSpec", "Supervisor", "Timers"]

_POLL: Final = 0.1
"""Seconds between strong reads while no line of rqlited's triggers one, and before the first. At 20 ms three members that wake at
once took the processor from each other: 1.4 times the raw floor instead of 1.2, on a loaded machine."""
_POLL_AFTER_LINE: Final = 0.002
_EAGER: Final = 25
"""So many reads at the short distance after a line: the leader is known, its first entry is not yet committed."""
_READ_TIMEOUT: Final = 10.0
"""Seconds for one strong read while starting: replaying a long log may hold it up."""
_LINES: Final = 40
_LINE: Final = 400
_CHUNK: Final = 65536
_LAST_LINES: Final = 0.5
"""Seconds to read what an ended process still left in the pipe."""
_CUE: Final = b"is now Leader"
"""8.26 says it of itself and of another leader; the code of later versions does, too."""
_JOINED: Final = b"successfully joined cluster"


@define(eq=False)
class _Live:
    """One run between its start and its exit."""

    spec: StartSpec
    http: RqliteHttp
    began: float = field(factory=trio.current_time)
    before: trio.CancelScope = field(factory=trio.CancelScope)  # until there is a process that a stop can be sent to
    process: trio.Process | None = None
    ready: bool = False
    own: int = 0  # requests of ours that rqlited has counted
    terminated: bool = False
    killed: bool = False
    new_files: bool = False  # owed to the disk before anyone hears of readiness
    trouble: tuple[Cause, str] | None = None  # why we ended the run, where nobody had asked for it
    patience: trio.CancelScope = field(factory=trio.CancelScope)  # ends at the deadline for SIGKILL
    cue: trio.Event = field(factory=trio.Event)
    joined: trio.Event = field(factory=trio.Event)
    said: deque[str] = field(factory=lambda: deque[str](maxlen=_LINES))
    probing: trio.Lock = field(factory=trio.Lock)  # else one probe's read looks like traffic to another

    async def strong_read(self, within: float) -> None:
        try:
            await self.http.strong_read(within)
        except RqliteError as error:
            if error.heard:
                self.own += 1
            raise
        self.own += 1


class Supervisor:
    """Starts, watches and ends rqlited processes. All methods belong to one trio thread.

    ``heartbeat_timeout``: Raft's, seconds, where a start names no other. ``stop_timeout``: seconds from SIGTERM to SIGKILL
    where no deadline is given (orphans). ``extra_environment``: GOMAXPROCS, GOMEMLIMIT and the like.
    ``max_memory``: bytes for one process; None: unbounded. ``confine``: each to its own directories (:mod:`runtime.rqlited_confined`).
    ``fetch``: asks another member for a TLS identity; None: there is no other node. ``on_line``: told each line of a child's
    stderr, with its incarnation."""

    def __init__(
        self,
        binary: Binary,
        directories: Directories,
        *,
        heartbeat_timeout: float = 0.25,
        stop_timeout: float = 5.0,
        extra_environment: Mapping[str, str] | None = None,
        max_memory: int | None = None,
        confine: bool = False,
        fetch: Fetch | None = None,
        on_line: Callable[[str, str], None] | None = None,
    ) -> None:
        self._binary = binary
        self._directories = directories
        self._timers = Timers(heartbeat_timeout)
        self._stop_timeout = stop_timeout
        self._extra_environment = extra_environment or {}
        self._confine = confine
        self._max_memory = max_memory
        self._fetch = fetch
        self._on_line = on_line
        self._live: dict[str, _Live] = {}

    async def sweep_orphans(self) -> tuple[Orphan, ...]:
        """At the start of a node, before the first :meth:`run`: stop what an earlier process of it left running."""
        assert not self._live, "the sweep would stop our own children"
        return await rqlited_orphans.sweep(self._directories, self._stop_timeout)

    async def run(self, spec: StartSpec, on_ready: Callable[[Ready], None]) -> Exit:
        """The whole life of one run, from files to reaped process. ``on_ready`` is called at most once. Cancelled, it
        kills and reaps the process first."""
        if spec.incarnation in self._live:
            refused = f"refused: run {self._live[spec.incarnation].spec.run} of this directory has not ended"
            return Exit(spec.run, None, "crashed", refused, wal_empty=False)
        live = self._live[spec.incarnation] = _Live(spec, RqliteHttp(LOOPBACK, spec.http_port))
        try:
            return await self._run(live, on_ready)
        finally:
            del self._live[spec.incarnation]
            live.http.close()

    async def _run(self, live: _Live, on_ready: Callable[[Ready], None]) -> Exit:
        spec = live.spec

        def never(cause: Cause, detail: str, place: Instance | None = None) -> Exit:
            return Exit(spec.run, None, cause, detail[:DETAIL], place is not None and place.wal_empty)

        place = self._directories.instance(spec.name, spec.incarnation)
        try:
            if orphans := rqlited_orphans.living(place):
                return never("crashed", f"refused: process {orphans[0].pid} already runs on this directory")
            prepare(self._directories, spec)
            with live.before:
                live.new_files = await identify(place, spec, self._fetch)
                if spec.join and spec.mode == "restart":
                    await await_quorum(spec.join, place.tls, server_name(spec.incarnation), QUORUM_WITHIN)
            if live.before.cancelled_caught:
                return never("killed", "before it was started", place)
            rqlited_orphans.record(place, spec.run, str(self._binary.path), None)
        except DataMissing as error:
            return never("data_missing", str(error))
        except KeyMissing as error:
            return never("key_missing", str(error), place)
        except TooFewMembers as error:
            return never("crashed", str(error), place)
        except OSError as error:
            return never("disk", f"{error.strerror}: {error.filename}")
        try:
            stderr = await self._spawn(live, place)
        except OSError as error:
            rqlited_orphans.erase(place)
            return never("binary_missing", f"{self._binary.path}: {error.strerror}", place)
        assert live.process is not None
        try:
            try:
                identity = processes.identity(live.process.pid)
                if identity is not None:  # None: it has ended already
                    rqlited_orphans.record(place, spec.run, str(self._binary.path), identity)
            except OSError as error:
                self._give_up(live, "disk", f"{error.strerror}: {error.filename}")
            self._signal(live)  # a stop that came before there was a process to be told
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._enforce, live)
                if spec.join:
                    nursery.start_soon(self._bound_join, live)
                nursery.start_soon(self._await_ready, live, place, on_ready)
                drained = trio.Event()
                nursery.start_soon(self._drain, live, stderr, drained)
                await live.process.wait()
                with trio.move_on_after(_LAST_LINES):
                    await drained.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                if live.process.returncode is None:
                    live.killed = True
                    live.process.kill()
                await live.process.wait()
                await stderr.aclose()
            rqlited_orphans.erase(place)
        assert live.process.returncode is not None
        code = live.process.returncode
        if live.trouble is not None:
            cause, detail = live.trouble
            return Exit(spec.run, code, cause, detail[:DETAIL], place.wal_empty)
        cause, detail = cause_of(code, tuple(live.said), terminated=live.terminated, killed=live.killed)
        return Exit(spec.run, code, cause, detail, place.wal_empty)

    async def _spawn(self, live: _Live, place: Instance) -> trio.lowlevel.FdStream:
        timers = Timers(live.spec.heartbeat) if live.spec.heartbeat else self._timers
        left = JOIN_WITHIN - (trio.current_time() - live.began)
        reading, writing = os.pipe()
        try:
            # Shielded: a process that was made but never returned to us would be nobody's.
            with trio.CancelScope(shield=True):
                opening = trio.lowlevel.open_process
                if self._confine:
                    opening = partial(landlock.open_process, confinement(self._binary, place, live.spec))
                live.process = process = await opening(
                    arguments(self._binary, live.spec, timers, place.rqlite, place.tls, left),
                    stdin=reading,
                    stdout=subprocess.DEVNULL,
                    stderr=writing,
                    env=environment(self._extra_environment, place.temporary),
                    start_new_session=True,  # Ctrl-C is for the node alone, which then stops its children in order
                )
                if self._max_memory is not None:
                    processes.bound_memory(process.pid, self._max_memory)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return trio.lowlevel.FdStream(reading)

    async def _drain(self, live: _Live, stderr: trio.lowlevel.FdStream, drained: trio.Event) -> None:
        """Read stderr as long as there is any: a pipe that nobody reads stops rqlited when it is full."""
        rest = b""
        while chunk := await stderr.receive_some(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._heard(live, line)
            rest = rest[-_CHUNK:]
        if rest:
            self._heard(live, rest)
        drained.set()

    def _heard(self, live: _Live, line: bytes) -> None:
        text = line[:_LINE].decode(errors="replace").rstrip()
        live.said.append(text)
        if _CUE in line:
            live.cue.set()
        if _CUE in line or _JOINED in line:
            live.joined.set()
        if self._on_line is not None:
            self._on_line(live.spec.incarnation, text)

    async def _await_ready(self, live: _Live, place: Instance, on_ready: Callable[[Ready], None]) -> None:
        assert live.process is not None
        spec = live.spec
        async with trio.open_nursery() as nursery:
            if spec.mode != "restart" or live.new_files:
                nursery.start_soon(self._force_files, live, place)
            eager = 0
            with trio.move_on_after(_POLL):
                await live.cue.wait()
            while (store := await self._arrived(live)) is None:
                with trio.move_on_after(_POLL_AFTER_LINE if eager > 0 else _POLL):
                    await live.cue.wait()
                eager -= 1
                if live.cue.is_set():
                    live.cue, eager = trio.Event(), _EAGER
        live.ready = True
        url = f"http://{LOOPBACK}:{spec.http_port}"
        on_ready(Ready(url, store.fsm_index, store.voters, store.leads, live.process.pid))

    async def _arrived(self, live: _Live) -> Store | None:
        """What rqlited says of itself, once a strong read passed. Whoever joins may lead its group before the configuration has
        its address, and has not arrived until it does (P42)."""
        try:
            await live.strong_read(_READ_TIMEOUT)
            store = await live.http.store(_READ_TIMEOUT)
        except RqliteError:
            return None
        there = store.addresses.get(live.spec.node_id) == live.spec.raft_address
        return store if there or not live.spec.join else None

    async def _force_files(self, live: _Live, place: Instance) -> None:
        try:
            await trio.to_thread.run_sync(make_durable, place)
        except OSError as error:
            self._give_up(live, "disk", f"{error.strerror}: {error.filename}")
            await trio.sleep_forever()  # never ready; the process is about to end

    async def _bound_join(self, live: _Live) -> None:
        """Rqlited bounds the number of its attempts, not their time: one that meets a silent peer takes half a minute (P52)."""
        with trio.move_on_at(live.began + JOIN_WITHIN):
            await live.joined.wait()
            return
        self._give_up(live, "crashed", f"not joined within {JOIN_WITHIN:g} s: {' | '.join(list(live.said)[-2:])}")

    def _give_up(self, live: _Live, cause: Cause, detail: str) -> None:
        live.trouble = cause, detail
        live.killed = True
        self._signal(live)

    async def _enforce(self, live: _Live) -> None:
        with live.patience:
            await trio.sleep_forever()
        live.killed = True
        self._signal(live)

    def _signal(self, live: _Live) -> None:
        # trio's Process looks before it signals: a process that was reaped is not signalled again under a recycled pid.
        if live.process is not None and live.killed:
            live.process.kill()
        elif live.process is not None and live.terminated:
            live.process.terminate()

    def terminate(self, incarnation: str, run: int, kill_after: float) -> None:
        """SIGTERM now, SIGKILL ``kill_after`` seconds later. For another run than the present one: nothing. Again: the
        earlier deadline holds."""
        live = self._live.get(incarnation)
        if live is None or live.spec.run != run:
            return
        live.patience.deadline = min(live.patience.deadline, trio.current_time() + max(0.0, kill_after))
        live.before.cancel()
        if not live.terminated:
            live.terminated = True
            self._signal(live)

    def kill(self, incarnation: str, run: int) -> None:
        """SIGKILL now. For another run than the present one: nothing."""
        live = self._live.get(incarnation)
        if live is not None and live.spec.run == run:
            live.killed = True
            live.before.cancel()
            self._signal(live)

    async def probe(self, incarnation: str, *, strong: bool = False, timeout: float = 2.0) -> Probe:  # noqa: ASYNC109 (the outcome is a value, not a cancellation)
        """Counters and indexes of a running rqlited, after a strong read if asked. ``timeout``: seconds for all of it."""
        live = self._live.get(incarnation)
        if live is None or live.process is None:
            return Probe(ok=False, error="not running")
        deadline = trio.current_time() + timeout
        try:
            with trio.fail_at(deadline):
                await live.probing.acquire()
            try:
                if strong:
                    await live.strong_read(_left(deadline))
                store = await live.http.store(_left(deadline))
                counted = await live.http.requests_counted(_left(deadline))
            finally:
                live.probing.release()
        except trio.TooSlowError:
            return Probe(ok=False, error=f"an earlier probe still waits after {timeout:g} s")
        except RqliteError as error:
            return Probe(ok=False, error=str(error))
        return Probe(True, counted - live.own, store.fsm_index, store.leads, store.voters)

    async def snapshot(self, incarnation: str, timeout: float) -> Snapshot:  # noqa: ASYNC109 (as above)
        """Fold the WAL in and read the applied index: what precedes a stop that shall leave a sealed file."""
        live = self._live.get(incarnation)
        if live is None or live.process is None:
            return Snapshot(ok=False, error="not running")
        deadline = trio.current_time() + timeout
        try:
            await live.http.snapshot(_left(deadline))
            store = await live.http.store(_left(deadline))
        except RqliteError as error:
            return Snapshot(ok=False, error=str(error))
        return Snapshot(True, store.fsm_index)

    def pids(self) -> dict[str, int]:
        """The processes that run, by incarnation."""
        return {key: live.process.pid for key, live in self._live.items() if live.process is not None}

    def resources(self) -> dict[str, Resources]:
        """What each of them uses now."""
        found = {key: processes.resources(pid) for key, pid in self.pids().items()}
        return {key: value for key, value in found.items() if value is not None}


def _left(deadline: float) -> float:
    left = deadline - trio.current_time()
    return max(0.001, left) if math.isfinite(left) else 60.0
