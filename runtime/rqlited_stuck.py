"""Finds an rqlited that works and does not answer: a write without end got in, or a log that holds one is replayed (F90). Laws: it is named, with
what can be seen of it; nothing is decided and nothing ended here, since a write that merely takes long looks alike; and looking costs a
database that answers nothing.

The signs are rqlited's own. A process that keeps using the processor is asked for a strong read, which passes only after everything before it
was applied. Who stays idle is never asked: each such read is an entry of its log.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio
from attrs import define, frozen

from runtime.rqlited import Supervisor

LOOK_S: Final = 5.0
CORES: Final = 0.2
"""Processors in use, from one look to the next, that make a process worth a question. (Idle, one uses 0.01 to 0.12.)"""
ANSWER_S: Final = 3.0
PATIENCE_S: Final = 10.0
"""Without an answer for so long, it is named."""

log = structlog.stdlib.get_logger("rqlited")


@frozen
class Stuck:
    """``seconds``: since when it answers nothing that has to wait for its writes. ``cores``: processors that it uses."""

    pid: int
    seconds: float
    cores: float


@define(eq=False)
class _Seen:
    pid: int
    at: float
    cpu: float
    cores: float = 0.0
    silent: float | None = None
    named: bool = False


class StuckWatch:
    """Watches all that a supervisor runs."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._seen: dict[str, _Seen] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_S)

    def found(self) -> dict[str, Stuck]:
        """By incarnation."""
        now = trio.current_time()
        return {
            incarnation: Stuck(seen.pid, now - seen.silent, seen.cores)
            for incarnation, seen in self._seen.items()
            if seen.silent is not None and seen.named
        }

    async def look(self) -> None:
        """Once at all of them."""
        now, pids = trio.current_time(), self._supervisor.pids()
        used = self._supervisor.resources()
        for gone in [key for key, seen in self._seen.items() if pids.get(key) != seen.pid]:
            del self._seen[gone]
        async with trio.open_nursery() as nursery:
            for incarnation, resources in used.items():
                seen = self._seen.setdefault(incarnation, _Seen(pids[incarnation], now, resources.cpu))
                if now > seen.at:
                    seen.cores = (resources.cpu - seen.cpu) / (now - seen.at)
                    seen.at, seen.cpu = now, resources.cpu
                if seen.cores >= CORES or seen.silent is not None:
                    nursery.start_soon(self._ask, incarnation, seen)

    async def _ask(self, incarnation: str, seen: _Seen) -> None:
        began = trio.current_time()
        answer = await self._supervisor.probe(incarnation, strong=True, timeout=ANSWER_S)
        if answer.ok:
            if seen.named:
                log.info("database answers again", incarnation=incarnation, pid=seen.pid)
            seen.silent, seen.named = None, False
            return
        seen.silent = began if seen.silent is None else seen.silent
        if not seen.named and trio.current_time() - seen.silent >= PATIENCE_S:
            seen.named = True
            log.warning(
                "database stuck",
                incarnation=incarnation,
                pid=seen.pid,
                cores=round(seen.cores, 1),
                because="it uses the processor and answers no strong read: a write that takes very long, or never ends",
                law="F90",
            )
