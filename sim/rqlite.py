"""The model of rqlited (8.26.8), seen from outside: how it starts, answers, stops and dies. The law kept here is that nothing is
better than the real one: what was measured to be late, lost or left unfinished is so here as well. The same scripts run
on this model and on real processes (tests/scripts), and both must tell a client the same.

With more than one voter, log and leadership are the group's (:mod:`sim.raft`); a follower passes requests on to the leader.

Modelled: start latency, bind, election of a group of one within one to two heartbeats, replay of the log, weak and strong
reads, group commit with fsync, request counters, /snapshot, SIGTERM that drains HTTP without a deadline and may leave the
WAL unfolded unless a snapshot followed the last write, SIGKILL, SIGSTOP, ports taken, binary and data missing, full and slow
disk. SQL is one table of unique numbers: enough to tell which acknowledged write is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from protocol.effects import Start
from protocol.inputs import Cause
from sim import forward, timings
from sim.disk import Directory
from sim.host import Host
from sim.laws import Violation
from sim.raft import Group
from sim.streams import between

Outcome = Literal["ok", "refused", "reset", "error"]
"""``refused``: nothing was sent. ``reset``: the process ended meanwhile, a write may have happened. ``error``: it was told why
nothing happened."""
Reply = Callable[[Any, Outcome, list[int], int], None]
"""Called with whatever the asker passed, the outcome, and for a read the table's rows up to a count (of an append-only list)."""

NO_ROWS: Final[list[int]] = []

# The two paths that every query takes draw their times without a call in between.
_READ_FROM: Final = timings.WEAK_READ[0]
_READ_SPAN: Final = timings.WEAK_READ[1] - timings.WEAK_READ[0]
_WRITE_FROM: Final = timings.WRITE[0]
_WRITE_SPAN: Final = timings.WRITE[1] - timings.WRITE[0]


