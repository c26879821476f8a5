"""The one task that owns the engine. Laws: nothing changes the engine's state but ``step``, called here and nowhere else; what
is sent was made durable first, so a write that fails ends the process before any effect of its step happened (P1, P3);
time is this machine's monotonic clock, read once for each input, never the wall's (F43).

Inputs from the whole process wait in one queue. The driver takes all that wait (group commit): it steps each, joins their
writes in one transaction, and only then carries out the rest in order (:mod:`protocol.effects` has the order). While a slow disk holds a
commit, inputs gather and share the next one. Every input passes :meth:`Driver._step`, stamped: the flight recorder sees it there.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import structlog
import trio

from protocol.effects import Effects, Write
from protocol.inputs import Input, Tick

QUEUE: Final = 100_000
"""Inputs that may wait. Workers are bounded by their own requests, so only a bug gets here: the process ends, loudly."""
BATCH: Final = 512
"""Inputs stepped before their writes are committed: bounds the transaction, and how long an effect can wait."""

log = structlog.stdlib.get_logger("driver")


class Engine(Protocol):
    """What the driver needs of :class:`protocol.node.Node`."""

    def step(self, input: Input) -> Effects: ...

    @property
    def deadline(self) -> int | None: ...


class Disk(Protocol):
    """What the driver needs of :class:`runtime.store.Store`."""

    async def commit(self, writes: tuple[Write, ...]) -> None: ...


class EngineFailed(Exception):
    """``step`` raised: the engine's state can no longer be trusted, the process ends; the input is in the log."""


class QueueFull(Exception):
    """More than :data:`QUEUE` inputs wait."""


def monotonic() -> int:
    """Microseconds on this machine's monotonic clock."""
    return time.monotonic_ns() // 1_000


class Driver:
    """``carry_out`` does one step's actions, sends, broadcasts and decisions; it never waits, and never calls back into
    the driver but by :meth:`feed`. ``record``, if given, sees every input just after its step, with its effects or what it raised."""

    def __init__(
        self,
        engine: Engine,
        disk: Disk,
        carry_out: Callable[[Effects], None],
        *,
        clock: Callable[[], int] = monotonic,
        record: Callable[[Input, Effects | Exception], None] | None = None,
    ) -> None:
        self._engine = engine
        self._disk = disk
        self._carry_out = carry_out
        self._clock = clock
        self._record = record
        self._waiting: deque[Input] = deque()
        self._arrived = trio.Event()

    def feed(self, input: Input) -> None:
        """Queue an input; its ``now`` is set when it is stepped, so pass 0. Never waits. Raises :class:`QueueFull`."""
        if len(self._waiting) >= QUEUE:
            raise QueueFull(f"{QUEUE} inputs wait for the engine")
        self._waiting.append(input)
        self._arrived.set()

    def offer(self, input: Input) -> bool:
        """Queue an input of another node, if fewer than half of :data:`QUEUE` wait: what peers send must never keep out
        what this machine reports (F92), and a message that is lost is the protocol's business. Never waits."""
        if len(self._waiting) >= QUEUE // 2:
            return False
        self.feed(input)
        return True

    async def run(self) -> None:
        """Drive until cancelled. Raises :class:`EngineFailed`, :class:`sqlite3.Error` when a commit failed; both must
        end the process."""
        while True:
            await self._something()
            batch: list[Effects] = []
            while self._waiting and len(batch) < BATCH:
                batch.append(self._step(self._waiting.popleft()))
            deadline = self._engine.deadline
            if deadline is not None and self._clock() >= deadline:
                batch.append(self._step(Tick(0)))
            writes = tuple(write for effects in batch for write in effects.writes)
            if writes:
                await self._disk.commit(writes)
            for effects in batch:
                self._carry_out(effects)

    async def _something(self) -> None:
        # A checkpoint even when inputs wait: a flood of them must not starve heartbeats and the reaping of children.
        await trio.lowlevel.checkpoint()
        if self._waiting:
            return
        self._arrived = trio.Event()
        deadline = self._engine.deadline
        wait = math.inf if deadline is None else max(0, deadline - self._clock()) / 1e6
        with trio.move_on_after(wait):
            await self._arrived.wait()

    def _step(self, input: Input) -> Effects:
        stamped = attrs.evolve(input, now=self._clock())
        try:
            effects = self._engine.step(stamped)
        except Exception as error:
            log.exception("engine failed", input=repr(stamped)[:2000])
            if self._record is not None:
                self._record(stamped, error)
            raise EngineFailed(f"{type(error).__name__} at {type(stamped).__name__}") from error
        if self._record is not None:
            self._record(stamped, effects)
        return effects
