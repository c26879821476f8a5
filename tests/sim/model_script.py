"""A conformance script on the model of rqlited: no engine, no node, one process at a time."""

from __future__ import annotations

from random import Random
from typing import Any

from protocol.effects import Mode, Start
from protocol.inputs import Cause
from sim.disk import Directory, Disk
from sim.host import Host
from sim.rqlite import Outcome, Rqlited
from sim.schedule import Schedule
from tests.scripts.script import Script

INCARNATION, NODE_ID, OTHER = "s1-1-abcd", "QmPeer.s1-1-abcd.1", "QmPeer.s1-1-abcd.2"


class Stage:
    """One machine with one directory; each step runs until its outcome is there."""

    def __init__(self, seed: int) -> None:
        self.schedule = Schedule()
        self.host = Host(self.schedule, Random(seed), Disk(Random(seed)), heartbeat=50_000)
        self.ports = {"http": 5001, "raft": 7001}
        self.process: Rqlited | None = None
        self.seen: list[str] = []
        self.runs = 0

    def play(self, script: Script) -> tuple[str, ...]:
        return tuple(self.step(step) for step in script.steps)

    def step(self, step: str) -> str:
        verb, *words = step.split()
        return str(getattr(self, f"_{verb}")(*words))

    def _until_seen(self) -> str:
        while not self.seen:
            self.schedule.run(self.schedule.now + 1000)
        return self.seen.pop()

    def _hear(self, what: str) -> None:
        self.seen.append(what)

    def _start(self, mode: Mode, *words: str) -> str:
        self.runs += 1
        node_id = OTHER if "other" in words else NODE_ID
        peers = ((NODE_ID, f"127.0.0.1:{self.ports['raft']}"),) if "peers" in words else None
        start = Start(
            "app_users", INCARNATION, self.runs, mode, node_id, self.ports["http"], self.ports["raft"], (), peers
        )
        self.process = Rqlited(self.host, start, lambda _: self._hear("ready"), self._gone)
        return self._until_seen()

    def _gone(self, _process: Rqlited, _code: int | None, cause: Cause, _detail: str) -> None:
        self._hear(cause)

    def _write(self, value: str) -> str:
        assert self.process is not None
        self.process.write(self._replied, "write", int(value))
        return self._until_seen()

    def _read(self) -> str:
        assert self.process is not None
        self.process.read(self._replied, "read", strong=True)
        return self._until_seen()

    def _replied(self, asker: Any, outcome: Outcome, rows: list[int], count: int) -> None:
        if outcome != "ok":
            self._hear(outcome)
        else:
            self._hear("acknowledged" if asker == "write" else " ".join(map(str, rows[:count])))

    def _stop(self) -> str:
        assert self.process is not None
        self.process.terminate("script")
        return self._until_seen()

    def _kill(self) -> str:
        assert self.process is not None
        self.process.kill()
        return self._until_seen()

    def _snapshot(self) -> str:
        assert self.process is not None
        self.process.snapshot(lambda ok, _applied: self._hear("folded" if ok else "failed"))
        return self._until_seen()

    def _count(self, *words: str) -> str:
        process = self.process
        assert process is not None
        if not process.alive:
            return "not running"
        if words:
            process.read(lambda *_: self._hear("read"), "probe", strong=True, counted=False)
            self._until_seen()
        return str(process.counter)

    def _directory(self) -> Directory:
        found = self.host.disk.directory(INCARNATION)
        assert found is not None
        return found

    def _sealed(self) -> str:
        return "yes" if self._directory().wal_empty else "no"

    def _lose(self, what: str) -> str:
        if what == "directory":
            self.host.disk.throw_away(INCARNATION)
        elif what == "marker":
            self._directory().marker = None
        else:
            self._directory().raft = False
        return ""

    def _take(self, which: str) -> str:
        assert self.host.steal(self.ports[which], 0)
        return ""

    def _free(self, which: str) -> str:
        del self.host.bound[self.ports[which]]
        return ""

    def _move(self, which: str) -> str:
        self.ports[which] += 1
        return ""