class Rqlited:
    """One process. ``ready(self)`` is called once its supervisor has seen a strong read pass, ``gone(self, code, cause, detail)``
    exactly once, when the process has ended, or could not be started at all."""

    def __init__(
        self,
        host: Host,
        start: Start,
        ready: Callable[[Rqlited], None],
        gone: Callable[[Rqlited, int | None, Cause, str], None],
    ) -> None:
        self.host = host
        self.start = start
        self.pid = host.spawn()
        self.alive = True
        self.listening = False
        self.replayed = False
        self.leader = False
        self.replicated = False
        """The group has more than one voter."""
        self.group: Group | None = None
        self.paused = False
        self.sentenced = ""
        """Why it was told to stop, or empty: whoever sends SIGTERM says so, and the checks look."""
        self.counter = 0
        """Requests on the HTTP interface that were not the supervisor's own."""
        self.flying: dict[int, tuple[Reply, Any]] = {}
        self._numbers = 0
        self._schedule = host.schedule
        self._random = host.chance.random
        self._committed_at = 0
        self._held: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._ready = ready
        self._gone = gone
        self._exiting = False
        self._killed = False
        self._following = False
        self.address = f"{host.name}:{start.raft}"
        self.directory: Directory = self._open(host)

    # Starting.

    def _open(self, host: Host) -> Directory:
        start = self.start
        found = host.disk.directory(start.incarnation)
        if not host.binary:
            self._later(self.end, None, "binary_missing", "no rqlited can be executed")
        elif start.mode == "restart" and (found is None or not found.raft or found.marker != start.node_id):
            # P54: it would bootstrap an empty database that acknowledges writes.
            self._later(self.end, None, "data_missing", "marker or Raft state is not there")
        elif start.mode != "restart" and host.disk.full:
            self._later(self.end, None, "disk", "no space left on device")
        else:
            if found is not None and not found.pid and (not found.raft or found.marker != start.node_id):
                host.disk.throw_away(start.incarnation)  # the remains of a start that never held anything
            directory = host.disk.make(start.internal, start.incarnation)
            if directory.pid:
                raise Violation("F45", f"pids {directory.pid} and {self.pid} are both on {start.internal}'s directory")
            directory.pid = self.pid
            directory.opens += 1
            if start.mode != "restart":
                directory.marker = start.node_id
            self._begin(host)
            return directory
        return found or Directory(start.internal, start.incarnation)

    def _begin(self, host: Host) -> None:
        ambush = host.ambushed(self.start.internal)
        if ambush is not None and ambush.trap == "hang":
            return
        if ambush is not None and ambush.trap == "fail":
            self._later(self.end, 1, ambush.cause, "as the scenario wants it")
            return
        if ambush is not None:
            host.steal(self.start.http if ambush.trap == "http" else self.start.raft, ambush.lasts)
        self.after(timings.PROCESS_UP, self._bind)

    def _bind(self) -> None:
        for port in (self.start.http, self.start.raft):
            if not self.host.bind(port, self.pid):
                self.end(1, "port_taken", f"port {port} is in use")
                return
        self.listening = True
        groups, directory, start = self.host.groups, self.directory, self.start
        groups.bound[self.address] = self
        if start.mode == "found" and directory.group is None:
            directory.group = groups.found(self)
            directory.raft = True
        self.group = group = directory.group
        moved = group is not None and group.voters.get(start.node_id) != self.address
        if group is None or (group.replicated and moved):
            forward.join(self, 1)
        elif group.replicated:
            group.up(self)
        else:
            group.voters[start.node_id] = self.address  # alone, or told so by peers.json
            group.running[start.node_id] = self
            heartbeat = self.host.heartbeat
            self.after((heartbeat, 2 * heartbeat), self._elected)

    def follow(self) -> None:
        """A leader is known, perhaps this very process: replay the log, once."""
        if not self._following:
            self._following = True
            self.after(timings.REPLAY, self._replay_done)

    def _elected(self) -> None:
        self.leader = True
        assert self.group is not None
        self.group.leader = self
        self.directory.index += 1
        self.after(timings.REPLAY, self._replay_done)

    def _replay_done(self) -> None:
        self.replayed = True
        self.after(timings.READY_POLL, self._seen_ready)

    def _seen_ready(self) -> None:
        if not self.listening or self.sentenced:
            return
        if self.replicated:
            self.read(self._first_read, None, strong=True, counted=False)
            return
        self.directory.index += 1
        self._ready(self)

    def _first_read(self, _asker: object, outcome: Outcome, _rows: list[int], _count: int) -> None:
        if outcome == "ok" and not self.sentenced:
            self._ready(self)
        elif self.listening:
            self.after(timings.JOIN_INTERVAL, self._seen_ready)

    @property
    def voters(self) -> tuple[str, ...]:
        """Node ids of the Raft configuration, sorted."""
        return tuple(sorted(self.group.voters)) if self.group is not None else ()

    @property
    def applied(self) -> int:
        """The applied index of this process's own copy."""
        return self.group.applied(self) if self.replicated and self.group is not None else self.directory.index

    # Requests. Each is answered exactly once, whatever happens to the process.

    def read(self, reply: Reply, asker: object, strong: bool = False, lasts: int = 0, counted: bool = True) -> None:
        """Read the table, ``strong`` through the log; a statement that takes ``lasts`` µs."""
        if not self.listening:
            reply(asker, "refused", NO_ROWS, 0)
            return
        if counted:
            self.counter += 1
        number = self._numbers = self._numbers + 1
        self.flying[number] = (reply, asker)
        if self.replicated:
            forward.pass_on(self, number, strong, lasts, 0)
        elif not self.leader:
            self.after(timings.WEAK_READ, self._fail, number)
        elif strong:
            self.in_order(lasts, self._strong_done, number)
        else:
            delay = lasts or _READ_FROM + int(self._random() * _READ_SPAN)
            self._schedule.after(delay, self._weak_done, number)

    def write(self, reply: Reply, asker: object, value: int, lasts: int = 0) -> None:
        """Insert one row. Answered once its log entry is synced and applied."""
        if not self.listening:
            reply(asker, "refused", NO_ROWS, 0)
            return
        self.counter += 1
        number = self._numbers = self._numbers + 1
        self.flying[number] = (reply, asker)
        if self.replicated:
            forward.pass_on(self, number, True, lasts, value)
            return
        if not self.leader or self.host.disk.full:
            self.after(timings.WEAK_READ, self._fail, number)
            return
        self.directory.unsynced.append(value)
        self.in_order(lasts, self._write_done, number)

    def look(self, reply: Reply, asker: object) -> None:
        """Read what the process knows of itself: counters, configuration, applied index. It needs no leader."""
        if not self.listening:
            reply(asker, "refused", NO_ROWS, 0)
            return
        number = self._numbers = self._numbers + 1
        self.flying[number] = (reply, asker)
        self.after(timings.WEAK_READ, self._answer, number, "ok", NO_ROWS, 0)

    def answer_after(self, bounds: timings.Range, number: int, outcome: Outcome) -> None:
        """End request ``number`` in a while."""
        self.after(bounds, self._answer, number, outcome, NO_ROWS, 0)

    def answer_later(self, number: int, outcome: Outcome, rows: list[int] = NO_ROWS, count: int = 0) -> None:
        """End request ``number`` now, or when this process goes on."""
        if not self.alive:
            return
        if self.paused:
            self._held.append((self._answer, (number, outcome, rows, count)))
        else:
            self._answer(number, outcome, rows, count)

    def _answer(self, number: int, outcome: Outcome, rows: list[int], count: int) -> None:
        flying = self.flying.pop(number, None)
        if flying is not None:
            flying[0](flying[1], outcome, rows, count)
            if self.sentenced:
                self._drain()

    def in_order(self, lasts: int, done: Callable[..., None], *asked: object) -> None:
        """The log is one queue: an entry commits after those before it, and not before the log is replayed."""
        took = lasts + (_WRITE_FROM + int(self._random() * _WRITE_SPAN)) * self.host.disk.slowness
        at = self._committed_at = max(self._committed_at + 1, self._schedule.now + took)
        self._schedule.at(at, done, *asked)

    def _weak_done(self, number: int) -> None:
        if self.paused:
            self._held.append((self._weak_done, (number,)))
            return
        flying = self.flying.pop(number, None)
        if flying is not None:
            values = self.directory.values
            flying[0](flying[1], "ok", values, len(values) if self.replayed else self.directory.snapshot)
            if self.sentenced:
                self._drain()

    def _strong_done(self, number: int) -> None:
        if self.paused:
            self._held.append((self._strong_done, (number,)))
            return
        flying = self.flying.pop(number, None)
        if flying is not None:
            directory = self.directory
            directory.index += 1
            flying[0](flying[1], "ok", directory.values, len(directory.values))
            if self.sentenced:
                self._drain()

    def _write_done(self, number: int) -> None:
        if self.paused:
            self._held.append((self._write_done, (number,)))
            return
        flying = self.flying.pop(number, None)
        if flying is not None:
            directory = self.directory
            directory.values.append(directory.unsynced.pop(0))
            directory.index += 1
            directory.dirty = True
            flying[0](flying[1], "ok", NO_ROWS, 0)
            if self.sentenced:
                self._drain()

    def _fail(self, number: int) -> None:
        flying = self.flying.pop(number, None)
        if flying is not None:
            flying[0](flying[1], "error", NO_ROWS, 0)
            if self.sentenced:
                self._drain()

    def forget(self, asker: object) -> None:
        """The asker has hung up: nobody hears the answer. The statement itself runs on (F89)."""
        for number, (_, other) in self.flying.items():
            if other is asker:
                self.flying[number] = (_nobody, None)

    def snapshot(self, reply: Callable[[bool, int], None]) -> None:
        """POST /snapshot: fold the WAL in; ``reply(ok, applied index)``."""
        if self.listening and (self.leader or (self.replicated and self.replayed)):
            self.after(timings.SNAPSHOT, self._snapshot_done, reply)
        else:
            reply(False, 0)

    def _snapshot_done(self, reply: Callable[[bool, int], None]) -> None:
        directory = self.directory
        if self.host.disk.full:
            reply(False, self.applied)
            return
        directory.snapshot = directory.folded = len(directory.values)
        directory.dirty = False
        reply(True, self.applied)

    # Ending.

    def terminate(self, why: str) -> None:
        """SIGTERM: HTTP drains with no deadline, then the process exits. A second one does nothing."""
        if not self.alive or self.sentenced:
            return
        self.sentenced = why
        self.listening = False
        self._drain()

    def _drain(self) -> None:
        if not self.flying and not self._exiting:
            self._exiting = True
            self.after(timings.EXIT, self._exit)

    def _exit(self) -> None:
        directory = self.directory
        if not directory.dirty or self.host.chance.random() < 0.5:
            directory.folded = len(directory.values)
        self.end(0, "stopped", "")

    def kill(self, cause: Cause = "killed") -> None:
        """SIGKILL, or a crash of its own."""
        if self.alive:
            self._killed = True
            self.end(-9, cause, "signal 9")

    def pause(self) -> None:
        self.paused = True
        if self.group is not None:
            self.group.disturbed()

    def resume(self) -> None:
        """SIGCONT: what came due meanwhile happens now, in its order."""
        self.paused = False
        held, self._held = self._held, []
        for call, arguments in held:
            if self.alive:
                call(*arguments)
        if self.group is not None:
            self.group.disturbed()

    def end(self, code: int | None, cause: Cause, detail: str) -> None:
        self.alive = self.listening = self.leader = False
        self.host.release(self.pid)
        if self.host.groups.bound.get(self.address) is self:
            del self.host.groups.bound[self.address]
        if self.group is not None:
            self.group.gone(self)
        if self.directory.pid == self.pid:
            self.directory.crash(self.host.chance)
        flying, self.flying = self.flying, {}
        for reply, asker in flying.values():
            reply(asker, "reset", NO_ROWS, 0)
        self._gone(self, code, cause, detail)

    # Time.

    def after(self, bounds: timings.Range, call: Callable[..., None], *arguments: object) -> None:
        delay = between(self.host.chance, bounds) * self.host.disk.slowness
        self.host.schedule.after(delay, self._happen, call, arguments)

    def _later(self, call: Callable[..., None], *arguments: object) -> None:
        self.host.schedule.after(1, self._happen, call, arguments)

    def _happen(self, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self.alive:
            if self.paused:
                self._held.append((call, arguments))
            else:
                call(*arguments)


def _nobody(_asker: object, _outcome: Outcome, _rows: list[int], _count: int) -> None:
    return None
